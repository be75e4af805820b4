"""Evidence of appearance alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.stages.contract import NOTHING, same_class
from vps_ros.trackers.things import lengths


@dataclass(frozen=True)
class AppearanceStage:
    """The naive memory buffer: cosine of the appearances above `threshold`, Hungarian (Video-kMaX table 5b).

    Objects of one class are paired; one of unknown appearance is paired with none.
    """

    threshold: float
    evidence: AssociatedBy = AssociatedBy.MEMORY

    def pair(self, memory, rows, things, which, stamp):
        if not memory.described(things.embeddings.shape[1]):
            return NOTHING
        stored, seen = memory.appearance[rows], things.embeddings[which]
        scale = lengths(stored)[:, None] * things.lengths[which]
        cosine = np.divide(stored @ seen.T, scale, out=np.zeros_like(scale), where=scale > 0)
        m, k = np.nonzero((cosine > self.threshold) & same_class(memory, rows, things, which))
        similarity = cosine[m, k]
        best = hungarian(m, k, similarity)
        return rows[m[best]], which[k[best]], similarity[best]
