"""Topics of ROS 2 without ROS: a participant with readers and writers like those of rmw, on Eclipse Cyclone DDS.

The last functions make its configuration from ROS 2's environment variables: domain, discovery, interface, buffers.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Protocol
from xml.sax.saxutils import quoteattr

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import DDSException, GuardCondition, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter, Publisher
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader, Subscriber
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from vps_ros.errors import InputError
from vps_ros.live.dds_serialisation import (
    PaddedBytes,
    SerialisationBuffer,
    dds_type,
    ros_name,
    sample,
    type_hash,
)
from vps_ros.live.process import keep_memory
from vps_ros.live.stats import MessageCounter
from vps_ros.live.transport import Endpoint, QosProfile, absolute
from vps_ros.messages.typestore import typestore

log = logging.getLogger(__name__)

_ALL = ViewState.Any | InstanceState.Any | SampleState.Any
_BLOCK = duration(milliseconds=100)
"""How long a write may wait for space in the queue; rmw waits for ever. Publishers and subscribers need not agree."""
_POLL = duration(seconds=1)
_MOST = 10_000
HIGHEST_DOMAIN = 232
"""A higher domain would need port numbers above 65535."""
_PARTICIPANTS = 32
"""Processes on one machine that find each other without multicast; the value of rmw_cyclonedds_cpp."""
_LARGE = (
    # An image of some megabytes in fragments of the default 1.3 kB overruns socket buffers; few large fragments do not.
    "<General><MaxMessageSize>65500B</MaxMessageSize><FragmentSize>65000B</FragmentSize></General>"
    # With the default of 1 MiB most of an image is lost before the receiver reads; the system may allow less.
    '<Internal><SocketReceiveBufferSize min="default" max="16MB"/>'
    # High enough that a subscriber that is slow or was killed never blocks a writer, which keeps its last few messages.
    "<Watermarks><WhcHigh>1GB</WhcHigh></Watermarks></Internal>"
)


class Readable(Protocol):
    """Called by the participant's thread whenever its condition is met."""

    condition: ReadCondition

    def read(self) -> None: ...


class DdsParticipant:
    """A participant of a DDS domain, with its readers and writers. Close it, or use it as a context manager.

    Args:
        domain: default ROS_DOMAIN_ID, else 0.
        interface: name or address of the network interface; default by CYCLONEDDS_URI, else Cyclone's choice.

    Raises InputError when the domain cannot be joined.
    """

    def __init__(self, domain: int | None = None, interface: str | None = None) -> None:
        keep_memory()
        self.domain = domain_id(domain, os.environ)
        check_interface(interface)
        wanted = configuration(interface, os.environ)
        try:
            self._domain = Domain(self.domain, wanted)
            self.entity = DomainParticipant(self.domain)
        except DDSException as error:
            on = f" on {interface}" if interface else ""
            raise InputError(
                f"domain {self.domain}{on} cannot be joined ({error}); check the interface and CYCLONEDDS_URI"
            ) from None
        self._publisher = Publisher(self.entity)
        self._subscriber = Subscriber(self.entity)
        self._publications = BuiltinDataReader(self.entity, BuiltinTopicDcpsPublication)
        self._topics: dict[tuple[str, str], Topic] = {}
        self._readables: list[Readable] = []
        self._lock = Lock()
        self._closing = False
        self._changed = GuardCondition(self.entity)
        self._waitset = WaitSet(self.entity)
        self._waitset.attach(self._changed)
        self._thread = Thread(target=self._read, name="vps-dds", daemon=True)
        self._thread.start()

    def __enter__(self) -> DdsParticipant:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def writer(self, name: str, kind: str, qos: QosProfile) -> Writer:
        """Publishes messages of type `kind` on the ROS topic `name`."""
        return self.endpoint_writer(f"rt{absolute(name)}", kind, qos)

    def reader(self, name: str, kind: str, qos: QosProfile, callback: Callable[[bytes], None]) -> Reader:
        """Calls `callback` with the CDR of each message, in the participant's thread: it must return at once."""
        return self.endpoint_reader(f"rt{absolute(name)}", kind, qos, callback)

    def endpoint_writer(
        self, topic: str, kind: str, qos: QosProfile, service: bool = False, user_data: str = ""
    ) -> Writer:
        """As `writer`, for a DDS topic name. `user_data` comes before the type's hash in USER_DATA."""
        on = self._topic(topic, kind, service)
        return Writer(DataWriter(self._publisher, on, _dds_qos(qos, kind, user_data)), kind, topic)

    def endpoint_reader(
        self,
        topic: str,
        kind: str,
        qos: QosProfile,
        callback: Callable[[bytes], None],
        service: bool = False,
        user_data: str = "",
    ) -> Reader:
        """As `reader`, for a DDS topic name."""
        on = self._topic(topic, kind, service)
        reader = Reader(self, DataReader(self._subscriber, on, _dds_qos(qos, kind, user_data)), qos, callback)
        self.attach(reader)
        return reader

    def attach(self, readable: Readable) -> None:
        """Calls `readable.read` from now on."""
        with self._lock:
            self._readables.append(readable)
            self._waitset.attach(readable.condition)
        self._changed.set(True)

    def detach(self, readable: Readable) -> None:
        with self._lock:
            self._readables.remove(readable)
            self._waitset.detach(readable.condition)
        self._changed.set(True)

    def publishers(self, own: bool = True) -> tuple[Endpoint, ...]:
        """The publishers of ROS topics in the domain, sorted by topic; `own`: including those of this participant."""
        found = (
            Endpoint(one.topic_name.removeprefix("rt"), ros_name(one.type_name), _ros_qos(one.qos))
            for one in self._publications.read(_MOST)
            if one.sample_info.instance_state == InstanceState.Alive
            and one.topic_name.startswith("rt/")
            and (own or one.participant_key != self.entity.guid)
        )
        return tuple(sorted(found, key=lambda endpoint: (endpoint.topic, endpoint.kind)))

    def close(self) -> None:
        """Leaves the domain; readers and writers cannot be used any more."""
        if self._closing:
            return
        self._closing = True
        self._changed.set(True)
        self._thread.join()
        # References in Python would keep the participant alive, and others would go on sending to it.
        self.entity.__del__()
        self._domain.__del__()

    def _topic(self, topic: str, kind: str, service: bool) -> Topic:
        if (topic, kind) not in self._topics:
            # rosbags generates code at the first use of a type, which would delay the first frame.
            typestore().get_msgdef(kind)
            self._topics[topic, kind] = Topic(self.entity, topic, dds_type(kind, service))
        return self._topics[topic, kind]

    def _read(self) -> None:
        errors = MessageCounter()

        def attempt(work: Callable[[], object]) -> None:
            try:
                work()
            # A failure with one message must not end the reading of others.
            except Exception as error:
                if not self._closing and errors.add(str(error)):
                    log.exception("reading from DDS failed (logged once; further ones are counted)")

        while not self._closing:
            attempt(lambda: self._waitset.wait(_POLL))
            self._changed.set(False)
            with self._lock:
                readables = tuple(self._readables)
            for readable in readables:
                attempt(readable.read)


class Writer:
    """Sends messages of one type on one topic (transport.Publisher)."""

    def __init__(self, writer: DataWriter, kind: str, topic: str) -> None:
        self._writer = writer
        self.kind = kind
        self._topic = topic
        self._sample_type = writer.data_type
        self._buffer = SerialisationBuffer()
        self._sending = Lock()
        self._errors = MessageCounter()

    @property
    def subscribers(self) -> int:
        return self._writer.get_publication_matched_status().current_count

    def send(self, message: Any) -> bool:
        """Serialises and sends; false when the message was lost, which is logged once."""
        with self._sending:
            return self._write(self._buffer.serialise(message, self.kind))

    def send_cdr(self, cdr: bytes | memoryview) -> bool:
        """Sends a message that is serialised already."""
        with self._sending:
            return self._write(self._buffer.copy(cdr))

    def _write(self, cdr: PaddedBytes) -> bool:
        try:
            self._writer.write(sample(self._sample_type, cdr))
        except DDSException as error:
            if self._errors.add(str(error)):
                log.warning("%s: a message could not be sent (%s; logged once)", self._topic, error)
            return False
        return True

    def flush(self, seconds: float) -> bool:
        """Waits at most so long until every reliable subscriber has received all messages; whether they have."""
        try:
            return self._writer.wait_for_acks(int(seconds * 1e9))
        # Raised by Cyclone's binding at a timeout, whose code it does not know.
        except AttributeError:
            return False

    def close(self) -> None:
        """Ends the publisher; others learn that it is gone."""
        self._writer.__del__()


class Reader:
    """Receives messages of one type on one topic (transport.Subscription)."""

    def __init__(
        self, owner: DdsParticipant, reader: DataReader, qos: QosProfile, callback: Callable[[bytes], None]
    ) -> None:
        self._owner = owner
        self._reader = reader
        self.qos = qos
        self._callback = callback
        self.condition = ReadCondition(reader, _ALL)

    @property
    def publishers(self) -> int:
        """Number of publishers whose type and quality of service match."""
        return self._reader.get_subscription_matched_status().current_count

    def read(self) -> None:
        """Passes on what has arrived."""
        for one in self._reader.take(self.qos.depth):
            # A sample without data reports that a publisher is gone.
            if hasattr(one, "cdr"):
                self._callback(one.cdr)

    def close(self) -> None:
        self._owner.detach(self)


def _dds_qos(qos: QosProfile, kind: str, user_data: str) -> Qos:
    policies = [
        Policy.History.KeepLast(qos.depth),
        Policy.Reliability.Reliable(_BLOCK) if qos.reliability == "reliable" else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if qos.latched else Policy.Durability.Volatile,
        Policy.WriterDataLifecycle(autodispose=False),
        Policy.DataRepresentation(use_cdrv0_representation=True),
        # Without it ROS warns that it cannot compare the types of both sides.
        Policy.Userdata(f"{user_data}typehash={type_hash(kind)};".encode()),
    ]
    if qos.latched:
        kept = Policy.History.KeepLast(qos.depth)
        policies.append(Policy.DurabilityService(duration(seconds=0), kept, -1, -1, -1))
    return Qos(*policies)


def _ros_qos(qos: Qos) -> QosProfile:
    """Reliability and durability; the depth is not published."""
    reliable = isinstance(qos[Policy.Reliability], Policy.Reliability.Reliable)
    latched = qos[Policy.Durability] != Policy.Durability.Volatile
    return QosProfile("reliable" if reliable else "best_effort", latched=latched)


def domain_id(given: int | None, environment: Mapping[str, str]) -> int:
    """The domain: `given`, else ROS_DOMAIN_ID, else 0. Raises InputError for an invalid number."""
    text, where = str(given), "--domain"
    if given is None:
        text, where = environment.get("ROS_DOMAIN_ID") or "0", "ROS_DOMAIN_ID"
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= HIGHEST_DOMAIN:
        raise InputError(f"{where}: {text!r} is not a domain; give a number from 0 to {HIGHEST_DOMAIN}")
    return number


def check_interface(name: str | None) -> None:
    """Raises InputError when this machine has no network interface of that name; Cyclone itself checks addresses."""
    if name is not None and _interface_kind(name) == "name":
        there = [one for _, one in socket.if_nameindex()]
        if name not in there:
            raise InputError(f"--interface: this machine has no {name!r}; it has {', '.join(there)}")


def configuration(interface: str | None, environment: Mapping[str, str]) -> str:
    """Cyclone's configuration: for large messages, by the variables of ROS 2, CYCLONEDDS_URI, `interface`.

    Later parts win. `interface` is a name or an address.
    """
    own = environment.get("CYCLONEDDS_URI", "")
    reach, peers = _discovery_range(environment)
    interfaces = [] if interface is None else [interface]
    # Cyclone uses the interfaces of all parts together, so that no part may repeat one. A file is assumed to name some.
    named = "NetworkInterface" in own or bool(re.sub("<.*>", "", own, flags=re.DOTALL).strip(" ,"))
    if reach == "LOCALHOST" and not interfaces and not named:
        interfaces = _addresses_towards(peers)
    chosen = "".join(f"<NetworkInterface {_interface_kind(one)}={quoteattr(one)}/>" for one in interfaces)
    last = f"<General><Interfaces>{chosen}</Interfaces></General>" if chosen else ""
    parts = [_in_domain(_LARGE), _in_domain(_discovery(reach, peers)), own, _in_domain(last)]
    return ",".join(part for part in parts if part)


def _discovery_range(environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """Discovery range and peers by ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS and ROS_LOCALHOST_ONLY."""
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() or "SUBNET"
    peers = [peer for peer in environment.get("ROS_STATIC_PEERS", "").split(";") if peer]
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        reach, peers = "LOCALHOST", []
    if reach not in ("SUBNET", "LOCALHOST", "SYSTEM_DEFAULT"):
        choices = "SUBNET, LOCALHOST or SYSTEM_DEFAULT"
        raise InputError(f"ROS_AUTOMATIC_DISCOVERY_RANGE: {reach} is not supported; set {choices}")
    return reach, ["localhost", *peers] if reach == "LOCALHOST" else peers


def _discovery(reach: str, peers: list[str]) -> str:
    """The discovery settings of rmw_cyclonedds_cpp in Jazzy."""
    if reach == "SYSTEM_DEFAULT":
        return ""
    listed = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
    return (
        ("<General><AllowMulticast>false</AllowMulticast></General>" if reach == "LOCALHOST" else "")
        + "<Discovery><ParticipantIndex>auto</ParticipantIndex>"
        + f"<MaxAutoParticipantIndex>{_PARTICIPANTS}</MaxAutoParticipantIndex>"
        + (f"<Peers>{listed}</Peers>" if listed else "")
        + "</Discovery>"
    )


def _addresses_towards(peers: list[str]) -> list[str]:
    """Own addresses from which these peers are reached.

    Cyclone 11 and later receives only on the interfaces that it has chosen, and never chooses loopback by itself where
    there is another interface: it would not find nodes on the same machine that address it as localhost.
    """
    found = []
    for peer in peers:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Sends nothing, but selects the route.
                probe.connect((peer, 9))
            except (OSError, UnicodeError):
                continue
            found.append(probe.getsockname()[0])
    return list(dict.fromkeys(found))


def _in_domain(part: str) -> str:
    return f"<CycloneDDS><Domain>{part}</Domain></CycloneDDS>" if part else ""


def _interface_kind(interface: str) -> str:
    try:
        ip_address(interface)
    except ValueError:
        return "name"
    return "address"
