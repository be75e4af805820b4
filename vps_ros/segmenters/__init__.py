"""Image -> Segmentation: any model of the ONNX contract, and any function."""

from vps_ros.segmenters.base import Segmenter
from vps_ros.segmenters.custom import (
    ClassNames,
    FunctionSegmenter,
    SegmentFunction,
    as_segmenter,
    segmentation_from_map,
    segmentation_from_masks,
)
from vps_ros.segmenters.model import OnnxSegmenter, load_segmenter
from vps_ros.shipped import model_path, shipped_models

__all__ = [
    "ClassNames",
    "FunctionSegmenter",
    "OnnxSegmenter",
    "SegmentFunction",
    "Segmenter",
    "as_segmenter",
    "load_segmenter",
    "model_path",
    "segmentation_from_map",
    "segmentation_from_masks",
    "shipped_models",
]
