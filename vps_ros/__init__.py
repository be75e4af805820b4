"""Online video panoptic segmentation: a class for every pixel, a lasting identity for every object.

The names below are the public API; docs/python.md explains them.

    import vps_ros as vps

    pipeline = vps.OnlinePanoptic()
    with vps.VideoWriter("tracked.mp4") as out:
        for frame in vps.open_frames("drive.mp4"):
            result = pipeline.step(frame)
            out.write(vps.draw(frame, result))
"""

from __future__ import annotations

import importlib
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

# The ROS build generates `vps_ros.msg` in another folder; this lets it be found beside the source tree.
__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"

if TYPE_CHECKING:
    from vps_ros.config import Config
    from vps_ros.depth.locator import ObjectLocator
    from vps_ros.drawing.overlay import draw
    from vps_ros.drawing.video import VideoWriter
    from vps_ros.errors import DroppedFrame, InputError
    from vps_ros.evaluation.evaluator import Evaluator
    from vps_ros.frame import AssociatedBy, Frame, PanopticFrame, Segment, Segmentation, Track, TrackState
    from vps_ros.frame_3d import DepthImage, Intrinsics, Object3D, Objects3D
    from vps_ros.online import OnlinePanoptic
    from vps_ros.recording.frames import FrameSource, open_frames
    from vps_ros.recording.writer import BagWriter
    from vps_ros.segmenters import Segmenter, load_segmenter, segmentation_from_map, segmentation_from_masks
    from vps_ros.taxonomy import ClassInfo, Taxonomy
    from vps_ros.trackers import Tracker, make_tracker

_MODULES = {
    "config": ("Config",),
    "depth.locator": ("ObjectLocator",),
    "drawing.overlay": ("draw",),
    "drawing.video": ("VideoWriter",),
    "errors": ("DroppedFrame", "InputError"),
    "evaluation.evaluator": ("Evaluator",),
    "frame": ("AssociatedBy", "Frame", "PanopticFrame", "Segment", "Segmentation", "Track", "TrackState"),
    "frame_3d": ("DepthImage", "Intrinsics", "Object3D", "Objects3D"),
    "online": ("OnlinePanoptic",),
    "recording.frames": ("FrameSource", "open_frames"),
    "recording.writer": ("BagWriter",),
    "segmenters": ("Segmenter", "load_segmenter", "segmentation_from_map", "segmentation_from_masks"),
    "taxonomy": ("ClassInfo", "Taxonomy"),
    "trackers": ("Tracker", "make_tracker"),
}
"""Module -> the public names that it defines."""
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AssociatedBy",
    "BagWriter",
    "ClassInfo",
    "Config",
    "DepthImage",
    "DroppedFrame",
    "Evaluator",
    "Frame",
    "FrameSource",
    "InputError",
    "Intrinsics",
    "Object3D",
    "ObjectLocator",
    "Objects3D",
    "OnlinePanoptic",
    "PanopticFrame",
    "Segment",
    "Segmentation",
    "Segmenter",
    "Taxonomy",
    "Track",
    "TrackState",
    "Tracker",
    "VideoWriter",
    "draw",
    "load_segmenter",
    "make_tracker",
    "open_frames",
    "segmentation_from_map",
    "segmentation_from_masks",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: a command that only needs a part should not wait for OpenCV and ONNX Runtime.
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
