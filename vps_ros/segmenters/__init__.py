"""Image -> Segmentation: the registry of the segmenters that read model files, and segmenters made of functions.

A segmenter for another kind of model file is one file with a class, and one line here.
"""

from __future__ import annotations

import importlib

from vps_ros.clips import ClipSpec
from vps_ros.errors import InputError
from vps_ros.files import model_path, shipped_models
from vps_ros.segmenters.clip_pool import ClipPool
from vps_ros.segmenters.function_segmenter import ClassNames, FunctionSegmenter, SegmentFunction, as_segmenter
from vps_ros.segmenters.segmentation import segmentation_from_map, segmentation_from_masks
from vps_ros.segmenters.segmenter import BatchSegmenter, ClipSegmenter, Segmenter, SegmenterParameters
from vps_ros.segmenters.tiles import TiledSegmenter

__all__ = [
    "SEGMENTERS",
    "BatchSegmenter",
    "ClassNames",
    "ClipPool",
    "ClipSegmenter",
    "FunctionSegmenter",
    "SegmentFunction",
    "Segmenter",
    "SegmenterParameters",
    "as_segmenter",
    "clip_of",
    "load_segmenter",
    "model_path",
    "segmentation_from_map",
    "segmentation_from_masks",
    "shipped_models",
]

SEGMENTERS: dict[str, str] = {".onnx": "vps_ros.segmenters.onnx_segmenter:OnnxSegmenter"}
"""Suffix of the model file -> module:class, called with the path and SegmenterParameters.

Files with any other suffix are read as ONNX. The module is imported when it is used.
"""


def load_segmenter(parameters: SegmenterParameters) -> Segmenter:
    """The segmenter for `parameters.model`; raises InputError when the model or a provider cannot be used."""
    path = model_path(parameters.model)
    module, _, name = SEGMENTERS.get(path.suffix.lower(), SEGMENTERS[".onnx"]).partition(":")
    segmenter: Segmenter = getattr(importlib.import_module(module), name)(path, parameters)
    if parameters.tiles == 1:
        return segmenter
    if clip_of(segmenter).length > 1:
        raise InputError(f"tiles: {parameters.tiles}: {segmenter.name} takes clips; use tiles: 1")
    return TiledSegmenter(segmenter, parameters.tiles)


def clip_of(segmenter: Segmenter) -> ClipSpec:
    """The clips of a segmenter; of length 1 if it takes single images."""
    return segmenter.clip if isinstance(segmenter, ClipSegmenter) else ClipSpec()
