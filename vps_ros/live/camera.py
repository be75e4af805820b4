"""A subscription to a camera, raw or compressed, that reports why no image arrives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from vps_ros.errors import DroppedFrame
from vps_ros.frame import Frame
from vps_ros.live.stats import MessageCounter
from vps_ros.live.transport import QosProfile, Subscription, Transport, qos_mismatch
from vps_ros.messages.images import DECODERS, frame_of
from vps_ros.messages.panoptic import CAMERA_INFO_TYPE, camera_info_topic
from vps_ros.messages.typestore import read_message

log = logging.getLogger(__name__)

RAW, COMPRESSED = DECODERS
_LISTED = 8
"""Image topics that a message lists at most."""


class CameraSubscription:
    """Passes each message of an image topic on as (type, CDR), which `read_image` decodes.

    It first subscribes to the type that the topic's name suggests (`.../compressed`), and to the other type when a
    publisher turns out to have that. It also keeps the latest CameraInfo of the topic beside the images.

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
        self._info, self._errors = b"", MessageCounter()
        qos = QosProfile("best_effort", 1)
        self._info_subscription = transport.subscribe(
            camera_info_topic(self.topic), CAMERA_INFO_TYPE, qos, self._keep_info
        )
        try:
            self._subscribe(COMPRESSED if self.topic.endswith("/compressed") else RAW)
        except BaseException:
            self._info_subscription.close()
            raise

    @property
    def publishers(self) -> int:
        return self._subscription.publishers

    def close(self) -> None:
        self._subscription.close()
        self._info_subscription.close()

    def camera_info(self) -> Any:
        """The latest CameraInfo; None while there is none that can be decoded."""
        data = self._info
        try:
            return read_message(data, CAMERA_INFO_TYPE) if data else None
        except DroppedFrame as error:
            if self._errors.add(str(error)):
                log.warning("%s: %s (logged once)", camera_info_topic(self.topic), error)
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
            self._subscription.close()
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

    def _keep_info(self, data: bytes) -> None:
        self._info = bytes(data)

    def _subscribe(self, kind: str) -> None:
        self.kind = kind
        self._subscription: Subscription = self._transport.subscribe(
            self._name, kind, self._qos, lambda data: self._offer((kind, data))
        )
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
