"""HybridTracker (Ye et al.): its pixel tracker, its instance tracker, and both fused."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from vps_ros.flow.flow import FlowParameters
from vps_ros.frame import AssociatedBy, Frame, Segmentation
from vps_ros.parameters import fraction, parameter
from vps_ros.trackers.assignment import find, mutual_best
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.learned import Learned, LearnedParameters, load_learned
from vps_ros.trackers.masks import MaskHistory
from vps_ros.trackers.similarity import bidirectional_softmax
from vps_ros.trackers.tracker import Matches, Tracker, TrackerParameters, matched, memory_tau

_THETA = "least similarity to a detection two frames ago; theta"
_INSTANCE = "least probability of a match"


@dataclass(frozen=True)
class _HybridTrackerParameters(TrackerParameters):
    """What the three trackers have."""

    temporal_consistency: bool = parameter(
        True, "also compare with the frame before the previous one", live=True, source="HybridTracker III-E"
    )
    temporal_threshold: float = fraction(0.01, _THETA, "HybridTracker table VII")
    memory_tau: float = memory_tau(2.0, "HybridTracker III-E: one frame further back")


@dataclass(frozen=True)
class PixelParameters(FlowParameters, _HybridTrackerParameters):
    """Parameters of the pixel tracker."""

    pixel_threshold: float = fraction(
        1e-5, "least Dice of a mask warped by the flow and a current mask", "HybridTracker III-D"
    )


@dataclass(frozen=True)
class InstanceParameters(LearnedParameters, _HybridTrackerParameters):
    """Parameters of the instance tracker."""

    instance_threshold: float = fraction(1e-5, _INSTANCE, "HybridTracker III-D")
    temporal_threshold: float = fraction(0.005, _THETA, "HybridTracker table VII")


@dataclass(frozen=True)
class HybridParameters(FlowParameters, LearnedParameters, _HybridTrackerParameters):
    """Parameters of the fused tracker."""

    instance_threshold: float = fraction(1e-5, _INSTANCE, "HybridTracker III-D")


class _History(Protocol):
    """What is compared of the current frame and of the two before it: masks or embeddings."""

    def set_ids(self, ids: NDArray[np.int64]) -> None: ...

    def ids(self, steps: int) -> NDArray[np.int64] | None: ...

    def reset(self) -> None: ...


class _HybridTracker(Tracker):
    """Mutual best matches of a similarity matrix, with the previous frame and then with the one before it.

    Classes need not be equal, as in the paper.
    """

    evidence: ClassVar[AssociatedBy] = AssociatedBy.INSTANCE
    threshold: ClassVar[str] = "instance_threshold"
    """Parameter that the matrix between the previous and the current frame is compared with."""

    def __init__(self, parameters: Any = None, model: str | None = None) -> None:
        super().__init__(parameters, model)
        self._histories: list[_History] = []
        if self.flow is not None:
            self._masks = MaskHistory(self.flow)
            self._histories.append(self._masks)
        if self.uses_embeddings:
            learned = load_learned(self.parameters, model)
            self._embeddings, self._fusion = EmbeddingHistory(learned), learned.fusion
            self._histories.append(self._embeddings)

    def reset(self) -> None:
        super().reset()
        for history in self._histories:
            history.reset()

    def _observe(self, frame: Frame, segmentation: Segmentation, detections: Detections) -> None:
        # Embeddings first: an InputError of theirs leaves both histories as they are.
        if self.uses_embeddings:
            self._embeddings.push(detections)
        if self.uses_flow:
            self._masks.push(frame, segmentation, detections)

    def _set_ids(self, ids: NDArray[np.int64]) -> None:
        for history in self._histories:
            history.set_ids(ids)

    def associate(self, detections: Detections, stamp: int) -> Matches:
        p, ids = self.parameters, self.memory.rows["id"]
        # Mutual check of the matrix between the previous and the current frame (III-D).
        tracks, found, scores = self._match(1, getattr(p, self.threshold), ids)
        if not p.temporal_consistency or len(tracks) == len(ids) or len(found) == len(detections):
            return matched(tracks, found, scores, self.evidence)
        # Temporal consistency: what is left is matched with the frame before, in both directions of time (III-E).
        free_tracks, free = np.ones(len(ids), bool), np.ones(len(detections), bool)
        free_tracks[tracks], free[found] = False, False
        free_tracks = free_tracks.nonzero()[0]
        self.candidates += len(free_tracks) * int(free.sum())
        more, k, more_scores = self._match(2, p.temporal_threshold, ids[free_tracks], free)
        return matched(
            np.concatenate([tracks, free_tracks[more]]),
            np.concatenate([found, k]),
            np.concatenate([scores, more_scores]),
            self.evidence,
        )

    def _match(self, steps: int, threshold: float, ids: NDArray[np.int64], free: NDArray[np.bool_] | None = None):
        """Mutual best matches with the frame `steps` before.

        The mutual check is made among all detections of both frames. Then matches of other tracks than `ids` are
        removed. With `free` [K], matches of other detections are removed as well, and those that are not mutual best
        matches backward in time.

        Returns:
            Indices in `ids`, detections and similarities, [P] each.
        """
        past = [history.ids(steps) for history in self._histories]
        if past[0] is None or past[-1] is None:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        similarity = self._similarity(steps)
        m, k = mutual_best(similarity, threshold)
        known, track = find(ids, past[0][m])
        m, k = m[known], k[known]
        if free is not None:
            wanted = free[k]
            if wanted.any():
                backward = np.zeros(similarity.shape, bool)
                backward[mutual_best(self._similarity(steps, backward=True), threshold)] = True
                wanted &= backward[m, k]
            m, k, track = m[wanted], k[wanted], track[wanted]
        return track, k, similarity[m, k]

    @abstractmethod
    def _similarity(self, steps: int, backward: bool = False) -> NDArray[np.floating]:
        """[M, K] in 0..1, of the detections `steps` frames ago and the current ones, forward or backward in time."""


class Pixel(_HybridTracker):
    """The pixel tracker: Dice of masks that are warped by optical flow (III-C, equation 7)."""

    Parameters = PixelParameters
    uses_flow = True
    evidence = AssociatedBy.PIXELS
    threshold = "pixel_threshold"

    def _similarity(self, steps: int, backward: bool = False) -> NDArray[np.floating]:
        return self._masks.flow_dice(steps, backward)


class Instance(_HybridTracker):
    """The instance tracker: softmax over dot products of learned embeddings (III-B, equation 4)."""

    Parameters = InstanceParameters
    uses_embeddings = needs_embeddings = True

    def _similarity(self, steps: int, backward: bool = False) -> NDArray[np.floating]:
        return self._embeddings.similarity(steps)


class Hybrid(_HybridTracker):
    """Both matrices, fused by the learned 1x1 convolution (III-D)."""

    Parameters = HybridParameters
    uses_flow = uses_embeddings = needs_embeddings = True

    def _similarity(self, steps: int, backward: bool = False) -> NDArray[np.floating]:
        return self._fusion(self._masks.flow_dice(steps, backward), self._embeddings.similarity(steps))


@dataclass
class _Embedded:
    """Learned vectors of the detections of one frame, and their track ids."""

    vectors: NDArray[np.float32]
    known: NDArray[np.bool_]
    ids: NDArray[np.int64]


class EmbeddingHistory:
    """Learned embeddings of the current frame and of the two before it."""

    def __init__(self, learned: Learned) -> None:
        self._learned = learned
        self.reset()

    def reset(self) -> None:
        self._frames: deque[_Embedded] = deque(maxlen=3)
        self._compared: dict[int, NDArray[np.floating]] = {}

    def push(self, detections: Detections) -> None:
        """Adds the current frame; raises InputError for embeddings of another length than the learned ones."""
        vectors = np.empty((0, 0), np.float32)
        if len(detections):
            vectors = self._learned.describe(detections.embeddings, detections.norms)
        self._compared.clear()
        self._frames.append(_Embedded(vectors, detections.norms > 0, np.zeros(len(detections), np.int64)))

    def set_ids(self, ids: NDArray[np.int64]) -> None:
        """The track ids [K] of the detections of the current frame."""
        self._frames[-1].ids = ids

    def ids(self, steps: int) -> NDArray[np.int64] | None:
        """Track ids [M] of the detections `steps` (1 or 2) frames ago; None if there is nothing to compare."""
        if len(self._frames) <= steps or not len(self._frames[-1].ids):
            return None
        past = self._frames[-1 - steps]
        return past.ids if past.vectors.shape[1] == self._frames[-1].vectors.shape[1] else None

    def similarity(self, steps: int) -> NDArray[np.floating]:
        """Bidirectional softmax of dot products (equation 4), [M, K]; 0 where one has no embedding.

        It is the same forward and backward in time.
        """
        if steps not in self._compared:
            past, now = self._frames[-1 - steps], self._frames[-1]
            similarity = np.zeros((len(past.ids), len(now.ids)))
            products = past.vectors[past.known] @ now.vectors[now.known].T
            similarity[np.ix_(past.known, now.known)] = bidirectional_softmax(products)
            self._compared[steps] = similarity
        return self._compared[steps]
