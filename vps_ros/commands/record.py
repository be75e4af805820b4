"""`vps-ros record`: records topics from DDS to a bag."""

from __future__ import annotations

import argparse
from functools import partial
from queue import Full, Queue
from time import time_ns
from typing import TYPE_CHECKING

from vps_ros.commands.console import log_to_stderr, note, ticker, warn
from vps_ros.commands.dds import add_dds_flags, join
from vps_ros.errors import InputError
from vps_ros.live.process import Signals
from vps_ros.live.transport import Endpoint, QosProfile, absolute
from vps_ros.messages.typestore import typestore
from vps_ros.recording.writer import BagWriter

if TYPE_CHECKING:
    from vps_ros.live.dds import DdsParticipant, Reader

DESCRIPTION = (
    "Record ROS 2 topics from DDS to a rosbag2, without ROS: the given ones, or all whose types are known. Runs until "
    "interrupted; the bag is written at the end."
)
EXAMPLES = [
    "vps-ros record -o drive.mcap",
    "vps-ros record /camera/image_raw /vps/tracks /vps/segments -o drive",
]
_QUEUE_SIZE = 500
"""Messages that are not written yet."""
_DEPTH = 100
"""History depth of subscriptions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="default: all of known types")
    parser.add_argument("-o", "--output", required=True, help="OUT.mcap for one file, any other name for a folder")
    parser.add_argument("--force", action="store_true", help="replace an output that exists")
    add_dds_flags(parser)


def run(args: argparse.Namespace) -> int:
    wanted = {absolute(topic) for topic in args.topics}
    with log_to_stderr(), Signals() as signals, BagWriter(args.output, args.force) as bag, join(args) as participant:
        from vps_ros.live.dds_transport import NodeAnnouncement

        NodeAnnouncement(participant, "vps_record")
        recorder = _Recorder(participant, wanted)
        note(f"domain {participant.domain}: {', '.join(sorted(wanted)) or 'every topic'} -> {args.output}; Ctrl-C ends")
        count = 0
        with ticker() as show:
            ended = False
            while not ended:
                ended = signals.wait(0.1)
                recorder.discover()
                for topic, kind, latched, data, time in recorder.take():
                    bag.write_raw(topic, kind, data, time, latched)
                    count += 1
                show(f"{count} messages of {len(recorder.subscribed)} topics")
        if not count:
            topics = f" on {', '.join(sorted(wanted))}" if wanted else ""
            raise InputError(f"{args.output}: no message was received{topics}; check the domain and the topic names")
    note(f"{count} messages of {len(recorder.subscribed)} topics")
    for topic in sorted(wanted - recorder.subscribed - recorder.unknown):
        warn(f"{topic} has no publisher")
    if recorder.dropped:
        warn(f"{recorder.dropped} messages were dropped: the disk is too slow")
    return 0


class _Recorder:
    """Subscribes to each topic when its publisher is discovered; queues messages in the order of arrival."""

    def __init__(self, participant: DdsParticipant, wanted: set[str]) -> None:
        self._participant, self._wanted = participant, wanted
        self._readers: dict[str, tuple[Reader, str, QosProfile]] = {}
        self.unknown: set[str] = set()
        self._queue: Queue = Queue(_QUEUE_SIZE)
        self.dropped = 0

    @property
    def subscribed(self) -> set[str]:
        """Topics that have had a publisher."""
        return set(self._readers)

    def discover(self) -> None:
        """Subscribes to new topics, with a quality of service that is compatible with every publisher."""
        offers: dict[str, list[Endpoint]] = {}
        for offer in self._participant.publishers():
            if offer.topic in self._wanted or not self._wanted:
                offers.setdefault(offer.topic, []).append(offer)
        for topic, offered in offers.items():
            best = QosProfile(depth=_DEPTH, latched=True)
            reader, kind, before = self._readers.get(topic, (None, offered[0].kind, best))
            if kind not in typestore().types:
                if self._wanted and topic not in self.unknown:
                    warn(f"{topic} is a {kind}, an unknown type; it is not recorded")
                self.unknown.add(topic)
                continue
            # rosbag2 expects one type per topic.
            offered = [offer for offer in offered if offer.kind == kind]
            reliable = before.reliability == "reliable" and all(o.qos.reliability == "reliable" for o in offered)
            latched = before.latched and all(offer.qos.latched for offer in offered)
            profile = QosProfile("reliable" if reliable else "best_effort", _DEPTH, latched)
            if reader is None or profile != before:
                if reader is not None:
                    reader.close()
                take = partial(self._take, topic, kind, latched)
                self._readers[topic] = self._participant.reader(topic, kind, profile, take), kind, profile

    def take(self) -> list[tuple[str, str, bool, bytes, int]]:
        """Received messages: topic, type, whether it is transient local, CDR, and time of arrival in nanoseconds."""
        # Only this thread takes messages, so that at least so many are there.
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]

    def _take(self, topic: str, kind: str, latched: bool, data: bytes) -> None:
        try:
            self._queue.put_nowait((topic, kind, latched, data, time_ns()))
        except Full:
            self.dropped += 1
