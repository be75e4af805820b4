"""Parameters of the segmenter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vps_ros.parameters import Parameters, parameter

PROVIDERS = ("cpu", "cuda", "tensorrt")


def _of_model(meaning: str, default: float = -1.0, high: float = 1, unit: str = "") -> Any:
    """A value that the model itself carries; -1 leaves it."""
    return parameter(default, f"{meaning}; -1: the model's", unit=unit, low=-1, high=high, live=True)


@dataclass(frozen=True)
class SegmenterParameters(Parameters):
    """Which model runs, on what, and its thresholds."""

    model: str = parameter("streets-s", "name of a shipped model, or path of an ONNX file")
    providers: tuple[str, ...] = parameter(
        ("cpu",), "ONNX Runtime execution providers, in order of preference", choices=PROVIDERS
    )
    allow_fallback: bool = parameter(False, "go on with the next provider when the first is missing")
    threads: int = parameter(0, "threads of the network; 0 takes every core", low=0, high=256)
    tensorrt_fp16: bool = parameter(False, "let TensorRT compute in half precision")
    postprocess: str = parameter(
        "model", "how masks become segments", choices=("model", "mask_wise", "pixel_wise"), live=True
    )
    thing_threshold: float = _of_model("least class score of a thing")
    stuff_threshold: float = _of_model("least class score of stuff")
    mask_threshold: float = _of_model("least mask probability of a pixel")
    overlap_threshold: float = _of_model("least visible share of a mask")
    thing_area: int = _of_model("smallest thing, in pixels of the model's input", -1, 10**7, "px")
    stuff_area: int = _of_model("smallest stuff, in pixels of the model's input", -1, 10**7, "px")
