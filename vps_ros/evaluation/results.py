"""The report of an evaluation: the results of all metrics, for each sequence and for each class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.confusion import ClassConfusion
from vps_ros.evaluation.identity import IdentityQuality
from vps_ros.evaluation.metric import Rules, Score
from vps_ros.evaluation.overlaps import none_for_nan
from vps_ros.evaluation.pq import PanopticQuality
from vps_ros.evaluation.stq import AssociationQuality, SegmentationTrackingQuality
from vps_ros.evaluation.timelines import Timeline
from vps_ros.evaluation.vpq import UNMEASURED, VideoPanopticQuality
from vps_ros.taxonomy import Taxonomy


class FrameQuality(NamedTuple):
    """PQ and mIoU of one frame alone; NaN where the frame has no class."""

    pq: float
    miou: float


@dataclass(frozen=True)
class Quality:
    """The metrics over the frames of one sequence, or of all sequences. In 0..1; NaN where nothing could be measured.

    Attributes:
        frames: how many were compared.
        results: the result of each metric, by its name in `vps_ros.evaluation.evaluator.METRICS`.
        unmeasured: JSON of the metrics that were left out.
    """

    frames: int
    results: Mapping[str, Any]
    unmeasured: Mapping[str, Any]

    @property
    def segmentation_tracking(self) -> SegmentationTrackingQuality:
        return self.results["STQ"]

    @property
    def stq(self) -> float:
        return self.segmentation_tracking.stq

    @property
    def aq(self) -> float:
        """Association quality over all true tubes."""
        return self.segmentation_tracking.aq

    @property
    def sq(self) -> float:
        """Segmentation quality of STQ; unlike `miou` it may contain void as a class."""
        return self.segmentation_tracking.sq

    @property
    def tubes(self) -> int:
        """Number of true tubes."""
        return self.segmentation_tracking.association.tubes

    @property
    def vpq(self) -> VideoPanopticQuality:
        """Without windows where it was left out."""
        return self.results.get("VPQ", UNMEASURED)

    @property
    def pq(self) -> PanopticQuality:
        """Panoptic quality of the single frames."""
        return self.results["PQ"]

    @property
    def miou(self) -> float:
        return self.results["mIoU"].mean_iou

    @property
    def vc(self) -> Mapping[int, float]:
        """{n: VC_n}; empty where it was left out."""
        return self.results.get("VC", {})

    @property
    def identity(self) -> IdentityQuality | None:
        """IDF1, HOTA, MOTA and IDSW of things; None where they were left out, or TrackEval is not installed."""
        return self.results.get("identity")

    def scores(self) -> tuple[Score, ...]:
        """The scores of all metrics that were measured, in the order of the tables."""
        return tuple(score for result in self.results.values() for score in result.scores())

    def to_json(self) -> dict:
        """None for NaN."""
        found = dict(self.unmeasured)
        for result in self.results.values():
            found |= result.to_json()
        return {**found, "frames": self.frames, "tubes": self.tubes}


@dataclass(frozen=True)
class SequenceReport(Quality):
    """The metrics over one sequence.

    Attributes:
        timelines: of its true things; empty where they were left out.
    """

    timelines: tuple[Timeline, ...] = ()


@dataclass(frozen=True)
class ClassReport:
    """The metrics of one class; NaN where it does not occur, and AQ also where it has no true tubes.

    Attributes:
        pq, sq, rq: of PQ; `sq` is the mean IoU of the matched segments of the class (not the SQ of STQ).
        vpq: mean over the windows in which the class occurs.
        aq: mean association quality of the true tubes of the class.
        tp, fp, fn: matched segments, false positives and false negatives.
    """

    is_thing: bool
    color: tuple[int, int, int]
    iou: float
    pq: float
    sq: float
    rq: float
    vpq: float
    aq: float
    tp: int
    fp: int
    fn: int
    tubes: int

    @property
    def occurs(self) -> bool:
        return self.iou == self.iou or self.tp + self.fp + self.fn > 0

    def to_json(self) -> dict:
        quality = {"IoU": self.iou, "PQ": self.pq, "SQ": self.sq, "RQ": self.rq, "VPQ": self.vpq, "AQ": self.aq}
        counts = {"TP": self.tp, "FP": self.fp, "FN": self.fn, "tubes": self.tubes}
        return {"thing": self.is_thing, **{name: none_for_nan(value) for name, value in quality.items()}, **counts}


def class_reports(taxonomy: Taxonomy, quality: Quality) -> dict[str, ClassReport]:
    """The metrics of each class, by its name."""
    pq, vpq = quality.pq, quality.vpq
    columns = {name: getattr(pq, name) for name in ("pq", "sq", "rq", "tp", "fp", "fn")}
    columns["iou"] = quality.results["mIoU"].class_iou
    columns["vpq"] = vpq.by_class if vpq.windows else np.full(len(taxonomy), np.nan)
    reports = {}
    for i, info in enumerate(taxonomy.classes):
        association = quality.segmentation_tracking.by_class.get(i, AssociationQuality(0.0, 0))
        reports[info.name] = ClassReport(
            is_thing=info.isthing,
            color=info.color,
            aq=association.mean if association.tubes else math.nan,
            tubes=association.tubes,
            **{name: values[i].item() for name, values in columns.items()},
        )
    return reports


@dataclass(frozen=True)
class Report(Quality):
    """The metrics over all sequences.

    Attributes:
        rules: the protocol.
        taxonomy: its name.
        sequences, classes: the metrics of each, by name.
    """

    rules: Rules
    taxonomy: str
    sequences: Mapping[str, SequenceReport]
    classes: Mapping[str, ClassReport]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """int64 [C + 1, C + 1], pixels by true class (row) and predicted class (column); the last of each is void."""
        found: ClassConfusion = self.results["mIoU"]
        return found.counts

    @property
    def protocol(self) -> str:
        return self.rules.title

    @property
    def protocols(self) -> Mapping[str, str]:
        """Metric -> the protocol that it follows; mIoU only where the protocol has a rule of its own."""
        own = {"mIoU": self.rules.miou} if self.rules.miou == self.rules.name else {}
        return {"STQ": self.rules.stq, "VPQ": self.rules.vpq, **own}

    @property
    def void_note(self) -> str:
        """An explanation where predicted void makes SQ lower than mIoU; otherwise empty."""
        if not (self.sq < self.miou and self.confusion[:-1, -1].any()):
            return ""
        return (
            "SQ is lower than mIoU because it counts void predicted on labelled pixels as one more class, of IoU 0, "
            "as deeplab2 does."
        )

    def to_json(self) -> dict:
        """The `--json` of `vps-ros evaluate`."""
        return {
            "protocol": self.protocol,
            "protocols": dict(self.protocols),
            **super().to_json(),
            "per_sequence": {name: one.to_json() for name, one in self.sequences.items()},
            "per_class": {name: one.to_json() for name, one in self.classes.items()},
        }
