"""Two images -> dense optical flow."""

from vps_ros.flow.dis import PRESETS, DisFlow, FlowParameters, WorkingSizeParameters
from vps_ros.flow.history import FlowHistory, compose, pull, warp_labels

__all__ = [
    "PRESETS",
    "DisFlow",
    "FlowHistory",
    "FlowParameters",
    "WorkingSizeParameters",
    "compose",
    "pull",
    "warp_labels",
]
