"""The topics that a panoptic frame becomes: their names and types, and the message of each. Knows no transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import PanopticFrame
from vps_ros.messages import panoptic
from vps_ros.taxonomy import Taxonomy

OUTPUTS = {
    "tracks": "vps_ros/msg/TrackedObjects",
    "segments": "vps_ros/msg/PanopticSegments",
    "detections": "vision_msgs/msg/Detection2DArray",
    "panoptic": "sensor_msgs/msg/Image",
    "panoptic_ids": "sensor_msgs/msg/Image",
    "overlay": "sensor_msgs/msg/Image",
}
"""Name -> type, small ones first: what is published first arrives first."""
LABEL_INFO, LABEL_INFO_TYPE = "label_info", "vision_msgs/msg/LabelInfo"
"""Said once, with the first frame, to whoever listens then or later."""


def output(
    name: str, frame: PanopticFrame, taxonomy: Taxonomy, messages: Any, draw: Callable[[], NDArray[np.uint8]]
) -> Any:
    """The message of one of OUTPUTS, or LABEL_INFO.

    Args:
        messages: makes the messages of a host (typestore.BagMessages, or the node's own).
        draw: gives the picture, uint8 [H, W, 3]; called for `overlay` alone.
    """
    if name == "overlay":
        return panoptic.overlay(frame, draw(), messages)
    if name == LABEL_INFO:
        return panoptic.label_info(frame.stamp, frame.frame_id, taxonomy, messages)
    make = getattr(panoptic, name)
    return make(frame, messages) if OUTPUTS[name] == "sensor_msgs/msg/Image" else make(frame, taxonomy, messages)
