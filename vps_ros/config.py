"""All parameters of a pipeline: those of the segmenter and those of the chosen tracker, from YAML, flags or Python."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from vps_ros.errors import InputError
from vps_ros.parameters import Parameter, Parameters, check, declared, parameter
from vps_ros.reading import nearest, read_yaml
from vps_ros.segmenters.segmenter import SegmenterParameters
from vps_ros.trackers import TRACKERS, TrackerParameters, tracker_class

DEFAULT_TRACKER = "hierarchical"
RELIABILITIES = ("best_effort", "reliable")
TRACKER = Parameter("tracker", str, DEFAULT_TRACKER, "how segments get identities", choices=TRACKERS)
"""The choice of the tracker, whose parameters Config then has."""
PIPELINE = (*declared(SegmenterParameters), TRACKER)
"""The parameters that every Config has, whatever its tracker."""
_NAME = re.compile(r"([A-Za-z_]\w*)?", re.ASCII)
_MINUS_ONE = frozenset(
    [
        "pixel_threshold",
        "association_threshold",
        "temporal_threshold",
        "iou_threshold",
        "instance_threshold",
        "instance_temperature",
        "memory_threshold",
        "location_threshold",
        "location_temperature",
        "appearance_weight",
        "velocity_weight",
        "memory_tau",
        "tentative_tau",
    ]
)
"""Parameters of trackers for which -1 used to stand for the tracker's default."""
Kind = TypeVar("Kind", bound="_Readable")


class _Readable:
    """A set of parameters that can be read from a mapping or a file."""

    @classmethod
    def names(cls) -> set[str]:
        """The names that may be given."""
        return {p.name for p in parameters(cls)}

    @classmethod
    def from_mapping(cls: type[Kind], values: Mapping[str, Any], where: str = "configuration") -> Kind:
        """The defaults with `values` over them; raises InputError naming `where` and any unknown name."""
        known, others = cls.names(), _others(cls)
        unknown = [name for name in values if name not in known]
        if unknown:
            hint = nearest(unknown[0], known | others) or "see docs/parameters.md for the names"
            raise InputError(f"{where}: unknown parameter {unknown[0]!r}; {hint}")
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    @classmethod
    def from_yaml(cls: type[Kind], path: str | Path, overrides: Mapping[str, Any] | None = None) -> Kind:
        """From a YAML file: a plain mapping, or a ROS parameter file (`node: ros__parameters:`).

        One file may hold the parameters of Config, LiveConfig and NodeConfig.
        """
        content = _inside_ros_file(read_yaml(path))
        if not isinstance(content, Mapping):
            raise InputError(f"{path}: holds no mapping; write one `name: value` a line")
        mine = {name: value for name, value in content.items() if name not in _others(cls)}
        return cls.from_mapping({**mine, **(overrides or {})}, str(path))


@dataclass(frozen=True, init=False)
class Config(_Readable):
    """Parameters of the pipeline: `Config(tracker="sort", iou_threshold=0.2, threads=2)`.

    All parameters may be given and read by name. A parameter that belongs to another tracker than the chosen one is
    checked and ignored with a DeprecationWarning; so is -1, which used to stand for the tracker's default.

    Args:
        tracker: name of the tracker.
        segmenter_parameters: replaces the defaults of the segmenter.
        tracker_parameters: replaces the defaults of the tracker.
        values: single parameters; they override both sets.

    Attributes:
        segmenter_parameters, tracker_parameters: the sets, the latter of the class that belongs to the tracker.

    Raises:
        InputError: an unknown tracker, a value out of its range, or parameters of another tracker.
        TypeError: an unknown name.
    """

    tracker: str
    segmenter_parameters: SegmenterParameters
    tracker_parameters: TrackerParameters

    def __init__(
        self,
        tracker: str = DEFAULT_TRACKER,
        segmenter_parameters: SegmenterParameters | None = None,
        tracker_parameters: TrackerParameters | None = None,
        **values: Any,
    ) -> None:
        kind = tracker_class(check(TRACKER, tracker)).Parameters
        if tracker_parameters is not None and type(tracker_parameters) is not kind:
            raise InputError(
                f"tracker_parameters: {type(tracker_parameters).__name__} given, tracker {tracker} has "
                f"{kind.__name__}; leave them out for its defaults"
            )
        own = {p.name: p for p in declared(kind)}
        names = {p.name for p in declared(SegmenterParameters)}
        of_segmenter = {name: value for name, value in values.items() if name in names}
        of_tracker = {name: value for name, value in values.items() if name not in names}
        ignored, defaults = [], []
        for name, value in list(of_tracker.items()):
            minus_one = name in _MINUS_ONE and value == -1
            if name in own and minus_one:
                of_tracker[name] = own[name].default
                defaults.append(name)
            elif name in all_tracker_parameters() and name not in own:
                # It has no effect, but a value out of range would hide a mistake.
                if not minus_one:
                    check(all_tracker_parameters()[name], value)
                del of_tracker[name]
                ignored.append(name)
            elif name not in own:
                raise TypeError(f"Config() has no parameter {name!r}")
        segmenter = SegmenterParameters() if segmenter_parameters is None else segmenter_parameters
        object.__setattr__(self, "tracker", tracker)
        object.__setattr__(self, "segmenter_parameters", dataclasses.replace(segmenter, **of_segmenter))
        object.__setattr__(self, "tracker_parameters", dataclasses.replace(tracker_parameters or kind(), **of_tracker))
        _warn(tracker, ignored, defaults)

    @property
    def model(self) -> str:
        """Name of a shipped model, or path of an ONNX file."""
        return self.segmenter_parameters.model

    def for_other_segmentations(self) -> Config:
        """The same for segmentations that `model` does not make: the tracker uses no weights learned for that model.

        `tracker_weights` becomes "none" where it is "model", for trackers that have it.
        """
        if getattr(self.tracker_parameters, "tracker_weights", None) != "model":
            return self
        untrained: dict[str, Any] = {"tracker_weights": "none"}
        return dataclasses.replace(self, **untrained)

    def __getattr__(self, name: str) -> Any:
        # Called only for what is no attribute. Without its fields, while it is unpickled, it has no parameters either.
        for own in ("tracker_parameters", "segmenter_parameters"):
            if own in self.__dict__ and name in {p.name for p in declared(type(self.__dict__[own]))}:
                return getattr(self.__dict__[own], name)
        raise AttributeError(f"{type(self).__name__} with tracker {self.__dict__.get('tracker')!r} has no {name!r}")

    @classmethod
    def names(cls) -> set[str]:
        return {p.name for p in PIPELINE} | set(all_tracker_parameters())


@dataclass(frozen=True)
class LiveConfig(_Readable, Parameters):
    """Parameters of what reads a camera as it runs; raises InputError for a value out of its range."""

    reliability: str = parameter(
        "best_effort",
        "what is asked of the camera's publisher; reliable waits for what got lost, and needs a reliable publisher",
        choices=RELIABILITIES,
    )
    depth: int = parameter(
        1, "images that the middleware keeps until they are taken; only the newest is used", low=1, high=1000
    )
    panoptic_ids: bool = parameter(False, "also offer panoptic_ids, class * 1000000 + track id of each pixel")
    patience: float = parameter(
        10.0,
        "how long there may be no image, or a frame may take, before it is said",
        unit="s",
        low=0.1,
        high=3600,
        live=True,
    )


@dataclass(frozen=True)
class NodeConfig(_Readable, Parameters):
    """Parameters of the ROS node alone; raises InputError for a value out of its range."""

    autostart: bool = parameter(
        True, "configure and activate at the start; false leaves that to a lifecycle manager", once=True
    )
    cameras: tuple[str, ...] = parameter(
        ("",),
        "cameras that share the model, by name: NAME/image in, ~/NAME/panoptic out; one empty name: one camera",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [name for name in self.cameras if not _NAME.fullmatch(name)]
        if wrong or len(set(self.cameras)) < len(self.cameras):
            raise InputError(f"cameras: {list(self.cameras)!r}: give each a name of its own, of letters, digits and _")


def parameters(kind: type[_Readable] = Config, tracker: str = DEFAULT_TRACKER) -> tuple[Parameter, ...]:
    """Every parameter of Config (with that tracker), LiveConfig or NodeConfig, in the order of declaration."""
    if kind is Config:
        return (*PIPELINE, *tracker_parameters(tracker))
    return declared(kind)  # type: ignore[arg-type]  # the others are Parameters themselves


def tracker_parameters(tracker: str) -> tuple[Parameter, ...]:
    """The parameters of one tracker, with its defaults; raises InputError for an unknown name."""
    return declared(tracker_class(tracker).Parameters)


def all_tracker_parameters() -> dict[str, Parameter]:
    """The parameters of all trackers by name; the declaration is that of the first tracker that has it."""
    return _all_tracker_parameters(tuple(TRACKERS.items()))


def trackers_with(name: str) -> tuple[str, ...]:
    """The trackers that have a parameter."""
    return tuple(t for t in TRACKERS if name in {p.name for p in tracker_parameters(t)})


def may_be_minus_one(p: Parameter) -> bool:
    """Whether -1 is still taken for the parameter's default, with a warning."""
    return p.name in _MINUS_ONE


@contextmanager
def collected_deprecations() -> Iterator[list[str]]:
    """Collects the messages of DeprecationWarnings instead of showing them; the list is complete at the end."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        yield messages
    messages += [str(one.message) for one in caught]


@lru_cache(maxsize=4)
def _all_tracker_parameters(registry: tuple[tuple[str, str], ...]) -> dict[str, Parameter]:
    """Kept as long as the registry stays the same."""
    found: dict[str, Parameter] = {}
    for tracker, _ in registry:
        for p in tracker_parameters(tracker):
            found.setdefault(p.name, p)
    return found


def _warn(tracker: str, ignored: list[str], defaults: list[str]) -> None:
    """One DeprecationWarning about all values of a Config that no longer mean anything."""
    said = []
    if ignored:
        said.append(f"{', '.join(ignored)}: ignored, tracker {tracker} has no such parameter")
    if defaults:
        said.append(f"{', '.join(defaults)}: -1 is no longer needed for the tracker's default, leave it out")
    if said:
        warnings.warn("; ".join(said), DeprecationWarning, stacklevel=3)


def _others(kind: type[_Readable]) -> set[str]:
    """Names that one file may hold besides those of `kind`."""
    return {name for other in (Config, LiveConfig, NodeConfig) if other is not kind for name in other.names()}


def _inside_ros_file(content: Any) -> Any:
    """The parameters in a ROS parameter file; other content unchanged; an empty file has no parameters."""
    if isinstance(content, Mapping) and len(content) == 1:
        (inner,) = content.values()
        if isinstance(inner, Mapping) and set(inner) == {"ros__parameters"}:
            return inner["ros__parameters"] or {}
    return {} if content is None else content
