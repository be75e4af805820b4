"""Evidence of pixels: masks of the last two frames, moved, against the current ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import mutual_best
from vps_ros.trackers.pixels import PixelHistory
from vps_ros.trackers.stages.contract import NOTHING, find, same_class


@dataclass(frozen=True)
class PixelStage:
    """Mutual best Dice with the masks `steps` frames ago (HybridTracker III-C and E).

    Objects of one class are paired above `threshold`; of two thing classes only above `class_change`, since a
    segmenter may change its mind about an object that hardly moved.
    """

    history: PixelHistory
    steps: int
    threshold: float
    class_change: float
    motion: bool = True
    evidence: AssociatedBy = AssociatedBy.PIXELS

    def pair(self, memory, rows, things, which, stamp):
        past = self.history.before(self.steps)
        if past is None:
            return NOTHING
        known, place = find(memory.rows["id"][rows], past.ids)
        if not len(known):
            return NOTHING
        rows = rows[place]
        similarity = self.history.flow_dice(self.steps).take(known, axis=0).take(which, axis=1)
        if self.motion:
            shifts = np.zeros((len(past.ids), 2))
            shifts[known] = memory.centre_velocity(rows) * (max(stamp - past.stamp, 0) * 1e-9)
            by_motion = self.history.motion_dice(self.steps, shifts).take(known, axis=0).take(which, axis=1)
            np.maximum(similarity, by_motion, out=similarity)
        similarity *= same_class(memory, rows, things, which) | (similarity > self.class_change)
        r, c = mutual_best(similarity, self.threshold)
        return rows[r], which[c], similarity[r, c]
