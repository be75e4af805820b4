"""When an object is new, confirmed, lost and forgotten, and which numbers it bears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import THING_BASE

_LAST_SLOT = np.iinfo(np.uint16).max - THING_BASE


@dataclass(frozen=True)
class Lifecycle:
    """How long an object is remembered.

    An object seen in `confirm_hits` frames, not necessarily in a row, is confirmed and stays so. It is forgotten
    when its last sighting lies more than `tau` back; before it is confirmed, more than the smaller of `tau` and
    `tentative_tau`.

    Attributes:
        tau, tentative_tau: frames, or seconds if `in_seconds`.
    """

    confirm_hits: int = 2
    tau: float = 10.0
    tentative_tau: float = 10.0
    in_seconds: bool = False

    def remembered(self, rows: NDArray, stamp: int, frame: int) -> NDArray[np.bool_]:
        """bool [M]: which rows of the memory the frame numbered `frame`, at `stamp` (nanoseconds), may still meet."""
        age = (stamp - rows["last_seen"]) * 1e-9 if self.in_seconds else frame - rows["last_frame"]
        sooner = min(self.tau, self.tentative_tau)
        if age.max(initial=0) <= sooner:
            return np.ones(len(rows), bool)
        return age <= np.where(self.confirmed(rows), self.tau, sooner)

    def confirmed(self, rows: NDArray) -> NDArray[np.bool_]:
        return rows["hits"] >= self.confirm_hits


class Numbers:
    """Ids that are never given twice, and slots that are the smallest free ones."""

    def __init__(self) -> None:
        self._next = 1

    def ids(self, count: int) -> NDArray[np.int64]:
        first, self._next = self._next, self._next + count
        return np.arange(first, self._next)

    @staticmethod
    def slots(taken: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """The `count` smallest numbers not in `taken`.

        Raises InputError when a slot would not fit into a panoptic map, whose pixels are 16 bits wide.
        """
        if not count:
            return np.empty(0, np.int64)
        reach = len(taken) + count
        free = np.ones(reach, bool)
        free[taken[taken < reach]] = False
        slots = free.nonzero()[0][:count]
        if slots[-1] > _LAST_SLOT:
            raise InputError(
                f"{reach} objects are remembered at once, a panoptic map has numbers for {_LAST_SLOT + 1}; "
                "lower memory_tau, or raise the segmenter's thing_threshold or thing_area"
            )
        return slots
