"""Features of pairs of tracklets: may the end of one and the start of a later one be the same object?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.similarity import box_iou, cosine_log_likelihood_ratio
from vps_ros.trackers.tracklets import Tracklet, TrackletRecorder

MAX_GAP_SECONDS = 10.0
"""Longest time that an object may be unseen."""
KINDS = 2
"""Kinds of appearance: the segmenter's embedding and a colour histogram."""
COLUMNS = (
    "nearest",
    "forward",
    "backward",
    "static",
    "box_iou",
    "height_ratio",
    "width_ratio",
    "same_class",
    "embedding_ratio",
    "colour_ratio",
    "log_gap",
    "log_seconds",
    "nearest_log_gap",
    "end_at_border",
    "start_at_border",
    "end_hits",
    "start_hits",
    "same_track",
    "online_log_odds",
)
"""Names of the features.

Distances of the predicted box: forward, backward, without the object's own motion, and the least of the three, as
log(1 + distance in object sizes); overlap; ratios of sizes as logarithms; cosine of the votes for classes; appearance;
gap; whether the image border cuts the object; detections; and what the online tracker decided about the pair.
"""
_SAME, _DIFFERENT = (0.85, 0.02), (0.5, 0.04)
"""Mean and variance of the cosine of two appearances before any was seen, which count as _PRIOR pairs."""
_PRIOR = 10
_MIN_VARIANCE = 1e-3
_MIN_SIZE = 0.012
"""Image widths. Smaller objects count as that large, since one pixel is a large part of them."""
_BORDER = 0.005
_MAX_SCORE = 0.999
_MAX_ZOOM = 2.0
_REACH = 3.0
"""Largest log(1 + distance) of a pair."""


@dataclass(frozen=True)
class Links:
    """Pairs of a tracklet and one that begins after its end, P of them.

    Attributes:
        ends, starts: int64 [P], indices of tracklets.
        features: float64 [P, len(COLUMNS)].
    """

    ends: NDArray[np.int64]
    starts: NDArray[np.int64]
    features: NDArray[np.float64]


def candidates(recorder: TrackletRecorder) -> Links:
    """The pairs that are near each other in space and time, by start and then by end."""
    tracklets = recorder.tracklets
    if not tracklets:
        return Links(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, len(COLUMNS))))
    table = _Table.of(recorder)
    appearance = [_Appearance(tracklets, kind) for kind in range(KINDS)]
    stamps = np.array(recorder.stamps)
    by_end = np.argsort(table.last, kind="stable")
    sorted_last = table.last[by_end]
    found = []
    for start in range(len(tracklets)):
        # Only ends within the longest gap are looked at: the time is proportional to the pairs, not to their square.
        first = table.first[start]
        begin = recorder.begins[tracklets[start].sequence]
        earliest = begin + np.searchsorted(stamps[begin:first], stamps[first] - MAX_GAP_SECONDS * 1e9)
        some = by_end[np.searchsorted(sorted_last, earliest) : np.searchsorted(sorted_last, first)]
        some = np.sort(some)
        if len(some):
            features, near = _features(table, appearance, stamps, recorder.motions, some, start)
            found.append((some[near], np.full(near.sum(), start), features[near]))
    if not found:
        return Links(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, len(COLUMNS))))
    return Links(*map(np.concatenate, zip(*found, strict=True)))


@dataclass(frozen=True)
class _Table:
    """Facts of all T tracklets as arrays; boxes are in image widths, velocities per second and without the camera's."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    hits: NDArray[np.int64]
    previous: NDArray[np.int64]
    score: NDArray[np.float64]
    first_box: NDArray[np.float64]
    last_box: NDArray[np.float64]
    first_velocity: NDArray[np.float64]
    last_velocity: NDArray[np.float64]
    votes: NDArray[np.float64]

    @classmethod
    def of(cls, recorder: TrackletRecorder) -> _Table:
        ones = recorder.tracklets
        classes = max(max(one.votes) for one in ones) + 1
        votes = np.zeros((len(ones), classes))
        for row, one in zip(votes, ones, strict=True):
            row[list(one.votes)] = list(one.votes.values())
        return cls(
            np.array([one.first for one in ones]),
            np.array([one.last for one in ones]),
            np.array([one.hits for one in ones]),
            np.array([one.previous for one in ones]),
            np.array([one.score for one in ones]),
            np.array([one.head[0][1] for one in ones]),
            np.array([one.tail[-1][1] for one in ones]),
            np.array([_velocity(one.head, recorder, 0) for one in ones]),
            np.array([_velocity(list(one.tail), recorder, -1) for one in ones]),
            votes / np.linalg.norm(votes, axis=1, keepdims=True),
        )


def _velocity(
    seen: Sequence[tuple[int, NDArray[np.float64]]], recorder: TrackletRecorder, at: int
) -> NDArray[np.float64]:
    """(x, y) per second of the box centre against the background, in the frame of the detection `at` (0 or -1).

    The slope of a straight line through the centres, by least squares; 0 for a single detection.
    """
    frames = [frame for frame, _ in seen]
    seconds = np.array([recorder.stamps[frame] for frame in frames]) * 1e-9
    seconds -= seconds.mean()
    if not (seconds * seconds).sum() > 0:
        return np.zeros(2)
    centres = np.ones((len(seen), 3))
    centres[:, :2] = [(box[:2] + box[2:]) / 2 for _, box in seen]
    to = np.eye(3)
    if at == -1:
        for k in range(len(seen) - 2, -1, -1):
            to = recorder.motions[frames[k] + 1] @ to
            centres[k] = centres[k] @ to
    else:
        for k in range(1, len(seen)):
            to = to @ recorder.motions[frames[k]]
            centres[k] = centres[k] @ np.linalg.inv(to)
    return seconds @ centres[:, :2] / (seconds * seconds).sum()


def _features(
    table: _Table,
    appearance: Sequence[_Appearance],
    stamps: NDArray[np.int64],
    motions: Sequence[NDArray[np.float64]],
    ends: NDArray[np.int64],
    start: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Features [P, F] of pairs of `ends` [P] and one start, and which pairs are near enough, bool [P]."""
    first = int(table.first[start])
    motion = _motions_to(motions, int(table.last[ends].min()), first)[table.last[ends] - table.last[ends].min()]
    gap = first - table.last[ends]
    seconds = np.maximum(stamps[first] - stamps[table.last[ends]], 1) * 1e-9
    end_box, start_box = table.last_box[ends], table.first_box[start]
    centre = np.ones((len(ends), 3))
    centre[:, :2] = _centre(end_box)
    zoom = np.sqrt(np.clip(np.linalg.det(motion[:, :2, :2]), _MAX_ZOOM**-2, _MAX_ZOOM**2))
    static = np.einsum("pi,pij->pj", centre, motion)[:, :2]
    target = _centre(start_box[None])
    half = (end_box[:, 2:] - end_box[:, :2]) / 2 * zoom[:, None]
    own = table.last_velocity[ends] * seconds[:, None] * zoom[:, None]
    back = table.first_velocity[start] * seconds[:, None]
    size = (np.sqrt(4 * half.prod(axis=1)) + np.sqrt((start_box[2:] - start_box[:2]).prod())) / 2
    size = np.maximum(size, _MIN_SIZE)
    places = np.stack([static + own, static + back, static])
    distances = np.log1p(np.linalg.norm(target - places, axis=2) / size)
    forward, backward, still = distances
    nearest, which = distances.min(axis=0), distances.argmin(axis=0)
    best = places[which, np.arange(len(ends))]
    ratio = np.abs(np.log(np.maximum(start_box[2:] - start_box[:2], 1e-6) / np.maximum(2 * half, 1e-6)))
    linked = table.previous[start] == ends
    score = np.clip(table.score[start], 1 - _MAX_SCORE, _MAX_SCORE)
    columns = (
        nearest,
        forward,
        backward,
        still,
        box_iou(np.concatenate([best - half, best + half], axis=1), start_box),
        ratio[:, 1],
        ratio[:, 0],
        table.votes[ends] @ table.votes[start],
        *(kind.ratio(ends, start) for kind in appearance),
        np.log(gap),
        np.log(np.maximum(seconds, 0.01)),
        nearest * np.log(gap),
        _at_border(end_box),
        _at_border(start_box[None]).repeat(len(ends)),
        np.log1p(np.minimum(table.hits[ends], 20)),
        np.log1p(np.minimum(table.hits[start], 20)).repeat(len(ends)),
        linked,
        np.where(linked, np.log(score / (1 - score)), 0),
    )
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1), (nearest < _REACH) | linked


def _motions_to(motions: Sequence[NDArray[np.float64]], earliest: int, frame: int) -> NDArray[np.float64]:
    """Motion of the background from each of the frames earliest .. frame - 1 to `frame`, [frame - earliest, 3, 3]."""
    found = np.empty((frame - earliest, 3, 3))
    to = np.eye(3)
    for f in range(frame, earliest, -1):
        to = motions[f] @ to
        found[f - 1 - earliest] = to
    return found


class _Appearance:
    """Log-likelihood ratio of one kind of appearance: same object or different objects?

    Both likelihoods are normal distributions of the cosine, learned from the recording: between both ends of long
    tracklets, and between tracklets of one class that are seen at the same time.
    """

    def __init__(self, tracklets: Sequence[Tracklet], kind: int) -> None:
        width = max((len(v) for t in tracklets for v in (_vector(t.head_vectors, kind),) if v is not None), default=0)
        self._heads, self._tails = np.zeros((2, len(tracklets), width), np.float32)
        for row, one in enumerate(tracklets):
            for table, vector in ((self._heads, one.head_vectors), (self._tails, one.tail_vectors)):
                known = _vector(vector, kind)
                if known is not None and len(known) == width:
                    table[row] = known / max(float(np.linalg.norm(known)), 1e-6)
        long = np.array([t.hits >= _LONG for t in tracklets])
        same = np.einsum("td,td->t", self._heads[long], self._tails[long])
        self._same = _learned(same, _SAME)
        pairs = [(i, j) for i, j in zip(*_together(tracklets), strict=True)]
        a, b = np.array(pairs, np.int64).reshape(-1, 2).T
        self._different = _learned(np.einsum("td,td->t", self._heads[a], self._heads[b]), _DIFFERENT)

    def ratio(self, ends: NDArray[np.int64], start: int) -> NDArray[np.float64]:
        """Log-likelihood ratio [P] of the pairs of `ends` [P] and one start; 0 where an appearance is unknown."""
        cosine = (self._tails[ends] @ self._heads[start]).astype(np.float64)
        known = self._tails[ends].any(axis=1) & self._heads[start].any()
        return np.where(known, cosine_log_likelihood_ratio(cosine, self._same, self._different), 0)


_LONG = 12
"""Detections of a tracklet whose ends are far enough apart to tell how its appearance changes."""


def _together(tracklets: Sequence[Tracklet]) -> tuple[list[int], list[int]]:
    """Pairs of tracklets of one class that are visible at the same time: each with the next one that begins."""
    latest: dict[tuple[int, int], int] = {}
    a, b = [], []
    for index, one in enumerate(tracklets):
        key = (one.sequence, one.votes.most_common(1)[0][0])
        before = latest.get(key)
        if before is not None and tracklets[before].last >= one.first:
            a.append(before)
            b.append(index)
        latest[key] = index
    return a, b


def _vector(vectors: Sequence[NDArray[np.float32] | None], kind: int) -> NDArray[np.float32] | None:
    return vectors[kind] if kind < len(vectors) else None


def _learned(cosines: NDArray[np.floating], prior: tuple[float, float]) -> tuple[float, float]:
    """Mean and variance of cosines; the prior counts as _PRIOR of them."""
    cosines = cosines[cosines != 0].astype(np.float64)
    count = len(cosines) + _PRIOR
    mean = (cosines.sum() + _PRIOR * prior[0]) / count
    variance = (((cosines - mean) ** 2).sum() + _PRIOR * (prior[1] + (prior[0] - mean) ** 2)) / count
    return float(mean), max(float(variance), _MIN_VARIANCE)


def _centre(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _at_border(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (boxes[:, 0] < _BORDER) | (boxes[:, 2] > 1 - _BORDER)
