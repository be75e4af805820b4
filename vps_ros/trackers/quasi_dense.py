"""Quasi-dense tracking (Pang et al., CVPR 2021), which Video K-Net has on query embeddings (released code)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import AssociatedBy
from vps_ros.parameters import fraction, parameter
from vps_ros.trackers.detections import Detections, norms
from vps_ros.trackers.similarity import bidirectional_softmax
from vps_ros.trackers.tracker import Matches, Tracker, TrackerParameters, matched, memory_tau

_KNET = "Video K-Net, released code"
_BACKDROP_FRAMES = 1
_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class QuasiDenseParameters(TrackerParameters):
    """Parameters of quasi-dense tracking."""

    match_threshold: float = fraction(0.5, "least bidirectional softmax of a match", _KNET)
    init_threshold: float = fraction(0.35, "least score of a new object", _KNET)
    object_threshold: float = fraction(0.3, "least score of a detection that continues a track", _KNET)
    instance_temperature: float = parameter(
        0.02,
        "temperature by which products of embeddings of norm 1 are divided",
        low=1e-3,
        high=1e3,
        source="chosen for colour histograms; the paper's embeddings are not of norm 1",
    )
    appearance_weight: float = fraction(0.8, "weight of the newest embedding in a track's moving average", _KNET)
    memory_tau: float = memory_tau(5.0, _KNET)


class QuasiDense(Tracker):
    """Bidirectional softmax of embeddings; low-scored detections become backdrops.

    An unmatched detection with a score above `init_threshold` starts an object. One below it is a *backdrop*: it is
    remembered for one frame and takes part in the softmax, so that a detection that is more similar to a backdrop than
    to an object is not matched with the object. A detection that matches an object with a score of at most
    `object_threshold` is neither: it is forgotten in the next frame.
    """

    Parameters = QuasiDenseParameters
    uses_embeddings = needs_embeddings = True

    def __init__(self, parameters: QuasiDenseParameters | None = None, model: str | None = None) -> None:
        super().__init__(parameters, model)
        # Segments of the last frame that match an object with too low a score.
        self._low_scored: set[int] = set()

    def reset(self) -> None:
        super().reset()
        self._low_scored.clear()

    def _remembered(self, stamp: int) -> NDArray[np.bool_]:
        rows = self.memory.rows
        # Until the update, `index` is the segment of the frame before, as the numbers in the set are.
        low_scored = np.isin(rows["index"], np.array(list(self._low_scored), np.int64))
        self._low_scored.clear()
        old_backdrop = self._backdrops() & (self._frame - rows["last_frame"] > _BACKDROP_FRAMES)
        return super()._remembered(stamp) & ~old_backdrop & ~low_scored

    def associate(self, detections: Detections, stamp: int) -> Matches:
        memory, p = self.memory, self.parameters
        stored, seen = memory.embeddings, detections.embeddings
        if stored is None or seen is None or stored.shape[1] != seen.shape[1]:
            return Matches()
        which, rows = (detections.norms > 0).nonzero()[0], (norms(stored) > 0).nonzero()[0]
        if not len(which) or not len(rows):
            return Matches()
        # Dot products of embeddings. Embeddings that were trained with raw products carry confidence in their norms;
        # those of norm 1 do not, and need a temperature.
        products = seen[which] @ stored[rows].T
        if (np.abs(detections.norms[which] - 1) < _NORM_TOLERANCE).all():
            products /= np.float32(p.instance_temperature)
        # Bidirectional softmax over objects and backdrops of all classes; then other classes are excluded.
        similarity = bidirectional_softmax(products)
        similarity *= detections.class_ids[which][:, None] == memory.rows["class_id"][rows]
        k, m = np.nonzero(similarity > p.match_threshold)
        # Greedy assignment: detections by descending score, each with its most similar free track.
        backdrop = self._backdrops()[rows]
        order = np.lexsort((m, -similarity[k, m], k, -detections.scores[which[k]]))
        track_of: dict[int, int] = {}
        taken: set[int] = set()
        last = -1
        for pair in order.tolist():
            detection, track = int(k[pair]), int(m[pair])
            if detection == last or track in taken:
                continue
            last = detection
            if backdrop[track]:
                continue
            if detections.scores[which[detection]] > p.object_threshold:
                track_of[detection] = track
                taken.add(track)
            else:
                self._low_scored.add(int(detections.index[which[detection]]))
        k, m = np.array(list(track_of), np.int64), np.array(list(track_of.values()), np.int64)
        return matched(rows[m], which[k], similarity[k, m], AssociatedBy.INSTANCE)

    def _backdrops(self) -> NDArray[np.bool_]:
        """bool [M]: detected once, with too low a score to be an object."""
        rows = self.memory.rows
        return (rows["hits"] == 1) & (rows["score"] <= self.parameters.init_threshold)
