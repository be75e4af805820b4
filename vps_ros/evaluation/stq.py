"""Segmentation and Tracking Quality (Weber et al., STEP: Segmenting and Tracking Every Pixel, NeurIPS 2021).

STQ = sqrt(AQ * SQ), where AQ = 1/|tubes| * sum over true tubes g of 1/|g| * sum over predicted tubes p of
TPA(p, g) * IoU(p, g), and SQ is the mean IoU of the classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.evaluation.numbers import ONE
from vps_ros.evaluation.overlaps import Classes, Overlaps, column_of

PROTOCOLS = ("deeplab2", "video-k-net", "vipseg")
_STREET_THINGS = range(11, 19)


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
    """Sizes of one sequence's tubes and of what they share. Streaming: update, merge, result.

    Class and instance together name a tube, and tubes of different classes may overlap. A predicted tube is a thing
    with any instance, 0 too. A crowd is no tube, and its pixels count nowhere. What differs between the protocols:

    - `deeplab2`: a true thing with instance 0 is a crowd. A predicted tube's size counts its pixels on void too.
    - `video-k-net`: as deeplab2, but pixels that the truth leaves void count nowhere, and of the 19 street classes
      things are 11..18, whatever the taxonomy says.
    - `vipseg`: instances are numbered from 0 as the segments of a video are listed, stuff among them, and number 0
      is a crowd if it is a thing. Its lists have stuff first and go by class and instance: the lowest true thing of
      the first labelled frame is a crowd where that frame shows no stuff, and no other thing is one.

    Raises InputError for an unknown protocol.
    """

    def __init__(self, classes: Classes, protocol: str = PROTOCOLS[0]) -> None:
        if protocol not in PROTOCOLS:
            raise InputError(f"unknown protocol {protocol!r} of STQ; choose one of {', '.join(PROTOCOLS)}")
        self._classes = classes
        self._protocol = protocol
        self._is_thing = _things(classes, protocol)
        self._gt: Counter[int] = Counter()
        self._pred: Counter[int] = Counter()
        self._both: Counter[tuple[int, int]] = Counter()
        self._first: int | None = None

    def update(self, frame: Overlaps) -> None:
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

    def merge(self, other: Association) -> None:
        """Adds another part of the same sequence; by `vipseg` one that follows this one."""
        self._gt.update(other._gt)
        self._pred.update(other._pred)
        self._both.update(other._both)
        if self._first is None:
            self._first = other._first

    def result(self) -> AssociationQuality:
        tubes = self._tubes()
        return AssociationQuality(math.fsum(tubes.values()), len(tubes))

    def by_class(self) -> dict[int, AssociationQuality]:
        """The same for the true tubes of each class column."""
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
                inner[gt] += both * both * ONE // union
        return {gt: value / (self._gt[gt] * ONE) for gt, value in inner.items()}


def segmentation_and_tracking_quality(association: float, segmentation: float) -> float:
    """STQ, the geometric mean of AQ and SQ."""
    return math.sqrt(association * segmentation)


def _things(classes: Classes, protocol: str) -> NDArray[np.bool_]:
    """bool [C + 1], which class columns are things by the protocol."""
    if protocol == "video-k-net" and classes.are_streets:
        return np.append(np.isin(classes.taxonomy.ids, _STREET_THINGS), False)
    return classes.is_thing
