"""What the current frame shows besides the segments: masks and those before, camera motion, colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.flow import FlowHistory
from vps_ros.frame import Frame, Segmentation
from vps_ros.trackers.camera import camera_motion
from vps_ros.trackers.histogram import with_appearance
from vps_ros.trackers.objects import ObjectMemory
from vps_ros.trackers.pixels import PixelHistory
from vps_ros.trackers.things import Things


class Scene:
    """The frames as the hierarchical tracker sees them. Each `push` moves the remembered objects into the new frame.

    Attributes:
        pixels: masks of the current frame and of the two before it.
    """

    def __init__(self, flow: FlowHistory, memory: ObjectMemory) -> None:
        self.pixels = PixelHistory(flow)
        self._flow = flow
        self._memory = memory
        self._stamp: int | None = None

    @property
    def milliseconds(self) -> float:
        return self.pixels.milliseconds

    def reset(self) -> None:
        self.pixels.reset()
        self._stamp = None

    def remember(self, ids: NDArray[np.int64]) -> None:
        self.pixels.remember(ids)

    def push(self, frame: Frame, segmentation: Segmentation, things: Things) -> None:
        before = self.pixels.now
        self.pixels.push(frame, segmentation, things)
        stamp = int(frame.stamp)
        seconds = 0.0 if self._stamp is None else max(stamp - self._stamp, 0) * 1e-9
        self._stamp = stamp
        now, flow = self.pixels.now, None
        if len(self._memory):
            flow = self._flow.backward(1)
        camera = None
        if flow is not None and before.labels.shape == now.labels.shape:
            camera = camera_motion(flow, (now.labels | before.labels) == 0)
        self._memory.move(camera, seconds, things, self._colours(things))

    def _colours(self, things: Things) -> NDArray[np.float32]:
        """float32 [K, D], colour histograms at the working size, where an image costs less and its noise is gone."""
        now, count = self.pixels.now, len(things)
        ones = np.ones(count, bool)
        small = Segmentation(now.labels, things.class_ids, ones, things.scores, now.areas[1:], things.boxes)
        return with_appearance(Frame(self._flow.picture, now.stamp), small).embeddings
