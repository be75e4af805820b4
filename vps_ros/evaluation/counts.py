"""Everything that is counted of one sequence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.confusion import Confusion
from vps_ros.evaluation.identity import Identity
from vps_ros.evaluation.lifelines import LifeLines
from vps_ros.evaluation.overlaps import Classes, Overlaps
from vps_ros.evaluation.pq import PanopticCounts, match
from vps_ros.evaluation.protocols import Protocol
from vps_ros.evaluation.results import FrameQuality
from vps_ros.evaluation.vc import VideoConsistency
from vps_ros.evaluation.vpq import VideoPanoptic


class Compared(NamedTuple):
    """A frame as the metrics take it: its overlap table, and the class maps, integer [H, W]."""

    table: Overlaps
    gt_semantic: NDArray[np.integer]
    pred_semantic: NDArray[np.integer]


class FrameCounts:
    """What single frames tell: PQ, and the confusion of classes. Streaming: update, merge."""

    def __init__(self, classes: Classes, protocol: Protocol) -> None:
        self._classes = classes
        self._only_true = protocol.miou == "vspw"
        self.confusion = Confusion(classes)
        self.panoptic = PanopticCounts(classes)
        self.frames = 0

    def update(self, table: Overlaps) -> FrameQuality:
        confusion, panoptic = Confusion(self._classes), PanopticCounts(self._classes)
        confusion.update(table)
        panoptic.update(match(self._classes, table))
        self.confusion.merge(confusion)
        self.panoptic.merge(panoptic)
        self.frames += 1
        return FrameQuality(panoptic.result().all, confusion.mean_iou(self._only_true))

    def mean_iou(self) -> float:
        return self.confusion.mean_iou(self._only_true)

    def merge(self, other: FrameCounts) -> None:
        self.confusion.merge(other.confusion)
        self.panoptic.merge(other.panoptic)
        self.frames += other.frames


class VideoCounts:
    """What needs the frames in their order: VPQ, VC, identities and life lines. Streaming: update, extend, finish.

    Args:
        identity: count IDF1, HOTA, MOTA and IDSW, which need TrackEval.
    """

    def __init__(self, classes: Classes, protocol: Protocol, identity: bool) -> None:
        self.vpq = VideoPanoptic(classes, protocol.vpq)
        self.vc = VideoConsistency()
        self.lines = LifeLines(classes)
        self.identity = Identity(classes) if identity else None

    def update(self, frame: Compared) -> None:
        # First what may refuse the frame, before anything has counted it.
        self.vc.update(frame.gt_semantic, frame.pred_semantic)
        self.vpq.update(frame.table)
        self.lines.update(frame.table)
        if self.identity:
            self.identity.update(frame.table)

    def extend(self, later: VideoCounts) -> None:
        """Adds the part of the same sequence that follows this one."""
        self.vc.extend(later.vc)
        self.vpq.extend(later.vpq)
        self.lines.merge(later.lines)
        if self.identity and later.identity:
            self.identity.merge(later.identity)

    def finish(self) -> None:
        """Lets go of what only further frames of the sequence would need."""
        self.vc.finish()
