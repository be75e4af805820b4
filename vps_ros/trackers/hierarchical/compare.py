"""Step 2, compare: features of each pair of a track and a detection that may be one object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.assignment import find_rows
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.hierarchical.update import HierarchicalMemory
from vps_ros.trackers.masks import MaskHistory

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
_NO_TRACK = np.array([-1])
_BOTH_WAYS = np.array([[-1], [1]])
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
    count = len(detections)
    overlaps = _Overlaps.of(memory, masks, count)
    seconds = np.minimum(np.maximum((stamp - memory.rows["last_seen"]) * 1e-9, _MIN_SECONDS), _MAX_SECONDS)
    of_all = geometry(np.concatenate([memory.rows["predicted_box"], memory.boxes]))
    of_tracks, of_detections = of_all[:, : len(memory)], of_all[:, len(memory) :]
    m, k = near_pairs(of_tracks, of_detections, _REACH + _REACH_PER_SECOND * seconds)
    pair, by_pixels = union_of_pairs(m * count + k, overlaps.touching())
    m = pair // count
    k = pair - m * count
    if len(matched_tracks):
        free = ~(np.isin(m, matched_tracks) | np.isin(k, matched_detections))
        pair, m, k, by_pixels = pair[free], m[free], k[free], by_pixels[free]
    if not len(m):
        return Pairs(m, k, np.empty((0, len(COLUMNS)), np.float32), by_pixels)
    track, detection = of_tracks.take(m, axis=1), of_detections.take(k, axis=1)
    corners = detection[:4]
    size = np.maximum((track[-1] + detection[-1]) / 2, _MIN_SIZE)
    side = np.abs((corners - track[:4]) / size)
    side = np.minimum(side[:2], side[2:])
    between = (detection[4:6] - track[4:6]) / (2 * size)
    distance = np.sqrt(between[0] * between[0] + between[1] * between[1])
    ratio = np.abs(detection[6:8] - track[6:8])
    inner = np.maximum(np.minimum(corners[2:], track[2:4]) - np.maximum(corners[:2], track[:2]), 0)
    both = inner[0] * inner[1]
    (flow, motion, flow_2, motion_2), (share, share_2) = overlaps.at(pair)
    dice_2 = np.maximum(flow_2, motion_2)
    gap, classes = memory.rows["gap"][m], detections.class_ids[k]
    first, second = gap == 1, gap == 2
    colour = memory.colours.cosine(m, k)
    columns = (
        flow,
        motion,
        share,
        dice_2,
        share_2,
        first * np.maximum(flow, motion) + second * dice_2,
        np.log(gap),
        np.log(seconds)[m],
        first,
        second,
        distance,
        distance / gap,
        side[0],
        side[1],
        ratio[1],
        ratio[0],
        memory.class_share(m, classes),
        memory.rows["latest_class"][m] == classes,
        memory.colours.log_likelihood_ratio(colour),
        memory.embedding_model.ratio(m, k),
        colour,
        both / (track[8] + detection[8] - both),
        np.minimum(memory.rows["hits"], _MAX_HITS)[m] / _MAX_HITS,
        0.2 * np.log1p(detections.areas * (640 / detections.size[1]) ** 2)[k],
        (corners[0] < _BORDER) | (corners[2] > 1 - _BORDER),
    )
    table = np.concatenate(columns, dtype=np.float32, casting="same_kind").reshape(len(COLUMNS), -1)
    return Pairs(m, k, table.T, by_pixels)


def geometry(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [10, N] of boxes [N, 4]: the four sides, twice the centre, logarithms of width and height, area, size.

    With one row for each quantity, NumPy's inner loops run over the boxes.
    """
    rows = np.empty((10, len(boxes)))
    rows[:4] = boxes.T
    np.add(rows[:2], rows[2:4], out=rows[4:6])
    sides = np.maximum(rows[2:4] - rows[:2], 1e-6)
    np.log(sides, out=rows[6:8])
    np.multiply(sides[0], sides[1], out=rows[8])
    np.sqrt(rows[8], out=rows[9])
    return rows


def union_of_pairs(near: NDArray[np.int64], touching: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Each pair once, sorted, and whether it is among those that are `touching`.

    Pairs are numbers m * K + k, whose order takes less time than a table of all tracks and detections.
    """
    codes = np.concatenate([2 * near + 1, 2 * touching])
    codes.sort()
    pair = codes >> 1
    first = np.ones(len(pair), bool)
    np.not_equal(pair[1:], pair[:-1], out=first[1:])
    return pair[first], codes[first] & 1 == 0


def near_pairs(
    tracks: NDArray[np.float64], detections: NDArray[np.float64], reach: NDArray[np.float64]
) -> tuple[NDArray[np.int64], ...]:
    """The pairs (m [P], k [P]) whose centres are at most `reach` [M] mean sizes apart along both axes, in any order.

    They are looked for among the detections, sorted along x, that the largest of them would be near.

    Args:
        tracks, detections: their `geometry` [10, M] and [10, K].
    """
    # All lengths are doubled: the sums of two sizes and of two corners are not divided by 2.
    order = detections[4].argsort()
    # A little more than needed: the exact comparison follows.
    widest = np.maximum(tracks[9] + detections[9].max(), 2 * _MIN_SIZE) * reach * (1 + 1e-9)
    first, end = detections[4].take(order).searchsorted(tracks[4] + _BOTH_WAYS * widest)
    count = end - first
    m = np.arange(len(reach)).repeat(count)
    k = order.take(np.arange(len(m)) + (end - count.cumsum()).repeat(count))
    apart = np.abs(detections[4:6].take(k, axis=1) - tracks[4:6].take(m, axis=1))
    size = np.maximum(tracks[9].take(m) + detections[9].take(k), 2 * _MIN_SIZE) * reach.take(m)
    near = (np.maximum(apart[0], apart[1]) <= size).nonzero()[0]
    return m.take(near), k.take(near)


@dataclass(frozen=True)
class _Overlaps:
    """Overlaps of the masks of one and two frames ago, warped by the flow and shifted by the motion, with current ones.

    Only pairs that overlap are here, E of them, so that time grows with their number and not with its square.

    Attributes:
        kind: int64 [E], one frame ago by flow (0) and by motion (1), two frames ago by flow (2) and by motion (3).
        pair: int64 [E], m * K + k of the track and the detection.
        values: float64 [2, E], Dice and share of the smaller mask.
    """

    kind: NDArray[np.int64]
    pair: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, memory: HierarchicalMemory, masks: MaskHistory, detections: int) -> _Overlaps:
        # The rows of all joint histograms (see `overlap`), one below the other: kind and track of each.
        kinds, heights, tracks, places, pixels = [], [], [], [], []
        width, rows = detections + 1, 0
        centres = memory.predicted_centres()
        for steps in (1, 2):
            past = masks.before(steps)
            if past is None or (track := find_rows(memory.rows["id"], past.ids)).max() < 0:
                continue
            shifts = centres.take(track, axis=0) - past.centres
            for i, joint in enumerate((masks.flow_overlap(steps), masks.shift_overlap(steps, shifts))):
                cells = joint.ravel()
                # Of Booleans, `nonzero` is several times as fast.
                place = (cells != 0).nonzero()[0]
                pixels.append(cells.take(place))
                places.append(place + rows * width)
                kinds.append(2 * steps - 2 + i)
                heights.append(len(joint))
                tracks += [_NO_TRACK, track]
                rows += len(joint)
        if not rows:
            return cls(NOTHING, NOTHING, np.empty((2, 0)))
        both, place = np.concatenate(pixels), np.concatenate(places)
        row = place // width
        k = place - row * width
        kind, m = np.repeat(kinds, heights).take(row), np.concatenate(tracks).take(row)
        column = kind * width + k
        older, newer = np.bincount(row, both).take(row), np.bincount(column, both).take(column)
        some = ((m >= 0) & (k > 0)).nonzero()[0]
        both, older, newer = both.take(some), older.take(some), newer.take(some)
        values = np.empty((2, len(some)))
        np.divide(2 * both, older + newer, out=values[0])
        np.divide(both, np.minimum(older, newer), out=values[1])
        return cls(kind.take(some), m.take(some) * detections + k.take(some) - 1, values)

    def touching(self) -> NDArray[np.int64]:
        """The pairs m * K + k whose masks overlap; a pair may occur several times."""
        return self.pair[self.values[1] > _TOUCHING]

    def at(self, pairs: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of pairs [P], ascending: Dice [4, P] in the order of `kind`, and by frame the larger share [2, P]."""
        place = pairs.searchsorted(self.pair)
        known = (pairs.take(place, mode="clip") == self.pair).nonzero()[0]
        found = np.zeros((2, 4, len(pairs)))
        found[:, self.kind.take(known), place.take(known)] = self.values.take(known, axis=1)
        dices, shares = found
        return dices, np.maximum(shares[::2], shares[1::2])
