"""Image -> Segmentation: any model of the ONNX contract."""

from vps_ros.segmenters.base import Segmenter
from vps_ros.segmenters.model import OnnxSegmenter, load_segmenter
from vps_ros.shipped import model_path, shipped_models

__all__ = ["OnnxSegmenter", "Segmenter", "load_segmenter", "model_path", "shipped_models"]
