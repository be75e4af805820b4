"""The interface of a node's transport; live/dds_transport.py (DDS) and ros/transport.py (rclpy) implement it.

Log messages need no interface: the package logs to Python's `logging`, and each host forwards that to its own log.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vps_ros.errors import InputError
from vps_ros.frame_3d import Transform

_NAME = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


@dataclass(frozen=True)
class QosProfile:
    """Quality of service.

    Attributes:
        reliability: "reliable" or "best_effort".
        depth: messages kept (history keep last).
        latched: late subscribers get the kept messages (durability transient local).
    """

    reliability: str = "reliable"
    depth: int = 10
    latched: bool = False


@dataclass(frozen=True)
class Endpoint:
    """A publisher of a topic, with the message type (`package/msg/Type`) and, where known, the name of its node."""

    topic: str
    kind: str
    qos: QosProfile
    node: str = ""


class Subscription(Protocol):
    """An open subscription."""

    @property
    def qos(self) -> QosProfile: ...

    @property
    def publishers(self) -> int:
        """Number of publishers of the topic that the transport has connected."""
        ...

    def close(self) -> None: ...


class Publisher(Protocol):
    """An open publisher; any thread may call."""

    @property
    def subscribers(self) -> int: ...

    def send(self, message: Any) -> bool:
        """Serialises and sends a message of rosbags without waiting for slow subscribers; false when it was lost."""
        ...

    def close(self) -> None: ...


class Transforms(Protocol):
    """Transforms to one coordinate frame."""

    def __call__(self, source: str, stamp: int) -> Transform:
        """From the frame `source` at a stamp (ns); waits for a moment, then raises DroppedFrame; from any thread."""
        ...

    def close(self) -> None: ...


class Transport(ABC):
    """Publishers, subscriptions, services, topic graph and clock of one node.

    Topic names may be absolute ("/camera/image"), relative ("image") or private ("~/tracks").
    """

    @property
    @abstractmethod
    def node_name(self) -> str:
        """Fully qualified name of the node without its leading slash: "vps", "front/vps"."""

    @abstractmethod
    def resolve(self, topic: str) -> str:
        """The absolute name of a topic, after remapping."""

    @abstractmethod
    def subscribe(self, topic: str, kind: str, qos: QosProfile, callback: Callable[[bytes], None]) -> Subscription:
        """Calls `callback` with the CDR bytes of each message, in the transport's thread: it must return at once."""

    @abstractmethod
    def advertise(self, topic: str, kind: str, qos: QosProfile) -> Publisher:
        """Opens a publisher; raises InputError where that is impossible."""

    @abstractmethod
    def serve(self, name: str, kind: str, handle: Callable[[Any], tuple[bool, str]]) -> None:
        """Opens a service of type std_srvs/Trigger or std_srvs/SetBool.

        Args:
            handle: request -> success and message of the response; called in the transport's thread.
        """

    @abstractmethod
    def publishers(self, topic: str) -> Sequence[Endpoint]:
        """The known publishers of a topic, those of this node included."""

    @abstractmethod
    def topics(self) -> Mapping[str, set[str]]:
        """Every topic that another node publishes -> its message types."""

    @abstractmethod
    def transforms(self, frame_id: str) -> Transforms:
        """Starts to listen to TF; raises InputError where there is none."""

    @abstractmethod
    def now(self) -> int:
        """The node's time in nanoseconds, which may be simulated."""


def absolute(name: str) -> str:
    """The topic name with a leading slash; raises InputError for a name that ROS 2 does not allow."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is not a topic name; use letters, digits and _ between slashes, as in /camera/image_raw"
        )
    return name if name.startswith("/") else f"/{name}"


def qos_mismatch(offered: QosProfile, requested: QosProfile) -> str:
    """Why a publisher's QoS does not satisfy a subscriber's, with both sides and what to set; "" when it does."""
    advice = []
    if offered.reliability == "best_effort" and requested.reliability == "reliable":
        advice.append("reliability best_effort")
    if requested.latched and not offered.latched:
        advice.append("durability volatile")
    if not advice:
        return ""
    return (
        f"the publisher offers {_described(offered)}; the subscriber asks for {_described(requested)}; "
        f"set {' and '.join(advice)} for the subscriber"
    )


def _described(qos: QosProfile) -> str:
    return f"{qos.reliability}, {'transient_local' if qos.latched else 'volatile'}"
