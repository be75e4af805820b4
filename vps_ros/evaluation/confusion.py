"""Confusion of classes, and the mean IoU from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.numbers import mean_of_known
from vps_ros.evaluation.overlaps import Classes, Overlaps


class Confusion:
    """Counts pixels by true and predicted class. Streaming: update, merge, then read.

    Attributes:
        counts: int64 [C + 1, C + 1], row the truth, column the prediction; the last of each is void.
    """

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self.counts = np.zeros((classes.void + 1, classes.void + 1), np.int64)

    def update(self, frame: Overlaps) -> None:
        np.add.at(self.counts, (frame.gt_class, frame.pred_class), frame.count)

    def merge(self, other: Confusion) -> None:
        self.counts += other.counts

    def class_iou(self) -> NDArray[np.float64]:
        """float64 [C], NaN for a class that neither truth nor prediction shows on labelled pixels."""
        return self._ious()[:-1]

    def mean_iou(self, only_true: bool = False) -> float:
        """Mean of `class_iou` over the classes that occur, or only those that the truth shows; NaN when none does."""
        iou = self.class_iou()
        return mean_of_known(iou[self.counts[:-1].sum(1) > 0] if only_true else iou)

    def segmentation_quality(self) -> float:
        """SQ of STQ, as deeplab2 computes it.

        Unlabelled pixels are left out. Where void is predicted on a labelled pixel, the true class misses that pixel,
        and void itself enters the mean as one more class, with IoU 0. `mean_iou` is without that last term.
        """
        return mean_of_known(self._ious())

    def _ious(self) -> NDArray[np.float64]:
        labelled = self.counts.copy()
        labelled[-1] = 0
        hit = labelled.diagonal()
        union = labelled.sum(0) + labelled.sum(1) - hit
        return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)
