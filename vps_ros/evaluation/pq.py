"""Panoptic Quality (Kirillov et al., Panoptic Segmentation, CVPR 2019) of the segments of frames, and of tubes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.metric import ComparedFrame, Metric, Result, Score
from vps_ros.evaluation.overlaps import (
    SHARE_SCALE,
    Classes,
    Overlaps,
    column_of,
    instance_of,
    nan_mean,
    none_for_nan,
    sum_by_index,
)


@dataclass(frozen=True)
class Matching:
    """The matched and unmatched segments of an overlap table.

    Attributes:
        gt, pred: int64 [M], codes of the matched pairs.
        intersection, union: int64 [M], pixels of each pair.
        false_negatives: int64, codes of the ground-truth segments without a match.
        false_positives: int64, codes of the predicted segments without a match, but for those on void and crowds.
    """

    gt: NDArray[np.int64]
    pred: NDArray[np.int64]
    intersection: NDArray[np.int64]
    union: NDArray[np.int64]
    false_negatives: NDArray[np.int64]
    false_positives: NDArray[np.int64]


def match(classes: Classes, table: Overlaps, crowds: bool = True) -> Matching:
    """Matches segments, or tubes, of one class whose IoU is above 0.5; a segment has at most one such partner.

    The union leaves out predicted pixels on void. A true thing with instance 0 is a crowd: it is neither matched nor a
    false negative. A predicted segment without a match is no false positive when more than half of it lies on void and
    on crowds of its class. Without `crowds`, instance 0 is an instance like any other.
    """
    gt_ids, gt_index, gt_area = table.gt_segments
    pred_ids, pred_index, pred_area = table.pred_segments
    gt_class, pred_class = column_of(gt_ids), column_of(pred_ids)
    crowd = classes.is_thing[gt_class] & (instance_of(gt_ids) == 0) & crowds
    void = gt_class == classes.void

    on_void = void[gt_index]
    same = table.gt_class == table.pred_class
    pred_on_void = sum_by_index(pred_index, np.where(on_void, table.count, 0), len(pred_ids))
    ignored = on_void | (crowd[gt_index] & same)
    pred_ignored = sum_by_index(pred_index, np.where(ignored, table.count, 0), len(pred_ids))

    union = gt_area[gt_index] + pred_area[pred_index] - table.count - pred_on_void[pred_index]
    pairs = np.flatnonzero(same & ~on_void & ~crowd[gt_index] & (2 * table.count > union))
    gt_free, pred_free = np.ones(len(gt_ids), bool), np.ones(len(pred_ids), bool)
    gt_free[gt_index[pairs]] = False
    pred_free[pred_index[pairs]] = False
    return Matching(
        gt=table.gt[pairs],
        pred=table.pred[pairs],
        intersection=table.count[pairs],
        union=union[pairs],
        false_negatives=gt_ids[gt_free & ~void & ~crowd],
        false_positives=pred_ids[pred_free & (pred_class != classes.void) & (2 * pred_ignored <= pred_area)],
    )


@dataclass(frozen=True)
class PanopticQuality(Result):
    """PQ = SQ * RQ for each class, float64 [C]; NaN for a class without any segment.

    Attributes:
        sq: mean IoU of the matched pairs, 0 without any.
        rq: TP / (TP + FP / 2 + FN / 2).
        tp, fp, fn: int64 [C].
    """

    is_thing: NDArray[np.bool_]
    pq: NDArray[np.float64]
    sq: NDArray[np.float64]
    rq: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]

    @property
    def all(self) -> float:
        """Mean over the classes that occur; NaN when none does. `things` and `stuff` are means of these classes."""
        return nan_mean(self.pq)

    @property
    def things(self) -> float:
        return nan_mean(self.pq[self.is_thing])

    @property
    def stuff(self) -> float:
        return nan_mean(self.pq[~self.is_thing])

    def to_json(self) -> dict:
        return {"PQ": parts_json(self)}

    def scores(self) -> tuple[Score, ...]:
        return (
            Score("PQ", self.all, "panoptic quality of single frames"),
            Score("things", self.things, "PQ of the classes of things", "PQ"),
            Score("stuff", self.stuff, "PQ of the classes of stuff", "PQ"),
        )


class PanopticCounts(Metric):
    """Matches per class, summed over frames or windows of frames. Parts and sequences merge in any order.

    Attributes:
        last: of the last frame that `add` counted, alone.
    """

    last: PanopticQuality

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._iou = [0] * classes.void
        self._tp, self._fp, self._fn = (np.zeros(classes.void, np.int64) for _ in range(3))

    def add(self, frame: ComparedFrame) -> None:
        alone = PanopticCounts(self._classes)
        alone.update(match(self._classes, frame.table))
        self.extend(alone)
        self.last = self.total([alone])

    def update(self, found: Matching) -> None:
        """Counts the matches of the next frame or window."""
        columns = column_of(found.gt)
        pairs = zip(columns.tolist(), found.intersection.tolist(), found.union.tolist(), strict=True)
        for column, intersection, union in pairs:
            self._iou[column] += intersection * SHARE_SCALE // union
        size = self._classes.void
        self._tp += np.bincount(columns, minlength=size)
        self._fp += np.bincount(column_of(found.false_positives), minlength=size)
        self._fn += np.bincount(column_of(found.false_negatives), minlength=size)

    def extend(self, later: PanopticCounts) -> None:
        self._iou = [a + b for a, b in zip(self._iou, later._iou, strict=True)]
        self._tp += later._tp
        self._fp += later._fp
        self._fn += later._fn

    @classmethod
    def total(cls, sequences: Sequence[PanopticCounts]) -> PanopticQuality:
        counts = cls(sequences[0]._classes)
        for one in sequences:
            counts.extend(one)
        iou, tp, fp, fn = np.array([total / SHARE_SCALE for total in counts._iou]), counts._tp, counts._fp, counts._fn
        occurs, weight, unknown = tp + fp + fn > 0, tp + 0.5 * (fp + fn), np.full(len(tp), np.nan)
        # One division, so that PQ of a perfect class is exactly 1.
        pq = np.divide(iou, weight, out=unknown.copy(), where=occurs)
        sq = np.where(occurs, np.divide(iou, tp, out=np.zeros(len(iou)), where=tp > 0), np.nan)
        rq = np.divide(tp, weight, out=unknown, where=occurs)
        return PanopticQuality(counts._classes.is_thing[:-1], pq, sq, rq, tp, fp, fn)


def parts_json(quality: Any) -> dict:
    """{"all", "things", "stuff"} of a PQ or VPQ, None for NaN."""
    return {part: none_for_nan(getattr(quality, part)) for part in ("all", "things", "stuff")}
