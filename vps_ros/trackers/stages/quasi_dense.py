"""Evidence and rules of the quasi-dense tracker (Pang et al., CVPR 2021); Video K-Net has it on query embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.lifecycle import Lifecycle
from vps_ros.trackers.similarity import bidirectional_softmax
from vps_ros.trackers.stages.contract import NOTHING
from vps_ros.trackers.things import lengths

_BACKDROP_FRAMES = 1
_ROUNDING = 1e-3


class QuasiDense:
    """Stage and lifecycle in one: what a thing may be depends on what it was taken for.

    A thing that matches no object is one, if its score is above `init`; else it is a *backdrop*, which is remembered
    for one frame and takes part in the softmax, so that what matches it better than any object takes nobody's identity.
    A thing that matches an object but whose score is not above `least` is a doubtful look at it, and is forgotten
    at once.

    Args:
        match: least bidirectional softmax of a match.
        least: least score with which a known object is seen again.
        init: least score of a new object.
        temperature: of embeddings of length 1, whose products are divided by it; others are taken as they are. What
            learned with raw products has lengths that say how sure it is, a cosine has not.
        lifecycle: of the objects.
        doubtful: segments of the last frame that were doubtful looks; what comes after this one goes on with it.
    """

    evidence = AssociatedBy.INSTANCE

    def __init__(
        self,
        match: float,
        least: float,
        init: float,
        temperature: float,
        lifecycle: Lifecycle,
        doubtful: set[int],
    ) -> None:
        self._match, self._least, self._init, self._temperature = match, least, init, temperature
        self._lifecycle = lifecycle
        self._doubtful = doubtful

    @property
    def confirm_hits(self) -> int:
        return self._lifecycle.confirm_hits

    def remembered(self, rows: NDArray, stamp: int, frame: int) -> NDArray[np.bool_]:
        """As Lifecycle.remembered."""
        # Until the memory meets the new frame, `index` is the segment of the one before, whose doubts these are.
        doubtful = np.isin(rows["index"], np.array(list(self._doubtful), np.int64))
        self._doubtful.clear()
        backdrop = self._backdrops(rows) & (frame - rows["last_frame"] > _BACKDROP_FRAMES)
        return self._lifecycle.remembered(rows, stamp, frame) & ~backdrop & ~doubtful

    def pair(self, memory, rows, things, which, stamp):
        which = which[things.lengths[which] > 0]
        if not len(which) or not memory.described(things.embeddings.shape[1]):
            return NOTHING
        rows = rows[lengths(memory.appearance[rows]) > 0]
        if not len(rows):
            return NOTHING
        products = things.embeddings[which] @ memory.appearance[rows].T
        if (np.abs(things.lengths[which] - 1) < _ROUNDING).all():
            products /= np.float32(self._temperature)
        alike = bidirectional_softmax(products)
        alike *= things.class_ids[which][:, None] == memory.rows["class_id"][rows]
        backdrop = self._backdrops(memory.rows[rows])
        k, m = np.nonzero(alike > self._match)
        worth = alike[k, m]
        # Things by score, each one's candidates from the most alike.
        order = np.lexsort((m, -worth, k, -things.scores[which[k]]))
        owner: dict[int, int] = {}
        taken: set[int] = set()
        judged = -1
        for place in order.tolist():
            thing, row = int(k[place]), int(m[place])
            if thing == judged or row in taken:
                continue
            judged = thing
            if backdrop[row]:
                continue
            if things.scores[which[thing]] > self._least:
                owner[thing] = row
                taken.add(row)
            else:
                self._doubtful.add(int(things.index[which[thing]]))
        found, theirs = np.array(list(owner), np.int64), np.array(list(owner.values()), np.int64)
        return rows[theirs], which[found], alike[found, theirs]

    def _backdrops(self, rows: NDArray) -> NDArray[np.bool_]:
        """bool [R]: seen once, with too low a score to be an object."""
        return (rows["hits"] == 1) & (rows["score"] <= self._init)
