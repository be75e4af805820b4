"""What every stage does."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.things import Things

Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]
NOTHING: Found = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


class Stage(Protocol):
    """What pairs objects and things."""

    @property
    def evidence(self) -> AssociatedBy | NDArray[np.int64]:
        """What a pair of this stage is associated by, or int64 [P], what each pair last found is."""

    def pair(
        self, memory: Memory, rows: NDArray[np.int64], things: Things, which: NDArray[np.int64], stamp: int
    ) -> Found:
        """Rows of the memory, things, and similarities [P] of the pairs found among free `rows` [R] and `which` [N]."""
        ...


def same_class(memory: Memory, rows: NDArray[np.int64], things: Things, which: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [R, N]: whether `rows` of the memory and the things `which` are of one class."""
    return memory.rows["class_id"][rows][:, None] == things.class_ids[which]


def find(sorted_ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of `wanted` occur in `sorted_ids`, and at which places: int64 [F] each, by place."""
    if not len(sorted_ids) or not len(wanted):
        return NOTHING[:2]
    place = sorted_ids.searchsorted(wanted)
    place[place == len(sorted_ids)] = 0
    known = (sorted_ids.take(place) == wanted).nonzero()[0]
    place = place.take(known)
    order = place.argsort()
    return known.take(order), place.take(order)
