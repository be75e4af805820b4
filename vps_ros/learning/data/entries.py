"""The `data` of a recipe: generated drives, a data set on disk, or a list of these."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.class_mapping import LabelCodes, SourceClasses, assign_codes
from vps_ros.datasets.formats import DATA_SETS
from vps_ros.datasets.streets import HELD_OUT
from vps_ros.errors import InputError
from vps_ros.taxonomies import ALL
from vps_ros.taxonomy import CITYSCAPES, Taxonomy

HELD_OUT_SEED = HELD_OUT.start
"""Drives with this seed or a larger one are held out for evaluation: no recipe may use them."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Common entries of generated drives and data sets on disk.

    Attributes:
        format: `streets`, or a data set of vps_ros.datasets.formats.
        name: in logs and in references of other entries; by default the format.
        taxonomy_name: for the first entry, the data set with the classes of the model; by default its own.
        weight: share of the pairs, relative to the other entries in use.
        since, until: the part of the run, in 0..1, in which the entry is used.
        style: probability that a pair gets strong changes of colour, light, sharpness, haze and compression.
        style_of: the entry whose colours such a pair may get; if empty, the colours are random.
        terms: of use, written into the model file; by default those of the format.
    """

    format: str = ""
    name: str = ""
    taxonomy_name: str = field(default="", metadata={"name": "taxonomy"})
    weight: float = 1.0
    since: float = field(default=0.0, metadata={"name": "from"})
    until: float = 1.0
    style: float = 0.0
    style_of: str = ""
    terms: str = ""

    @property
    def called(self) -> str:
        return self.name or self.format

    def _taxonomy(self, own: Taxonomy) -> Taxonomy:
        return ALL.get(self.taxonomy_name, own)

    def _check_entry(self) -> None:
        where = f"data ({self.called})"
        if self.taxonomy_name and self.taxonomy_name not in ALL:
            raise InputError(f"{where}: no taxonomy {self.taxonomy_name!r}; there are {', '.join(ALL)}")
        if not self.weight >= 0:
            raise InputError(f"{where}: weight {self.weight} is negative")
        if not 0 <= self.since < self.until <= 1:
            raise InputError(
                f"{where}: from {self.since} until {self.until}; the part of the run must be 0 <= from < until <= 1"
            )
        if not 0 <= self.style <= 1:
            raise InputError(f"{where}: style {self.style} is not a probability in 0..1")


@dataclass(frozen=True)
class StreetsData(Entry):
    """Generated drives.

    Attributes:
        scenarios: names of vps_ros.datasets.streets.SCENARIOS.
        seed, drives: of each scenario, the first seed and how many.
        balanced: number of further training drives of the scenario `balanced`, in which rare classes are frequent.
        frames: of each drive.
        size: width and height that the network sees.
        rendered: width and height of the rendered frames, (0, 0) for `size`. Larger ones keep their detail where
            a view enlarges them.
        validation_seed, validation_drives, validation_frames: of each scenario; frames are spread over the drive.
        folder: of rendered drives, relative to the working folder.
        processes: number of rendering processes.
        gap: largest distance of the two frames of a pair (2 in Video K-Net; at low frame rates objects move further).
    """

    TAG: ClassVar[str] = "format"
    NAMES: ClassVar[tuple[str, ...]] = ("streets",)
    keep_aspect: ClassVar[bool] = False
    classes: ClassVar[SourceClasses] = SourceClasses(CITYSCAPES, {}, False)
    known_terms: ClassVar[str] = "generated streets: no restriction"

    scenarios: tuple[str, ...]
    seed: int = 0
    drives: int = 30
    balanced: int = 0
    frames: int = 24
    size: tuple[int, int] = (640, 192)
    validation_seed: int = 800_000
    validation_drives: int = 1
    validation_frames: int = 8
    folder: str = ".drives"
    processes: int = 2
    gap: int = 3
    format: str = field(default="streets", kw_only=True)
    rendered: tuple[int, int] = (0, 0)

    @property
    def taxonomy(self) -> Taxonomy:
        return self._taxonomy(CITYSCAPES)

    def check(self) -> None:
        """Raises InputError when seeds are held out or shared with validation, or there are too few drives."""
        self._check_entry()
        most = max(self.drives, self.balanced)
        if self.balanced < 0:
            raise InputError(f"data: balanced is {self.balanced}; it cannot be negative")
        for first, count in ((self.seed, most), (self.validation_seed, self.validation_drives)):
            if count < 1 or first < 0 or first + count > HELD_OUT_SEED:
                raise InputError(
                    f"data: seeds {first}..{first + count - 1}; use seeds in 0..{HELD_OUT_SEED - 1}, "
                    "the others are held out for evaluation"
                )
        if any(self.rendered) and min(self.rendered) < 32:
            raise InputError(f"data: rendered is {list(self.rendered)}; give width and height, or leave it out")
        ends = self.seed + most, self.validation_seed + self.validation_drives
        if self.seed < ends[1] and self.validation_seed < ends[0]:
            raise InputError("data: training and validation have seeds in common; use different ones")
        if self.frames < 2 or self.validation_frames < 1 or self.gap < 1:
            raise InputError(
                "data: frames must be at least 2 (training uses pairs), validation_frames and gap at least 1"
            )


@dataclass(frozen=True)
class FolderData(Entry):
    """A data set in its own layout (docs/datasets.md).

    Attributes:
        format: one of DATA_SETS.
        root: its folder, relative to the working folder.
        size: width and height of the network's input in validation and in the exported model. In training it is the
            scale at zoom 1. For entries after the first it is only this scale, and images are scaled to cover it at
            their own aspect ratio.
        split, validation_split: of the data set; an empty split is all of it, an empty validation_split none.
        images: folder of the camera images, as VIDEO/FRAME.png or .jpg, if they are not beside the labels.
        gap: largest distance of the two frames of a pair, in labelled frames.
        keep_aspect: scale frames to fit into `size` and pad them right and below; otherwise they are stretched.
        validation_frames: in all, spread over the split.
        teacher: an ONNX model of semantic segmentation whose labels fill unlabelled pixels (data/pseudo_labels.py).
        partial: void pixels may show objects that are not labelled; nothing is learned from them.
    """

    TAG: ClassVar[str] = "format"
    NAMES: ClassVar[tuple[str, ...]] = tuple(DATA_SETS)

    format: str = field()
    root: str
    size: tuple[int, int]
    split: str = "train"
    validation_split: str = "val"
    images: str = ""
    gap: int = 3
    keep_aspect: bool = False
    validation_frames: int = 100
    teacher: str = ""
    partial: bool = False

    @property
    def taxonomy(self) -> Taxonomy:
        return self._taxonomy(DATA_SETS[self.format].taxonomy)

    @property
    def classes(self) -> SourceClasses:
        return replace(DATA_SETS[self.format].classes, partial=self.partial)

    @property
    def known_terms(self) -> str:
        return DATA_SETS[self.format].terms or f"{self.format}: see the terms of the data set"

    def check(self) -> None:
        """Raises InputError when entries contradict each other."""
        self._check_entry()
        if self.split == self.validation_split != "":
            raise InputError(
                f"data: split and validation_split are both {self.split!r}; name different ones, "
                "or write an empty validation_split"
            )
        if self.gap < 1 or self.validation_frames < 1:
            raise InputError("data: gap and validation_frames must be at least 1")


@dataclass(frozen=True)
class MixedData:
    """Several data sets. The first one determines the classes, the size and the validation of the model."""

    entries: tuple[StreetsData | FolderData, ...]

    @property
    def taxonomy(self) -> Taxonomy:
        return self.entries[0].taxonomy

    @property
    def size(self) -> tuple[int, int]:
        return self.entries[0].size

    @property
    def keep_aspect(self) -> bool:
        return self.entries[0].keep_aspect

    @property
    def gap(self) -> int:
        return self.entries[0].gap

    def check(self) -> None:
        """Raises InputError when an entry is wrong, or entries contradict each other."""
        if not self.entries:
            raise InputError("data: an empty list; give one entry or more")
        names = [e.called for e in self.entries]
        for i, e in enumerate(self.entries):
            e.check()
            if e.called in names[:i]:
                raise InputError(f"data: two entries are called {e.called!r}; give each a `name` of its own")
            if i and e.taxonomy_name:
                raise InputError(f"data ({e.called}): `taxonomy` is for the first entry only; remove it")
            if e.style_of and e.style_of not in names:
                raise InputError(f"data ({e.called}): style_of names {e.style_of!r}; there are {', '.join(names)}")
        edges = sorted({0.0, *(e.since for e in self.entries), *(e.until for e in self.entries)} - {1.0})
        for share in edges:
            if not any(e.weight > 0 and e.since <= share < e.until for e in self.entries):
                raise InputError(f"data: no entry is used after {share} of the run; check `from`, `until`, `weight`")


Data = StreetsData | FolderData | MixedData


class RunLabels(NamedTuple):
    """The label codes of a run, and for each entry the table from its class ids to them; see assign_codes."""

    codes: LabelCodes
    tables: list[NDArray[np.uint8] | None]


def entries_of(data: Data) -> tuple[StreetsData | FolderData, ...]:
    """The data entries of a recipe."""
    return data.entries if isinstance(data, MixedData) else (data,)


def labels_of(data: Data) -> RunLabels:
    """The label codes of all entries; raises InputError as assign_codes does."""
    entries = entries_of(data)
    with_teacher = any(isinstance(e, FolderData) and e.teacher for e in entries)
    return RunLabels(*assign_codes(data.taxonomy, [e.classes for e in entries], with_teacher))


def terms_of(data: Data) -> list[str]:
    """One line for each entry and teacher, with its terms of use."""
    lines = [e.terms or e.known_terms for e in entries_of(data)]
    teachers = [e.teacher for e in entries_of(data) if isinstance(e, FolderData) and e.teacher]
    return list(dict.fromkeys([*lines, *(f"labels by {Path(t).name}: see the terms of that model" for t in teachers)]))
