"""The box trackers of roboflow's package `trackers` (Apache-2.0) on our segmentations.

They are an optional dependency of the benchmarks only: `pip install trackers`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import Frame, Segmentation

MISSING = "roboflow's trackers are not installed (pip install trackers), so they are left out"
NAMES = {
    "roboflow SORT": "SORTTracker",
    "roboflow ByteTrack": "ByteTrackTracker",
    "roboflow BoT-SORT": "BoTSORTTracker",
}


def there() -> bool:
    found = [importlib.util.find_spec(name) for name in ("trackers", "supervision")]
    # A folder of this name on the path, such as test/trackers, has no origin.
    return all(spec is not None and spec.origin is not None for spec in found)


def package() -> ModuleType:
    """Roboflow's package, which is not `benchmarks.trackers`."""
    return importlib.import_module("trackers")


class Roboflow:
    """One of them with its own defaults, at the camera's rate.

    Args:
        name: key of NAMES.
        rate: frames per second. Their buffer of lost tracks is given in frames at 30 per second.
        camera_motion: BoT-SORT's compensation of the camera's motion, from the image.
    """

    def __init__(self, name: str, rate: float = 10.0, camera_motion: bool = False) -> None:
        parameters: dict[str, Any] = {"frame_rate": rate}
        if name == "roboflow BoT-SORT":
            parameters["enable_cmc"] = camera_motion
        self._camera_motion = camera_motion
        self.tracker = getattr(package(), NAMES[name])(**parameters)

    def see(self, frame: Frame, segmentation: Segmentation) -> Callable[[], NDArray[np.int64]]:
        """A function that tracks the frame: int64 [K], the id of each segment from 1, 0 without one.

        The input is converted before the function is called, so that its time is that of the tracker.
        """
        import supervision

        image = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR) if self._camera_motion else None
        detections = supervision.Detections(
            xyxy=segmentation.boxes.astype(np.float64),
            confidence=segmentation.scores,
            class_id=segmentation.class_ids.astype(int),
            data={"segment": np.arange(len(segmentation))},
        )

        def track() -> NDArray[np.int64]:
            found = self.tracker.update(detections, image)
            ids = np.zeros(len(segmentation), np.int64)
            if len(found):
                ids[found.data["segment"]] = found.tracker_id + 1
            return ids

        return track
