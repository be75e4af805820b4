"""ONNX nodes written as expressions: `(a > b) & c` adds the nodes that compute it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT32, INT64, BOOL, UINT8 = (getattr(TensorProto, name) for name in ("FLOAT", "INT32", "INT64", "BOOL", "UINT8"))
_AXES_ARE_INPUTS = {"ReduceSum": 13, "ReduceMax": 18, "ReduceMin": 18}
"""From which opset on a reduction takes its axes as an input."""


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the operators of the ONNX standard."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Renames a value in all nodes."""
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                rename(attribute.g, old, new)
    for value in (*graph.initializer, *graph.value_info):
        if value.name == old:
            value.name = new


class Nodes:
    """Nodes and constants of a graph under construction.

    Args:
        opset: of the model that they are added to.
        prefix: of every name, to avoid names of that model.
        around: the outer graph if this one is the body of a loop.
    """

    def __init__(self, opset: int, prefix: str, around: Nodes | None = None) -> None:
        self.opset, self.prefix = opset, prefix
        self.nodes: list[onnx.NodeProto] = []
        # A loop body can use names of the outer graph, so all constants are stored there.
        self.constants: dict[tuple, onnx.TensorProto] = around.constants if around else {}

    def op(self, kind: str, *inputs: Value | NDArray | None, type: int, **attributes: Any) -> Value:
        """A node with one output of this element type; arrays become constants, None an input left out."""
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        names = ["" if x is None else self.value(x).name for x in inputs]
        self.nodes.append(helper.make_node(kind, names, [name], name, **attributes))
        return Value(self, name, type)

    def value(self, x: Value | NDArray) -> Value:
        if isinstance(x, Value):
            return x if x.nodes is self else Value(self, x.name, x.type)
        array = np.asarray(x)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            root = self.prefix.partition("/")[0]
            self.constants[key] = numpy_helper.from_array(array, f"{root}/constant_{len(self.constants)}")
        return Value(self, self.constants[key].name, self.constants[key].data_type)

    def full(self, shape: Sequence[int], value: np.generic) -> Value:
        """A constant of equal values, generated at run time to keep the file small."""
        tensor = numpy_helper.from_array(np.array([value]))
        return self.op("ConstantOfShape", np.array(shape, np.int64), type=tensor.data_type, value=tensor)

    def loop(
        self, trips: Value, state: Value, shape: Sequence[int], step: Callable[[Nodes, Value, Value], Value]
    ) -> Value:
        """`state` after `trips` (int64 []) steps; step(nodes of the body, number of the step, state) -> next state."""
        body = Nodes(self.opset, f"{self.prefix}loop{len(self.nodes)}.", self)
        inside = {name: f"{body.prefix}{name}" for name in ("i", "go", "state")}
        after = step(body, Value(body, inside["i"], INT64), Value(body, inside["state"], state.type))
        go_on = body.op("Identity", Value(body, inside["go"], BOOL), type=BOOL)
        typed = helper.make_tensor_value_info
        graph = helper.make_graph(
            body.nodes,
            f"{body.prefix}body",
            [
                typed(inside["i"], INT64, []),
                typed(inside["go"], BOOL, []),
                typed(inside["state"], state.type, shape),
            ],
            [typed(go_on.name, BOOL, []), typed(after.name, state.type, shape)],
        )
        return self.op("Loop", trips, np.array(True), state, type=state.type, body=graph)


@dataclass(frozen=True)
class Value:
    """A tensor of the graph. Numbers in expressions with it have its element type."""

    nodes: Nodes
    name: str
    type: int

    def _pair(self, kind: str, other: Value | float, type: int | None = None) -> Value:
        if not isinstance(other, Value):
            other = self.nodes.value(np.asarray(other, helper.tensor_dtype_to_np_dtype(self.type)))
        return self.nodes.op(kind, self, other, type=self.type if type is None else type)

    def __add__(self, other: Value | float) -> Value:
        return self._pair("Add", other)

    def __sub__(self, other: Value | float) -> Value:
        return self._pair("Sub", other)

    def __mul__(self, other: Value | float) -> Value:
        return self._pair("Mul", other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._pair("Div", other)

    def __pow__(self, other: float) -> Value:
        return self._pair("Pow", other)

    def __gt__(self, other: Value | float) -> Value:
        return self._pair("Greater", other, BOOL)

    def __lt__(self, other: Value | float) -> Value:
        return self._pair("Less", other, BOOL)

    def __ge__(self, other: Value | float) -> Value:
        return self._pair("GreaterOrEqual", other, BOOL)

    def equals(self, other: Value | float) -> Value:
        return self._pair("Equal", other, BOOL)

    def larger(self, other: Value | float) -> Value:
        return self._pair("Max", other)

    def __and__(self, other: Value) -> Value:
        return self.nodes.op("And", self, other, type=BOOL)

    def __or__(self, other: Value) -> Value:
        return self.nodes.op("Or", self, other, type=BOOL)

    def __invert__(self) -> Value:
        return self.nodes.op("Not", self, type=BOOL)

    def choose(self, yes: Value | NDArray, no: Value | NDArray) -> Value:
        """`yes` where this is true, else `no`."""
        yes, no = self.nodes.value(yes), self.nodes.value(no)
        return self.nodes.op("Where", self, yes, no, type=yes.type)

    def apply(self, kind: str, **attributes: Any) -> Value:
        return self.nodes.op(kind, self, type=self.type, **attributes)

    def sigmoid(self) -> Value:
        """Also exact for large negative values, for which the Sigmoid of some providers returns 0."""
        return self.nodes.value(np.float32(1)) / (self.apply("Neg").apply("Exp") + 1)

    def cast(self, type: int) -> Value:
        return self if type == self.type else self.nodes.op("Cast", self, type=type, to=type)

    def reshape(self, *shape: int) -> Value:
        return self.nodes.op("Reshape", self, np.array(shape, np.int64), type=self.type)

    def part(self, start: Sequence[int], end: Sequence[int], axes: Sequence[int]) -> Value:
        bounds = (np.array(x, np.int64) for x in (start, end, axes))
        return self.nodes.op("Slice", self, *bounds, type=self.type)

    def take(self, indices: Value | NDArray, axis: int = 0) -> Value:
        return self.nodes.op("Gather", self, indices, type=self.type, axis=axis)

    def followed_by(self, *others: Value | NDArray, axis: int = 0) -> Value:
        return self.nodes.op("Concat", self, *others, type=self.type, axis=axis)

    def argmax(self, axis: int) -> Value:
        """int32; the axis is kept with size 1."""
        return self.nodes.op("ArgMax", self, type=INT64, axis=axis, keepdims=1).cast(INT32)

    def sum(self, *axes: int, keep: bool = False) -> Value:
        return self._reduce("ReduceSum", axes, keep)

    def max(self, *axes: int, keep: bool = False) -> Value:
        return self._reduce("ReduceMax", axes, keep)

    def min(self, *axes: int, keep: bool = False) -> Value:
        return self._reduce("ReduceMin", axes, keep)

    def _reduce(self, kind: str, axes: Sequence[int], keep: bool) -> Value:
        if self.nodes.opset >= _AXES_ARE_INPUTS[kind]:
            return self.nodes.op(kind, self, np.array(axes, np.int64), type=self.type, keepdims=int(keep))
        return self.nodes.op(kind, self, type=self.type, axes=list(axes), keepdims=int(keep))
