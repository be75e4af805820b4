"""The parameters of a pipeline: those of the segmenter and of the chosen tracker, from YAML, flags or Python."""

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
"""The choice of the tracker; it decides which tracker parameters Config has."""
PIPELINE = (*declared(SegmenterParameters), TRACKER)
"""The parameters that every Config has, with any tracker."""
_ROS = frozenset(["use_sim_time", "qos_overrides", "diagnostic_updater"])
"""Parameters of every ROS node or of libraries; readers without ROS ignore them."""
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
"""Parameters for which -1 meant the default of the tracker in earlier releases."""
Kind = TypeVar("Kind", bound="_Readable")


class _Readable:
    """A set of parameters that can be read from a mapping or a file."""

    @classmethod
    def names(cls) -> set[str]:
        """The names that may be given."""
        return {p.name for p in parameters(cls)}

    @classmethod
    def from_mapping(cls: type[Kind], values: Mapping[str, Any], where: str = "configuration") -> Kind:
        """The defaults, replaced by `values`; raises InputError with `where` and the parameter that is wrong."""
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
        """Reads a YAML file: a mapping of names to values, or a ROS parameter file (`node: ros__parameters:`).

        One file may contain the parameters of Config, LiveConfig and NodeConfig. `overrides` replace those of the file.
        Raises InputError with the file and the parameter that is wrong.
        """
        content = _inside_ros_file(read_yaml(path))
        if not isinstance(content, Mapping):
            raise InputError(f"{path}: holds no mapping; write one `name: value` a line")
        own = {name: value for name, value in content.items() if name not in _others(cls)}
        return cls.from_mapping({**own, **(overrides or {})}, str(path))


@dataclass(frozen=True, init=False)
class Config(_Readable):
    """Parameters of the pipeline: `Config(tracker="sort", iou_threshold=0.2, threads=2)`.

    All parameters can be set and read by name. A parameter of another tracker than the chosen one is checked and then
    ignored with a DeprecationWarning. So is the value -1, which earlier releases used for the tracker's default.

    Args:
        tracker: name of the tracker.
        segmenter_parameters: replaces the defaults of the segmenter.
        tracker_parameters: replaces the defaults of the tracker.
        values: single parameters; they override both sets.

    Attributes:
        segmenter_parameters, tracker_parameters: the two sets; the class of the second depends on the tracker.

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
                # The value has no effect, but one out of range is a mistake of the user.
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
        """A copy for segmentations of another origin than `model`: `tracker_weights: model` becomes `none`."""
        if getattr(self.tracker_parameters, "tracker_weights", None) != "model":
            return self
        untrained: dict[str, Any] = {"tracker_weights": "none"}
        return dataclasses.replace(self, **untrained)

    def __getattr__(self, name: str) -> Any:
        # Called only for names that are not attributes. While the object is unpickled, its fields are missing.
        for own in ("tracker_parameters", "segmenter_parameters"):
            if own in self.__dict__ and name in {p.name for p in declared(type(self.__dict__[own]))}:
                return getattr(self.__dict__[own], name)
        raise AttributeError(f"{type(self).__name__} with tracker {self.__dict__.get('tracker')!r} has no {name!r}")

    @classmethod
    def names(cls) -> set[str]:
        return {p.name for p in PIPELINE} | set(all_tracker_parameters())


@dataclass(frozen=True)
class LiveConfig(_Readable, Parameters):
    """Parameters of live hosts (DDS and ROS); raises InputError for a value out of its range."""

    reliability: str = parameter(
        "best_effort",
        "reliability of the image subscription; reliable repeats lost messages, and needs a reliable publisher",
        choices=RELIABILITIES,
    )
    depth: int = parameter(
        1, "images that the middleware queues until they are read; only the newest is used", low=1, high=1000
    )
    batch_cameras: str = parameter(
        "auto",
        "auto: on a GPU, waiting frames of several cameras go through one run of the network, if the model accepts a "
        "batch; off: one frame after the other",
        choices=("auto", "off"),
    )
    depth_topic: str = parameter(
        "",
        "depth images registered to the camera, 16UC1 (mm) or 32FC1 (m), with camera_info beside them; publishes "
        "objects_3d, velocities_3d and panoptic_cloud; relative names are below the camera's name; empty: no depth",
    )
    depth_slop: float = parameter(
        0.02,
        "largest distance of the stamps of an image and its depth; 0: they must be equal",
        unit="s",
        low=0,
        high=10,
        live=True,
    )
    objects_frame: str = parameter(
        "", "coordinate frame of objects_3d and panoptic_cloud, by TF (ROS node only); empty: that of the camera"
    )
    panoptic_ids: bool = parameter(False, "also publish panoptic_ids, class * 1000000 + track id of each pixel")
    patience: float = parameter(
        10.0,
        "time without an image, or for one frame, after which an error is reported",
        unit="s",
        low=0.1,
        high=3600,
        live=True,
    )


@dataclass(frozen=True)
class NodeConfig(_Readable, Parameters):
    """Parameters of the ROS node only; raises InputError for a value out of its range."""

    autostart: bool = parameter(
        True, "configure and activate at the start; false: a lifecycle manager does this", once=True
    )
    cameras: tuple[str, ...] = parameter(
        ("",),
        "cameras that share the model, by name: NAME/image in, ~/NAME/panoptic out; one empty name: one camera",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [name for name in self.cameras if not _NAME.fullmatch(name)]
        if wrong or len(set(self.cameras)) < len(self.cameras):
            raise InputError(f"cameras: {list(self.cameras)!r}: give each a name of its own of letters, digits and _")


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


def may_be_minus_one(p: Parameter) -> bool:
    """Whether -1 is still accepted for the parameter's default, with a warning."""
    return p.name in _MINUS_ONE


@contextmanager
def collected_deprecations() -> Iterator[list[str]]:
    """Yields a list that holds the messages of DeprecationWarnings after the block; they are not shown."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        yield messages
    messages += [str(one.message) for one in caught]


@lru_cache(maxsize=4)
def _all_tracker_parameters(registry: tuple[tuple[str, str], ...]) -> dict[str, Parameter]:
    """Cached for the current content of the registry."""
    found: dict[str, Parameter] = {}
    for tracker, _ in registry:
        for p in tracker_parameters(tracker):
            found.setdefault(p.name, p)
    return found


def _warn(tracker: str, ignored: list[str], defaults: list[str]) -> None:
    """One DeprecationWarning about all values of a Config that have no effect."""
    messages = []
    if ignored:
        messages.append(f"{', '.join(ignored)}: ignored, tracker {tracker} has no such parameter")
    if defaults:
        messages.append(f"{', '.join(defaults)}: -1 is no longer needed for the tracker's default, leave it out")
    if messages:
        warnings.warn("; ".join(messages), DeprecationWarning, stacklevel=3)


def _others(kind: type[_Readable]) -> set[str]:
    """Names of the other sets of parameters that one file may contain."""
    return {name for other in (Config, LiveConfig, NodeConfig) if other is not kind for name in other.names()}


def _inside_ros_file(content: Any) -> Any:
    """The parameters in a ROS parameter file; other content unchanged; an empty file has no parameters.

    A file of several nodes has those of `/**` and, before them, of nodes named `vps`.
    """
    if content is None:
        return {}
    if not isinstance(content, Mapping) or not all(
        isinstance(inner, Mapping) and set(inner) == {"ros__parameters"} for inner in content.values()
    ):
        return content
    nodes = sorted(content, key=lambda node: node != "/**")
    if len(nodes) > 1:
        nodes = [node for node in nodes if node.rpartition("/")[2] in ("**", "vps")]
    found = {name: value for node in nodes for name, value in (content[node]["ros__parameters"] or {}).items()}
    return {name: value for name, value in found.items() if name.partition(".")[0] not in _ROS} if nodes else content
