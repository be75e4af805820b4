"""Training recipes: the YAML file of `vps-ros train` as dataclasses."""

from __future__ import annotations

import typing
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from vps_ros.clips import MAX_LENGTH
from vps_ros.datasets.formats import DATA_SETS
from vps_ros.errors import InputError
from vps_ros.learning.data.entries import FolderData, MixedData, StreetsData, entries_of, terms_of
from vps_ros.learning.kmax.architecture import Architecture as KMaxArchitecture
from vps_ros.learning.kmax.losses import KMaxLosses
from vps_ros.learning.kmeans.architecture import Architecture, LossWeights
from vps_ros.learning.network_io import InputSizes
from vps_ros.learning.panoptic_fcn.architecture import Architecture as PanopticFCNModel
from vps_ros.learning.video_knet.architecture import Architecture as VideoKNetModel
from vps_ros.reading import choose, plain, read_as, read_yaml
from vps_ros.taxonomies import ALL

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and standard deviation of RGB, 0..255, of most published weights."""


@dataclass(frozen=True)
class PairWeights:
    """Factors of the association terms (Video K-Net, equations 1 and 2) beside a network's own losses."""

    track: float = 0.25
    track_aux: float = 1.0


@dataclass(frozen=True)
class Mask2FormerModel:
    """Mask2Former (Cheng et al., CVPR 2022) as transformers has it, with an association embedding.

    Attributes:
        classes: without void.
        config: entries of transformers' Mask2FormerConfig, including the losses; other entries are those of `start` or,
            without one, the defaults of transformers.
        embedding_dim: of the association embedding.
        backbone_rate: factor of the learning rate for the backbone.
        mean, std: normalisation of images, 0..255; by default that of `start`.
    """

    TAG: ClassVar[str] = "kind"
    NAMES: ClassVar[tuple[str, ...]] = ("mask2former",)
    INPUT_SIZES: ClassVar[InputSizes] = InputSizes(32)
    LOSSES: ClassVar[type] = PairWeights

    classes: int = 19
    config: dict = field(default_factory=dict)
    embedding_dim: int = 64
    backbone_rate: float = 0.1
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    kind: str = "mask2former"


@dataclass(frozen=True)
class KMaxWeights(KMaxLosses):
    """Factors of the losses of kMaX-DeepLab and of the association terms."""

    track: float = 0.25
    track_aux: float = 1.0


@dataclass(frozen=True)
class KMaxModel:
    """kMaX-DeepLab (Yu et al., ECCV 2022), with an association embedding.

    Attributes:
        classes: without void.
        backbone: name of one of vps_ros.learning.kmax.architecture.BACKBONES; if empty, that of `architecture`.
        architecture: sizes of the network; by default those for COCO, or those of `start`.
        embedding_dim: of the association embedding.
        backbone_rate: factor of the learning rate for the backbone.
    """

    TAG: ClassVar[str] = "kind"
    NAMES: ClassVar[tuple[str, ...]] = ("kmax",)
    INPUT_SIZES: ClassVar[InputSizes] = InputSizes(32, 1)
    LOSSES: ClassVar[type] = KMaxWeights

    classes: int = 19
    backbone: str = ""
    architecture: KMaxArchitecture = KMaxArchitecture()
    embedding_dim: int = 64
    backbone_rate: float = 0.1
    kind: str = "kmax"


Model = Architecture | Mask2FormerModel | VideoKNetModel | KMaxModel | PanopticFCNModel
"""The models of a recipe, distinguished by `kind`; their modules are in kinds.KINDS."""
Source = StreetsData | FolderData
"""An entry of `data`."""
EXAMPLE = "config/train/streets-s.yaml"
_FORMER_KINDS = {"judge": "match-scorer"}
PRECISIONS = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class Phase:
    """A phase of training.

    Attributes:
        until: progress of the run, 0..1, at which it ends.
        size: width and height of the images.
        pairs: of frames in a batch; they are divided among the workers.
    """

    until: float
    size: tuple[int, int]
    pairs: int


@dataclass(frozen=True)
class Schedule:
    """Steps, optimiser, validation and checkpoints.

    Attributes:
        phases: in order; the last one's `until` is 1.
        steps: number of optimiser steps; 0 if `minutes` is given.
        minutes: duration of training including validation, instead of `steps`. The progress of such a run is measured
            by the clock, so that it cannot be repeated exactly.
        learning_rate: reached by a linear warm-up in the part `warmup` of the run, constant in the part `constant`,
            then reduced to 1 % along a cosine.
        ema: decay of the moving average of the weights, which is validated and exported.
        clip: largest norm of the gradient.
        precision: of the forward pass, one of PRECISIONS; float16 is for GPUs only.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`: a GPU if there is one.
        accumulate: number of parts of a batch whose gradients are added before one optimiser step, to save memory.
            Batch normalisation and the negatives of association use one part only.
        workers: processes that divide each batch, on the CPU; on a GPU there is one.
        threads: of each worker.
        loaders: threads of each worker that prepare the next batches.
        log_every, validate_every: in steps.
        save_minutes: between checkpoints.
    """

    phases: tuple[Phase, ...]
    steps: int = 0
    minutes: float = 0.0
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    constant: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    precision: str = "bfloat16"
    device: str = "auto"
    accumulate: int = 1
    workers: int = 2
    threads: int = 1
    loaders: int = 1
    log_every: int = 20
    validate_every: int = 500
    save_minutes: float = 3.0


@dataclass(frozen=True)
class Augmentation:
    """Probabilities and ranges of the augmentation of a pair of frames.

    Attributes:
        flip, zoom, rotate: probabilities. A zoomed frame is the source at the data's `size`, scaled by a factor of
            `zoom_range` and cropped to the size of the phase; any other frame is the source resized to that size.
        stretch: probability that a zoomed frame is widened by a factor up to 2.4, as a 4:3 image in a wide input is.
        apart: probability that the two frames of a pair have different views and colours.
        colour: strength of changes of brightness, contrast, gamma, saturation and white balance; 0 for none.
        blur, noise, jpeg: probabilities for each frame.
        paste, pasted: probability that objects of another pair are pasted into a pair, and their largest number.
        donors: names of data entries whose objects are pasted, at plausible positions and sizes; if empty, objects of
            the pair's own entry are pasted, at their own position and size.
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
    paste: float = 0.0
    pasted: int = 4
    donors: tuple[str, ...] = ()
    stretch: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """A training run: data, model, schedule, augmentation and losses.

    Attributes:
        data: `format: streets`, the default, or a data set on disk; or a list of them; the first one
            has the classes of the model.
        start: a run's folder, a checkpoint or an exported model, relative to the working folder, with the initial
            weights; if empty, they are random.
        learned_before: data sets that the weights of `start` were trained on, with their terms; set when a run begins.
        new_classes: initialise classes that `start` lacks randomly, instead of an error.
        model: `kind: streets`, the default, or another of Model; its `classes` are those of the data.
        losses: factors of the loss terms, of the type LOSSES of the model.
        clip: frames that the network segments together (near-online); a batch has as many frames for each of a pair.
    """

    name: str
    data: StreetsData | FolderData | MixedData
    schedule: Schedule
    seed: int = 0
    start: str = ""
    learned_before: tuple[str, ...] = ()
    new_classes: bool = False
    model: Model = Architecture()
    augmentation: Augmentation = Augmentation()
    losses: Any = LossWeights()
    clip: int = field(default=1, metadata={"low": 1, "high": MAX_LENGTH})

    def __post_init__(self) -> None:
        self.data.check()
        self._check_schedule()
        taxonomy, sizes = self.data.taxonomy, self.model.INPUT_SIZES
        if self.model.classes != len(taxonomy):
            raise InputError(
                f"model: {self.model.classes} classes, but {taxonomy.name} has {len(taxonomy)}; remove `classes`"
            )
        for p in self.schedule.phases:
            if p.pairs < 1 or not sizes.accepts(p.size):
                raise InputError(
                    f"schedule: a phase of size {p.size[0]}x{p.size[1]} with {p.pairs} pairs; "
                    f"sides must be {sizes}, pairs at least 1"
                )
        names = [e.called for e in entries_of(self.data)]
        for donor in self.augmentation.donors:
            if donor not in names:
                raise InputError(f"augmentation.donors: no entry {donor!r} in data; there are {', '.join(names)}")
        if not sizes.accepts(self.data.size):
            raise InputError("data: size {}x{}; sides must be {}".format(*self.data.size, sizes))

    def _check_schedule(self) -> None:
        s = self.schedule
        if (s.steps > 0) == (s.minutes > 0) or min(s.steps, s.minutes) < 0:
            raise InputError("schedule: give steps or minutes, one of them and positive")
        if not s.phases or s.phases[-1].until != 1.0:
            raise InputError("schedule: the last phase must have `until: 1.0`")
        if sorted(p.until for p in s.phases) != [p.until for p in s.phases]:
            raise InputError("schedule: phases must be in the order of their `until`")
        if min(s.warmup, s.constant) < 0 or s.warmup + s.constant >= 1:
            raise InputError("schedule: warmup and constant are parts of the run (0..1), together less than 1")
        if s.precision not in PRECISIONS:
            raise InputError(f"schedule: precision {s.precision!r}; there are {', '.join(PRECISIONS)}")
        if min(s.workers, s.threads, s.loaders, s.accumulate) < 1:
            raise InputError("schedule: workers, threads, loaders and accumulate are at least 1")
        for p in s.phases:
            if p.pairs % (s.workers * s.accumulate):
                raise InputError(
                    f"schedule: {s.workers} workers of {s.threads} threads share {p.pairs} pairs"
                    + (f", each in {s.accumulate} parts" if s.accumulate > 1 else "")
                    + "; make pairs a multiple of workers * accumulate"
                )

    @property
    def terms(self) -> list[str]:
        """One line for each data set that the model is or was trained on, with its terms of use."""
        return list(dict.fromkeys([*terms_of(self.data), *self.learned_before]))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Recipe:
        """Raises InputError that names the file and the entry that is missing, unknown or of the wrong type."""
        return cls.from_mapping(read_yaml(path, EXAMPLE), str(path))

    @classmethod
    def from_mapping(cls, content: Any, where: str) -> Recipe:
        """As from_yaml, from the content of the file; `where` names it in the message."""
        try:
            content = _completed(content)
            kind = type(cls.model)
            if isinstance(content, Mapping):
                kind = choose(typing.get_args(Model), content.get("model", {}), "model")
                content = {"losses": {}, **content}
            hints: dict[str, Any] = {"losses": kind.LOSSES, "data": Source}
            if isinstance(content, dict) and isinstance(content.get("data"), list):
                content["data"], hints["data"] = _mixed(content["data"]), MixedData
            return read_as(cls, content, hints=hints)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def to_mapping(self) -> dict[str, Any]:
        """The recipe as plain values, the input of from_mapping."""
        content = plain(self)
        if isinstance(self.data, MixedData):
            content["data"] = content["data"]["entries"]
        return content


def kind_of(path: str | Path) -> str:
    """What the recipe in a file is for: its entry `kind`, or "model"; raises InputError when it cannot be read.

    A name of an earlier release is replaced, with a DeprecationWarning.
    """
    content = read_yaml(path, EXAMPLE)
    kind = str(content.get("kind", "model")) if isinstance(content, Mapping) else "model"
    if kind in _FORMER_KINDS:
        former, kind = kind, _FORMER_KINDS[kind]
        warnings.warn(f"{path}: kind {former!r} is now called {kind!r}", DeprecationWarning, stacklevel=2)
    return kind


def _mixed(entries: list[Any]) -> MixedData:
    """Reads a list of data entries; the default of entries after the first is no validation."""
    found = []
    for i, value in enumerate(entries):
        if i and isinstance(value, Mapping) and value.get("format") in FolderData.NAMES:
            value = {"validation_split": ""} | dict(value)
        found.append(read_as(Source, value, f"data[{i}]"))
    return MixedData(tuple(found))


def _completed(content: Any) -> Any:
    """Adds entries that follow from the data, and translates entries of earlier releases."""
    if not isinstance(content, Mapping):
        return content
    content = dict(content)
    schedule, data, model = (content.get(part) for part in ("schedule", "data", "model"))
    if isinstance(schedule, Mapping) and isinstance(schedule.get("bfloat16"), bool):
        precision = "bfloat16" if schedule["bfloat16"] else "float32"
        content["schedule"] = {k: v for k, v in schedule.items() if k != "bfloat16"} | {"precision": precision}
    first = data[0] if isinstance(data, list) and data else data
    if isinstance(first, Mapping) and isinstance(model, (Mapping, type(None))):
        known = DATA_SETS.get(str(first.get("format")))
        taxonomy = ALL.get(str(first.get("taxonomy")), known and known.taxonomy)
        if taxonomy:
            content["model"] = {"classes": len(taxonomy)} | dict(model or {})
    return content
