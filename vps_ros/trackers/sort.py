"""SORT (Bewley et al., ICIP 2016): box IoU with the boxes that a Kalman filter predicts.

One of the single-frame baselines of STEP (Weber et al., NeurIPS 2021; Video K-Net table 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vps_ros.frame import AssociatedBy
from vps_ros.parameters import parameter
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.kalman import KalmanMemory
from vps_ros.trackers.similarity import box_iou
from vps_ros.trackers.tracker import Matches, Tracker, TrackerParameters, matched, memory_tau


@dataclass(frozen=True)
class SortParameters(TrackerParameters):
    """Parameters of SORT."""

    iou_threshold: float = parameter(
        0.3,
        "least intersection over union of a predicted box and a detection",
        low=0,
        high=1,
        live=True,
        source="SORT, released code",
    )
    memory_tau: float = memory_tau(10.0, "as the other baselines of STEP; SORT itself forgets after 1")


class Sort(Tracker):
    """SORT. Matched tracks are updated by the Kalman filter, unmatched detections become new tracks (III-C, III-D)."""

    Parameters = SortParameters

    def __init__(self, parameters: SortParameters | None = None, model: str | None = None) -> None:
        super().__init__(parameters, model, KalmanMemory())

    def associate(self, detections: Detections, stamp: int) -> Matches:
        # Predict the box of each track in the current frame (III-B).
        predicted = self.memory.predict(stamp)
        # Compare with all detections; pairs below the threshold and pairs of different classes are rejected (III-C).
        iou = box_iou(predicted, detections.boxes)
        same_class = self.memory.rows["class_id"][:, None] == detections.class_ids
        m, k = np.nonzero((iou >= self.parameters.iou_threshold) & (iou > 0) & same_class)
        # Optimal one-to-one assignment (Hungarian algorithm).
        best = hungarian(m, k, iou[m, k])
        return matched(m[best], k[best], iou[m, k][best], AssociatedBy.MEMORY)
