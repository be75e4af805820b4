"""Who publishes what in a domain."""

from __future__ import annotations

from dataclasses import dataclass

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import InstanceState
from cyclonedds.qos import Policy, Qos

from vps_ros.live.dds import Bus
from vps_ros.live.dds_types import ros_name

_MOST = 10_000
_PREFIX = "rt/"


@dataclass(frozen=True)
class Offer:
    """A publisher: the topic and type by their ROS names, and its quality of service, as Profile has it."""

    topic: str
    kind: str
    reliability: str
    latched: bool


class Graph:
    """The publishers of ROS topics that a bus knows of, its own included."""

    def __init__(self, bus: Bus) -> None:
        self._reader = BuiltinDataReader(bus.participant, BuiltinTopicDcpsPublication)

    def offers(self) -> tuple[Offer, ...]:
        """By topic."""
        there = (one for one in self._reader.read(_MOST) if one.sample_info.instance_state == InstanceState.Alive)
        return tuple(
            sorted(
                (
                    Offer(one.topic_name.removeprefix("rt"), ros_name(one.type_name), *_quality(one.qos))
                    for one in there
                    if one.topic_name.startswith(_PREFIX)
                ),
                key=lambda offer: (offer.topic, offer.kind),
            )
        )


def _quality(qos: Qos) -> tuple[str, bool]:
    reliable = isinstance(qos[Policy.Reliability], Policy.Reliability.Reliable)
    return "reliable" if reliable else "best_effort", qos[Policy.Durability] != Policy.Durability.Volatile
