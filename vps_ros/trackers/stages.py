"""Evidence that gives things their identities: each stage pairs what the stages before it left over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import hungarian, mutual_best
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.pixels import PixelHistory
from vps_ros.trackers.similarity import appearance_similarity, location_similarity
from vps_ros.trackers.things import Things, lengths


class Stage(Protocol):
    """Attributes: evidence: what a pair of this stage is associated by."""

    evidence: AssociatedBy

    def pair(
        self, memory: Memory, rows: NDArray[np.int64], things: Things, which: NDArray[np.int64], stamp: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Rows of the memory, things, and similarities [P] of the pairs found among free `rows` [R] and `which` [N]."""
        ...


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
            return _NOTHING
        known, place = _find(memory.rows["id"][rows], past.ids)
        if not len(known):
            return _NOTHING
        rows = rows[place]
        similarity = self.history.flow_dice(self.steps)[np.ix_(known, which)]
        if self.motion:
            shifts = np.zeros((len(past.ids), 2))
            shifts[known] = memory.centre_velocity(rows) * (max(stamp - past.stamp, 0) * 1e-9)
            np.maximum(similarity, self.history.motion_dice(self.steps, shifts)[np.ix_(known, which)], out=similarity)
        same = memory.rows["class_id"][rows][:, None] == things.class_ids[which]
        similarity[~same & (similarity <= self.class_change)] = 0
        r, c = mutual_best(similarity, self.threshold)
        return rows[r], which[c], similarity[r, c]


@dataclass(frozen=True)
class MemoryStage:
    """HiLA-MB: appearance times location at the predicted place, Hungarian, threshold (Video-kMaX equation 5).

    Only objects of one class are paired.

    Attributes:
        threshold: alpha, for pairs whose appearance is known.
        location_threshold: for pairs of which one has no appearance, so that the place decides alone.
        temperature: T.
        isotropic: a pixel counts as much down as across: both are divided by the image's width. The paper divides
            by width and height, which in a wide image weighs the bounces and cut feet of a box heaviest.
    """

    threshold: float
    location_threshold: float
    temperature: float
    isotropic: bool = True
    evidence: AssociatedBy = AssociatedBy.MEMORY

    def pair(self, memory, rows, things, which, stamp):
        boxes, predicted = things.boxes[which], memory.predict(stamp, rows)
        if self.isotropic:
            aspect = things.size[0] / things.size[1]
            boxes[:, 1::2] *= aspect
            predicted[:, 1::2] *= aspect
        place = location_similarity(boxes, predicted, self.temperature)
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
        best = hungarian(k, m, similarity)
        return rows[m[best]], which[k[best]], similarity[best]


_NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def _find(sorted_ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of `wanted` occur in `sorted_ids`, and at which places: int64 [F] each, by place."""
    if not len(sorted_ids) or not len(wanted):
        return _NOTHING[:2]
    place = np.searchsorted(sorted_ids, wanted)
    place[place == len(sorted_ids)] = 0
    known = np.flatnonzero(sorted_ids[place] == wanted)
    known = known[np.argsort(place[known])]
    return known, place[known]
