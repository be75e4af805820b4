"""Panoptic Quality (Kirillov et al., Panoptic Segmentation, CVPR 2019), for frames and for tubes alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.numbers import ONE, mean_of_known
from vps_ros.evaluation.overlaps import Classes, Overlaps, column_of, dense, instance_of, sums


@dataclass(frozen=True)
class Matching:
    """Which segments of an overlap table belong together.

    Attributes:
        gt, pred: int64 [M], codes of the matched pairs.
        intersection, union: int64 [M], pixels of each pair.
        missed: int64, codes of true segments without a match (false negatives).
        invented: int64, codes of predicted segments without a match, the forgiven ones left out (false positives).
    """

    gt: NDArray[np.int64]
    pred: NDArray[np.int64]
    intersection: NDArray[np.int64]
    union: NDArray[np.int64]
    missed: NDArray[np.int64]
    invented: NDArray[np.int64]


def match(classes: Classes, table: Overlaps, crowds: bool = True) -> Matching:
    """Matches segments, or tubes, of one class whose IoU is above 0.5; no segment can have two such partners.

    The union leaves out predicted pixels on void. A true thing with instance 0 is a crowd: it is matched with nothing
    and missed by nobody. A predicted segment without a match is forgiven when more than half of it lies on void and
    crowds of its class. Without `crowds` instance 0 is an instance like any other.
    """
    gt_ids, gt_index = dense(table.gt)
    pred_ids, pred_index = dense(table.pred)
    gt_area = sums(gt_index, table.count, len(gt_ids))
    pred_area = sums(pred_index, table.count, len(pred_ids))
    gt_class, pred_class = column_of(gt_ids), column_of(pred_ids)
    crowd = classes.is_thing[gt_class] & (instance_of(gt_ids) == 0) & crowds
    void = gt_class == classes.void

    on_void = void[gt_index]
    same = table.gt_class == table.pred_class
    pred_on_void = sums(pred_index, np.where(on_void, table.count, 0), len(pred_ids))
    excused = on_void | (crowd[gt_index] & same)
    pred_excused = sums(pred_index, np.where(excused, table.count, 0), len(pred_ids))

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
        missed=gt_ids[gt_free & ~void & ~crowd],
        invented=pred_ids[pred_free & (pred_class != classes.void) & (2 * pred_excused <= pred_area)],
    )


@dataclass(frozen=True)
class PanopticQuality:
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
        """Mean over the classes that occur; NaN when none does. So too `things` and `stuff`."""
        return mean_of_known(self.pq)

    @property
    def things(self) -> float:
        return mean_of_known(self.pq[self.is_thing])

    @property
    def stuff(self) -> float:
        return mean_of_known(self.pq[~self.is_thing])


class PanopticCounts:
    """Matches per class, added over frames (or windows of frames). Streaming: update, merge, result."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._iou = [0] * classes.void
        self._tp, self._fp, self._fn = (np.zeros(classes.void, np.int64) for _ in range(3))

    def update(self, found: Matching) -> None:
        columns = column_of(found.gt)
        pairs = zip(columns.tolist(), found.intersection.tolist(), found.union.tolist(), strict=True)
        for column, intersection, union in pairs:
            self._iou[column] += intersection * ONE // union
        size = self._classes.void
        self._tp += np.bincount(columns, minlength=size)
        self._fp += np.bincount(column_of(found.invented), minlength=size)
        self._fn += np.bincount(column_of(found.missed), minlength=size)

    def merge(self, other: PanopticCounts) -> None:
        self._iou = [a + b for a, b in zip(self._iou, other._iou, strict=True)]
        self._tp += other._tp
        self._fp += other._fp
        self._fn += other._fn

    def result(self) -> PanopticQuality:
        occurs = self._tp + self._fp + self._fn > 0
        unknown = np.full(len(occurs), np.nan)
        iou = np.array([total / ONE for total in self._iou])
        weight = self._tp + 0.5 * (self._fp + self._fn)
        # Divided once, so that PQ of a perfect class is 1 to the last digit.
        pq = np.divide(iou, weight, out=unknown.copy(), where=occurs)
        sq = np.where(occurs, np.divide(iou, self._tp, out=np.zeros(len(iou)), where=self._tp > 0), np.nan)
        rq = np.divide(self._tp, weight, out=unknown.copy(), where=occurs)
        is_thing = self._classes.is_thing[:-1]
        return PanopticQuality(is_thing, pq, sq, rq, self._tp.copy(), self._fp.copy(), self._fn.copy())
