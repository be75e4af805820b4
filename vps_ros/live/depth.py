"""A subscription to the depth images of a camera, from which a frame gets the one with the nearest stamp."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from threading import Condition
from time import monotonic
from typing import Any

from vps_ros.errors import DroppedFrame
from vps_ros.frame_3d import DepthImage
from vps_ros.live.transport import QosProfile, Transport
from vps_ros.messages.objects_3d import COMPRESSED_TYPE, IMAGE_TYPE, depth_image, intrinsics_of
from vps_ros.messages.panoptic import CAMERA_INFO_TYPE, camera_info_topic
from vps_ros.messages.typestore import read_message

_KEPT = 32
"""Depth images in memory; more than come while a frame is processed."""
_LATE = 0.1
"""Seconds to wait for the depth image of a frame that has been processed."""
_STAMPED = 12
"""Bytes of a message up to the end of its stamp."""
_ALIVE = 1.0
"""Seconds since the latest depth image after which nothing is waited for."""


class DepthSubscription:
    """Keeps the latest messages of a depth topic, and of the camera_info beside it.

    Args:
        topic: name before remapping.
        slop: see the attribute.
        camera_info: CameraInfo of the camera, which is used if the depth topic has none; None if there is none.

    Attributes:
        topic: absolute name, after remapping.
        slop: largest distance of the stamps of a frame and its depth image, seconds; 0: they must be equal.
    """

    def __init__(self, transport: Transport, topic: str, slop: float, camera_info: Callable[[], Any]) -> None:
        self.topic = transport.resolve(topic)
        self.slop, self._camera_info = slop, camera_info
        self._images: deque[tuple[int, bytes]] = deque(maxlen=_KEPT)
        self._arrived, self._changed = -_ALIVE, Condition()
        self._info = b""
        self._kind = COMPRESSED_TYPE if self.topic.endswith("/compressedDepth") else IMAGE_TYPE
        info_topic, qos = camera_info_topic(self.topic), QosProfile("best_effort", 1)
        self._info_subscription = transport.subscribe(info_topic, CAMERA_INFO_TYPE, qos, self._keep_info)
        try:
            self._subscription = transport.subscribe(topic, self._kind, QosProfile("best_effort", 5), self._keep)
        except BaseException:
            self._info_subscription.close()
            raise

    def close(self) -> None:
        self._subscription.close()
        self._info_subscription.close()

    def of(self, stamp: int) -> DepthImage:
        """The depth image nearest to the stamp of a frame (ns); waits for a moment if depth comes later than frames.

        Raises DroppedFrame when there is none, or no intrinsics.
        """
        info = read_message(self._info, CAMERA_INFO_TYPE) if self._info else self._camera_info()
        if info is None:
            raise DroppedFrame(f"no camera_info for the depth images ({camera_info_topic(self.topic)})")
        intrinsics = intrinsics_of(info)
        return depth_image(read_message(self._nearest(stamp), self._kind), intrinsics)

    def _nearest(self, stamp: int) -> bytes:
        with self._changed:
            if monotonic() - self._arrived < _ALIVE:
                self._changed.wait_for(lambda: self._has_passed(stamp), _LATE)
            images = list(self._images)
        if not images:
            raise DroppedFrame(f"no depth image has arrived on {self.topic}")
        found = min(images, key=lambda one: abs(one[0] - stamp))
        if abs(found[0] - stamp) > round(self.slop * 1e9):
            raise DroppedFrame(f"no depth image on {self.topic} within {self.slop:g} s of the frame")
        return found[1]

    def _has_passed(self, stamp: int) -> bool:
        """Whether no nearer depth image can come."""
        return bool(self._images) and self._images[-1][0] >= stamp

    def _keep_info(self, data: bytes) -> None:
        self._info = bytes(data)

    def _keep(self, data: bytes) -> None:
        if len(data) < _STAMPED:
            return
        # The header is the first field of the message; byte 1 of CDR is the byte order.
        sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
        with self._changed:
            self._images.append((sec * 10**9 + nanosec, bytes(data)))
            self._arrived = monotonic()
            self._changed.notify()
