"""How a model is trained: the YAML file of `vps-ros train`, read strictly."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vps_ros.errors import InputError
from vps_ros.learning.losses import LossWeights
from vps_ros.learning.model import SIZE_MULTIPLE, Architecture

HELD_OUT_SEED = 900_000
"""Drives with this seed or a larger one are for final evaluation: no recipe may name them."""


@dataclass(frozen=True)
class Data:
    """Which generated drives to learn from.

    Attributes:
        scenarios: names of vps_ros.datasets.streets.SCENARIOS.
        seed, drives: of each scenario, the first seed and how many.
        frames: of each drive.
        size: width and height of the rendered frames.
        validation_seed, validation_drives, validation_frames: of each scenario; frames are spread over the drive.
        folder: where rendered drives are kept, relative to the working folder.
        processes: that render at once.
    """

    scenarios: tuple[str, ...]
    seed: int = 0
    drives: int = 30
    frames: int = 24
    size: tuple[int, int] = (640, 192)
    validation_seed: int = 800_000
    validation_drives: int = 1
    validation_frames: int = 8
    folder: str = ".drives"
    processes: int = 2


@dataclass(frozen=True)
class Phase:
    """A part of training: up to which share of the run, image size (width, height), pairs of frames in a batch.

    The pairs are shared out among the workers.
    """

    until: float
    size: tuple[int, int]
    pairs: int


@dataclass(frozen=True)
class Schedule:
    """Steps, optimiser and what is written when.

    Attributes:
        phases: in order; the last one's `until` is 1.
        steps: of the optimiser, in all; or 0, and then
        minutes: how long to learn, validation included, for machines whose pace is not known beforehand. Such a run
            goes by the share of its time that has passed, so that it cannot be repeated exactly.
        learning_rate: the peak of a linear warm-up over `warmup` (share of the run) and a cosine down to 1 % of it.
        ema: decay of the averaged weights, which are what is exported.
        clip: largest norm of the gradient.
        bfloat16: automatic mixed precision.
        workers: processes that share each batch.
        threads: of each worker.
        log_every, validate_every: in steps.
        save_minutes: between checkpoints.
    """

    phases: tuple[Phase, ...]
    steps: int = 0
    minutes: float = 0.0
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    ema: float = 0.999
    clip: float = 1.0
    bfloat16: bool = True
    workers: int = 2
    threads: int = 1
    log_every: int = 20
    validate_every: int = 500
    save_minutes: float = 3.0


@dataclass(frozen=True)
class Augmentation:
    """Chances and ranges of what is done to a pair of frames.

    Attributes:
        flip, zoom, rotate: chances. A zoomed frame is the source scaled by a factor out of `zoom_range`, cropped to the
            size of the phase; any other is the whole source resized to it.
        apart: chance that the frames of a pair have views and colours of their own, which shows the network more.
        colour: strength of changes of brightness, contrast, gamma, saturation and white balance; 0 is none.
        blur, noise, jpeg: chances for each frame.
    """

    flip: float = 0.5
    zoom: float = 0.7
    zoom_range: tuple[float, float] = (0.7, 1.5)
    rotate: float = 0.1
    apart: float = 0.5
    colour: float = 0.4
    blur: float = 0.1
    noise: float = 0.1
    jpeg: float = 0.1


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run learns.

    `start` names a run's folder, a checkpoint or an exported model, relative to the working folder, whose weights to
    begin with; empty, the run begins with random ones.
    """

    name: str
    data: Data
    schedule: Schedule
    seed: int = 0
    start: str = ""
    model: Architecture = Architecture()
    augmentation: Augmentation = Augmentation()
    losses: LossWeights = LossWeights()

    def __post_init__(self) -> None:
        d, s = self.data, self.schedule
        for first, count in ((d.seed, d.drives), (d.validation_seed, d.validation_drives)):
            if count < 1 or first < 0 or first + count > HELD_OUT_SEED:
                raise InputError(
                    f"data: seeds {first}..{first + count - 1}; use seeds in 0..{HELD_OUT_SEED - 1}, "
                    "the others are held out for evaluation"
                )
        if d.seed < d.validation_seed + d.validation_drives and d.validation_seed < d.seed + d.drives:
            raise InputError("data: training and validation share seeds; set them apart")
        if d.frames < 2 or d.validation_frames < 1:
            raise InputError("data: frames must be at least 2 (pairs are learned from), validation_frames at least 1")
        if (s.steps > 0) == (s.minutes > 0) or min(s.steps, s.minutes) < 0:
            raise InputError("schedule: give steps or minutes, one of them and positive")
        if not s.phases or s.phases[-1].until != 1.0:
            raise InputError("schedule: the last phase must have `until: 1.0`")
        if sorted(p.until for p in s.phases) != [p.until for p in s.phases]:
            raise InputError("schedule: phases must be in the order of their `until`")
        for p in s.phases:
            if s.workers < 1 or s.threads < 1 or p.pairs % s.workers:
                raise InputError(
                    f"schedule: {s.workers} workers of {s.threads} threads share {p.pairs} pairs; make workers and "
                    "threads at least 1, and pairs a multiple of workers"
                )
            if p.pairs < 1 or any(side < SIZE_MULTIPLE or side % SIZE_MULTIPLE for side in p.size):
                raise InputError(
                    f"schedule: a phase of size {p.size[0]}x{p.size[1]} with {p.pairs} pairs; "
                    f"sides are multiples of {SIZE_MULTIPLE}, pairs at least 1"
                )

    @classmethod
    def from_yaml(cls, path: str | Path) -> Recipe:
        """Raises InputError that names the file and the entry that is missing, unknown or of the wrong type."""
        return cls.from_mapping(read_yaml(path), str(path))

    @classmethod
    def from_mapping(cls, content: Any, where: str) -> Recipe:
        """As from_yaml, from what was read; `where` stands in the message."""
        try:
            return read_as(cls, content)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def to_mapping(self) -> dict[str, Any]:
        """Plain values that from_mapping reads back."""
        return _plain(dataclasses.asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def read_yaml(path: str | Path) -> Any:
    """What a recipe's file holds; raises InputError when it cannot be read."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a training recipe, as config/train/streets-s.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None


def kind_of(path: str | Path) -> str:
    """What the recipe in a file is for: its entry `kind`, or "model"; raises InputError when it cannot be read."""
    content = read_yaml(path)
    return str(content.get("kind", "model")) if isinstance(content, Mapping) else "model"


def read_recipe(kind: Any, path: str | Path) -> Any:
    """The recipe in a file as a dataclass; raises InputError that names the file and the entry that is wrong."""
    try:
        return read_as(kind, read_yaml(path))
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def read_as(kind: Any, value: Any, where: str = "") -> Any:
    """The value as `kind`: a dataclass, a tuple, a number, a text or a switch; raises InputError that says where."""
    place = where or "recipe"
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise InputError(f"{place}: holds no mapping of names to values")
        hints = typing.get_type_hints(kind)
        for name in value:
            if name not in hints:
                near = difflib.get_close_matches(str(name), hints, 1)
                raise InputError(
                    f"{place}: unknown entry {name!r}; {f'did you mean {near[0]}?' if near else 'drop it'}"
                )
        for f in dataclasses.fields(kind):
            if f.default is dataclasses.MISSING and f.name not in value:
                raise InputError(f"{place}: lacks {f.name!r}")
        return kind(**{n: read_as(hints[n], v, f"{where}.{n}".lstrip(".")) for n, v in value.items()})
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{place}: {value!r} is not a list")
        if kinds[-1] is Ellipsis:
            return tuple(read_as(kinds[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(kinds):
            raise InputError(f"{place}: {value!r} has {len(value)} entries, not {len(kinds)}")
        return tuple(read_as(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        hint = "; YAML reads 1e-3 as text, write 1.0e-3" if isinstance(value, str) and kind is float else ""
        raise InputError(f"{place}: {value!r} is not of type {kind.__name__}{hint}")
    return value
