"""Two images -> dense optical flow."""

from vps_ros.flow.dis import DisFlow
from vps_ros.flow.flow import FLOWS, PRESETS, Flow, FlowParameters, WorkingSizeParameters, make_flow, working_size
from vps_ros.flow.history import FlowHistory, compose, pull, warp_labels

__all__ = [
    "FLOWS",
    "PRESETS",
    "DisFlow",
    "Flow",
    "FlowHistory",
    "FlowParameters",
    "WorkingSizeParameters",
    "compose",
    "make_flow",
    "pull",
    "warp_labels",
    "working_size",
]
