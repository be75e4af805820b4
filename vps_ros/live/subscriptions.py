"""Subscriptions to the images of a camera, which report why none arrives, and to its depth images.

Both keep the latest CameraInfo of the topic beside the images.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from threading import Condition
from time import monotonic
from typing import Any

from vps_ros.errors import DroppedFrame
from vps_ros.frame import Frame
from vps_ros.frame_3d import DepthImage
from vps_ros.live.stats import MessageCounter
from vps_ros.live.transport import QosProfile, Subscription, Transport, qos_mismatch
from vps_ros.messages.images import DECODERS, frame_of
from vps_ros.messages.objects_3d import COMPRESSED_TYPE, IMAGE_TYPE, depth_image, intrinsics_of
from vps_ros.messages.panoptic import CAMERA_INFO_TYPE, camera_info_topic
from vps_ros.messages.typestore import read_message

log = logging.getLogger(__name__)

RAW, COMPRESSED = DECODERS
_LISTED = 8
"""Image topics that a message lists at most."""
_KEPT = 32
"""Depth images in memory; more than come while a frame is processed."""
_LATE = 0.1
"""Seconds to wait for the depth image of a frame that has been processed."""
_STAMPED = 12
"""Bytes of a message up to the end of its stamp."""
_ALIVE = 1.0
"""Seconds since the latest depth image after which nothing is waited for."""


class _CameraInfo:
    """The latest CameraInfo beside an image topic, given by its absolute name."""

    def __init__(self, transport: Transport, image: str) -> None:
        self.topic, self._data = camera_info_topic(image), b""
        qos = QosProfile("best_effort", 1)
        self._subscription = transport.subscribe(self.topic, CAMERA_INFO_TYPE, qos, self._keep)

    def read(self) -> Any:
        """The message; None while there is none. Raises DroppedFrame when it cannot be decoded."""
        return read_message(self._data, CAMERA_INFO_TYPE) if self._data else None

    def close(self) -> None:
        self._subscription.close()

    def _keep(self, data: bytes) -> None:
        self._data = bytes(data)


class CameraSubscription:
    """Passes each message of an image topic on as (type, CDR), which `read_image` decodes.

    It first subscribes to the type that the topic's name suggests (`.../compressed`), and to the other type when a
    publisher turns out to have that.

    Args:
        topic: name before remapping.
        offer: called in the transport's thread.

    Attributes:
        topic: absolute name, after remapping.
        kind: type of the messages.
    """

    def __init__(
        self, transport: Transport, topic: str, qos: QosProfile, offer: Callable[[tuple[str, bytes]], None]
    ) -> None:
        self._transport, self._name, self._qos, self._offer = transport, topic, qos, offer
        self.topic = transport.resolve(topic)
        self._published_at = monotonic()
        self._open = ExitStack()
        """Closes the subscription, once."""
        self._info, self._errors = _CameraInfo(transport, self.topic), MessageCounter()
        try:
            self._subscribe(COMPRESSED if self.topic.endswith("/compressed") else RAW)
        except BaseException:
            self._info.close()
            raise

    @property
    def publishers(self) -> int:
        return self._subscription.publishers

    def close(self) -> None:
        self._open.close()
        self._info.close()

    def camera_info(self) -> Any:
        """The latest CameraInfo; None while there is none that can be decoded."""
        try:
            return self._info.read()
        except DroppedFrame as error:
            if self._errors.add(str(error)):
                log.warning("%s: %s (logged once)", self._info.topic, error)
            return None

    def check(self, patience: float) -> str:
        """The problem of the topic, "" for none; changes to the published type. Call it about once a second.

        Args:
            patience: seconds without a publisher that are no problem yet.
        """
        publishers = self._transport.publishers(self._name)
        kinds = {one.kind for one in publishers}
        if self.kind not in kinds and (others := sorted(kinds & DECODERS.keys())):
            log.info("%s carries %s", self.topic, others[0])
            self._open.close()
            self._subscribe(others[0])
        if not publishers:
            if monotonic() - self._published_at < patience:
                return ""
            return (
                f"nobody publishes {self.topic}; {self._image_topics()}; "
                "check the topic's name, ROS_DOMAIN_ID and the network interface"
            )
        self._published_at = monotonic()
        if self.kind not in kinds:
            return f"{self.topic} is a {', '.join(sorted(kinds))}, not an image; {self._image_topics()}"
        for one in publishers:
            if reason := qos_mismatch(one.qos, self._subscription.qos):
                source = one.node or "a publisher"
                return f"no image arrives on {self.topic} from {source}: {reason} (parameter reliability)"
        if len(publishers) > 1:
            return f"{self.topic} has {len(publishers)} publishers, whose frames are mixed; leave only one"
        return ""

    def _subscribe(self, kind: str) -> None:
        self.kind = kind
        self._subscription: Subscription = self._transport.subscribe(
            self._name, kind, self._qos, lambda data: self._offer((kind, data))
        )
        self._open.callback(self._subscription.close)
        log.info("subscribed to %s (%s)", self.topic, kind)

    def _image_topics(self) -> str:
        found = [
            f"{topic} ({kind})"
            for topic, kinds in sorted(self._transport.topics().items())
            for kind in sorted(kinds)
            if kind in DECODERS
        ]
        more = ", ..." if len(found) > _LISTED else ""
        return f"image topics are {', '.join(found[:_LISTED])}{more}" if found else "there is no image topic at all"


def read_image(message: tuple[str, bytes], received: int) -> Frame:
    """Decodes what a CameraSubscription passed on; an image without a stamp gets `received` (ns).

    Raises DroppedFrame when it cannot be used.
    """
    kind, data = message
    return frame_of(read_message(data, kind), kind, received)


class DepthSubscription:
    """Keeps the latest messages of a depth topic; a frame gets the depth image with the nearest stamp.

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
        self._kind = COMPRESSED_TYPE if self.topic.endswith("/compressedDepth") else IMAGE_TYPE
        self._info = _CameraInfo(transport, self.topic)
        try:
            self._subscription = transport.subscribe(topic, self._kind, QosProfile("best_effort", 5), self._keep)
        except BaseException:
            self._info.close()
            raise

    def close(self) -> None:
        self._subscription.close()
        self._info.close()

    def of(self, stamp: int) -> DepthImage:
        """The depth image nearest to the stamp of a frame (ns); waits for a moment if depth comes later than frames.

        Raises DroppedFrame when there is none, or no intrinsics.
        """
        info = self._info.read() or self._camera_info()
        if info is None:
            raise DroppedFrame(f"no camera_info for the depth images ({self._info.topic})")
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

    def _keep(self, data: bytes) -> None:
        if len(data) < _STAMPED:
            return
        # The header is the first field of the message; byte 1 of CDR is the byte order.
        sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
        with self._changed:
            self._images.append((sec * 10**9 + nanosec, bytes(data)))
            self._arrived = monotonic()
            self._changed.notify()
