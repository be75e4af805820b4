"""Online video panoptic segmentation for robots: every pixel a class, every object a lasting identity."""

from pkgutil import extend_path

# The ROS build generates `vps_ros.msg` in another folder; this lets it be found beside the source tree.
__path__ = extend_path(__path__, __name__)

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.frame import Frame, PanopticFrame, Segment, Segmentation, Track
from vps_ros.online import OnlinePanoptic

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Frame",
    "InputError",
    "OnlinePanoptic",
    "PanopticFrame",
    "Segment",
    "Segmentation",
    "Track",
]
