"""Declaration of parameters: each component has a dataclass with one field for each parameter.

    @dataclass(frozen=True)
    class SortParameters(TrackerParameters):
        iou_threshold: float = parameter(0.3, "least IoU of ...", low=0, high=1, live=True, source="SORT, code")

The YAML file, the node's parameters, the flags of the command line and the tables in docs are generated from these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from vps_ros.errors import InputError
from vps_ros.reading import check_limits, read_as


@dataclass(frozen=True)
class Parameter:
    """The declaration of one parameter.

    Attributes:
        meaning: one line, without a full stop.
        unit: of the value; empty if it has none, or the meaning contains it.
        low, high: the range, both included; None: no limit.
        choices: the allowed values; empty: any.
        live: can be changed while a pipeline runs.
        once: is read only when the node starts.
        source: of the default: a paper, its code, or a measurement.
    """

    name: str
    type: type
    default: Any
    meaning: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: Collection[str] = ()
    live: bool = False
    once: bool = False
    source: str = ""

    @property
    def flag(self) -> str:
        """The flag of the command line."""
        return f"--{self.name.replace('_', '-')}"


def parameter(default: Any, meaning: str, **attributes: Any) -> Any:
    """A dataclass field with the attributes of `Parameter`; name and type are those of the field."""
    return field(default=default, metadata={"meaning": meaning, **attributes})


def fraction(default: float, meaning: str, source: str) -> Any:
    """A parameter from 0 to 1 that can be changed while a pipeline runs."""
    return parameter(default, meaning, low=0, high=1, live=True, source=source)


@dataclass(frozen=True)
class Parameters:
    """Base of all sets of parameters; raises InputError for a value out of its range."""

    def __post_init__(self) -> None:
        for p in declared(type(self)):
            object.__setattr__(self, p.name, check(p, getattr(self, p.name)))


_DECLARED: dict[type[Parameters], tuple[Parameter, ...]] = {}


def declared(kind: type[Parameters]) -> tuple[Parameter, ...]:
    """The parameters of a set, in the order of declaration."""
    if kind not in _DECLARED:
        hints = get_type_hints(kind)
        _DECLARED[kind] = tuple(
            Parameter(f.name, getattr(hints[f.name], "__origin__", hints[f.name]), f.default, **f.metadata)
            for f in dataclasses.fields(kind)
        )
    return _DECLARED[kind]


def check(p: Parameter, value: Any) -> Any:
    """The value in its declared type; raises InputError that names the parameter, the value and what is allowed."""
    if p.type is tuple and isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    value = read_as(tuple[str, ...] if p.type is tuple else p.type, value, p.name)
    if value == ():
        raise InputError(f"{p.name}: the list is empty; give at least one name")
    check_limits(value, p.name, p.low, p.high, p.choices)
    return value
