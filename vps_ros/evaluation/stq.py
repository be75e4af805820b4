"""Segmentation and Tracking Quality (Weber et al., STEP: Segmenting and Tracking Every Pixel, NeurIPS 2021).

STQ = sqrt(AQ * SQ), where AQ = 1/|tubes| * sum over true tubes g of 1/|g| * sum over predicted tubes p of
TPA(p, g) * IoU(p, g), equation 4 of the paper, and SQ is the mean IoU of the classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vps_ros.evaluation.overlaps import Classes, Overlaps

PROTOCOLS = ("deeplab2",)


@dataclass(frozen=True)
class AssociationQuality:
    """Sum of the true tubes' association qualities, and how many tubes there are; these add up over sequences."""

    total: float
    tubes: int

    @property
    def mean(self) -> float:
        """AQ in 0..1; 0 without tubes, as in deeplab2."""
        return self.total / self.tubes if self.tubes else 0.0

    @classmethod
    def add(cls, parts: Iterable[AssociationQuality]) -> AssociationQuality:
        """Over several sequences: the mean is taken over all their tubes, not over the sequences."""
        parts = tuple(parts)
        return cls(math.fsum(p.total for p in parts), sum(p.tubes for p in parts))


class Association:
    """Sizes of one sequence's tubes and of what they share, by protocol `deeplab2`. Streaming: update, merge, result.

    A true tube is a thing with instance > 0; a thing with instance 0 is a crowd, whose pixels count nowhere. A
    predicted tube is a thing with any instance, 0 too; its size counts all its pixels outside crowds, those on void
    too. Class and instance together name a tube, and tubes of different classes may overlap.
    """

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._gt: Counter[int] = Counter()
        self._pred: Counter[int] = Counter()
        self._both: Counter[tuple[int, int]] = Counter()

    def update(self, frame: Overlaps) -> None:
        is_thing = self._classes.is_thing
        gt_thing = is_thing[frame.gt_class]
        crowd = gt_thing & (frame.gt_instance == 0)
        in_gt = gt_thing & ~crowd
        in_pred = is_thing[frame.pred_class] & ~crowd
        rows = zip(*(v.tolist() for v in (frame.gt, frame.pred, frame.count, in_gt, in_pred)), strict=True)
        for gt, pred, count, counts_gt, counts_pred in rows:
            if counts_gt:
                self._gt[gt] += count
            if counts_pred:
                self._pred[pred] += count
                if counts_gt:
                    self._both[gt, pred] += count

    def merge(self, other: Association) -> None:
        """Adds another part of the same sequence."""
        self._gt.update(other._gt)
        self._pred.update(other._pred)
        self._both.update(other._both)

    def result(self) -> AssociationQuality:
        return AssociationQuality(math.fsum(self._tubes().values()), len(self._gt))

    def by_class(self) -> dict[int, AssociationQuality]:
        """The same for the true tubes of each class column."""
        parts: dict[int, list[float]] = {}
        for gt, quality in self._tubes().items():
            parts.setdefault(gt >> 32, []).append(quality)
        return {column: AssociationQuality(math.fsum(values), len(values)) for column, values in parts.items()}

    def _tubes(self) -> dict[int, float]:
        """The association quality of each true tube."""
        inner: dict[int, list[float]] = {gt: [] for gt in self._gt}
        for (gt, pred), both in self._both.items():
            inner[gt].append(both * (both / (self._gt[gt] + self._pred[pred] - both)))
        # fsum rounds once, whatever the order: merging in any split gives the same last digit.
        return {gt: math.fsum(values) / self._gt[gt] for gt, values in inner.items()}


def segmentation_and_tracking_quality(association: float, segmentation: float) -> float:
    """STQ, the geometric mean of AQ and SQ."""
    return math.sqrt(association * segmentation)
