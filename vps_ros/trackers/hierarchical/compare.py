"""Step 2, compare: features of each pair of a track and a detection that may be one object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.assignment import find
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.hierarchical.update import HierarchicalMemory
from vps_ros.trackers.masks import MaskHistory
from vps_ros.trackers.similarity import box_iou

COLUMNS = (
    "flow_dice",
    "motion_dice",
    "containment",
    "dice_2",
    "containment_2",
    "latest_dice",
    "log_gap",
    "log_seconds",
    "gap_is_1",
    "gap_is_2",
    "distance",
    "distance_per_gap",
    "nearer_side_x",
    "nearer_side_y",
    "height_ratio",
    "width_ratio",
    "class_share",
    "same_class",
    "colour_ratio",
    "embedding_ratio",
    "colour_cosine",
    "box_iou",
    "hits",
    "area",
    "at_border",
)
"""Names of the features.

Masks warped by the flow or shifted by the predicted motion, one and two frames on (Dice, share of the smaller mask);
frames and seconds since the last detection; distance of the predicted box in object sizes, and that of the nearer of
two opposite sides, since an object that is partly occluded keeps one; ratios of sizes as logarithms; classes;
appearance; and hits, size and position of the detection.
"""

NOTHING = np.empty(0, np.int64)
_REACH, _REACH_PER_SECOND = 2.0, 4.0
"""Largest distance of a pair in object sizes, and its growth with the time since the last detection."""
_MIN_SECONDS, _MAX_SECONDS = 0.01, 10.0
"""Limits of the time since the last detection."""
_TOUCHING = 0.05
"""Share of the smaller mask above which masks overlap. Pairs whose masks overlap are compared at any distance."""
_MIN_SIZE = 0.012
"""Image widths. Smaller objects count as that large, since one pixel is a large part of them."""
_BORDER = 0.005
_MAX_HITS = 5


@dataclass(frozen=True)
class Pairs:
    """Tracks and detections that may be one object, P of them.

    Attributes:
        m: int64 [P], rows of the memory.
        k: int64 [P], detections.
        features: float32 [P, len(COLUMNS)].
        by_pixels: bool [P], whether masks of the last two frames overlap with the current one.
    """

    m: NDArray[np.int64]
    k: NDArray[np.int64]
    features: NDArray[np.float32]
    by_pixels: NDArray[np.bool_]


def compare(
    memory: HierarchicalMemory,
    masks: MaskHistory,
    detections: Detections,
    stamp: int,
    matched_tracks: NDArray[np.int64] = NOTHING,
    matched_detections: NDArray[np.int64] = NOTHING,
) -> Pairs:
    """The pairs of all tracks and detections that are near each other, sorted by (m, k).

    Args:
        stamp: of the current frame, nanoseconds.
        matched_tracks, matched_detections: those that already have a partner; they are in no pair.
    """
    overlaps = _Overlaps.of(memory, masks, len(detections))
    boxes, predicted = memory.in_widths(detections.boxes), memory.rows["predicted_box"]
    seconds = np.clip((stamp - memory.rows["last_seen"]) * 1e-9, _MIN_SECONDS, _MAX_SECONDS)
    sides, predicted_sides = (np.maximum(b[:, 2:] - b[:, :2], 1e-6) for b in (boxes, predicted))
    near = near_pairs(boxes, sides, predicted, predicted_sides, _REACH + _REACH_PER_SECOND * seconds)
    m, k, by_pixels = union_of_pairs(near, overlaps.touching(), len(boxes))
    if len(matched_tracks):
        free = ~(np.isin(m, matched_tracks) | np.isin(k, matched_detections))
        m, k, by_pixels = m[free], k[free], by_pixels[free]
    gap = memory.rows["gap"][m]
    size = np.maximum((np.sqrt(predicted_sides.prod(axis=1))[m] + np.sqrt(sides.prod(axis=1))[k]) / 2, _MIN_SIZE)
    offset = (boxes[k] - predicted[m]) / size[:, None]
    side, centre = np.abs(offset), (offset[:, :2] + offset[:, 2:]) / 2
    distance = np.sqrt((centre * centre).sum(axis=1))
    ratio = np.abs(np.log(sides[k] / predicted_sides[m]))
    (flow, motion, flow_2, motion_2), (share, share_2) = overlaps.at(m, k)
    dice_2 = np.maximum(flow_2, motion_2)
    classes = detections.class_ids[k]
    colour = memory.colours.cosine(m, memory.unit_colours, k)
    columns = (
        flow,
        motion,
        share,
        dice_2,
        share_2,
        np.where(gap == 1, np.maximum(flow, motion), np.where(gap == 2, dice_2, 0)),
        np.log(gap),
        np.log(seconds)[m],
        gap == 1,
        gap == 2,
        distance,
        distance / gap,
        np.minimum(side[:, 0], side[:, 2]),
        np.minimum(side[:, 1], side[:, 3]),
        ratio[:, 1],
        ratio[:, 0],
        memory.class_share(m, classes),
        memory.rows["latest_class"][m] == classes,
        memory.colours.log_likelihood_ratio(colour),
        _embedding_ratio(memory, m, k),
        colour,
        box_iou(predicted[m], boxes[k]),
        np.minimum(memory.rows["hits"][m], _MAX_HITS) / _MAX_HITS,
        0.2 * np.log1p(detections.areas[k] * (640 / detections.size[1]) ** 2),
        (boxes[k, 0] < _BORDER) | (boxes[k, 2] > 1 - _BORDER),
    )
    table = np.empty((len(COLUMNS), len(m)), np.float32)
    for line, values in zip(table, columns, strict=True):
        line[:] = values
    return Pairs(m, k, table.T, by_pixels)


def union_of_pairs(
    near: tuple[NDArray[np.int64], ...], touching: tuple[NDArray[np.int64], ...], detections: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Each pair (m, k) once, sorted, and whether it is among those that are `touching`.

    Pairs are sorted as one number each, which takes less time than a table of all tracks and detections.
    """
    codes = np.concatenate([2 * (m * detections + k) + (i == 0) for i, (m, k) in enumerate((near, touching))])
    codes.sort()
    pair = codes >> 1
    first = np.ones(len(pair), bool)
    np.not_equal(pair[1:], pair[:-1], out=first[1:])
    m, k = np.divmod(pair[first], detections)
    return m, k, codes[first] & 1 == 0


def near_pairs(boxes, sides, predicted, predicted_sides, reach: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """The pairs (m [P], k [P]) whose centres are at most `reach` [M] mean sizes apart along both axes, in any order.

    They are looked for among the detections, sorted along x, that the largest of them would be near.
    """
    # All lengths are doubled here: the sums of two sizes and of two corners are not divided by 2.
    expected, centre = (b[:, :2] + b[:, 2:] for b in (predicted, boxes))
    older, newer = np.sqrt(predicted_sides.prod(axis=1)), np.sqrt(sides.prod(axis=1))
    order = centre[:, 0].argsort()
    x = centre[order, 0]
    # A little more than needed: the exact comparison follows.
    widest = np.maximum(older + newer.max(), 2 * _MIN_SIZE) * reach * (1 + 1e-9)
    first = x.searchsorted(expected[:, 0] - widest)
    count = x.searchsorted(expected[:, 0] + widest, side="right") - first
    m = np.repeat(np.arange(len(predicted)), count)
    k = order[np.arange(len(m)) + np.repeat(first - (np.cumsum(count) - count), count)]
    size = np.maximum(older[m] + newer[k], 2 * _MIN_SIZE) * reach[m]
    near = np.flatnonzero((np.abs(centre[k] - expected[m]) <= size[:, None]).all(axis=1))
    return m[near], k[near]


@dataclass(frozen=True)
class _Overlaps:
    """Overlaps of the masks of one and two frames ago, warped by the flow and shifted by the motion, with current ones.

    The four joint histograms are one table, so that each operation on them is one call.

    Attributes:
        joint: int64 [R, K + 1], joint histograms (see `overlap`), one below the other.
        rows: int64 [4, M], where each track is in `joint`: one frame ago by flow and by motion, two frames ago by flow
            and by motion; -1 for none.
        older: int64 [R], pixels of the earlier mask of each row.
        newer: int64 [H, K + 1], pixels of the current masks in each of the H histograms.
        histogram: int64 [R], to which of them each row belongs.
    """

    joint: NDArray[np.int64]
    rows: NDArray[np.int64]
    older: NDArray[np.int64]
    newer: NDArray[np.int64]
    histogram: NDArray[np.int64]

    @classmethod
    def of(cls, memory: HierarchicalMemory, masks: MaskHistory, detections: int) -> _Overlaps:
        rows, joints, first = np.full((4, len(memory)), -1), [], [0]
        for steps in (1, 2):
            past = masks.before(steps)
            known, tracks = (NOTHING, NOTHING) if past is None else find(memory.rows["id"], past.ids)
            if past is None or not len(known):
                continue
            shifts = np.zeros((len(past.ids), 2))
            now = memory.predict(past.stamp, tracks)
            shifts[known] = (now[:, :2] + now[:, 2:]) / 2 - past.centres[known]
            for i, joint in enumerate((masks.flow_overlap(steps), masks.shift_overlap(steps, shifts))):
                rows[2 * steps - 2 + i, tracks] = first[-1] + known + 1
                joints.append(joint)
                first.append(first[-1] + len(joint))
        if not joints:
            nothing = np.zeros((1, detections + 1), np.int64)
            return cls(nothing, rows, np.zeros(1, np.int64), nothing, np.zeros(1, np.int64))
        table = np.concatenate(joints)
        histogram = np.repeat(np.arange(len(joints)), np.diff(first))
        return cls(table, rows, table.sum(axis=1), np.add.reduceat(table, first[:-1], axis=0), histogram)

    def touching(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs (m, k) of tracks and detections whose masks overlap; a pair may occur several times."""
        track = np.full(len(self.joint), -1)
        known = self.rows >= 0
        track[self.rows[known]] = np.nonzero(known)[1]
        place = np.flatnonzero(self.joint)
        i, k = np.divmod(place, self.joint.shape[1])
        smaller = np.minimum(self.older.take(i), self.newer[self.histogram.take(i), k])
        overlapping = self.joint.ravel().take(place) > _TOUCHING * smaller
        overlapping &= (track.take(i) >= 0) & (k > 0)
        return track.take(i[overlapping]), k[overlapping] - 1

    def at(self, m: NDArray[np.int64], k: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Dice [4, P] of the pairs in the order of `rows`, and by frame the larger share [2, P] of the smaller mask."""
        rows = self.rows.take(m, axis=1)
        # A row of -1 is the last one, whose pixels do not count.
        both = self.joint.ravel().take(rows * self.joint.shape[1] + (k + 1)) * (rows >= 0)
        older, newer = self.older.take(rows), self.newer[self.histogram.take(rows), k + 1]
        dices = 2 * both / np.maximum(older + newer, 1)
        shares = both / np.maximum(np.minimum(older, newer), 1)
        return dices, np.maximum(shares[::2], shares[1::2])


def _embedding_ratio(memory: HierarchicalMemory, m: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-likelihood ratio [P] of the embeddings; 0 where one is unknown."""
    units, model = memory.unit_embeddings, memory.embedding_model
    if units is None:
        return np.zeros(len(m))
    known = model.vectors.any(axis=1)[m] & units.any(axis=1)[k]
    return np.where(known, model.log_likelihood_ratio(model.cosine(m, units, k)), 0)
