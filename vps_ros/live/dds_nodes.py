"""Tells ROS 2 which node the endpoints here belong to, as rmw_dds_common does: for `ros2 node list` and graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopic,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState
from cyclonedds.qos import Policy
from rosbags.typesys import get_types_from_msg

from vps_ros.live.dds import Bus, Profile, Writer
from vps_ros.live.names import absolute
from vps_ros.messages.typestore import BagMessages, typestore

_TOPIC = "ros_discovery_info"
_MOST = 10_000
_PACKAGE = "rmw_dds_common/msg/"
_DEFINITIONS = {
    # As ROS 2 has it since Iron, with a char for what it takes for a uint8; in Humble a Gid has 24 bytes.
    "Gid": "uint8[16] data",
    "NodeEntitiesInfo": (
        "string<=256 node_namespace\nstring<=256 node_name\nGid[] reader_gid_seq\nGid[] writer_gid_seq"
    ),
    "ParticipantEntitiesInfo": "Gid gid\nNodeEntitiesInfo[] node_entities_info_seq",
}
_HASHED = b"typehash="
_PREFIXES = ("rt/", "rq/", "rr/")
"""Of DDS topics that are ROS topics, requests and replies; Cyclone has readers of its own beside them."""


class Announcement:
    """Says that everything on a bus is one node's.

    Only where somebody listens who is known to understand it: a peer that hashes its types (Iron and later), and none
    that does not.
    """

    def __init__(self, bus: Bus, node: str) -> None:
        namespace, _, self._name = absolute(node).rpartition("/")
        self._namespace = namespace or "/"
        self._bus, self._me = bus, bus.participant.guid
        self._writers = _Ends(bus, BuiltinTopicDcpsPublication)
        self._readers = _Ends(bus, BuiltinTopicDcpsSubscription)
        self._writer: Writer | None = None
        self._said: tuple[tuple[UUID, ...], ...] = ()

    def look(self) -> None:
        """Says it when there is news; call it now and then."""
        ends = (self._readers.known(), self._writers.known())
        peers = [end for end in ends[1].values() if end.topic == _TOPIC and end.owner != self._me]
        if not peers or not all(end.hashed for end in peers):
            return
        if self._writer is None:
            _register()
            kind = f"{_PACKAGE}ParticipantEntitiesInfo"
            self._writer = self._bus.endpoint_writer(_TOPIC, kind, Profile(depth=1, latched=True))
        mine = tuple(tuple(sorted(key for key, end in some.items() if self._is_mine(end))) for some in ends)
        if mine != self._said:
            self._said = mine
            self._writer.send(self._message(*mine))

    def _is_mine(self, end: _End) -> bool:
        return end.owner == self._me and end.topic.startswith(_PREFIXES)

    def _message(self, readers: tuple[UUID, ...], writers: tuple[UUID, ...]) -> Any:
        make = BagMessages().make

        def gid(key: UUID) -> Any:
            return make(f"{_PACKAGE}Gid", data=np.frombuffer(key.bytes, np.uint8))

        node = make(
            f"{_PACKAGE}NodeEntitiesInfo",
            node_namespace=self._namespace,
            node_name=self._name,
            reader_gid_seq=[gid(key) for key in readers],
            writer_gid_seq=[gid(key) for key in writers],
        )
        return make(f"{_PACKAGE}ParticipantEntitiesInfo", gid=gid(self._me), node_entities_info_seq=[node])


@dataclass(frozen=True)
class _End:
    topic: str
    owner: UUID
    hashed: bool


class _Ends:
    """The endpoints of one kind in a domain; only those that are new are looked at."""

    def __init__(self, bus: Bus, kind: BuiltinTopic) -> None:
        self._reader = BuiltinDataReader(bus.participant, kind)
        self._news = ReadCondition(self._reader, ViewState.Any | InstanceState.Any | SampleState.NotRead)
        self._known: dict[UUID, _End] = {}

    def known(self) -> dict[UUID, _End]:
        """By their keys."""
        for one in self._reader.read(_MOST, self._news):
            if one.sample_info.instance_state == InstanceState.Alive:
                note = bytes(one.qos[Policy.Userdata].data) if Policy.Userdata in one.qos else b""
                self._known[one.key] = _End(one.topic_name, one.participant_key, _HASHED in note)
            else:
                self._known.pop(one.key, None)
        return self._known


def _register() -> None:
    store, types = typestore(), {}
    for name, definition in _DEFINITIONS.items():
        # rosbags has them too, but hashes a char as no ROS does.
        store.fielddefs.pop(f"{_PACKAGE}{name}", None)
        types.update(get_types_from_msg(definition, f"{_PACKAGE}{name}"))
    store.register(types)
