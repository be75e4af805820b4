"""All that speaks for or against a thing of the current frame being an object in memory, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.objects import ObjectMemory
from vps_ros.trackers.pixels import PixelHistory
from vps_ros.trackers.similarity import box_iou, containment, dice
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
    masks = _masks(memory, pixels, rows, which)
    boxes, places = memory.boxes(things)[which], memory.places[rows]
    gap = memory.gap[rows]
    seconds = np.clip((stamp - memory.rows["last_seen"][rows]) * 1e-9, _SHORT, _LONG)
    centre, spot = (boxes[:, :2] + boxes[:, 2:]) / 2, (places[:, :2] + places[:, 2:]) / 2
    sides, known_sides = (np.maximum(b[:, 2:] - b[:, :2], 1e-6) for b in (boxes, places))
    size = (np.sqrt(known_sides.prod(axis=1))[:, None] + np.sqrt(sides.prod(axis=1))) / 2
    size = np.maximum(size, _SMALLEST)
    off = np.abs(centre - spot[:, None]) / size[..., None]
    near = (off < (_REACH + _REACH_PER_SECOND * seconds)[:, None, None]).all(axis=2)
    touching = masks.max(axis=0)
    m, k = np.nonzero(near | (touching > _TOUCHING))
    off, size, gap = off[m, k], size[m, k][:, None], gap[m]
    side = np.abs(boxes[k] - places[m]) / size
    distance = np.sqrt((off * off).sum(axis=1))
    ratio = np.abs(np.log(sides[k] / known_sides[m]))
    flow, motion, share, flow_2, motion_2, share_2 = masks[:, m, k]
    dice_2 = np.maximum(flow_2, motion_2)
    latest = np.where(gap == 1, np.maximum(flow, motion), np.where(gap == 2, dice_2, 0))
    classes = things.class_ids[which][k]
    votes = np.zeros((len(memory), max(memory.votes.shape[1], int(classes.max(initial=0)) + 1)))
    votes[:, : memory.votes.shape[1]] = memory.share()
    colour = memory.colours.cosine(memory.unit_colours[which])[rows][m, k]
    columns = (
        flow,
        motion,
        share,
        dice_2,
        share_2,
        latest,
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
        votes[rows[m], classes],
        memory.latest[rows[m]] == classes,
        memory.colours.ratio(colour),
        _embedding_ratio(memory, rows, which, m, k),
        colour,
        box_iou(places, boxes)[m, k],
        np.minimum(memory.rows["hits"][rows[m]], _OFTEN) / _OFTEN,
        0.2 * np.log1p(things.areas[which][k] * (640 / things.size[1]) ** 2),
        (boxes[k, 0] < _BORDER) | (boxes[k, 2] > 1 - _BORDER),
    )
    return Pairs(m, k, np.column_stack(columns).astype(np.float32), touching[m, k] > _TOUCHING)


def _masks(memory: ObjectMemory, pixels: PixelHistory, rows, which) -> NDArray[np.float64]:
    """float64 [6, R, N]: Dice by flow, Dice by motion and containment of the masks one frame ago, and two."""
    found = np.zeros((6, len(rows), len(which)))
    for steps in (1, 2):
        past = pixels.before(steps)
        if past is None:
            continue
        known, place = find(memory.rows["id"][rows], past.ids)
        if not len(known):
            continue
        shifts = np.zeros((len(past.ids), 2))
        now = memory.predict(past.stamp, rows[place])
        shifts[known] = (now[:, :2] + now[:, 2:]) / 2 - past.centres[known]
        flow, motion = pixels.flow_overlap(steps), pixels.motion_overlap(steps, shifts)
        three = (dice(flow), dice(motion), np.maximum(containment(flow), containment(motion)))
        for i, matrix in enumerate(three, 3 * (steps - 1)):
            found[i, place] = matrix.take(known, axis=0).take(which, axis=1)
    return found


def _embedding_ratio(memory: ObjectMemory, rows, which, m, k) -> NDArray[np.float64]:
    units, vectors = memory.unit_embeddings, memory.embeddings.vectors
    if units is None:
        return np.zeros(len(m))
    known = vectors[rows].any(axis=1)[m] & units[which].any(axis=1)[k]
    cosine = memory.embeddings.cosine(units[which])[rows][m, k]
    return np.where(known, memory.embeddings.ratio(cosine), 0)
