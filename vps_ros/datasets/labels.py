"""What every data set reads and writes: videos of frames, each with the class and the instance of its pixels.

A data set is described by a `DataSet`, which reads ground truth. A `VideoDataSet` also reads and writes predictions.
The arrays are the same for all data sets, so that `evaluation` and `learning` know no file format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.class_mapping import Groups, SourceClasses
from vps_ros.errors import InputError
from vps_ros.label_maps import look_up, runs
from vps_ros.taxonomy import VOID_ID, Taxonomy


class LabelMap(NamedTuple):
    """One frame's labels.

    Attributes:
        semantic: uint8 [H, W], class ids of the format's taxonomy; 255 is void.
        instance: uint32 or smaller [H, W]; an object has the same number in all frames of its video. 0 on stuff and
            void; a thing of instance 0 is a crowd, several objects that are not separated.
    """

    semantic: NDArray[np.uint8]
    instance: NDArray[np.integer]

    @classmethod
    def without_instances(cls, semantic: NDArray[np.uint8]) -> LabelMap:
        """Labels of a data set that has classes only."""
        return cls(semantic, np.zeros(semantic.shape, np.uint8))


@dataclass(frozen=True)
class LabelledFrame:
    """One frame, whose labels are read on request.

    Attributes:
        sequence, frame: names; truth and prediction of a frame have the same.
        where: the file of the labels, for errors.
        read: reads the labels; raises InputError that names the file.
        image: the camera image, if the data set has one beside the labels.
    """

    sequence: str
    frame: str
    where: Path | str
    read: Callable[[], LabelMap]
    image: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.sequence}/{self.frame}"


Videos = Mapping[str, Mapping[str, LabelledFrame]]
"""Sequence -> frame -> the labelled frame; frames in the order of time."""


class LabelWriter(Protocol):
    """Takes the predicted frames of one data set, video by video, in the order of time."""

    def add(self, sequence: str, frame: str, labels: LabelMap) -> None:
        """Writes one frame; raises InputError when the coding cannot hold it, or the frame was added before."""


@dataclass(frozen=True)
class DataSet:
    """A data set with labels on disk.

    Attributes:
        name: as users write it (`vipseg`).
        taxonomy: its classes.
        truth: (folder, split or None) -> labelled frames. Raises InputError when the folder holds none.
        groups: the classes of Cityscapes that a class may be, where its name is not one of these.
        classes_only: it does not separate objects, or labels some classes only.
        terms: of use, in one line; empty where they are not known here.
    """

    name: str
    taxonomy: Taxonomy
    truth: Callable[[str | Path, str | None], Videos]
    groups: Groups = field(default_factory=dict, kw_only=True)
    classes_only: bool = field(default=False, kw_only=True)
    terms: str = field(default="", kw_only=True)

    @property
    def classes(self) -> SourceClasses:
        return SourceClasses(self.taxonomy, self.groups, self.classes_only)


@dataclass(frozen=True)
class VideoDataSet(DataSet):
    """A data set of labelled videos by which predictions are evaluated.

    Attributes:
        prediction: as `truth`, for predictions, which may have another layout.
        writer: (folder, force) -> a context in which predictions are written. They appear in the folder together when
            it ends without an error, and not at all otherwise; `force` lets them replace earlier ones.
        sparse: only some frames of a video are labelled; predictions for the others are ignored.
        protocol: of its benchmark, one of `vps_ros.evaluation.metric.PROTOCOLS`.
    """

    prediction: Callable[[str | Path, str | None], Videos]
    writer: Callable[[str | Path, bool], AbstractContextManager[LabelWriter]]
    sparse: bool = False
    protocol: str = "deeplab2"


def class_table(classes: Mapping[int, int]) -> NDArray[np.int16]:
    """int16 [257], the class id of each value of a label map; -1 where `classes` lacks it, and for values above 255.

    Void belongs into `classes` as any other class.
    """
    table = np.full(VOID_ID + 2, -1, np.int16)
    table[list(classes)] = list(classes.values())
    return table


def map_classes(
    values: NDArray[np.integer],
    table: NDArray[np.int16],
    where: object,
    expected: str,
    codes: NDArray[np.integer] | None = None,
) -> NDArray[np.uint8]:
    """Class ids uint8 [H, W] of a label map.

    Args:
        values: integers >= 0, [H, W].
        table: see `class_table`.
        where: the file, for errors.
        expected: how the map should be coded, for errors.
        codes: what the file holds, where `values` are only a part of it.

    Raises InputError that lists values without a class.
    """
    if values.dtype != np.uint8:
        values = np.where((values < 0) | (values > VOID_ID), VOID_ID + 1, values)
    semantic = look_up(values, table)
    wrong = semantic < 0
    if wrong.any():
        unknown = np.unique((values if codes is None else codes)[wrong])
        raise InputError(f"{where}: value {listed(unknown)} stands for no class; {expected}")
    return semantic.astype(np.uint8)


def check_labels(labels: LabelMap, taxonomy: Taxonomy, where: object) -> LabelMap:
    """The labels as arrays; raises InputError when they are not a map of this taxonomy that can be written."""
    semantic, instance = np.asarray(labels.semantic), np.asarray(labels.instance)
    if semantic.ndim != 2 or semantic.shape != instance.shape or semantic.dtype != np.uint8:
        raise InputError(f"{where}: classes and instances must be one [H, W], classes uint8; 255 is void")
    check_classes(semantic, taxonomy, where)
    return LabelMap(semantic, instance)


def check_classes(semantic: NDArray[np.uint8], taxonomy: Taxonomy, where: object) -> None:
    """Raises InputError when a map uint8 [H, W] has a class that is neither void nor in the taxonomy."""
    found = np.flatnonzero(cv2.calcHist([semantic], [0], None, [VOID_ID + 1], [0, VOID_ID + 1]))
    unknown = np.setdiff1d(found, np.append(taxonomy.ids, VOID_ID))
    if len(unknown):
        raise InputError(
            f"{where}: class id {listed(unknown)} is not in taxonomy {taxonomy.name} ({id_range(taxonomy)})"
        )


def id_range(taxonomy: Taxonomy) -> str:
    """The ids of a taxonomy and void, for errors."""
    ids = taxonomy.ids
    return f"ids {ids.min()}..{ids.max()}, {VOID_ID} for void"


def listed(values: Iterable[object], most: int = 5) -> str:
    """A few values for an error."""
    values = list(values)
    return ", ".join(map(str, values[:most])) + (", ..." if len(values) > most else "")


def existing_folder(root: str | Path) -> Path:
    """The folder, when it is one; raises InputError otherwise."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; give the data set's folder")
    return root


@dataclass(frozen=True)
class MinimumSize:
    """Things of the ground truth below this size in a frame are void. 0 and 0, the default: none are.

    Attributes:
        area: pixels of a thing that are visible.
        height: rows from its first to its last visible pixel.

    Raises InputError for a negative number.
    """

    area: int = 0
    height: int = 0

    def __post_init__(self) -> None:
        for name, value in (("area", self.area), ("height", self.height)):
            if value < 0:
                raise InputError(f"least {name} {value}: cannot be negative; 0 keeps every thing")

    def __bool__(self) -> bool:
        return self.area > 1 or self.height > 1

    def __str__(self) -> str:
        """The rule in words, for tables and protocols; empty when nothing is void."""
        limits = [(self.area, "px of area"), (self.height, "px of height")]
        named = " or ".join(f"{limit} {what}" for limit, what in limits if limit > 1)
        return f"things under {named} are void" if named else ""

    def void_small(
        self, semantic: NDArray[np.integer], instance: NDArray[np.integer], taxonomy: Taxonomy
    ) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """The maps [H, W] with void (class 255, instance 0) in place of things smaller than this; copies, if any is.

        Crowds (things of instance 0) and stuff stay as they are. A thing is a class and an instance together.
        """
        if not self or not semantic.size or semantic.shape != instance.shape:
            return semantic, instance
        start, length = runs(semantic, instance)
        kinds, numbers = semantic.ravel()[start].astype(np.int64), instance.ravel()[start].astype(np.int64)
        things = np.flatnonzero(np.isin(kinds, taxonomy.thing_ids) & (numbers > 0))
        if not len(things):
            return semantic, instance
        _, which = np.unique(np.stack([kinds[things], numbers[things]]), axis=1, return_inverse=True)
        which = which.reshape(-1)
        area = np.bincount(which, length[things])
        rows = start[things] // semantic.shape[1]
        first, last = np.full(len(area), len(semantic)), np.zeros(len(area), np.int64)
        np.minimum.at(first, which, rows)
        np.maximum.at(last, which, rows)
        small = (area < self.area) | (last - first + 1 < self.height)
        if not small.any():
            return semantic, instance
        gone = np.zeros(len(start), bool)
        gone[things] = small[which]
        pixels = np.repeat(gone, length).reshape(semantic.shape)
        return np.where(pixels, VOID_ID, semantic).astype(semantic.dtype), np.where(pixels, 0, instance)


ANY_SIZE = MinimumSize()
"""No thing is too small."""
