"""Tells ROS 2 which node the endpoints here belong to, as rmw_dds_common does: for `ros2 node list` and graphs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription
from cyclonedds.core import InstanceState
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
        self._publications = BuiltinDataReader(bus.participant, BuiltinTopicDcpsPublication)
        self._subscriptions = BuiltinDataReader(bus.participant, BuiltinTopicDcpsSubscription)
        self._writer: Writer | None = None
        self._said: tuple[tuple[UUID, ...], ...] = ()

    def look(self) -> None:
        """Says it when there is news; call it now and then."""
        writers, readers = _alive(self._publications), _alive(self._subscriptions)
        peers = [one for one in writers if one.topic_name == _TOPIC and one.participant_key != self._me]
        if not peers or not all(_HASHED in _user_data(one) for one in peers):
            return
        if self._writer is None:
            _register()
            kind = f"{_PACKAGE}ParticipantEntitiesInfo"
            self._writer = self._bus.endpoint_writer(_TOPIC, kind, Profile(depth=1, latched=True))
        mine = tuple(tuple(sorted(one.key for one in ends if self._is_mine(one))) for ends in (readers, writers))
        if mine != self._said:
            self._said = mine
            self._writer.send(self._message(*mine))

    def _is_mine(self, endpoint: Any) -> bool:
        return endpoint.participant_key == self._me and endpoint.topic_name.startswith(_PREFIXES)

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


def _alive(reader: BuiltinDataReader) -> list[Any]:
    return [one for one in reader.read(_MOST) if one.sample_info.instance_state == InstanceState.Alive]


def _user_data(endpoint: Any) -> bytes:
    return bytes(endpoint.qos[Policy.Userdata].data) if Policy.Userdata in endpoint.qos else b""


def _register() -> None:
    store, types = typestore(), {}
    for name, definition in _DEFINITIONS.items():
        # rosbags has them too, but hashes a char as no ROS does.
        store.fielddefs.pop(f"{_PACKAGE}{name}", None)
        types.update(get_types_from_msg(definition, f"{_PACKAGE}{name}"))
    store.register(types)
