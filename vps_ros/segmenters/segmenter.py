"""The interface of a segmenter, which turns an image into segments, and its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vps_ros.clips import MAX_LENGTH, ClipSpec
from vps_ros.frame import Segmentation
from vps_ros.parameters import Parameters, parameter
from vps_ros.taxonomy import Taxonomy

PROVIDERS = ("cpu", "cuda", "tensorrt")


def _of_model(meaning: str, default: float = -1.0, high: float = 1, unit: str = "") -> Any:
    """A parameter that replaces a value of the model's card; -1 keeps the model's."""
    return parameter(default, f"{meaning}; -1: the model's", unit=unit, low=-1, high=high, live=True)


@dataclass(frozen=True)
class SegmenterParameters(Parameters):
    """The model, the hardware that it runs on, and its thresholds; raises InputError for a value out of its range."""

    model: str = parameter("streets-s", "name of a shipped model, or path of an ONNX file")
    providers: tuple[str, ...] = parameter(
        ("cpu",), "ONNX Runtime execution providers, in order of preference", choices=PROVIDERS
    )
    allow_fallback: bool = parameter(False, "use the next provider when the first is missing")
    threads: int = parameter(0, "threads of the network; 0: one for each core", low=0, high=256)
    tiles: int = parameter(
        1, "overlapping crops, side by side, on each of which the model runs; for wide images", low=1, high=16
    )
    clip_length: int = parameter(
        0,
        "frames that the network segments together; 0: the model's (1 without clips)",
        low=0,
        high=MAX_LENGTH,
        unit="frames",
    )
    clip_overlap: int = parameter(
        -1, "frames that two consecutive clips share; -1: the model's", low=-1, high=MAX_LENGTH - 1, unit="frames"
    )
    clip_iou: float = parameter(
        0.3,
        "least IoU, in the overlapping frames of two clips, of masks of one object (video stitching)",
        low=0,
        high=1,
        live=True,
        source="chosen; Video-kMaX section 3.1 gives none",
    )
    clip_similarity: float = parameter(
        0.9,
        "least cosine of the embeddings of one object in the frames of a clip; for models of single images whose "
        "kernels are fused over clips",
        low=0,
        high=1,
        live=True,
        source="released PanopticFCN; VIPSeg section 4.2 gives none",
    )
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


@runtime_checkable
class Segmenter(Protocol):
    """Image to segments without identity.

    Attributes:
        name: of the model, for messages and logs.
        providers: ONNX Runtime execution providers in use, in order, by the names of SegmenterParameters.providers.
        milliseconds: time of the latest call by part: preprocess, network, postprocess.
    """

    name: str
    providers: tuple[str, ...]
    milliseconds: dict[str, float]

    @property
    def taxonomy(self) -> Taxonomy:
        """The model's classes."""
        ...

    @property
    def recurrent(self) -> bool:
        """Whether it keeps state from frame to frame, so that each camera needs one of its own."""
        ...

    def __call__(self, image: NDArray[np.uint8]) -> Segmentation:
        """Segments of uint8 [H, W, 3] RGB. Raises DroppedFrame when the network's output cannot be used."""
        ...

    def reset(self) -> None:
        """Sets recurrent state to zeros."""
        ...

    def configure(self, parameters: SegmenterParameters) -> None:
        """Uses the thresholds of `parameters` from the next image on."""
        ...

    def interrupt(self) -> None:
        """Makes a call that is running in another thread fail soon; later calls are not affected."""
        ...


@runtime_checkable
class BatchSegmenter(Protocol):
    """A Segmenter that can run its network once for the images of several cameras.

    Attributes:
        batched: whether this model can.
    """

    batched: bool

    def run_ahead(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Runs the network once for several images, each uint8 [H, W, 3] RGB, of any size.

        The calls for these images must follow before any other; they use the outputs of this run.
        """
        ...


@runtime_checkable
class ClipSegmenter(Protocol):
    """A Segmenter that can segment consecutive frames together.

    Attributes:
        clip: of this model; length 1 where it takes single images.
    """

    clip: ClipSpec

    def segment_clip(self, images: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        """The segments of each of `clip.length` images, uint8 [H, W, 3] RGB of one size, with `tubes` from 0.

        Raises DroppedFrame when the network's output cannot be used.
        """
        ...
