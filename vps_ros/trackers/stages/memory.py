"""Evidence of the location-aware memory: appearance times place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.similarity import appearance_similarity, location_similarity
from vps_ros.trackers.things import lengths


@dataclass(frozen=True)
class MemoryStage:
    """HiLA-MB: appearance times location at the predicted place, threshold, Hungarian (Video-kMaX equation 5).

    Only objects of one class are paired.

    Attributes:
        threshold: alpha, for pairs whose appearance is known.
        location_threshold: for pairs of which one has no appearance, so that the place decides alone.
        temperature: T.
    """

    threshold: float
    location_threshold: float
    temperature: float
    evidence: AssociatedBy = AssociatedBy.MEMORY

    def pair(self, memory, rows, things, which, stamp):
        place = location_similarity(things.boxes[which], memory.predict(stamp, rows), self.temperature)
        allowed = place > min(self.threshold, self.location_threshold)
        allowed &= things.class_ids[which][:, None] == memory.rows["class_id"][rows]
        k, m = np.nonzero(allowed)
        similarity, threshold = place[k, m], self.location_threshold
        if things.embeddings is not None and memory.described(things.embeddings.shape[1]):
            stored = memory.appearance[rows]
            new, old = things.lengths[which], lengths(stored)
            # No cosine is greater than 1: pairs too far apart were right to be left out.
            similarity = similarity * appearance_similarity(things.embeddings[which], new, stored, old, (k, m))
            threshold = np.where((new[k] > 0) & (old[m] > 0), self.threshold, self.location_threshold)
        good = similarity > threshold
        k, m, similarity = k[good], m[good], similarity[good]
        best = hungarian(k, m, similarity, things.class_ids[which[k]])
        return rows[m[best]], which[k[best]], similarity[best]
