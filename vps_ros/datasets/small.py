"""Things that people would not label because they are too small, taken out of the ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.runs import runs
from vps_ros.taxonomy import VOID_ID, Taxonomy


@dataclass(frozen=True)
class Smallest:
    """The smallest things that count, in each frame by itself. 0 and 0, the default: all do.

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
                raise InputError(f"least {name} {value}: cannot be negative; 0 lets everything count")

    def __bool__(self) -> bool:
        return self.area > 1 or self.height > 1

    def __str__(self) -> str:
        """What is void, for tables and protocols; empty when nothing is."""
        limits = [(self.area, "px of area"), (self.height, "px of height")]
        named = " or ".join(f"{limit} {what}" for limit, what in limits if limit > 1)
        return f"things under {named} are void" if named else ""

    def ignored(
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


ANY_SIZE = Smallest()
"""Every thing counts, however small."""
