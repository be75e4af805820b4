"""config.py's parameters as those of a node: types, ranges, meanings, and what may change when."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node

from vps_ros.config import Config, LiveConfig, NodeConfig, Parameter, check, parameters
from vps_ros.errors import InputError

KINDS = (Config, LiveConfig, NodeConfig)
Change = Callable[[Mapping[str, Any]], None]


class NodeParameters:
    """The node's values of every parameter; raises what rclpy raises where one was given that cannot be.

    Args:
        change: called with the whole set of values before new ones are taken over; raises InputError to refuse them.
        fixed: whether what is not live may not change now.
    """

    def __init__(self, node: Node, change: Change, fixed: Callable[[], bool]) -> None:
        self._node = node
        self._change = change
        self._fixed = fixed
        self._declared = {p.name: p for kind in KINDS for p in parameters(kind)}
        for p in self._declared.values():
            default = list(p.default) if p.type is tuple else p.default
            node.declare_parameter(p.name, default, _descriptor(p))
        # Ranges with a hole, and choices, are beyond what a descriptor says.
        for kind in KINDS:
            self.read(kind)
        node.add_on_set_parameters_callback(self._set)

    def read(self, kind: type, values: Mapping[str, Any] | None = None) -> Any:
        """The node's Config, LiveConfig or NodeConfig, with `values` over them; raises InputError."""
        mine = {p.name: self._node.get_parameter(p.name).value for p in parameters(kind)}
        new = {name: value for name, value in (values or {}).items() if name in mine}
        return kind.from_mapping({**mine, **new}, "parameters")

    def warn_of_unknown(self) -> None:
        """Says which values were given to no parameter of the node, which rclpy does not."""
        given = getattr(self._node, "_parameter_overrides", {})
        for name in given:
            if not self._node.has_parameter(name) and not name.startswith("qos_overrides."):
                near = difflib.get_close_matches(name, self._declared, 1)
                hint = f"did you mean {near[0]}?" if near else "see docs/parameters.md for the names"
                self._node.get_logger().warning(f"unknown parameter {name!r}; {hint}")

    def _set(self, wanted: list) -> SetParametersResult:
        values = {one.name: one.value for one in wanted if one.name in self._declared}
        try:
            for name, value in values.items():
                check(self._declared[name], value)
                if not self._declared[name].live and self._fixed():
                    raise InputError(f"{name}: may change only while the node is unconfigured; deactivate and clean up")
            if values:
                self._change(values)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _descriptor(p: Parameter) -> ParameterDescriptor:
    described = ParameterDescriptor(
        description=p.meaning + (f" [{p.unit}]" if p.unit else ""),
        additional_constraints=_constraints(p),
        read_only=p.once,
        # A file may say 20 where 20.0 is meant; rclpy refuses that for a parameter of one type.
        dynamic_typing=p.type is float,
    )
    if p.type is float and p.low is not None:
        described.floating_point_range = [FloatingPointRange(from_value=float(p.low), to_value=float(p.high))]
    elif p.type is int and p.low is not None:
        described.integer_range = [IntegerRange(from_value=int(p.low), to_value=int(p.high))]
    return described


def _constraints(p: Parameter) -> str:
    said = []
    if p.choices:
        said.append(f"one of {', '.join(p.choices)}" if p.type is str else f"any of {', '.join(p.choices)}")
    if p.least is not None:
        said.append(f"-1, or at least {p.least:g}")
    if not p.live and not p.once:
        said.append("read-only once the node is configured")
    return "; ".join(said)
