"""The wire of ROS 2 without ROS: topics, types and qualities of service as rmw has them, over Eclipse Cyclone DDS."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread
from types import TracebackType
from typing import Any

from cyclonedds.core import DDSException, GuardCondition, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter, Publisher
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader, Subscriber
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from vps_ros.errors import InputError
from vps_ros.live.causes import Causes
from vps_ros.live.dds_config import check_interface, configuration, domain_id
from vps_ros.live.dds_room import Room, Words, keep_memory
from vps_ros.live.dds_types import dds_type, sample, type_hash
from vps_ros.live.names import absolute
from vps_ros.messages.typestore import typestore

log = logging.getLogger(__name__)

_ALL = ViewState.Any | InstanceState.Any | SampleState.Any
_BLOCK = duration(milliseconds=100)
"""How long a message may wait for room; rmw waits for ever. Not a matter between the two sides."""
_POLL = duration(seconds=1)


@dataclass(frozen=True)
class Profile:
    """Quality of service, as a rmw_qos_profile_t has it.

    Attributes:
        reliability: "reliable" or "best_effort".
        depth: messages kept.
        latched: late subscribers get what was kept (durability transient local).
    """

    reliability: str = "reliable"
    depth: int = 10
    latched: bool = False


class Bus:
    """A participant of a domain, with its readers and writers. Close it, or use it as a context manager.

    Args:
        domain: default ROS_DOMAIN_ID, else 0.
        interface: name or address of the network interface; default as Cyclone chooses, or as CYCLONEDDS_URI says.

    Raises InputError when the domain cannot be joined.
    """

    def __init__(self, domain: int | None = None, interface: str | None = None) -> None:
        keep_memory()
        self.domain = domain_id(domain, os.environ)
        check_interface(interface)
        wanted = configuration(interface, os.environ)
        try:
            self._domain = Domain(self.domain, wanted)
            self.participant = DomainParticipant(self.domain)
        except DDSException as error:
            on = f" on {interface}" if interface else ""
            raise InputError(
                f"domain {self.domain}{on} cannot be joined ({error}); check the interface and CYCLONEDDS_URI"
            ) from None
        self._publisher = Publisher(self.participant)
        self._subscriber = Subscriber(self.participant)
        self._topics: dict[tuple[str, str], Topic] = {}
        self._readers: list[Reader] = []
        self._lock = Lock()
        self._closing = False
        self._changed = GuardCondition(self.participant)
        self._waitset = WaitSet(self.participant)
        self._waitset.attach(self._changed)
        self._thread = Thread(target=self._read, name="vps-dds", daemon=True)
        self._thread.start()

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def writer(self, name: str, kind: str, profile: Profile) -> Writer:
        """Offers messages of type `kind` on a topic of that ROS name."""
        return self.endpoint_writer(f"rt{absolute(name)}", kind, profile)

    def reader(self, name: str, kind: str, profile: Profile, take: Callable[[bytes], None]) -> Reader:
        """Calls `take` with the CDR of each message, in the thread that reads: it must come back at once."""
        return self.endpoint_reader(f"rt{absolute(name)}", kind, profile, take)

    def endpoint_writer(self, topic: str, kind: str, profile: Profile, service: bool = False, note: str = "") -> Writer:
        """As `writer`, for a topic of that DDS name. `note` comes before the type's hash in the USER_DATA."""
        on = self._topic(topic, kind, service)
        return Writer(DataWriter(self._publisher, on, _qos(profile, kind, note)), kind, topic)

    def endpoint_reader(
        self,
        topic: str,
        kind: str,
        profile: Profile,
        take: Callable[[bytes], None],
        service: bool = False,
        note: str = "",
    ) -> Reader:
        """As `reader`, for a topic of that DDS name."""
        on = self._topic(topic, kind, service)
        reader = Reader(DataReader(self._subscriber, on, _qos(profile, kind, note)), profile, take)
        with self._lock:
            self._readers.append(reader)
            self._waitset.attach(reader.condition)
        self._changed.set(True)
        return reader

    def drop(self, reader: Reader) -> None:
        """Ends a subscription."""
        with self._lock:
            self._readers.remove(reader)
            self._waitset.detach(reader.condition)
        self._changed.set(True)

    def close(self) -> None:
        """Leaves the domain, which the others are told; readers and writers are of no use any more."""
        if self._closing:
            return
        self._closing = True
        self._changed.set(True)
        self._thread.join()
        # Python's references would keep it for ever, and the others would go on sending.
        self.participant.__del__()
        self._domain.__del__()

    def _topic(self, topic: str, kind: str, service: bool) -> Topic:
        if (topic, kind) not in self._topics:
            # rosbags makes its code for a type when it first meets it, which would be in the middle of a frame.
            typestore().get_msgdef(kind)
            self._topics[topic, kind] = Topic(self.participant, topic, dds_type(kind, service))
        return self._topics[topic, kind]

    def _read(self) -> None:
        causes = Causes()
        while not self._closing:
            try:
                self._waitset.wait(_POLL)
                self._changed.set(False)
                with self._lock:
                    readers = tuple(self._readers)
                for reader in readers:
                    reader.read()
            # Nothing that one message brings may end the reading of the others.
            except Exception as error:
                if not self._closing and causes.add(str(error)):
                    log.exception("reading from the wire failed (said once; further ones are counted)")


class Writer:
    """Sends messages of one type on one topic."""

    def __init__(self, writer: DataWriter, kind: str, topic: str) -> None:
        self._writer = writer
        self.kind = kind
        self._topic = topic
        self._carrier = writer.data_type
        self._room = Room()
        self._sending = Lock()
        self._lost = Causes()

    @property
    def listeners(self) -> int:
        """How many subscribers there are."""
        return self._writer.get_publication_matched_status().current_count

    def send(self, message: Any) -> bool:
        """Serialises and sends; false when the message was lost, which is logged once."""
        with self._sending:
            return self._write(self._room.serialise(message, self.kind))

    def send_cdr(self, cdr: bytes | memoryview) -> bool:
        """Sends a message that is serialised already."""
        with self._sending:
            return self._write(self._room.fill(cdr))

    def _write(self, words: Words) -> bool:
        try:
            self._writer.write(sample(self._carrier, words))
        except DDSException as error:
            if self._lost.add(str(error)):
                log.warning("%s: a message could not be sent (%s; said once)", self._topic, error)
            return False
        return True

    def flush(self, seconds: float) -> bool:
        """Waits until every reliable subscriber has what was sent, at most so long; whether they have."""
        try:
            return self._writer.wait_for_acks(int(seconds * 1e9))
        # Cyclone's binding trips over the name of the time-out.
        except AttributeError:
            return False


class Reader:
    """Gets messages of one type on one topic."""

    def __init__(self, reader: DataReader, profile: Profile, take: Callable[[bytes], None]) -> None:
        self._reader = reader
        self._most = profile.depth
        self._take = take
        self.condition = ReadCondition(reader, _ALL)

    @property
    def publishers(self) -> int:
        """How many there are whose type and quality of service go with ours."""
        return self._reader.get_subscription_matched_status().current_count

    def read(self) -> None:
        """Hands on what has come."""
        for one in self._reader.take(self._most):
            # Others tell that a publisher has gone.
            if hasattr(one, "cdr"):
                self._take(one.cdr)


def _qos(profile: Profile, kind: str, note: str) -> Qos:
    policies = [
        Policy.History.KeepLast(profile.depth),
        Policy.Reliability.Reliable(_BLOCK) if profile.reliability == "reliable" else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if profile.latched else Policy.Durability.Volatile,
        Policy.WriterDataLifecycle(autodispose=False),
        Policy.DataRepresentation(use_cdrv0_representation=True),
        # Without it, ROS warns that it cannot know whether both sides mean the same type.
        Policy.Userdata(f"{note}typehash={type_hash(kind)};".encode()),
    ]
    if profile.latched:
        kept = Policy.History.KeepLast(profile.depth)
        policies.append(Policy.DurabilityService(duration(seconds=0), kept, -1, -1, -1))
    return Qos(*policies)
