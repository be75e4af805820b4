"""Convolutions in 8-bit integers, for CPUs: static quantisation by ONNX Runtime, calibrated on street frames."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from vps_ros.errors import InputError
from vps_ros.learning.export.graphs import drop_unused_domains
from vps_ros.segmenters.model_card import METADATA_KEY, ModelCard
from vps_ros.segmenters.onnx_segmenter import OnnxSegmenter
from vps_ros.segmenters.preprocess import fit, prepare
from vps_ros.segmenters.segmenter import SegmenterParameters

_QUANTISED = ["Conv", "Clip"]
"""A Clip after a convolution (ReLU6) is merged into the range of its output; in float it reduces PQ by five points
with EfficientNet-Lite. Matrix products are a small part of the time and not faster (benchmarks/segmenters.py)."""
_PER_CHANNEL = ("Sub", "Mul", "Div", "Add")


def quantise(path: Path, images: Sequence[NDArray[np.uint8]], name: str) -> float:
    """Quantises the file, and returns the share of pixels of the images whose class is unchanged.

    Args:
        images: uint8 [H, W, 3] RGB, for the calibration of the activation ranges.
        name: of the file, in errors.

    Raises InputError when the file has no metadata, or its convolutions cannot be quantised.
    """
    model = onnx.load(str(path))
    properties = {p.key: p.value for p in model.metadata_props}
    if METADATA_KEY not in properties:
        raise InputError(f"{name}: has no metadata {METADATA_KEY!r}; export the model again with `vps-ros export`")
    weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    if not weights:
        raise InputError(f"{name}: has no convolutions; --int8 quantises only those")
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise InputError(f"{name}: is quantised already; leave --int8 out, or give the float model")
    if any(t.name in weights and t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer):
        raise InputError(f"{name}: its convolutions are float16, for GPUs; export it without --fp16 for --int8")
    card = ModelCard.from_json(properties[METADATA_KEY], name)
    before = _classes(path, images)
    _scalar_normalisation(model.graph)
    ready, small = path.with_suffix(".ready.onnx"), path.with_suffix(".int8.onnx")
    try:
        onnx.save(model, str(ready))
        quant_pre_process(str(ready), str(ready), skip_symbolic_shape=True)
        _without_warnings(
            lambda: quantize_static(
                str(ready),
                str(small),
                _Images(images, card, model.graph),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_QUANTISED,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
        )
        quantised = onnx.load(str(small))
    finally:
        for draft in (ready, small):
            draft.unlink(missing_ok=True)
    drop_unused_domains(quantised)
    del quantised.metadata_props[:]
    properties[METADATA_KEY] = replace(card, name=f"{card.name}-int8").to_json()
    for key, value in properties.items():
        quantised.metadata_props.add(key=key, value=value)
    onnx.save(quantised, str(path))
    return float((_classes(path, images) == before).mean())


def _classes(path: Path, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.int32]:
    """Class ids of all pixels of the images, concatenated; -1 for none."""
    segmenter, found = OnnxSegmenter(path, SegmenterParameters()), []
    for image in images:
        segmenter.reset()
        result = segmenter(image)
        found.append(np.append(np.int32(-1), result.class_ids)[result.map].ravel())
    return np.concatenate(found)


class _Images(CalibrationDataReader):
    """Calibration inputs of the network, with the recurrent state of a first frame; clips are copies of one image."""

    def __init__(self, images: Sequence[NDArray[np.uint8]], card: ModelCard, graph: onnx.GraphProto) -> None:
        states = {
            value.name: np.zeros(
                [d.dim_value for d in value.type.tensor_type.shape.dim],
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
            )
            for value in graph.input
            if value.name.startswith("state_")
        }
        frames = 1 if card.clip is None else card.clip.length
        ready = (prepare(image, fit(card.input, *image.shape[:2]), card.input.padding) for image in images)
        self._inputs = ({"image": np.repeat(image, frames, axis=0), **states} for image in ready)

    def get_next(self) -> dict[str, NDArray] | None:
        return next(self._inputs, None)


def _scalar_normalisation(graph: onnx.GraphProto) -> None:
    """Replaces normalisation vectors of equal values by scalars: vectors are slow in the memory layout of the integer
    convolutions of ONNX Runtime."""
    used = {name for node in graph.node if node.op_type in _PER_CHANNEL for name in node.input}
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name in used and values.size > 1 and values.ndim == 4 and (values == values.flat[0]).all():
            tensor.CopyFrom(numpy_helper.from_array(values.reshape(-1)[:1].reshape(1, 1, 1, 1), tensor.name))


def _without_warnings(work: Callable[[], None]) -> None:
    """Runs `work` without the hints that the quantiser of ONNX Runtime logs at every call."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        work()
    finally:
        logging.root.setLevel(level)
