"""The default tracker: masks, location, appearance and class of every track are compared in one assignment.

It combines HybridTracker's masks of two frames with the memory of Video-kMaX's HiLA-MB; docs/tracking.md explains it.
Each frame has four steps, each in a file of its own: predict, compare, assign, update.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.flow.flow import FlowParameters
from vps_ros.flow.history import FlowHistory
from vps_ros.frame import Frame, Segmentation
from vps_ros.parameters import fraction, parameter
from vps_ros.trackers.colour_histogram import colour_histograms
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.hierarchical.assign import assign
from vps_ros.trackers.hierarchical.compare import COLUMNS, compare
from vps_ros.trackers.hierarchical.predict import camera_motion
from vps_ros.trackers.hierarchical.update import HierarchicalMemory
from vps_ros.trackers.masks import MaskHistory, Masks
from vps_ros.trackers.match_scorer import MAX_LOG_ODDS, MatchScorer, shipped_scorer
from vps_ros.trackers.tracker import Matches, Tracker, TrackerParameters, memory_tau, tentative_tau


@dataclass(frozen=True)
class HierarchicalParameters(FlowParameters, TrackerParameters):
    """Parameters of the default tracker."""

    association_threshold: float = fraction(
        0.4,
        "least probability that a detection and a track are one object",
        "between 0.33 and 0.5, hardly different on generated streets",
    )
    appearance_weight: float = fraction(
        0.3, "weight of the newest embedding in a track's moving average", "chosen; varied in docs/ablation.md"
    )
    velocity_weight: float = parameter(
        0.5,
        "least weight of the newest velocity in a track's moving average, the camera's motion subtracted",
        low=0.01,
        high=1,
        live=True,
        source="chosen, not measured",
    )
    tube_weight: float = parameter(
        0.5,
        "log-odds added where a detection has the tube of a track, with clips of several frames",
        low=0,
        high=MAX_LOG_ODDS,
        live=True,
        source="chosen on generated streets; 0 to 1 hardly differ, larger ones are worse",
    )
    memory_tau: float = memory_tau(30.0, "chosen; varied in docs/ablation.md")
    tentative_tau: float = tentative_tau(6.0, "chosen, not measured")


class Hierarchical(Tracker):
    """The default tracker.

    Args:
        scorer: the learned network that scores pairs; None takes the shipped one.
    """

    Parameters = HierarchicalParameters
    Memory = HierarchicalMemory
    uses_flow = uses_embeddings = True
    matches_tubes = False
    memory: HierarchicalMemory
    flow: FlowHistory

    def __init__(
        self,
        parameters: HierarchicalParameters | None = None,
        model: str | None = None,
        scorer: MatchScorer | None = None,
    ) -> None:
        super().__init__(parameters, model)
        self._masks = MaskHistory(self.flow)
        self._scorer = shipped_scorer("hierarchical", COLUMNS) if scorer is None else scorer
        self._last_stamp: int | None = None

    def reset(self) -> None:
        super().reset()
        self._masks.reset()
        self._last_stamp = None

    def _observe(self, frame: Frame, segmentation: Segmentation, detections: Detections) -> None:
        previous = self._masks.now
        self._masks.push(frame, segmentation, detections)
        self._predict(previous, int(frame.stamp), detections)
        # At the working size, where it takes less time and the image has less noise.
        wanted = np.ones(len(detections), bool)
        colours = colour_histograms(self.flow.image, self._masks.now.labels, wanted, self._masks.areas)
        self.memory.observe(detections, colours)

    def _predict(self, previous: Masks, stamp: int, detections: Detections) -> None:
        """Moves the box of each track into the current frame: by the camera's motion and by the track's own."""
        now = self._masks.now
        flow = self.flow.backward(1) if len(self.memory) else None
        self.camera_motion = None
        if flow is not None and previous.labels.shape == now.labels.shape:
            self.camera_motion = camera_motion(flow, now.labels, previous.labels)
        seconds = 0.0 if self._last_stamp is None else max(stamp - self._last_stamp, 0) * 1e-9
        self._last_stamp = stamp
        self.memory.move(self.camera_motion, seconds, detections.size)

    def associate(self, detections: Detections, stamp: int) -> Matches:
        pairs = compare(self.memory, self._masks, detections, stamp, self._tubes.tracks, self._tubes.detections)
        if not len(pairs.m):
            return Matches()
        log_odds = self._scorer(pairs.features, pairs.m, pairs.k)
        if detections.tubes is not None:
            # The network that makes a tube may confuse two objects, so that a tube is evidence and decides nothing.
            tube = detections.tubes.take(pairs.k)
            log_odds += self.parameters.tube_weight * ((tube > 0) & (self.memory.rows["tube"].take(pairs.m) == tube))
        return assign(pairs, log_odds, self.parameters.association_threshold)

    def _set_ids(self, ids: NDArray[np.int64]) -> None:
        self._masks.set_ids(ids)
