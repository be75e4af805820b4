"""The node's transport over DDS: topics, services as rmw_cyclonedds_cpp has them, and the node's name in the graph."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from time import time_ns
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

from vps_ros.errors import InputError
from vps_ros.live.dds import DdsParticipant, Reader, Writer
from vps_ros.live.transport import Endpoint, QosProfile, Transforms, Transport, absolute
from vps_ros.messages.typestore import make_message, read_message, typestore

_SERVICES = {
    "std_srvs/srv/Trigger": ("", "bool success\nstring message\n"),
    "std_srvs/srv/SetBool": ("bool data\n", "bool success\nstring message\n"),
}
"""Type -> fields of the request and of the response."""
_ENCAPSULATION, _HEADER = 4, 16
"""Bytes before the fields of a request: the header of CDR, and the client with the number of its request."""
_MOST = 10_000
_DISCOVERY = "ros_discovery_info"
_DISCOVERY_PACKAGE = "rmw_dds_common/msg/"
_DISCOVERY_TYPES = {
    # As in ROS 2 since Iron, with char for uint8; a Gid of Humble has 24 bytes.
    "Gid": "uint8[16] data",
    "NodeEntitiesInfo": (
        "string<=256 node_namespace\nstring<=256 node_name\nGid[] reader_gid_seq\nGid[] writer_gid_seq"
    ),
    "ParticipantEntitiesInfo": "Gid gid\nNodeEntitiesInfo[] node_entities_info_seq",
}
_PREFIXES = ("rt/", "rq/", "rr/")
"""Of the DDS topics that are ROS topics, requests and replies; Cyclone itself has others."""


class DdsTransport(Transport):
    """Transport of the node `name` ("vps", "front/vps"), which it announces to ROS 2."""

    def __init__(self, participant: DdsParticipant, name: str) -> None:
        self._participant = participant
        self._name = absolute(name)
        self._namespace = self._name.rpartition("/")[0]
        self._announcement = NodeAnnouncement(participant, name)

    @property
    def node_name(self) -> str:
        return self._name[1:]

    def resolve(self, topic: str) -> str:
        if topic.startswith("~"):
            return absolute(self._name + topic[1:])
        return absolute(topic if topic.startswith("/") else f"{self._namespace}/{topic}")

    def subscribe(self, topic: str, kind: str, qos: QosProfile, callback: Callable[[bytes], None]) -> Reader:
        return self._participant.reader(self.resolve(topic), kind, qos, callback)

    def advertise(self, topic: str, kind: str, qos: QosProfile) -> Writer:
        return self._participant.writer(self.resolve(topic), kind, qos)

    def serve(self, name: str, kind: str, handle: Callable[[Any], tuple[bool, str]]) -> None:
        register_service(kind)
        topic, request_type, response_type = self.resolve(name), f"{kind}_Request", f"{kind}_Response"
        # Clients look for a reader and a writer with the same id.
        service_id = f"serviceid={'.'.join(f'{byte:x}' for byte in uuid.uuid4().bytes)};"
        qos = QosProfile()
        replies = self._participant.endpoint_writer(f"rr{topic}Reply", response_type, qos, True, service_id)

        def answer(data: bytes) -> None:
            header = data[_ENCAPSULATION : _ENCAPSULATION + _HEADER]
            fields = data[:_ENCAPSULATION] + data[_ENCAPSULATION + _HEADER :]
            success, message = handle(read_message(fields, request_type))
            response = make_message(response_type, success=success, message=message)
            cdr = bytes(typestore().serialize_cdr(response, response_type))
            replies.send_cdr(cdr[:_ENCAPSULATION] + header + cdr[_ENCAPSULATION:])

        self._participant.endpoint_reader(f"rq{topic}Request", request_type, qos, answer, True, service_id)

    def publishers(self, topic: str) -> tuple[Endpoint, ...]:
        name = self.resolve(topic)
        return tuple(one for one in self._participant.publishers() if one.topic == name)

    def topics(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for one in self._participant.publishers(own=False):
            found.setdefault(one.topic, set()).add(one.kind)
        return found

    def transforms(self, frame_id: str) -> Transforms:
        raise InputError(
            f"objects_frame {frame_id}: only the ROS node has TF; leave it empty for the frame of the camera"
        )

    def now(self) -> int:
        return time_ns()


class NodeAnnouncement:
    """Tells ROS 2 that all endpoints of a participant belong to one node, for `ros2 node list`; as rmw_dds_common does.

    It publishes only while there is a peer that understands the message, which publishes hashes of its types (Iron and
    later), and no peer that does not. The participant's thread calls it whenever endpoints appear or vanish.
    """

    def __init__(self, participant: DdsParticipant, name: str) -> None:
        namespace, _, self._name = absolute(name).rpartition("/")
        self._namespace = namespace or "/"
        self._participant, self._own = participant, participant.entity.guid
        self._writer: Writer | None = None
        self._announced: tuple[tuple[UUID, ...], ...] = ()
        self._readers = _KnownEndpoints(participant, BuiltinTopicDcpsSubscription, self._update)
        self._writers = _KnownEndpoints(participant, BuiltinTopicDcpsPublication, self._update)
        participant.attach(self._readers)
        participant.attach(self._writers)

    def _update(self) -> None:
        peers = [one for one in self._writers.known.values() if one.topic == _DISCOVERY and one.owner != self._own]
        if not peers or not all(one.hashed for one in peers):
            return
        if self._writer is None:
            _register_discovery()
            kind = f"{_DISCOVERY_PACKAGE}ParticipantEntitiesInfo"
            self._writer = self._participant.endpoint_writer(_DISCOVERY, kind, QosProfile(depth=1, latched=True))
        own = tuple(
            tuple(sorted(k for k, e in some.known.items() if e.owner == self._own and e.topic.startswith(_PREFIXES)))
            for some in (self._readers, self._writers)
        )
        if own != self._announced:
            self._announced = own
            self._writer.send(self._message(*own))

    def _message(self, readers: tuple[UUID, ...], writers: tuple[UUID, ...]) -> Any:
        def gid(key: UUID) -> Any:
            return make_message(f"{_DISCOVERY_PACKAGE}Gid", data=np.frombuffer(key.bytes, np.uint8))

        node = make_message(
            f"{_DISCOVERY_PACKAGE}NodeEntitiesInfo",
            node_namespace=self._namespace,
            node_name=self._name,
            reader_gid_seq=[gid(key) for key in readers],
            writer_gid_seq=[gid(key) for key in writers],
        )
        kind = f"{_DISCOVERY_PACKAGE}ParticipantEntitiesInfo"
        return make_message(kind, gid=gid(self._own), node_entities_info_seq=[node])


@dataclass(frozen=True)
class _KnownEndpoint:
    topic: str
    owner: UUID
    hashed: bool


class _KnownEndpoints:
    """The readers or writers of a domain, kept up to date (dds.Readable)."""

    def __init__(self, participant: DdsParticipant, kind: BuiltinTopic, changed: Callable[[], None]) -> None:
        self._reader = BuiltinDataReader(participant.entity, kind)
        self._changed = changed
        self.condition = ReadCondition(self._reader, ViewState.Any | InstanceState.Any | SampleState.NotRead)
        self.known: dict[UUID, _KnownEndpoint] = {}

    def read(self) -> None:
        samples = self._reader.read(_MOST, self.condition)
        for one in samples:
            if one.sample_info.instance_state == InstanceState.Alive:
                user_data = bytes(one.qos[Policy.Userdata].data) if Policy.Userdata in one.qos else b""
                self.known[one.key] = _KnownEndpoint(one.topic_name, one.participant_key, b"typehash=" in user_data)
            else:
                self.known.pop(one.key, None)
        if samples:
            self._changed()


def register_service(kind: str) -> None:
    """Makes the request and response types of a service known to the typestore."""
    for part, definition in zip(("Request", "Response"), _SERVICES[kind], strict=True):
        name = f"{kind}_{part}"
        if name not in typestore().types:
            (fields,) = get_types_from_msg(definition, name).values()
            typestore().register({name: fields})


def _register_discovery() -> None:
    store, types = typestore(), {}
    for name, definition in _DISCOVERY_TYPES.items():
        # rosbags has these types too, but with another hash because of the char.
        store.fielddefs.pop(f"{_DISCOVERY_PACKAGE}{name}", None)
        types.update(get_types_from_msg(definition, f"{_DISCOVERY_PACKAGE}{name}"))
    store.register(types)
