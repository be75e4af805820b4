"""Every parameter once: name, type, default, range, unit, one line of meaning.

The YAML file, the node's parameters, the command line's flags and the table in docs are made from here.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from vps_ros.errors import InputError
from vps_ros.presets import PRESETS


@dataclass(frozen=True)
class Parameter:
    """What is known of one field of Config.

    Attributes:
        low, high: range of the values; None where there is none.
        least: smallest value besides -1, where -1 stands for the tracker's own value (presets.py); None elsewhere.
        live: may change while a pipeline runs.
        once: is read as the node starts, and never again.
    """

    name: str
    type: type
    default: Any
    meaning: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    least: float | None = None
    once: bool = False


def _parameter(default: Any, meaning: str, **facts: Any) -> Any:
    return field(default=default, metadata={"meaning": meaning, **facts})


def _tracker_value(meaning: str, least: float, high: float, **facts: Any) -> Any:
    """A parameter whose best value depends on the tracker."""
    return _parameter(-1.0, f"{meaning}; -1: the tracker's own", low=-1, high=high, least=least, **facts)


TRACKERS = tuple(PRESETS)
PROVIDERS = ("cpu", "cuda", "tensorrt")
RELIABILITIES = ("best_effort", "reliable")
_NAME = re.compile(r"([A-Za-z_]\w*)?", re.ASCII)
Kind = TypeVar("Kind", bound="_Checked")


class _Checked:
    """What Config, LiveConfig and NodeConfig share: values that are checked, from a mapping or a file."""

    def __post_init__(self) -> None:
        for p in parameters(type(self)):
            object.__setattr__(self, p.name, check(p, getattr(self, p.name)))

    @classmethod
    def from_mapping(cls: type[Kind], values: Mapping[str, Any], where: str = "configuration") -> Kind:
        """The defaults with `values` over them; raises InputError naming `where` and any unknown name."""
        known = {p.name for p in parameters(cls)}
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(str(name), known | _others(cls), 1)
                hint = f"did you mean {near[0]}?" if near else "see docs/parameters.md for the names"
                raise InputError(f"{where}: unknown parameter {name!r}; {hint}")
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    @classmethod
    def from_yaml(cls: type[Kind], path: str | Path, overrides: Mapping[str, Any] | None = None) -> Kind:
        """From a YAML file: a plain mapping, or a ROS parameter file (`node: ros__parameters:`).

        One file may hold the parameters of Config, LiveConfig and NodeConfig.
        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; give the path of a YAML file of parameters") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None
        content = _inside_ros_file(content if content is not None else {})
        if not isinstance(content, Mapping):
            raise InputError(f"{path}: holds no mapping; write one `name: value` a line")
        mine = {name: value for name, value in content.items() if name not in _others(cls)}
        return cls.from_mapping({**mine, **(overrides or {})}, str(path))


@dataclass(frozen=True)
class Config(_Checked):
    """Parameters of the pipeline; raises InputError for a value out of its range.

    Thresholds of the segmenter default to -1: the value that the model itself carries. Those of the tracker default
    to -1 where trackers differ: the tracker's own value, which `settled` fills in.
    """

    # segmenter
    model: str = _parameter("streets-s", "name of a shipped model, or path of an ONNX file")
    providers: tuple[str, ...] = _parameter(
        ("cpu",), "ONNX Runtime execution providers, in order of preference", choices=PROVIDERS
    )
    allow_fallback: bool = _parameter(False, "go on with the next provider when the first is missing")
    threads: int = _parameter(0, "threads of the network; 0 takes every core", low=0, high=256)
    tensorrt_fp16: bool = _parameter(False, "let TensorRT compute in half precision")
    postprocess: str = _parameter(
        "model", "how masks become segments", choices=("model", "mask_wise", "pixel_wise"), live=True
    )
    thing_threshold: float = _parameter(
        -1.0, "least class score of a thing; -1: the model's", low=-1, high=1, live=True
    )
    stuff_threshold: float = _parameter(-1.0, "least class score of stuff; -1: the model's", low=-1, high=1, live=True)
    mask_threshold: float = _parameter(
        -1.0, "least mask probability of a pixel; -1: the model's", low=-1, high=1, live=True
    )
    overlap_threshold: float = _parameter(
        -1.0, "least visible share of a mask; -1: the model's", low=-1, high=1, live=True
    )
    thing_area: int = _parameter(
        -1, "smallest thing, in pixels of the model's input; -1: the model's", unit="px", low=-1, high=10**7, live=True
    )
    stuff_area: int = _parameter(
        -1, "smallest stuff, in pixels of the model's input; -1: the model's", unit="px", low=-1, high=10**7, live=True
    )
    # tracker
    tracker: str = _parameter("hierarchical", "how segments get identities", choices=TRACKERS)
    flow_preset: str = _parameter(
        "ultrafast", "fineness of the optical flow (OpenCV DIS)", choices=("ultrafast", "fast", "medium")
    )
    flow_height: int = _parameter(
        192,
        "height of the images and masks that the flow works on; larger sees smaller objects",
        unit="px",
        low=16,
        high=2160,
    )
    pixel_threshold: float = _tracker_value("least Dice of a mask moved by the flow and a mask now", 0, 1, live=True)
    association_threshold: float = _tracker_value(
        "least probability that a thing is an object in memory", 0, 1, live=True
    )
    temporal_consistency: bool = _parameter(
        True, "compare with masks two frames ago as well (hierarchical: always)", live=True
    )
    temporal_threshold: float = _tracker_value(
        "least similarity to an object two frames ago; theta of HybridTracker", 0, 1, live=True
    )
    iou_threshold: float = _tracker_value("least intersection over union with an object's mask or box", 0, 1, live=True)
    instance_threshold: float = _tracker_value("least probability of a match of instances", 0, 1, live=True)
    instance_temperature: float = _tracker_value(
        "temperature of the cosine of embeddings from which no head was learned", 1e-3, 1e3
    )
    tracker_weights: str = _parameter(
        "model",
        "what the instance and hybrid trackers have learned: a file, none, or model (the file beside it, if any)",
    )
    init_threshold: float = _parameter(
        0.35, "least score of a new object of the quasi-dense tracker", low=0, high=1, live=True
    )
    object_threshold: float = _parameter(
        0.3, "least score of a known object's sighting in the quasi-dense tracker", low=0, high=1, live=True
    )
    match_threshold: float = _parameter(
        0.5, "least bidirectional softmax of a match of the quasi-dense tracker", low=0, high=1, live=True
    )
    memory_threshold: float = _tracker_value(
        "least similarity (appearance times location) to an object in memory; alpha", 0, 1, live=True
    )
    location_threshold: float = _tracker_value(
        "least location similarity where no appearance is known", 0, 1, live=True
    )
    location_temperature: float = _tracker_value(
        "squared distance of boxes, in sizes of the image, at which location similarity is 1/e; T", 1e-6, 1e6, live=True
    )
    appearance_weight: float = _tracker_value(
        "share of the newest embedding in an object's appearance; lambda", 0, 1, live=True
    )
    velocity_weight: float = _tracker_value(
        "share of the newest velocity in an object's motion (1: the last two boxes alone)", 0.01, 1, live=True
    )
    memory_tau: float = _tracker_value(
        "how long an object that is not seen is remembered, in memory_unit; tau", 0, 1e6, live=True
    )
    memory_unit: str = _parameter(
        "frames", "what memory_tau and tentative_tau count", choices=("frames", "seconds"), live=True
    )
    confirm_hits: int = _parameter(
        2, "frames in which an object is seen before it is confirmed", low=1, high=1000, live=True
    )
    tentative_tau: float = _tracker_value(
        "as memory_tau, for an object that is not confirmed yet; the smaller of the two counts", 0, 1e6, live=True
    )

    def settled(self) -> Config:
        """This Config with the tracker's own values in place of -1; what the tracker does not use stays -1."""
        own: dict[str, Any] = {
            name: preset.value for name, preset in PRESETS[self.tracker].items() if getattr(self, name) == -1
        }
        return dataclasses.replace(self, **own)


@dataclass(frozen=True)
class LiveConfig(_Checked):
    """Parameters of what reads a camera as it runs; raises InputError for a value out of its range."""

    reliability: str = _parameter(
        "best_effort",
        "what is asked of the camera's publisher; reliable waits for what got lost, and needs a reliable publisher",
        choices=RELIABILITIES,
    )
    depth: int = _parameter(
        1, "images that the middleware keeps until they are taken; only the newest is used", low=1, high=1000
    )
    panoptic_ids: bool = _parameter(False, "also offer panoptic_ids, class * 1000000 + track id of each pixel")
    patience: float = _parameter(
        10.0,
        "how long there may be no image, or a frame may take, before it is said",
        unit="s",
        low=0.1,
        high=3600,
        live=True,
    )


@dataclass(frozen=True)
class NodeConfig(_Checked):
    """Parameters of the ROS node alone; raises InputError for a value out of its range."""

    autostart: bool = _parameter(
        True, "configure and activate at the start; false leaves that to a lifecycle manager", once=True
    )
    cameras: tuple[str, ...] = _parameter(
        ("",),
        "cameras that share the model, by name: NAME/image in, ~/NAME/panoptic out; one empty name: one camera",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [name for name in self.cameras if not _NAME.fullmatch(name)]
        if wrong or len(set(self.cameras)) < len(self.cameras):
            raise InputError(f"cameras: {list(self.cameras)!r}: give each a name of its own, of letters, digits and _")


def parameters(kind: type[_Checked] = Config) -> tuple[Parameter, ...]:
    """Every parameter of Config, LiveConfig or NodeConfig, in the order of declaration."""
    return _PARAMETERS[kind]


def check(parameter: Parameter, value: Any) -> Any:
    """The value in its declared type; raises InputError that names the parameter, the value and what is allowed."""
    p = parameter
    if p.type is tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(v, str) for v in value):
            raise InputError(f"{p.name}: {value!r} is not a list of names")
        value = tuple(value)
    elif p.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    elif type(value) is not p.type:
        raise InputError(f"{p.name}: {value!r} is not of type {p.type.__name__}")
    if p.choices:
        for one in value if isinstance(value, tuple) else (value,):
            if one not in p.choices:
                raise InputError(f"{p.name}: {one!r} is not one of {', '.join(p.choices)}")
    # Written so that NaN, which compares false with everything, is refused too.
    if (p.low is not None and not value >= p.low) or (p.high is not None and not value <= p.high):
        raise InputError(f"{p.name}: {value!r} is outside {p.low:g}..{p.high:g}")
    if p.least is not None and value != -1 and value < p.least:
        raise InputError(f"{p.name}: {value!r} is outside {p.least:g}..{p.high:g}, and not -1, the tracker's own")
    return value


def _others(kind: type[_Checked]) -> set[str]:
    """Names that one file may hold besides those of `kind`."""
    return {p.name for other in _PARAMETERS if other is not kind for p in parameters(other)}


def _inside_ros_file(content: Any) -> Any:
    if isinstance(content, Mapping) and len(content) == 1:
        (inner,) = content.values()
        if isinstance(inner, Mapping) and set(inner) == {"ros__parameters"}:
            return inner["ros__parameters"] or {}
    return content


def _declared(kind: type[_Checked]) -> tuple[Parameter, ...]:
    hints = get_type_hints(kind)
    return tuple(
        Parameter(f.name, getattr(hints[f.name], "__origin__", hints[f.name]), f.default, **f.metadata)
        for f in dataclasses.fields(kind)  # type: ignore[arg-type]  # each kind is a dataclass
    )


_PARAMETERS: dict[type[_Checked], tuple[Parameter, ...]] = {
    kind: _declared(kind) for kind in (Config, LiveConfig, NodeConfig)
}
