"""Segmentation -> identities."""

from __future__ import annotations

from collections.abc import Callable

from vps_ros.config import Config
from vps_ros.trackers.contract import Tracker
from vps_ros.trackers.hierarchical import hierarchical
from vps_ros.trackers.hybrid import hybrid, instance, pixel
from vps_ros.trackers.quasi_dense import quasi_dense
from vps_ros.trackers.step import iou, mask_propagation, sort
from vps_ros.trackers.video_kmax import appearance, hila_mb, location

__all__ = ["MAKERS", "Tracker", "make_tracker"]

MAKERS: dict[str, Callable[[Config], Tracker]] = {
    "hierarchical": hierarchical,
    "location": location,
    "appearance": appearance,
    "hila_mb": hila_mb,
    "iou": iou,
    "sort": sort,
    "mask_propagation": mask_propagation,
    "quasi_dense": quasi_dense,
    "pixel": pixel,
    "instance": instance,
    "hybrid": hybrid,
}
"""Each takes a settled Config."""


def make_tracker(config: Config) -> Tracker:
    """The tracker that `config.tracker` names, with the parameters of `config`, its own values where they are -1."""
    return MAKERS[config.tracker](config.settled())
