"""Image -> Segmentation: any model of the ONNX contract, and any function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vps_ros.segmenters.function_segmenter import ClassNames, FunctionSegmenter, SegmentFunction, as_segmenter
from vps_ros.segmenters.label_map import segmentation_from_map, segmentation_from_masks
from vps_ros.segmenters.segmenter import Segmenter, SegmenterParameters
from vps_ros.shipped import model_path, shipped_models

if TYPE_CHECKING:
    from vps_ros.segmenters.onnx_segmenter import OnnxSegmenter, load_segmenter

__all__ = [
    "ClassNames",
    "FunctionSegmenter",
    "OnnxSegmenter",
    "SegmentFunction",
    "Segmenter",
    "SegmenterParameters",
    "as_segmenter",
    "load_segmenter",
    "model_path",
    "segmentation_from_map",
    "segmentation_from_masks",
    "shipped_models",
]


def __getattr__(name: str):
    # ONNX Runtime is imported on first use: the parameters alone do not need it.
    if name not in ("OnnxSegmenter", "load_segmenter"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vps_ros.segmenters import onnx_segmenter

    return getattr(onnx_segmenter, name)
