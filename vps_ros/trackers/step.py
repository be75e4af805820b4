"""The single-frame baselines of STEP (Weber et al., NeurIPS 2021; Video K-Net table 2)."""

from __future__ import annotations

from vps_ros.config import Config
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.kalman import KalmanMemory
from vps_ros.trackers.memory import Memory
from vps_ros.trackers.propagation import Propagation
from vps_ros.trackers.stages import BoxStage, MaskStage


def iou(config: Config) -> Tracker:
    """Mask IoU with the last mask of each object, where it was."""
    return _by_masks(config, Propagation(parts.dis(config).working_size))


def mask_propagation(config: Config) -> Tracker:
    """Mask IoU with the last mask of each object, moved from frame to frame by optical flow."""
    return _by_masks(config, Propagation(parts.dis(config).working_size, parts.flow(config)))


def sort(config: Config) -> Tracker:
    """Box IoU with the box that a Kalman filter predicts (Bewley et al., ICIP 2016)."""
    return CascadeTracker(
        lambda config: ([BoxStage(config.iou_threshold)], parts.lifecycle(config)),
        config,
        KalmanMemory(),
        uses_embeddings=False,
    )


def _by_masks(config: Config, masks: Propagation) -> Tracker:
    return CascadeTracker(
        lambda config: ([MaskStage(masks, config.iou_threshold)], parts.lifecycle(config)),
        config,
        Memory(),
        masks,
        uses_embeddings=False,
    )
