"""All metrics of a data set in one pass over its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.evaluation.confusion import Confusion
from vps_ros.evaluation.overlaps import Classes, Overlaps, overlaps
from vps_ros.evaluation.pq import PanopticCounts, PanopticQuality, match
from vps_ros.evaluation.stq import PROTOCOLS, Association, AssociationQuality, segmentation_and_tracking_quality
from vps_ros.taxonomy import KITTI_STEP, Taxonomy


class FrameQuality(NamedTuple):
    """How well one frame alone was segmented; NaN where the frame shows no class."""

    pq: float
    miou: float


@dataclass(frozen=True)
class SequenceReport:
    """The metrics over one sequence; all in 0..1."""

    frames: int
    tubes: int
    stq: float
    aq: float
    sq: float
    miou: float
    pq: PanopticQuality

    def to_json(self) -> dict:
        return {
            "frames": self.frames,
            "tubes": self.tubes,
            **_stq_json(self),
            "PQ": _pq_json(self.pq),
            "mIoU": _known(self.miou),
        }


@dataclass(frozen=True)
class ClassReport:
    """The metrics of one class; NaN for one that does not occur, and AQ of a class without true tubes.

    Attributes:
        pq, sq, rq: of PQ, where `sq` is the mean IoU of the class's matched segments (not the SQ of STQ).
        aq: mean association quality of the class's true tubes.
        tp, fp, fn: matched, invented and missed segments.
    """

    is_thing: bool
    color: tuple[int, int, int]
    iou: float
    pq: float
    sq: float
    rq: float
    aq: float
    tp: int
    fp: int
    fn: int
    tubes: int

    @property
    def occurs(self) -> bool:
        return self.iou == self.iou or self.tp + self.fp + self.fn > 0

    def to_json(self) -> dict:
        quality = {"IoU": self.iou, "PQ": self.pq, "SQ": self.sq, "RQ": self.rq, "AQ": self.aq}
        counts = {"TP": self.tp, "FP": self.fp, "FN": self.fn, "tubes": self.tubes}
        return {"thing": self.is_thing, **{name: _known(value) for name, value in quality.items()}, **counts}


@dataclass(frozen=True)
class Report:
    """What an evaluation found. Every number is in 0..1; NaN (null in JSON) where nothing could be measured.

    Attributes:
        protocol: whose rules decided where the benchmarks differ.
        stq, aq, sq: STQ and its two factors, over all tubes and pixels of all sequences.
        miou: mean IoU of the classes that occur; unlike `sq` never with void as a class.
        pq: panoptic quality over all frames.
        sequences, classes: the same for each sequence and class, by name.
        frames, tubes: how much was measured.
    """

    protocol: str
    taxonomy: str
    stq: float
    aq: float
    sq: float
    miou: float
    pq: PanopticQuality
    sequences: Mapping[str, SequenceReport]
    classes: Mapping[str, ClassReport]
    frames: int
    tubes: int

    @property
    def void_note(self) -> str:
        """One sentence where SQ is lower than the classes' mean IoU, since people take the two for the same."""
        if not self.sq < self.miou:
            return ""
        return "SQ counts predicted void on labelled pixels as one more class, of IoU 0, as deeplab2 does; mIoU not."

    def to_json(self) -> dict:
        """The `--json` of `vps-ros evaluate`."""
        return {
            "protocol": self.protocol,
            **_stq_json(self),
            "PQ": _pq_json(self.pq),
            "mIoU": _known(self.miou),
            "per_sequence": {name: one.to_json() for name, one in self.sequences.items()},
            "per_class": {name: one.to_json() for name, one in self.classes.items()},
        }


class Evaluator:
    """Streaming evaluation: give it every frame, then ask for the result. It keeps counts only, no frame.

    Evaluators of different frames merge exactly: the same numbers to the last digit, however the frames were split; by
    protocol `vipseg` the parts of one sequence must merge in their order.

    Args:
        taxonomy: decides what is a thing.
        protocol: see `vps_ros.evaluation.stq.PROTOCOLS`.
    """

    def __init__(self, taxonomy: Taxonomy = KITTI_STEP, protocol: str = "deeplab2") -> None:
        if protocol not in PROTOCOLS:
            raise InputError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        self.taxonomy = taxonomy
        self.protocol = protocol
        self.classes = Classes(taxonomy)
        self._sequences: dict[str, _Sequence] = {}

    def update(
        self,
        sequence: str,
        gt_semantic: NDArray[np.integer],
        gt_instance: NDArray[np.integer],
        pred_semantic: NDArray[np.integer],
        pred_instance: NDArray[np.integer],
        gt_where: object = "ground truth",
        pred_where: object = "prediction",
    ) -> FrameQuality:
        """Takes in the next frame of a sequence; arguments and errors as in `vps_ros.evaluation.overlaps.overlaps`."""
        maps = gt_semantic, gt_instance, pred_semantic, pred_instance
        return self.add(sequence, overlaps(self.classes, *maps, gt_where, pred_where))

    def add(self, sequence: str, table: Overlaps) -> FrameQuality:
        """Takes in the next frame of a sequence by its overlap table, made with `self.classes`."""
        frame = _Sequence(self.classes, self.protocol)
        frame.confusion.update(table)
        frame.panoptic.update(match(self.classes, table))
        quality = FrameQuality(frame.panoptic.result().all, frame.confusion.mean_iou())
        frame.association.update(table)
        frame.frames = 1
        self._of(sequence).merge(frame)
        return quality

    def merge(self, other: Evaluator) -> None:
        """Takes in what another evaluator of the same taxonomy and protocol has counted on other frames."""
        if (other.taxonomy, other.protocol) != (self.taxonomy, self.protocol):
            raise InputError("evaluations with different taxonomies or protocols cannot be merged")
        for name, sequence in other._sequences.items():
            self._of(name).merge(sequence)

    def result(self) -> Report:
        """Raises InputError when no frame was given."""
        if not self._sequences:
            raise InputError("nothing to evaluate: no frame was given")
        total = _Sequence(self.classes, self.protocol)
        by_class: dict[int, list[AssociationQuality]] = {}
        sequences = dict(sorted(self._sequences.items()))
        for sequence in sequences.values():
            total.merge(sequence, association=False)
            for column, quality in sequence.association.by_class().items():
                by_class.setdefault(column, []).append(quality)
        association = AssociationQuality.add(s.association.result() for s in sequences.values())
        whole = total.report(association)
        return Report(
            protocol=self.protocol,
            taxonomy=self.taxonomy.name,
            stq=whole.stq,
            aq=whole.aq,
            sq=whole.sq,
            miou=whole.miou,
            pq=whole.pq,
            sequences={name: s.report(s.association.result()) for name, s in sequences.items()},
            classes=self._class_reports(whole.pq, total.confusion.class_iou(), by_class),
            frames=whole.frames,
            tubes=whole.tubes,
        )

    def _class_reports(
        self, pq: PanopticQuality, iou: NDArray[np.float64], association: dict[int, list[AssociationQuality]]
    ) -> dict[str, ClassReport]:
        reports = {}
        for i, info in enumerate(self.taxonomy.classes):
            tubes = AssociationQuality.add(association.get(i, ()))
            reports[info.name] = ClassReport(
                is_thing=info.isthing,
                color=info.color,
                iou=float(iou[i]),
                pq=float(pq.pq[i]),
                sq=float(pq.sq[i]),
                rq=float(pq.rq[i]),
                aq=tubes.mean if tubes.tubes else float("nan"),
                tp=int(pq.tp[i]),
                fp=int(pq.fp[i]),
                fn=int(pq.fn[i]),
                tubes=tubes.tubes,
            )
        return reports

    def _of(self, sequence: str) -> _Sequence:
        if sequence not in self._sequences:
            self._sequences[sequence] = _Sequence(self.classes, self.protocol)
        return self._sequences[sequence]


class _Sequence:
    """The counts of one sequence, of a part of it, or, but for the tubes, of all."""

    def __init__(self, classes: Classes, protocol: str) -> None:
        self.confusion = Confusion(classes)
        self.association = Association(classes, protocol)
        self.panoptic = PanopticCounts(classes)
        self.frames = 0

    def merge(self, other: _Sequence, association: bool = True) -> None:
        self.confusion.merge(other.confusion)
        self.panoptic.merge(other.panoptic)
        self.frames += other.frames
        # Tubes end with their sequence: the same id in another one is another object.
        if association:
            self.association.merge(other.association)

    def report(self, association: AssociationQuality) -> SequenceReport:
        sq = self.confusion.segmentation_quality()
        return SequenceReport(
            frames=self.frames,
            tubes=association.tubes,
            stq=segmentation_and_tracking_quality(association.mean, sq),
            aq=association.mean,
            sq=sq,
            miou=self.confusion.mean_iou(),
            pq=self.panoptic.result(),
        )


def _stq_json(report: Report | SequenceReport) -> dict:
    return {"STQ": _known(report.stq), "AQ": _known(report.aq), "SQ": _known(report.sq)}


def _pq_json(pq: PanopticQuality) -> dict:
    return {"all": _known(pq.all), "things": _known(pq.things), "stuff": _known(pq.stuff)}


def _known(value: float) -> float | None:
    return None if value != value else value
