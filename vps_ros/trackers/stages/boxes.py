"""Evidence of boxes: the predicted one of each object against the current ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.similarity import box_iou
from vps_ros.trackers.stages.contract import same_class


@dataclass(frozen=True)
class BoxStage:
    """IoU of predicted and seen box, at least `threshold`, Hungarian (SORT, Bewley et al., ICIP 2016).

    Objects of one class are paired.
    """

    threshold: float
    evidence: AssociatedBy = AssociatedBy.MEMORY

    def pair(self, memory, rows, things, which, stamp):
        similarity = box_iou(memory.predict(stamp, rows), things.boxes[which])
        good = (similarity >= self.threshold) & (similarity > 0)
        m, k = np.nonzero(good & same_class(memory, rows, things, which))
        similarity = similarity[m, k]
        best = hungarian(m, k, similarity)
        return rows[m[best]], which[k[best]], similarity[best]
