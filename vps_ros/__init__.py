"""Online video panoptic segmentation for robots: every pixel a class, every object a lasting identity."""

from __future__ import annotations

import importlib
from pkgutil import extend_path
from typing import TYPE_CHECKING

# The ROS build generates `vps_ros.msg` in another folder; this lets it be found beside the source tree.
__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"

if TYPE_CHECKING:
    from vps_ros.config import Config
    from vps_ros.errors import DroppedFrame, InputError
    from vps_ros.frame import Frame, PanopticFrame, Segment, Segmentation, Track
    from vps_ros.online import OnlinePanoptic

_HOMES = {
    "Config": "config",
    "DroppedFrame": "errors",
    "Frame": "frame",
    "InputError": "errors",
    "OnlinePanoptic": "online",
    "PanopticFrame": "frame",
    "Segment": "frame",
    "Segmentation": "frame",
    "Track": "frame",
}

__all__ = [
    "Config",
    "DroppedFrame",
    "Frame",
    "InputError",
    "OnlinePanoptic",
    "PanopticFrame",
    "Segment",
    "Segmentation",
    "Track",
]


def __getattr__(name: str):
    # Loaded on first use: a command that only needs a part should not wait for OpenCV and ONNX Runtime.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
