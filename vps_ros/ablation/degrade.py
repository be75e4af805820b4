"""Segmentations made from ground truth: true masks, and masks with the errors of a segmenter."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vps_ros.datasets.labels import MinimumSize
from vps_ros.errors import InputError
from vps_ros.frame import Segmentation
from vps_ros.taxonomy import CITYSCAPES, VOID_ID, Taxonomy

SMALLEST = 20
"""Pixels; smaller things have no segment, and are void in the ground truth (VISIBLE)."""
VISIBLE = MinimumSize(SMALLEST)
LOOK_ALIKE = {11: 12, 12: 11, 13: 14, 14: 13, 15: 14, 16: 15, 17: 18, 18: 17}
"""Thing class of Cityscapes -> the class with which it is confused."""


@dataclass(frozen=True)
class Degradation:
    """The errors of the masks; none by default. Raises InputError for impossible values.

    Attributes:
        missed: share of the things that have no segment; their pixels go to the nearest stuff.
        gap: mean number of consecutive frames in which a thing is missed, >= 1 / (1 - missed).
        split: share of the segments that are split in two, across their longer side.
        merged: share of the touching pairs of one class that become one segment.
        ragged: displacement of borders in pixels, standard deviation.
        flicker: share of the segments with a similar class instead of the true one.
    """

    missed: float = 0.0
    gap: float = 2.0
    split: float = 0.0
    merged: float = 0.0
    ragged: float = 0.0
    flicker: float = 0.0

    def __post_init__(self) -> None:
        for name in ("missed", "split", "merged", "flicker"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)!r} is not a share; give 0 or more, less than 1")
        if not 0 <= self.ragged < np.inf:
            raise InputError(f"ragged: {self.ragged!r} is not a number of pixels; give 0 or more")
        if not 1 / (1 - self.missed) <= self.gap < np.inf:
            raise InputError(f"gap: {self.gap!r} frames in a row are too few for {self.missed:g} missed")


TRUE = Degradation()
DEGRADED = Degradation(missed=0.12, gap=2.0, split=0.05, merged=0.1, ragged=0.5, flicker=0.03)


class Degrader:
    """Turns the ground truth of the frames of one drive, in their order, into segmentations without identity.

    The same seed and frames give the same segmentations. Segments are in random order. Each pixel belongs to a segment:
    void goes to the nearest stuff.

    Args:
        degradation: the errors.
        seed: of all random numbers.
    """

    def __init__(self, degradation: Degradation, seed: int, taxonomy: Taxonomy = CITYSCAPES) -> None:
        self._how = degradation
        self._rng = np.random.default_rng(seed)
        self._taxonomy = taxonomy
        self._things = np.array(taxonomy.thing_ids)
        self._missed: dict[int, bool] = {}

    def __call__(self, semantic: NDArray[np.uint8], instance: NDArray[np.uint16]) -> Segmentation:
        """The segments of a frame.

        Args:
            semantic: uint8 [H, W], class ids, 255 void.
            instance: uint16 [H, W], 0 where there is no thing.
        """
        if self._how.ragged:
            semantic, instance = _wavy((semantic, instance), self._rng, self._how.ragged)
        labels = np.where(np.isin(semantic, self._things), instance, 0).astype(np.int32)
        names = np.flatnonzero(np.bincount(labels.ravel()) >= SMALLEST)
        names = names[names > 0]
        names = names[~self._misses(names)]
        numbers = np.zeros(int(labels.max()) + 1, np.int32)
        numbers[names] = np.arange(1, len(names) + 1)
        labels = numbers[labels]
        classes = _classes(semantic, labels, len(names))
        labels, classes = self._merge(labels, classes)
        labels, classes = self._split(labels, classes)
        for k in np.flatnonzero(self._rng.random(len(classes)) < self._how.flicker):
            classes[k] = LOOK_ALIKE.get(int(classes[k]), classes[k])
        return self._with_stuff(labels, classes, semantic)

    def _misses(self, names: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool [K]: which things have no segment, by a Markov chain of two states for each."""
        missed, draws = self._how.missed, self._rng.random(len(names))
        stay, begin = 1 - 1 / self._how.gap, missed / (1 - missed) / self._how.gap
        for name, draw in zip(names.tolist(), draws.tolist(), strict=True):
            before = self._missed.get(name)
            self._missed[name] = draw < (missed if before is None else stay if before else begin)
        return np.array([self._missed[name] for name in names.tolist()], bool)

    def _merge(self, labels: NDArray[np.int32], classes: NDArray[np.int32]) -> tuple[NDArray, NDArray]:
        if not self._how.merged:
            return labels, classes
        pairs = _touching(labels)
        pairs = pairs[classes[pairs[:, 0] - 1] == classes[pairs[:, 1] - 1]]
        owner = np.arange(len(classes) + 1)
        for a, b in pairs[self._rng.random(len(pairs)) < self._how.merged].tolist():
            owner[owner == owner[b]] = owner[a]
        kept = np.unique(owner[1:])
        numbers = np.zeros(len(owner), np.int32)
        numbers[kept] = np.arange(1, len(kept) + 1)
        return numbers[owner[labels]], classes[kept - 1]

    def _split(self, labels: NDArray[np.int32], classes: NDArray[np.int32]) -> tuple[NDArray, NDArray]:
        chosen = np.flatnonzero(self._rng.random(len(classes)) < self._how.split)
        cuts = self._rng.uniform(0.3, 0.7, len(chosen))
        places = ndimage.find_objects(labels)
        more = []
        for k, cut in zip(chosen.tolist(), cuts.tolist(), strict=True):
            part = labels[places[k]]
            y, x = np.nonzero(part == k + 1)
            along = x if part.shape[1] >= part.shape[0] else y
            beyond = along > np.quantile(along, cut)
            if SMALLEST <= beyond.sum() <= len(along) - SMALLEST:
                more.append(classes[k])
                part[y[beyond], x[beyond]] = len(classes) + len(more)
        return labels, np.append(classes, more).astype(np.int32)

    def _with_stuff(
        self, labels: NDArray[np.int32], classes: NDArray[np.int32], semantic: NDArray[np.uint8]
    ) -> Segmentation:
        ground = _nearest_stuff(semantic, np.isin(semantic, [*self._things, VOID_ID]), self._taxonomy)
        stuff = np.unique(ground[labels == 0]).astype(np.int32)
        count = len(classes) + len(stuff)
        number = np.zeros(256, np.int32)
        number[stuff] = len(classes) + 1 + np.arange(len(stuff))
        labels = np.where(labels > 0, labels, number[ground])
        order = self._rng.permutation(count)
        rank = np.empty(count + 1, np.int32)
        rank[0], rank[order + 1] = 0, np.arange(1, count + 1)
        labels = rank[labels].astype(np.uint8 if count < 256 else np.uint16)
        boxes = np.array(
            [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels, count)], np.float32
        ).reshape(count, 4)
        return Segmentation(
            labels,
            np.concatenate([classes, stuff])[order].astype(np.int32),
            order < len(classes),
            np.ones(count, np.float32),
            np.bincount(labels.ravel(), minlength=count + 1)[1:],
            boxes,
        )


def _classes(semantic: NDArray[np.uint8], labels: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """int32 [K], the class that most pixels of each label have."""
    table = np.bincount(labels.ravel() * 256 + semantic.ravel(), minlength=(count + 1) * 256)
    return table.reshape(-1, 256)[1:].argmax(axis=1).astype(np.int32)


def _touching(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """int64 [P, 2], pairs of labels with pixels side by side, the smaller first, in ascending order."""
    across = np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], axis=1)
    down = np.stack([labels[:-1].ravel(), labels[1:].ravel()], axis=1)
    pairs = np.concatenate([across, down])
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs > 0).all(axis=1)]
    return np.unique(np.sort(pairs, axis=1), axis=0).reshape(-1, 2).astype(np.int64)


def _nearest_stuff(semantic: NDArray[np.uint8], other: NDArray[np.bool_], taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """Class ids of stuff; at the pixels of `other`, that of the nearest pixel of stuff."""
    if not other.any():
        return semantic
    if other.all():
        return np.full_like(semantic, next(c.id for c in taxonomy.classes if not c.isthing))
    _, nearest = cv2.distanceTransformWithLabels(other.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(nearest.max()) + 1, np.uint8)
    table[nearest[~other]] = semantic[~other]
    return np.where(other, table[nearest], semantic)


def _wavy(maps: tuple[NDArray, ...], rng: np.random.Generator, amount: float) -> list[NDArray]:
    """The maps, displaced by a smooth random field with standard deviation `amount` in pixels."""
    height, width = maps[0].shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    knots = (max(height // 6, 2), max(width // 6, 2))
    off = [
        cv2.resize(rng.normal(0, amount, knots).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(2)
    ]
    return [
        cv2.remap(values, x + off[0], y + off[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) for values in maps
    ]
