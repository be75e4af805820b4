"""All metrics of a data set in one pass over its frames."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import ANY_SIZE, LabelMap, MinimumSize
from vps_ros.errors import InputError
from vps_ros.evaluation.confusion import Confusion
from vps_ros.evaluation.identity import Identity
from vps_ros.evaluation.metric import DEFAULT, ComparedFrame, Metric, Rules, protocol_of
from vps_ros.evaluation.overlaps import Classes, overlaps
from vps_ros.evaluation.pq import PanopticCounts
from vps_ros.evaluation.results import FrameQuality, Quality, Report, SequenceReport, class_reports
from vps_ros.evaluation.stq import SegmentationTracking
from vps_ros.evaluation.timelines import Timelines
from vps_ros.evaluation.vc import VideoConsistency
from vps_ros.evaluation.vpq import VideoPanoptic
from vps_ros.files import natural_key
from vps_ros.taxonomy import KITTI_STEP, Taxonomy

METRICS: dict[str, type[Metric]] = {
    "STQ": SegmentationTracking,
    "VPQ": VideoPanoptic,
    "PQ": PanopticCounts,
    "mIoU": Confusion,
    "VC": VideoConsistency,
    "identity": Identity,
}
"""The metrics of an evaluation, in the order of the tables. A new metric is one file and one line here."""
_PACKAGES = ("vps_ros.evaluation.", "vps_ros.taxonomy", "vps_ros.datasets.labels")
"""Modules of the classes in the state of an evaluator."""
_OTHERS = {
    ("collections", "Counter"),
    ("collections", "deque"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class Evaluator:
    """Streaming evaluation: give it each frame, then ask for the result.

    It keeps counts, and for each sequence that is not finished a few maps and tables. Evaluators of different frames
    merge to exactly the result of one evaluator, whatever the split: sequences in any order, parts of one sequence in
    the order of time.

    Args:
        taxonomy: decides what is a thing.
        protocol: one of `vps_ros.evaluation.metric.PROTOCOLS`.
        video: measure VPQ, VC, identities and timelines too, which take most of the time.
        smallest: ground-truth things below that size are void.
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
        """Counts the next frame of a sequence; arguments and errors as in `vps_ros.evaluation.overlaps.overlaps`."""
        gt, pred = LabelMap(gt_semantic, gt_instance), LabelMap(pred_semantic, pred_instance)
        return self.add(sequence, compare(self.classes, gt, pred, gt_where, pred_where))

    def add(self, sequence: str, frame: ComparedFrame) -> FrameQuality:
        """Counts the next frame of a sequence, compared with `self.classes`.

        Raises InputError when its size differs from the frames before, or the sequence is finished.
        """
        try:
            return self._sequence(sequence).add(frame)
        except InputError as error:
            raise InputError(f"sequence {sequence}: {error}") from None

    def finish(self, sequence: str, timelines: bool = True) -> None:
        """Releases what only further frames of this sequence would need. No frame of it can follow.

        Args:
            timelines: keep the timelines of its things too, the only part that grows with the length of a sequence.
        """
        self._sequence(sequence).finish(timelines)

    def merge(self, other: Evaluator) -> None:
        """Adds the counts of another evaluator with the same arguments, which must not be used afterwards.

        Its part of a sequence that both have follows in time. Neither may have finished such a sequence.
        """
        if (other.taxonomy, other.rules, other._video) != (self.taxonomy, self.rules, self._video):
            raise InputError("evaluations with different taxonomies or protocols cannot be merged")
        for name, sequence in other._sequences.items():
            if name in self._sequences:
                self._sequences[name].extend(sequence)
            else:
                self._sequences[name] = sequence

    def result(self) -> Report:
        """Raises InputError when no frame was given."""
        if not self._sequences:
            raise InputError("nothing to evaluate: no frame was given")
        sequences = dict(sorted(self._sequences.items(), key=lambda one: natural_key(Path(one[0]))))
        quality = _quality(list(sequences.values()))
        return Report(
            **vars(quality),
            rules=self.rules,
            taxonomy=self.taxonomy.name,
            sequences={name: sequence.report() for name, sequence in sequences.items()},
            classes=class_reports(self.taxonomy, quality),
        )

    def _sequence(self, name: str) -> _Sequence:
        if name not in self._sequences:
            self._sequences[name] = _Sequence(self.classes, self.rules, self._video)
        return self._sequences[name]


def compare(classes: Classes, gt: LabelMap, pred: LabelMap, gt_where: object, pred_where: object) -> ComparedFrame:
    """The argument of `Evaluator.add`; needs no evaluator, so that threads can compute it in advance.

    Arguments and errors as in `vps_ros.evaluation.overlaps.overlaps`.
    """
    gt = LabelMap(*classes.smallest.void_small(*gt, classes.taxonomy))
    return ComparedFrame(overlaps(classes, *gt, *pred, gt_where, pred_where), gt.semantic, pred.semantic)


class _Sequence:
    """The metrics of one sequence, or of a part of it. The same id in another sequence is another object."""

    def __init__(self, classes: Classes, rules: Rules, video: bool) -> None:
        self.frames = 0
        self.metrics: dict[str, Metric] = {}
        self.unmeasured: dict[str, Any] = {}
        self.timelines = Timelines(classes) if video else None
        for name, kind in METRICS.items():
            metric = kind.create(classes, rules) if video or not kind.needs_order else None
            if metric:
                self.metrics[name] = metric
            else:
                self.unmeasured |= kind.unmeasured

    def add(self, frame: ComparedFrame) -> FrameQuality:
        for metric in self.metrics.values():
            metric.check(frame)
        for metric in self.metrics.values():
            metric.add(frame)
        if self.timelines:
            self.timelines.update(frame.table)
        self.frames += 1
        panoptic: Any = self.metrics["PQ"]
        confusion: Any = self.metrics["mIoU"]
        return FrameQuality(panoptic.last.all, confusion.last.mean_iou)

    def extend(self, later: _Sequence) -> None:
        for name, metric in self.metrics.items():
            metric.extend(later.metrics[name])
        if self.timelines and later.timelines:
            self.timelines.extend(later.timelines)
        self.frames += later.frames

    def finish(self, timelines: bool) -> None:
        for metric in self.metrics.values():
            metric.finish()
        if not timelines:
            self.timelines = None

    def report(self) -> SequenceReport:
        timelines = self.timelines.result() if self.timelines else ()
        return SequenceReport(**vars(_quality([self])), timelines=timelines)


def _quality(sequences: Sequence[_Sequence]) -> Quality:
    first = sequences[0]
    results: Mapping[str, Any] = {
        name: METRICS[name].total([one.metrics[name] for one in sequences]) for name in first.metrics
    }
    return Quality(sum(one.frames for one in sequences), results, first.unmeasured)


def dump_counts(evaluator: Evaluator) -> bytes:
    """The state of an evaluator, for merging in another process; finished sequences take little space."""
    return pickle.dumps(evaluator, protocol=5)


def load_counts(data: bytes, where: object) -> Evaluator:
    """The evaluator of `dump_counts`, by the same version of this package.

    Raises InputError, with `where`, for anything else. No code in `data` is run.
    """
    try:
        found = _Unpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise InputError(f"{where}: not the counts of an evaluation by this version ({error})") from None
    if not isinstance(found, Evaluator):
        raise InputError(f"{where}: not the counts of an evaluation")
    return found


class _Unpickler(pickle.Unpickler):
    """Makes objects of known classes only: pickles from a store that others write to could call any function."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _OTHERS:
            return super().find_class(module, name)
        if module.startswith(_PACKAGES) and module in sys.modules and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of counts")
