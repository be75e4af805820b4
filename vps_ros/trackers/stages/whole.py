"""All evidence at once: one assignment instead of a cascade."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.evidence import Pairs, compare
from vps_ros.trackers.judge import Judge
from vps_ros.trackers.objects import ObjectMemory
from vps_ros.trackers.pixels import PixelHistory
from vps_ros.trackers.stages.contract import NOTHING
from vps_ros.trackers.things import Things


class WholeStage:
    """The assignment of greatest odds, among the pairs whose odds are above those of `threshold`.

    Args:
        pixels: masks of the current frame and those before.
        judge: gives the odds.
        threshold: least probability of a match.

    Attributes:
        evidence: AssociatedBy [P] of the pairs last found: PIXELS where masks of the last two frames met, else MEMORY.
    """

    def __init__(self, pixels: PixelHistory, judge: Judge, threshold: float) -> None:
        self._pixels = pixels
        self._judge = judge
        share = min(max(threshold, 1e-9), 1 - 1e-9)
        self._least = float(np.log(share / (1 - share)))
        self.evidence: NDArray[np.int64] = np.empty(0, np.int64)

    def compare(self, memory: ObjectMemory, rows, things: Things, which, stamp: int) -> Pairs:
        """The pairs to be judged."""
        return compare(memory, self._pixels, things, rows, which, stamp)

    def pair(self, memory, rows, things, which, stamp):
        self.evidence = self.evidence[:0]
        pairs = self.compare(memory, rows, things, which, stamp)
        if not len(pairs.m):
            return NOTHING
        odds = self._judge(pairs.columns, pairs.m, pairs.k)
        good = np.flatnonzero(odds > self._least)
        best = good[hungarian(pairs.m[good], pairs.k[good], odds[good] - self._least)]
        self.evidence = np.where(pairs.by_pixels[best], int(AssociatedBy.PIXELS), int(AssociatedBy.MEMORY))
        return rows[pairs.m[best]], which[pairs.k[best]], 1 / (1 + np.exp(-odds[best].astype(np.float64)))
