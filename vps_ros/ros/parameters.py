"""The parameters of vps_ros as parameters of the ROS node: types, ranges, meanings, and when they may change."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy import parameter as ros
from rclpy.node import Node

from vps_ros.config import (
    PIPELINE,
    TRACKER,
    Config,
    LiveConfig,
    NodeConfig,
    all_tracker_parameters,
    collected_deprecations,
    may_be_minus_one,
    parameters,
    tracker_parameters,
)
from vps_ros.errors import InputError
from vps_ros.parameters import Parameter, check

Kind = TypeVar("Kind", Config, LiveConfig, NodeConfig)
Change = Callable[[Mapping[str, Any]], None]
PERIOD = Parameter(
    "diagnostic_updater.period",
    float,
    1.0,
    "time between two messages on /diagnostics, and between two checks of the topics",
    unit="s",
    low=0.01,
    high=60,
    live=True,
)
"""Named as in the package diagnostic_updater."""


class NodeParameters:
    """Declares and reads the node's parameters; raises what rclpy raises for an invalid initial value.

    Of the trackers' parameters, those of the chosen tracker are declared. After a change of `tracker`, those of the new
    one are declared when the node is configured.

    Args:
        change: called with new values before they are set; raises InputError to refuse them.
        fixed: whether parameters that are not live are read-only now.
    """

    def __init__(self, node: Node, change: Change, fixed: Callable[[], bool]) -> None:
        self._node = node
        self._change = change
        self._fixed = fixed
        self._declared: dict[str, Parameter] = {}
        self._tracker = ""
        self._warned: set[str] = set()
        self._declare(*PIPELINE, *parameters(LiveConfig), *parameters(NodeConfig), PERIOD)
        # Checks what a descriptor cannot express: choices, and ranges with a gap.
        self.read(Config)
        self.read(LiveConfig)
        self.read(NodeConfig)
        # Humble does not have it: there a parameter to which an integer is given becomes an integer.
        if hasattr(node, "add_pre_set_parameters_callback"):
            node.add_pre_set_parameters_callback(self._with_real_numbers)
        node.add_on_set_parameters_callback(self._set)

    def read(self, kind: type[Kind], values: Mapping[str, Any] | None = None) -> Kind:
        """The node's Config, LiveConfig or NodeConfig; `values` replace current values. Raises InputError.

        Without `values` it also declares the parameters of a newly chosen tracker, which a set callback cannot do.
        """
        if kind is Config and values is None:
            self._follow_tracker()
        names = [p.name for p in (parameters(kind, self._tracker) if kind is Config else parameters(kind))]
        mine = {name: self._node.get_parameter(name).value for name in names}
        new = {name: value for name, value in (values or {}).items() if name in mine}
        if kind is Config and {**mine, **new}[TRACKER.name] != self._tracker:
            # The declared parameters belong to another tracker.
            mine = {p.name: mine[p.name] for p in PIPELINE}
        with collected_deprecations() as messages:
            found = kind.from_mapping({**mine, **new}, "parameters")
        for message in set(messages) - self._warned:
            self._node.get_logger().warning(message)
            self._warned.add(message)
        return found

    def _declare(self, *wanted: Parameter) -> None:
        for p in wanted:
            default = list(p.default) if p.type is tuple else p.default
            given = self._overrides.get(p.name)
            if p.type is float and given is not None and _is_integer(given):
                self._node.declare_parameter(p.name, float(given.value), _descriptor(p), ignore_override=True)
            else:
                self._node.declare_parameter(p.name, default, _descriptor(p))
            # After the call: rclpy calls `_set` for a declaration too, which must ignore it.
            self._declared[p.name] = p

    def _follow_tracker(self) -> None:
        """Replaces the parameters of the previous tracker by those of the chosen one."""
        tracker = check(TRACKER, self._node.get_parameter(TRACKER.name).value)
        if tracker == self._tracker:
            return
        for p in tracker_parameters(self._tracker) if self._tracker else ():
            del self._declared[p.name]
            self._node.undeclare_parameter(p.name)
        self._declare(*tracker_parameters(tracker))
        self._tracker = tracker

    @property
    def period(self) -> float:
        """Seconds between two messages on /diagnostics."""
        return self._node.get_parameter(PERIOD.name).value

    def check_unknown(self) -> None:
        """Logs initial values whose parameter the node does not have, which rclpy ignores silently.

        Raises InputError for `config`, the name of a file that would not be read.
        """
        if "config" in self._overrides:
            file = self._overrides["config"].value
            raise InputError(
                f"config: the node has no such parameter; give the file with --params-file {file}, "
                "or to `ros2 launch vps_ros vps.launch.py` as config"
            )
        left = [n for n in self._overrides if not self._node.has_parameter(n) and not n.startswith("qos_overrides.")]
        log = self._node.get_logger()
        if ignored := [name for name in left if name in all_tracker_parameters()]:
            log.warning(f"{', '.join(ignored)}: ignored, tracker {self._tracker} has no such parameter")
        for name in set(left) - set(ignored):
            near = difflib.get_close_matches(name, self._declared, 1)
            hint = f"did you mean {near[0]}?" if near else "see docs/parameters.md for the names"
            log.warning(f"unknown parameter {name!r}; {hint}")

    @property
    def _overrides(self) -> Mapping[str, ros.Parameter]:
        """The values given at the start, by name."""
        return getattr(self._node, "_parameter_overrides", {})

    def _with_real_numbers(self, wanted: list[ros.Parameter]) -> list[ros.Parameter]:
        """Integers become real numbers where the parameter is one: 60 as `ros2 param set` and YAML files have it."""
        real = {name for name, p in self._declared.items() if p.type is float}
        return [
            ros.Parameter(one.name, ros.Parameter.Type.DOUBLE, float(one.value))
            if one.name in real and _is_integer(one)
            else one
            for one in wanted
        ]

    def _set(self, wanted: list[ros.Parameter]) -> SetParametersResult:
        values = {one.name: one.value for one in wanted if one.name in self._declared}
        try:
            for name, value in values.items():
                if value != -1 or not may_be_minus_one(self._declared[name]):
                    check(self._declared[name], value)
                if not self._declared[name].live and self._fixed():
                    raise InputError(f"{name}: may change only while the node is unconfigured; deactivate and clean up")
            if values:
                self._change(values)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _is_integer(parameter: ros.Parameter) -> bool:
    return parameter.type_ == ros.Parameter.Type.INTEGER


def _descriptor(p: Parameter) -> ParameterDescriptor:
    described = ParameterDescriptor(
        description=p.meaning + (f" [{p.unit}]" if p.unit else ""),
        additional_constraints=_constraints(p),
        read_only=p.once,
        # Without it rclpy refuses 20 where a file means 20.0.
        dynamic_typing=p.type is float,
    )
    if p.low is None or p.high is None:
        return described
    if p.type is float:
        low = -1.0 if may_be_minus_one(p) else float(p.low)
        described.floating_point_range = [FloatingPointRange(from_value=low, to_value=float(p.high))]
    elif p.type is int:
        described.integer_range = [IntegerRange(from_value=int(p.low), to_value=int(p.high))]
    return described


def _constraints(p: Parameter) -> str:
    parts = []
    if p.choices:
        parts.append(f"one of {', '.join(p.choices)}" if p.type is str else f"any of {', '.join(p.choices)}")
    if may_be_minus_one(p):
        parts.append(f"at least {p.low:g}")
    if not p.live and not p.once:
        parts.append("read-only once the node is configured")
    return "; ".join(parts)
