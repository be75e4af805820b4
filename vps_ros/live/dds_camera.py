"""A subscription to a camera, raw or compressed, that knows why nothing comes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic

from vps_ros.frame import Frame
from vps_ros.live.dds import Bus, Profile
from vps_ros.live.dds_graph import Graph, Offer
from vps_ros.live.names import absolute
from vps_ros.messages.frames import frame_of
from vps_ros.messages.images import DECODERS
from vps_ros.messages.typestore import read_message

log = logging.getLogger(__name__)

RAW, COMPRESSED = DECODERS
_LISTED = 8


class CameraSubscription:
    """Hands on what comes on an image topic, as (type, CDR), for `read_wire` to read.

    The type is the one that the topic's name promises (`.../compressed`) until a publisher turns out to be of the
    other.

    Args:
        patience: seconds without a publisher until that is said.
        offer: called in the bus' thread.
    """

    def __init__(
        self, bus: Bus, topic: str, profile: Profile, patience: float, offer: Callable[[tuple[str, bytes]], None]
    ) -> None:
        self.topic = absolute(topic)
        self._bus, self._profile, self._patience, self._offer = bus, profile, patience, offer
        self._began = monotonic()
        self._said = ""
        self._listen(COMPRESSED if self.topic.endswith("/compressed") else RAW)

    @property
    def publishers(self) -> int:
        """How many are heard."""
        return self._reader.publishers

    def close(self) -> None:
        """Ends the subscription."""
        self._bus.drop(self._reader)

    def look(self, graph: Graph) -> str:
        """What is wrong with the topic; "" when all is well. Logged when it is new.

        Call it now and then: it also changes over to the type that is published.
        """
        problem = self._problem(graph)
        if problem and problem != self._said:
            log.warning("%s", problem)
        elif self._said and not problem:
            log.info("%s: a publisher is there", self.topic)
        self._said = problem
        return problem

    def _problem(self, graph: Graph) -> str:
        if self.publishers:
            self._began = monotonic()
            return "" if self.publishers == 1 else f"{self.topic} has {self.publishers} publishers: their frames mix"
        offers = graph.offers()
        here = [one for one in offers if one.topic == self.topic]
        kinds = {one.kind for one in here}
        if self.kind not in kinds and (others := sorted(kinds & DECODERS.keys())):
            self._bus.drop(self._reader)
            self._listen(others[0])
            log.info("%s carries %s", self.topic, others[0])
            return ""
        if not here:
            if monotonic() - self._began < self._patience:
                return ""
            return (
                f"nobody publishes {self.topic} in domain {self._bus.domain}; {_images(offers)}; "
                "check its name, ROS_DOMAIN_ID and the network interface"
            )
        if self.kind not in kinds:
            return f"{self.topic} is a {', '.join(sorted(kinds))}, not an image; {_images(offers)}"
        if self._profile.reliability == "reliable" and all(one.reliability == "best_effort" for one in here):
            return (
                f"{self.topic} is published best_effort and asked for as reliable, so that nothing comes; "
                "set reliability to best_effort"
            )
        return ""

    def _listen(self, kind: str) -> None:
        self.kind = kind
        self._reader = self._bus.reader(self.topic, kind, self._profile, lambda data: self._offer((kind, data)))


def read_wire(message: tuple[str, bytes], received: int) -> Frame:
    """The frame of what a CameraSubscription handed on, which came in at `received` (ns); raises DroppedFrame."""
    kind, data = message
    return frame_of(read_message(data, kind), kind, received)


def _images(offers: Sequence[Offer]) -> str:
    there = [f"{one.topic} ({one.kind})" for one in offers if one.kind in DECODERS]
    more = ", ..." if len(there) > _LISTED else ""
    return f"image topics are {', '.join(there[:_LISTED])}{more}" if there else "there is no image topic at all"
