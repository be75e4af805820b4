"""Confusion of classes, and mean IoU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.metric import Metric, Result, Rules, Score
from vps_ros.evaluation.overlaps import Classes, Overlaps, nan_mean


@dataclass(frozen=True)
class ClassConfusion(Result):
    """Pixels by true and predicted class.

    Attributes:
        counts: int64 [C + 1, C + 1], row the true class, column the predicted class; the last of each is void.
        only_true: the mean IoU is taken over the classes of the ground truth only, as VSPW does.
    """

    counts: NDArray[np.int64]
    only_true: bool = False

    @property
    def class_iou(self) -> NDArray[np.float64]:
        """float64 [C], NaN for a class that neither ground truth nor prediction has on labelled pixels."""
        return self._ious()[:-1]

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur; NaN when none does."""
        iou = self.class_iou
        return nan_mean(iou[self.counts[:-1].sum(1) > 0] if self.only_true else iou)

    @property
    def segmentation_quality(self) -> float:
        """SQ of STQ, as deeplab2 computes it.

        Unlabelled pixels are left out. Where void is predicted on a labelled pixel, the pixel counts as missed by its
        true class, and void enters the mean as one more class, with IoU 0. `mean_iou` is without that last term.
        """
        return nan_mean(self._ious())

    def scores(self) -> tuple[Score, ...]:
        return (Score("mIoU", self.mean_iou, "mean IoU of the classes"),)

    def _ious(self) -> NDArray[np.float64]:
        labelled = self.counts.copy()
        labelled[-1] = 0
        hit = labelled.diagonal()
        union = labelled.sum(0) + labelled.sum(1) - hit
        return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


class Confusion(Metric):
    """Counts pixels by true and predicted class. Parts and sequences merge in any order.

    Attributes:
        last: of the last frame alone.
    """

    def __init__(self, classes: Classes, only_true: bool = False) -> None:
        self._only_true = only_true
        self._counts = np.zeros((classes.void + 1, classes.void + 1), np.int64)
        self.last = self.total([self])

    @classmethod
    def create(cls, classes: Classes, rules: Rules) -> Confusion:
        return cls(classes, rules.miou == "vspw")

    def update(self, table: Overlaps) -> None:
        """Counts the next frame by its overlap table."""
        counts = np.zeros_like(self._counts)
        np.add.at(counts, (table.gt_class, table.pred_class), table.count)
        self._counts += counts
        self.last = ClassConfusion(counts, self._only_true)

    def extend(self, later: Confusion) -> None:
        self._counts += later._counts

    @classmethod
    def total(cls, sequences: Sequence[Confusion]) -> ClassConfusion:
        counts = np.sum([one._counts for one in sequences], axis=0, dtype=np.int64)
        return ClassConfusion(counts, sequences[0]._only_true)
