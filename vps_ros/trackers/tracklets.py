"""Tracklets: parts of the online tracker's tracks without a gap, in memory that does not grow with pixels."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import Track

_ENDS = 6
"""Detections at each end of a tracklet that its velocity and its appearance there are computed from."""

Vectors: TypeAlias = NDArray[np.float32]


@dataclass
class Tracklet:
    """Consecutive detections of one track.

    Attributes:
        track_id: of the online tracker.
        sequence: number of its sequence.
        previous: index of the tracklet before it in the same track; -1 if there is none.
        score: probability by which the online tracker associated its first detection with the track; 0 for a new one.
        hits_before: detections of the track before this tracklet.
        first, last: numbers of frames.
        hits: number of detections.
        votes: detections for each class id.
        head, tail: (frame, box in image widths) of the first and of the last detections.
        head_vectors, tail_vectors: mean appearance at both ends, one vector for each kind; None where unknown.
    """

    track_id: int
    sequence: int
    previous: int
    score: float
    hits_before: int
    first: int
    last: int = -1
    hits: int = 0
    votes: Counter[int] = field(default_factory=Counter)
    head: list[tuple[int, NDArray[np.float64]]] = field(default_factory=list)
    tail: deque[tuple[int, NDArray[np.float64]]] = field(default_factory=lambda: deque(maxlen=_ENDS))
    head_vectors: list[Vectors | None] = field(default_factory=list)
    tail_vectors: list[Vectors | None] = field(default_factory=list)

    def add(self, frame: int, box: NDArray[np.float64], class_id: int, vectors: Sequence[Vectors | None]) -> None:
        """Adds the detection of a frame; `vectors` are of norm 1 or 0."""
        self.last = frame
        self.hits += 1
        self.votes[class_id] += 1
        self.tail.append((frame, box))
        if len(self.head) < _ENDS:
            self.head.append((frame, box))
            self.head_vectors = _averaged(self.head_vectors, vectors, 1 / self.hits)
        self.tail_vectors = _averaged(self.tail_vectors, vectors, max(1 / self.hits, 1 / _ENDS))


class TrackletRecorder:
    """Collects the tracklets of a run of an online tracker.

    Its memory grows with the number of tracklets, and by two small values for each frame.

    Attributes:
        tracklets: by the time of their first detection.
        stamps: of each frame, nanoseconds.
        motions: float64 [3, 3] for each frame: row vectors (x, y, 1) in image widths of the frame before times it are
            the same points of the background in this frame.
        begins: sequence -> number of its first frame.
    """

    def __init__(self) -> None:
        self.tracklets: list[Tracklet] = []
        self.stamps: list[int] = []
        self.motions: list[NDArray[np.float64]] = []
        self.begins: dict[int, int] = {}
        self._latest: dict[tuple[int, int], int] = {}

    def add(
        self,
        sequence: int,
        stamp: int,
        width: int,
        tracks: Iterable[Track],
        appearances: Sequence[Vectors | None],
        camera: NDArray[np.float64] | None,
    ) -> None:
        """Adds the next frame.

        Args:
            sequence: number of its sequence.
            width: of the image, in pixels.
            tracks: result of the tracker.
            appearances: for each kind of appearance float32 [K, D] of the segments; None where it is unknown.
            camera: [3, 2], motion of the background since the frame before (see camera_motion); None if unknown.
        """
        frame = len(self.stamps)
        self.stamps.append(stamp)
        self.begins.setdefault(sequence, frame)
        motion = np.eye(3)
        if camera is not None:
            motion[:, :2] += camera
        self.motions.append(motion)
        units = [None if vectors is None else _units(vectors) for vectors in appearances]
        for track in tracks:
            if track.index >= 0:
                one = self._tracklet(sequence, frame, track)
                vectors = [None if kind is None else kind[track.index] for kind in units]
                one.add(frame, np.array(track.box, np.float64) / width, track.class_id, vectors)

    def _tracklet(self, sequence: int, frame: int, track: Track) -> Tracklet:
        """The tracklet that a detection continues or starts."""
        key = (sequence, track.track_id)
        latest = self._latest.get(key, -1)
        if latest >= 0 and self.tracklets[latest].last == frame - 1:
            return self.tracklets[latest]
        self._latest[key] = len(self.tracklets)
        score = track.association_score if latest >= 0 else 0.0
        self.tracklets.append(Tracklet(track.track_id, sequence, latest, score, track.hits - 1, frame))
        return self.tracklets[-1]


def _units(vectors: Vectors) -> Vectors:
    """Rows of norm 1; zeros where a row has no direction."""
    norms = np.linalg.norm(np.nan_to_num(vectors, posinf=0, neginf=0), axis=1, keepdims=True)
    usable = np.isfinite(vectors).all(axis=1, keepdims=True) & (norms > 0)
    return np.where(usable, np.divide(vectors, norms, where=norms > 0, out=np.zeros_like(vectors)), 0)


def _averaged(
    means: Sequence[Vectors | None], vectors: Sequence[Vectors | None], weight: float
) -> list[Vectors | None]:
    """Moving averages; an unknown vector, or one of another length, leaves the mean or replaces it."""
    if not means:
        means = [None] * len(vectors)
    found: list[Vectors | None] = []
    for mean, vector in zip(means, vectors, strict=True):
        if vector is None or not vector.any():
            found.append(mean)
        elif mean is None or mean.shape != vector.shape:
            found.append(vector)
        else:
            found.append(mean + np.float32(weight) * (vector - mean))
    return found
