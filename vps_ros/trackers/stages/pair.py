"""Evidence that compares the current things with those of one earlier frame, in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import mutual_best
from vps_ros.trackers.pairwise import Evidence
from vps_ros.trackers.stages.contract import NOTHING, find


@dataclass(frozen=True)
class PairStage:
    """Each other's best above `threshold`, one to one (HybridTracker III-D and E, mutual check).

    The check is made among all things of both frames; pairs of which one is taken already are dropped. With `back` a
    pair must be found in both directions of time (III-E). Classes need not agree, as in the paper.

    Attributes:
        steps: frames between the two, 1 or 2.
    """

    matrices: Evidence
    steps: int
    threshold: float
    back: bool = False
    evidence: AssociatedBy = AssociatedBy.PIXELS

    def pair(self, memory, rows, things, which, stamp):
        ids = self.matrices.ids(self.steps)
        if ids is None:
            return NOTHING
        similarity = self.matrices.similarity(self.steps)
        m, k = mutual_best(similarity, self.threshold)
        known, place = find(memory.rows["id"][rows], ids[m])
        m, k, rows = m[known], k[known], rows[place]
        free = np.isin(k, which)
        if self.back and free.any():
            there = np.zeros(similarity.shape, bool)
            there[mutual_best(self.matrices.similarity(self.steps, back=True), self.threshold)] = True
            free &= there[m, k]
        m, k = m[free], k[free]
        return rows[free], k, similarity[m, k]
