"""Appearance of objects from a feature map inside of a YOLO network.

The embedding of an object is the weighted mean of the features: the weight of a cell is the probability of the mask
there, times the share of the cell that lies in the box.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from vps_ros.errors import InputError
from vps_ros.learning.in_graph.nodes import FLOAT, INT64, Value

_LEAST_WEIGHT = 1e-6
"""Added to the sum of weights: where a mask is empty, the embedding is zero instead of undefined."""


class FeatureMap(NamedTuple):
    """A feature map inside of a network.

    Attributes:
        name: of the tensor.
        cells: height and width.
        depth: number of channels.
        channels_first: [1, D, h, w], otherwise [1, h, w, D].
        stride: pixels of the input per cell.
    """

    name: str
    cells: tuple[int, int]
    depth: int
    channels_first: bool
    stride: int


def add_output(model: onnx.ModelProto, node: str, where: str) -> str:
    """Makes a tensor, or the first output of a node of this name, an output of the network; returns its name.

    Raises InputError when there is no such tensor or node.
    """
    tensors = {name for n in model.graph.node for name in n.output if name}
    first = {n.name: n.output[0] for n in model.graph.node if n.name}
    name = node if node in tensors else first.get(node)
    if name is None:
        near = difflib.get_close_matches(node, [*tensors, *first], 3, 0.3)
        hint = f"; similar names are {', '.join(near)}" if near else ""
        raise InputError(f"--embedding {node}: {where} has no node or tensor of this name{hint}")
    if name not in {o.name for o in model.graph.output}:
        model.graph.output.append(helper.make_tensor_value_info(name, FLOAT, None))
    return name


def feature_map(name: str, shape: tuple[int, ...], size: tuple[int, int], where: str) -> FeatureMap:
    """The layout of a feature map by its shape, for an input of this width and height.

    Raises InputError when it does not cover the input regularly.
    """
    width, height = size
    for axes, channels_first in (((2, 3), True), ((1, 2), False)):
        if len(shape) == 4 and shape[0] == 1:
            h, w = (shape[axis] for axis in axes)
            if height % h == 0 and width % w == 0 and height // h == width // w:
                return FeatureMap(name, (h, w), shape[1 if channels_first else 3], channels_first, height // h)
    raise InputError(
        f"--embedding {name}: has shape {list(shape)} in {where}; name a feature map [1, D, h, w] whose cells cover "
        f"the input of {width}x{height} pixels"
    )


def pooled(found: FeatureMap, features: Value, kernels: Value, prototypes: Value, boxes: Value) -> Value:
    """Embeddings [1, N, D].

    Args:
        features: of the layout `found`.
        kernels, prototypes: [1, N, M] and [1, M, y, x], whose products are the mask logits.
        boxes: [1, N, 4] x0 y0 x1 y1 in pixels of the input.
    """
    nodes, (h, w) = features.nodes, found.cells
    if found.channels_first:
        features = features.apply("Transpose", perm=[0, 2, 3, 1])
    sizes = nodes.op("Shape", prototypes, type=INT64).part([0], [2], [0]).followed_by(np.array([h, w], np.int64))
    small = nodes.op("Resize", prototypes, None, None, sizes, type=FLOAT, mode="linear")
    # 0 and -1 keep a dimension whatever its size.
    masks = nodes.op("MatMul", kernels, small.reshape(0, 0, h * w), type=FLOAT).sigmoid()
    across = _coverage(boxes, 0, w, found.stride).reshape(0, 0, 1, w)
    down = _coverage(boxes, 1, h, found.stride).reshape(0, 0, h, 1)
    weights = masks * (down * across).reshape(0, 0, h * w)
    total = nodes.op("MatMul", weights, features.reshape(0, h * w, found.depth), type=FLOAT)
    return total / (weights.sum(2, keep=True) + _LEAST_WEIGHT)


def _coverage(boxes: Value, axis: int, cells: int, stride: int) -> Value:
    """[1, N, cells] share of each cell along an axis (0: x, 1: y) that lies between the edges of the box."""
    nodes = boxes.nodes
    starts = (np.arange(cells, dtype=np.float32) * stride).reshape(1, 1, cells)
    low, high = (boxes.part([i], [i + 1], [2]) for i in (axis, axis + 2))
    first = low.larger(nodes.value(starts))
    last = nodes.op("Min", high, starts + np.float32(stride), type=FLOAT)
    return (last - first).larger(0.0) / stride
