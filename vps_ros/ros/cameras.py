"""A subscription to a camera, raw or compressed, that knows why nothing comes."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from rclpy.node import Node

from vps_ros.config import LiveConfig
from vps_ros.frame import Frame
from vps_ros.messages.frames import frame_of
from vps_ros.messages.images import DECODERS
from vps_ros.messages.typestore import read_message
from vps_ros.ros.endpoints import name_of, subscribe
from vps_ros.ros.qos import mismatch, of_images

RAW, COMPRESSED = DECODERS
_LISTED = 8


def topic_of(camera: str) -> str:
    """The image topic of a camera, before remapping."""
    return f"{camera}/image" if camera else "image"


def reader(node: Node) -> Callable[[tuple[str, bytes], int], Frame]:
    """Reads what a CameraSubscription hands on; an image without a stamp gets the node's time, simulated or not."""
    clock = node.get_clock()

    def read(message: tuple[str, bytes], _: int) -> Frame:
        kind, data = message
        return frame_of(read_message(data, kind), kind, clock.now().nanoseconds)

    return read


class CameraSubscription:
    """Hands on what comes on a camera's topic, as (type, CDR).

    The type is the one that the topic's name promises (`.../compressed`) until a publisher turns out to be of the
    other.

    Attributes:
        topic: after remapping.
        kind: type of its messages.
    """

    def __init__(self, node: Node, camera: str, live: LiveConfig, offer: Callable[[tuple[str, bytes]], None]) -> None:
        self._node, self._name, self._live, self._offer = node, topic_of(camera), live, offer
        self.topic = node.resolve_topic_name(self._name)
        self._heard = monotonic()
        self._listen(COMPRESSED if self.topic.endswith("/compressed") else RAW)

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def look(self, patience: float) -> str:
        """What is wrong with the topic; "" for nothing. Changes over to the type that is published.

        Args:
            patience: seconds that there may be no publisher.
        """
        here = self._node.get_publishers_info_by_topic(self._name)
        kinds = {one.topic_type for one in here}
        if self.kind not in kinds and (others := sorted(kinds & DECODERS.keys())):
            self.close()
            self._listen(others[0])
        if not here:
            if monotonic() - self._heard < patience:
                return ""
            return f"nobody publishes {self.topic}; {self._images()}; remap {self._name}, or look at ROS_DOMAIN_ID"
        self._heard = monotonic()
        if self.kind not in kinds:
            return f"{self.topic} is a {', '.join(sorted(kinds))}, not an image; {self._images()}"
        for one in here:
            if why := mismatch(one.qos_profile, self._qos):
                return f"nothing comes on {self.topic} from {name_of(one)}: {why} (parameter reliability)"
        return f"{self.topic} has {len(here)} publishers: their frames mix" if len(here) > 1 else ""

    def _listen(self, kind: str) -> None:
        self.kind, self._qos = kind, of_images(self._live)
        take: Callable[[Any], None] = lambda data: self._offer((kind, data))  # noqa: E731
        self._subscription = subscribe(self._node, self._name, kind, self._qos, take)
        self._node.get_logger().info(f"listening for {kind} on {self.topic}")

    def _images(self) -> str:
        own = self._node.get_fully_qualified_name() + "/"
        there = [
            f"{topic} ({kind})"
            for topic, kinds in self._node.get_topic_names_and_types()
            for kind in kinds
            if kind in DECODERS and not topic.startswith(own) and self._node.count_publishers(topic)
        ]
        more = ", ..." if len(there) > _LISTED else ""
        return f"image topics are {', '.join(there[:_LISTED])}{more}" if there else "there is no image topic at all"
