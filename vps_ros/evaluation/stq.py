"""Segmentation and Tracking Quality (Weber et al., STEP: Segmenting and Tracking Every Pixel, NeurIPS 2021).

STQ = sqrt(AQ * SQ), where AQ = 1/|tubes| * sum over true tubes g of 1/|g| * sum over predicted tubes p of
TPA(p, g) * IoU(p, g), and SQ is the mean IoU of the classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vps_ros.errors import InputError
from vps_ros.evaluation.confusion import Confusion
from vps_ros.evaluation.metric import Metric, Result, Rules, Score
from vps_ros.evaluation.overlaps import SHARE_SCALE, Classes, Overlaps, column_of

PROTOCOLS = ("deeplab2", "video-k-net", "vipseg")
_STREET_THINGS = range(11, 19)


@dataclass(frozen=True)
class AssociationQuality:
    """Sum of the association qualities of the true tubes, and the number of tubes."""

    total: float
    tubes: int

    @property
    def mean(self) -> float:
        """AQ in 0..1; 0 without tubes, as in deeplab2."""
        return self.total / self.tubes if self.tubes else 0.0

    @classmethod
    def add(cls, parts: Iterable[AssociationQuality]) -> AssociationQuality:
        """The sum over several sequences: its mean is over all tubes, not over the sequences."""
        parts = tuple(parts)
        return cls(math.fsum(p.total for p in parts), sum(p.tubes for p in parts))


class Association:
    """Sizes and overlaps of the tubes of one sequence.

    A tube is identified by class and instance together, and tubes of different classes may overlap. A predicted tube is
    a thing with any instance, 0 included. A crowd is no tube, and its pixels are not counted. The protocols differ:

    - `deeplab2`: a true thing with instance 0 is a crowd. A predicted tube's size counts its pixels on void too.
    - `video-k-net`: as deeplab2, but pixels that are void in the ground truth are not counted, and of the 19 street
      classes 11..18 are things, whatever the taxonomy says.
    - `vipseg`: instances are numbered from 0 in the order in which the segments of a video are listed, stuff included,
      and number 0 is a crowd if it is a thing. The lists have stuff first and are sorted by class and instance. So the
      lowest true thing of the first labelled frame is a crowd if that frame has no stuff, and no other thing is one.

    Raises InputError for an unknown protocol.
    """

    def __init__(self, classes: Classes, protocol: str = PROTOCOLS[0]) -> None:
        if protocol not in PROTOCOLS:
            raise InputError(f"unknown protocol {protocol!r} of STQ; choose one of {', '.join(PROTOCOLS)}")
        self._classes = classes
        self._protocol = protocol
        self._is_thing = classes.is_thing
        if protocol == "video-k-net" and classes.are_streets:
            self._is_thing = np.append(np.isin(classes.taxonomy.ids, _STREET_THINGS), False)
        self._gt: Counter[int] = Counter()
        self._pred: Counter[int] = Counter()
        self._both: Counter[tuple[int, int]] = Counter()
        self._first: int | None = None
        self._finished: tuple[AssociationQuality, dict[int, AssociationQuality]] | None = None

    def update(self, frame: Overlaps) -> None:
        """Counts the next frame by its overlap table."""
        gt_thing = self._is_thing[frame.gt_class]
        crowd = gt_thing & (frame.gt_instance == 0)
        void = frame.gt_class == self._classes.void
        if self._protocol == "vipseg":
            crowd[:] = False
            if self._first is None and not void.all():
                self._first = min(zip(gt_thing[~void].tolist(), frame.gt[~void].tolist(), strict=True))[1]
        in_gt = gt_thing & ~crowd
        in_pred = self._is_thing[frame.pred_class] & ~crowd
        if self._protocol == "video-k-net":
            in_pred &= ~void
        rows = zip(*(v.tolist() for v in (frame.gt, frame.pred, frame.count, in_gt, in_pred)), strict=True)
        for gt, pred, count, counts_gt, counts_pred in rows:
            if counts_gt:
                self._gt[gt] += count
            if counts_pred:
                self._pred[pred] += count
                if counts_gt:
                    self._both[gt, pred] += count

    def extend(self, later: Association) -> None:
        """Adds the following part of the same sequence; but for `vipseg` the order of the parts does not matter."""
        self._gt.update(later._gt)
        self._pred.update(later._pred)
        self._both.update(later._both)
        if self._first is None:
            self._first = later._first

    def finish(self) -> None:
        """Keeps the results only. No frame can follow."""
        self._finished = self.result(), self.by_class()
        self._gt, self._pred, self._both = Counter(), Counter(), Counter()

    def result(self) -> AssociationQuality:
        if self._finished:
            return self._finished[0]
        tubes = self._tubes()
        return AssociationQuality(math.fsum(tubes.values()), len(tubes))

    def by_class(self) -> dict[int, AssociationQuality]:
        """Class column -> the quality of its true tubes."""
        if self._finished:
            return self._finished[1]
        parts: dict[int, list[float]] = {}
        for gt, quality in self._tubes().items():
            parts.setdefault(column_of(gt), []).append(quality)
        return {column: AssociationQuality(math.fsum(values), len(values)) for column, values in parts.items()}

    def _tubes(self) -> dict[int, float]:
        """The association quality of each true tube."""
        crowd = self._first if self._first in self._gt else None
        inner = dict.fromkeys((gt for gt in self._gt if gt != crowd), 0)
        for (gt, pred), both in self._both.items():
            if gt != crowd:
                crowded = 0 if crowd is None else self._both.get((crowd, pred), 0)
                union = self._gt[gt] + self._pred[pred] - crowded - both
                inner[gt] += both * both * SHARE_SCALE // union
        return {gt: value / (self._gt[gt] * SHARE_SCALE) for gt, value in inner.items()}


@dataclass(frozen=True)
class SegmentationTrackingQuality(Result):
    """STQ and its two factors, in 0..1.

    Attributes:
        association: over all true tubes; its mean is AQ.
        sq: see `vps_ros.evaluation.confusion.ClassConfusion.segmentation_quality`.
        by_class: class column -> association of its true tubes, where it has any.
    """

    association: AssociationQuality
    sq: float
    by_class: Mapping[int, AssociationQuality]

    @property
    def aq(self) -> float:
        return self.association.mean

    @property
    def stq(self) -> float:
        return math.sqrt(self.aq * self.sq)

    def scores(self) -> tuple[Score, ...]:
        return (
            Score("STQ", self.stq, "segmentation and tracking quality, the geometric mean of AQ and SQ"),
            Score("AQ", self.aq, "association quality: how well one predicted tube covers each true tube", "STQ"),
            Score("SQ", self.sq, "segmentation quality of STQ: mean IoU of the classes", "STQ"),
        )


class SegmentationTracking(Metric):
    """STQ of one sequence.

    Raises InputError for an unknown protocol.
    """

    def __init__(self, classes: Classes, protocol: str = PROTOCOLS[0]) -> None:
        self._association = Association(classes, protocol)
        self._confusion = Confusion(classes)

    @classmethod
    def create(cls, classes: Classes, rules: Rules) -> SegmentationTracking:
        return cls(classes, rules.stq)

    def update(self, table: Overlaps) -> None:
        """Counts the next frame by its overlap table."""
        self._association.update(table)
        self._confusion.update(table)

    def extend(self, later: SegmentationTracking) -> None:
        self._association.extend(later._association)
        self._confusion.extend(later._confusion)

    def finish(self) -> None:
        self._association.finish()

    @classmethod
    def total(cls, sequences: Sequence[SegmentationTracking]) -> SegmentationTrackingQuality:
        by_class: dict[int, list[AssociationQuality]] = {}
        for one in sequences:
            for column, quality in one._association.by_class().items():
                by_class.setdefault(column, []).append(quality)
        return SegmentationTrackingQuality(
            AssociationQuality.add(one._association.result() for one in sequences),
            Confusion.total([one._confusion for one in sequences]).segmentation_quality,
            {column: AssociationQuality.add(parts) for column, parts in by_class.items()},
        )
