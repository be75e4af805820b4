"""All metrics of a data set in one pass over its frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import ANY_SIZE, LabelMap, MinimumSize
from vps_ros.errors import InputError
from vps_ros.evaluation.counts import Compared, FrameCounts, VideoCounts
from vps_ros.evaluation.identity import IdentityQuality
from vps_ros.evaluation.identity import available as identities_available
from vps_ros.evaluation.overlaps import Classes, overlaps
from vps_ros.evaluation.protocols import DEFAULT, Protocol, protocol_of
from vps_ros.evaluation.results import ClassReport, FrameQuality, Quality, Report, SequenceReport
from vps_ros.evaluation.stq import Association, AssociationQuality, segmentation_and_tracking_quality
from vps_ros.evaluation.vc import VideoConsistency
from vps_ros.evaluation.vpq import VideoPanoptic, VideoPanopticQuality
from vps_ros.files import natural_key
from vps_ros.taxonomy import KITTI_STEP, Taxonomy

NO_VPQ = VideoPanopticQuality("", {})
"""Of an evaluation that was not asked for it."""


class Evaluator:
    """Streaming evaluation: give it every frame, then ask for the result.

    It keeps counts, and of each sequence that is not finished a few maps and tables at either end. Evaluators of
    different frames merge exactly, to the last digit, however the frames were split: sequences in any order, parts of
    one sequence in theirs.

    Args:
        taxonomy: decides what is a thing.
        protocol: see `vps_ros.evaluation.protocols.PROTOCOLS`.
        video: measure VPQ, VC, identities and life lines too, which take most of the time.
        smallest: true things below that size are void.
    """

    def __init__(
        self,
        taxonomy: Taxonomy = KITTI_STEP,
        protocol: str = DEFAULT,
        video: bool = True,
        smallest: MinimumSize = ANY_SIZE,
    ) -> None:
        self.rules = replace(protocol_of(protocol), smallest=smallest)
        self.taxonomy = taxonomy
        self.classes = Classes(taxonomy, smallest)
        self._video = video
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
        gt, pred = LabelMap(gt_semantic, gt_instance), LabelMap(pred_semantic, pred_instance)
        return self.add(sequence, compare(self.classes, gt, pred, gt_where, pred_where))

    def add(self, sequence: str, frame: Compared) -> FrameQuality:
        """Takes in the next frame of a sequence, compared with `self.classes`.

        Raises InputError when its size is not that of the frames before, or the sequence is finished.
        """
        try:
            return self._of(sequence).update(frame)
        except InputError as error:
            raise InputError(f"sequence {sequence}: {error}") from None

    def finish(self, sequence: str) -> None:
        """No frame of this sequence follows: lets go of what only they would need."""
        self._of(sequence).finish()

    def merge(self, other: Evaluator) -> None:
        """Takes in what another evaluator of the same taxonomy and protocol has counted.

        What it has of a sequence that this one has too follows in time. Neither may have finished such a sequence.
        """
        if (other.taxonomy, other.rules, other._video) != (self.taxonomy, self.rules, self._video):
            raise InputError("evaluations with different taxonomies or protocols cannot be merged")
        for name, sequence in other._sequences.items():
            self._of(name).extend(sequence)

    def result(self) -> Report:
        """Raises InputError when no frame was given."""
        if not self._sequences:
            raise InputError("nothing to evaluate: no frame was given")
        sequences = dict(sorted(self._sequences.items(), key=lambda one: natural_key(Path(one[0]))))
        reports = {name: s.report() for name, s in sequences.items()}
        counts = FrameCounts(self.classes, self.rules)
        vpq, vc = VideoPanoptic(self.classes, self.rules.vpq), VideoConsistency()
        for sequence in sequences.values():
            counts.merge(sequence.counts)
            if sequence.video:
                vpq.merge(sequence.video.vpq)
                vc.merge(sequence.video.vc)
        identities = [report.identity for report in reports.values() if report.identity]
        whole = _quality(
            counts,
            AssociationQuality.add(s.association.result() for s in sequences.values()),
            vpq.result() if self._video else NO_VPQ,
            vc.result() if self._video else {},
            IdentityQuality.add(identities) if identities else None,
        )
        return Report(
            **vars(whole),
            rules=self.rules,
            taxonomy=self.taxonomy.name,
            sequences=reports,
            classes=self._class_reports(whole, counts.confusion.class_iou()),
            confusion=counts.confusion.counts,
        )

    def _class_reports(self, whole: Quality, iou: NDArray[np.float64]) -> dict[str, ClassReport]:
        reports, pq = {}, whole.pq
        vpq = whole.vpq.by_class if whole.vpq.windows else np.full(len(iou), np.nan)
        association: dict[int, list[AssociationQuality]] = {}
        for sequence in self._sequences.values():
            for column, quality in sequence.association.by_class().items():
                association.setdefault(column, []).append(quality)
        for i, info in enumerate(self.taxonomy.classes):
            tubes = AssociationQuality.add(association.get(i, ()))
            reports[info.name] = ClassReport(
                is_thing=info.isthing,
                color=info.color,
                iou=float(iou[i]),
                pq=float(pq.pq[i]),
                sq=float(pq.sq[i]),
                rq=float(pq.rq[i]),
                vpq=float(vpq[i]),
                aq=tubes.mean if tubes.tubes else float("nan"),
                tp=int(pq.tp[i]),
                fp=int(pq.fp[i]),
                fn=int(pq.fn[i]),
                tubes=tubes.tubes,
            )
        return reports

    def _of(self, sequence: str) -> _Sequence:
        if sequence not in self._sequences:
            video = VideoCounts(self.classes, self.rules, identities_available()) if self._video else None
            self._sequences[sequence] = _Sequence(self.classes, self.rules, video)
        return self._sequences[sequence]


def compare(classes: Classes, gt: LabelMap, pred: LabelMap, gt_where: object, pred_where: object) -> Compared:
    """One frame as `Evaluator.add` takes it; needs no evaluator, so that threads can do it ahead.

    Names and errors as in `vps_ros.evaluation.overlaps.overlaps`.
    """
    gt = LabelMap(*classes.smallest.void_small(*gt, classes.taxonomy))
    return Compared(overlaps(classes, *gt, *pred, gt_where, pred_where), gt.semantic, pred.semantic)


class _Sequence:
    """The counts of one sequence, or of a part of it. Tubes end with it: the same id elsewhere is another object."""

    def __init__(self, classes: Classes, rules: Protocol, video: VideoCounts | None) -> None:
        self.counts, self.association, self.video = FrameCounts(classes, rules), Association(classes, rules.stq), video

    def update(self, frame: Compared) -> FrameQuality:
        if self.video:
            self.video.update(frame)
        self.association.update(frame.table)
        return self.counts.update(frame.table)

    def extend(self, later: _Sequence) -> None:
        if self.video and later.video:
            self.video.extend(later.video)
        self.association.merge(later.association)
        self.counts.merge(later.counts)

    def finish(self) -> None:
        if self.video:
            self.video.finish()

    def report(self) -> SequenceReport:
        association = self.association.result()
        if not self.video:
            return SequenceReport(**vars(_quality(self.counts, association, NO_VPQ, {}, None)))
        identity = self.video.identity.result() if self.video.identity else None
        quality = _quality(self.counts, association, self.video.vpq.result(), self.video.vc.result(), identity)
        return SequenceReport(**vars(quality), lines=self.video.lines.result())


def _quality(
    counts: FrameCounts,
    association: AssociationQuality,
    vpq: VideoPanopticQuality,
    vc: dict[int, float],
    identity: IdentityQuality | None,
) -> Quality:
    sq = counts.confusion.segmentation_quality()
    return Quality(
        frames=counts.frames,
        tubes=association.tubes,
        stq=segmentation_and_tracking_quality(association.mean, sq),
        aq=association.mean,
        sq=sq,
        vpq=vpq,
        pq=counts.panoptic.result(),
        miou=counts.mean_iou(),
        vc=vc,
        identity=identity,
    )
