"""All that speaks for or against a thing of the current frame being an object in memory, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.objects import ObjectMemory
from vps_ros.trackers.pixels import PixelHistory
from vps_ros.trackers.stages.contract import find
from vps_ros.trackers.things import Things

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
"""What the columns of Pairs.columns are: masks moved by flow and by motion, one and two frames on (Dice, share of the
smaller one), frames and seconds since the last sighting, distance of the predicted box in sizes of the object (also of
the nearer of its two sides, since an object that is partly hidden keeps one), sizes as logarithms, classes, appearance,
and what the thing is like."""

_REACH, _REACH_PER_SECOND = 2.0, 4.0
"""Sizes of an object within which a thing may be it; more the longer ago that it was seen."""
_SHORT, _LONG = 0.01, 10.0
"""Seconds; shorter and longer times are taken for these."""
_TOUCHING = 0.05
"""Dice above which it may be wherever it is."""
_SMALLEST = 0.012
"""Width of the image; smaller objects are judged as if they were this large, since a pixel is a large part of them."""
_BORDER = 0.005
_OFTEN = 5


@dataclass(frozen=True)
class Pairs:
    """Objects and things that may be the same, P of them.

    Attributes:
        m: int64 [P], place of the object among the rows that were asked for.
        k: int64 [P], place of the thing among those that were asked for.
        columns: float32 [P, len(COLUMNS)].
        by_pixels: bool [P], the masks of the last two frames meet.
    """

    m: NDArray[np.int64]
    k: NDArray[np.int64]
    columns: NDArray[np.float32]
    by_pixels: NDArray[np.bool_]


def compare(
    memory: ObjectMemory,
    pixels: PixelHistory,
    things: Things,
    rows: NDArray[np.int64],
    which: NDArray[np.int64],
    stamp: int,
) -> Pairs:
    """The pairs of the objects `rows` [R] and the things `which` [N] that are near enough, in the order of (m, k).

    `stamp` is that of the current frame, nanoseconds.
    """
    masks = [_Meeting.of(memory, pixels, rows, steps) for steps in (1, 2)]
    boxes, places = memory.boxes(things)[which], memory.places[rows]
    gap = memory.gap[rows]
    seconds = np.clip((stamp - memory.rows["last_seen"][rows]) * 1e-9, _SHORT, _LONG)
    sides, known_sides = (np.maximum(b[:, 2:] - b[:, :2], 1e-6) for b in (boxes, places))
    near = _near(boxes, sides, places, known_sides, _REACH + _REACH_PER_SECOND * seconds)
    touching = np.zeros(near.shape, bool)
    for meeting in masks:
        meeting.mark(touching, which)
    m, k = np.nonzero(near | touching)
    thing, row, gap = which[k], rows[m], gap[m]
    size = np.maximum((np.sqrt(known_sides.prod(axis=1))[m] + np.sqrt(sides.prod(axis=1))[k]) / 2, _SMALLEST)
    off = (boxes[k] - places[m]) / size[:, None]
    side, middle = np.abs(off), (off[:, :2] + off[:, 2:]) / 2
    distance = np.sqrt((middle * middle).sum(axis=1))
    ratio = np.abs(np.log(sides[k] / known_sides[m]))
    (flow, motion, share), (flow_2, motion_2, share_2) = (meeting.at(m, thing) for meeting in masks)
    dice_2 = np.maximum(flow_2, motion_2)
    classes = things.class_ids[thing]
    colour = memory.colours.cosine(row, memory.unit_colours, thing)
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
        memory.share(row, classes),
        memory.latest[row] == classes,
        memory.colours.ratio(colour),
        _embedding_ratio(memory, row, thing),
        colour,
        _box_iou(places[m], boxes[k]),
        np.minimum(memory.rows["hits"][row], _OFTEN) / _OFTEN,
        0.2 * np.log1p(things.areas[thing] * (640 / things.size[1]) ** 2),
        (boxes[k, 0] < _BORDER) | (boxes[k, 2] > 1 - _BORDER),
    )
    table = np.empty((len(COLUMNS), len(m)), np.float32)
    for line, values in zip(table, columns, strict=True):
        line[:] = values
    return Pairs(m, k, table.T, touching[m, k])


def _near(boxes, sides, places, known_sides, reach: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool [R, N]: boxes within so many sizes, [R], of the places."""
    size = np.sqrt(known_sides.prod(axis=1))[:, None] + np.sqrt(sides.prod(axis=1))
    np.maximum(size, 2 * _SMALLEST, out=size)
    size *= reach[:, None]
    # All lengths are doubled: sums of two sides and of two corners need no halving.
    near = np.ones(size.shape, bool)
    for axis in (0, 1):
        spot, centre = (b[:, axis] + b[:, axis + 2] for b in (places, boxes))
        near &= np.abs(centre - spot[:, None]) <= size
    return near


@dataclass(frozen=True)
class _Meeting:
    """Masks of one earlier frame, moved by flow and by motion, and the current ones.

    Attributes:
        place: int64 [R], which of the masks of that frame each object had; -1 for none.
        joints: joint histograms [M + 1, K + 1] (trackers/similarity.py), by flow and by motion; none without masks.
    """

    place: NDArray[np.int64]
    joints: tuple[NDArray[np.int64], ...] = ()

    @classmethod
    def of(cls, memory: ObjectMemory, pixels: PixelHistory, rows: NDArray[np.int64], steps: int) -> _Meeting:
        place = np.full(len(rows), -1)
        past = pixels.before(steps)
        if past is None:
            return cls(place)
        known, there = find(memory.rows["id"][rows], past.ids)
        if not len(known):
            return cls(place)
        place[there] = known
        shifts = np.zeros((len(past.ids), 2))
        now = memory.predict(past.stamp, rows[there])
        shifts[known] = (now[:, :2] + now[:, 2:]) / 2 - past.centres[known]
        return cls(place, (pixels.flow_overlap(steps), pixels.motion_overlap(steps, shifts)))

    def mark(self, touching: NDArray[np.bool_], which: NDArray[np.int64]) -> None:
        """Sets `touching` [R, N] where masks of objects and of the things `which` meet."""
        for joint in self.joints:
            row, column = np.full(len(joint), -1), np.full(joint.shape[1], -1)
            row[self.place[self.place >= 0] + 1] = np.flatnonzero(self.place >= 0)
            column[which + 1] = np.arange(len(which))
            i, j = np.nonzero(joint[1:, 1:])
            both, older, newer = joint[i + 1, j + 1], joint.sum(axis=1)[i + 1], joint.sum(axis=0)[j + 1]
            i, j = row[i + 1], column[j + 1]
            meet = (both > _TOUCHING * np.minimum(older, newer)) & (i >= 0) & (j >= 0)
            touching[i[meet], j[meet]] = True

    def at(self, m: NDArray[np.int64], thing: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        """Dice by flow, Dice by motion, and the larger containment, [P] each, of objects and things."""
        if not self.joints:
            return (np.zeros(len(m)),) * 3
        place = self.place[m]
        dices, contained = [], np.zeros(len(m))
        for joint in self.joints:
            both = np.where(place >= 0, joint[place + 1, thing + 1], 0)
            older, newer = joint.sum(axis=1)[place + 1], joint.sum(axis=0)[thing + 1]
            dices.append(2 * both / np.maximum(older + newer, 1))
            np.maximum(contained, both / np.maximum(np.minimum(older, newer), 1), out=contained)
        return (*dices, contained)


def _box_iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union [P] of boxes [P, 4], pair by pair."""
    shared = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    both = np.maximum(shared, 0).prod(axis=1)
    either = sum((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others)) - both
    return np.divide(both, either, out=np.zeros(len(both)), where=either > 0)


def _embedding_ratio(memory: ObjectMemory, row: NDArray[np.int64], thing: NDArray[np.int64]) -> NDArray[np.float64]:
    units, vectors = memory.unit_embeddings, memory.embeddings.vectors
    if units is None:
        return np.zeros(len(row))
    known = vectors.any(axis=1)[row] & units.any(axis=1)[thing]
    return np.where(known, memory.embeddings.ratio(memory.embeddings.cosine(row, units, thing)), 0)
