"""Evidence of masks: the last one of each object, where it was or where the flow took it, against the current ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.propagation import Propagation
from vps_ros.trackers.stages.contract import NOTHING, find, same_class


@dataclass(frozen=True)
class MaskStage:
    """Mask IoU above `threshold`, Hungarian within a class (STEP's baselines, Video K-Net table 2)."""

    masks: Propagation
    threshold: float
    evidence: AssociatedBy = AssociatedBy.PIXELS

    def pair(self, memory, rows, things, which, stamp):
        self.masks.keep(memory.rows["id"])
        known, place = find(memory.rows["id"][rows], self.masks.ids)
        if not len(known):
            return NOTHING
        rows = rows[place]
        similarity = self.masks.iou().take(known, axis=0).take(which, axis=1)
        m, k = np.nonzero((similarity > self.threshold) & same_class(memory, rows, things, which))
        similarity = similarity[m, k]
        best = hungarian(m, k, similarity)
        return rows[m[best]], which[k[best]], similarity[best]
