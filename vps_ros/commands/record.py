"""`vps-ros record`: what is on the ROS 2 wire, as a bag."""

from __future__ import annotations

import argparse
from functools import partial
from queue import Empty, Full, Queue
from time import time_ns
from typing import TYPE_CHECKING

from vps_ros.commands.console import log_to_stderr, note, ticker, warn
from vps_ros.commands.dds import Signals, add_dds_flags, join
from vps_ros.errors import InputError
from vps_ros.live.transport import Endpoint, QosProfile, absolute
from vps_ros.messages.typestore import typestore
from vps_ros.recording.writer import BagWriter

if TYPE_CHECKING:
    from vps_ros.live.dds import DdsParticipant, Reader

DESCRIPTION = (
    "Record topics of the ROS 2 wire (DDS) as a rosbag2, without ROS: all whose types are known here, or those that "
    "are named. Runs until interrupted; the bag is there when it has ended."
)
EXAMPLES = [
    "vps-ros record -o drive.mcap",
    "vps-ros record /camera/image_raw /vps/tracks /vps/segments -o drive",
]
_WAITING = 500
"""Messages that may wait for the disk."""
_DEPTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="default: all whose types are known")
    parser.add_argument("-o", "--output", required=True, help="OUT.mcap for one file, any other name for a folder")
    parser.add_argument("--force", action="store_true", help="replace an output that exists")
    add_dds_flags(parser)


def run(args: argparse.Namespace) -> int:
    wanted = {absolute(topic) for topic in args.topics}
    with log_to_stderr(), Signals() as signals, BagWriter(args.output, args.force) as bag, join(args) as participant:
        recorder = _Recorder(participant, wanted)
        note(f"domain {participant.domain}: {', '.join(sorted(wanted)) or 'every topic'} -> {args.output}; Ctrl-C ends")
        count = 0
        with ticker() as show:
            ended = False
            while not ended:
                ended = signals.wait(0.1)
                recorder.look()
                for topic, kind, latched, data, at in recorder.take():
                    bag.write_raw(topic, kind, data, at, latched)
                    count += 1
                show(f"{count} messages of {len(recorder.heard)} topics")
        if not count:
            raise InputError(f"{args.output}: nothing came{' on ' + ', '.join(sorted(wanted)) if wanted else ''}")
    note(f"{count} messages of {len(recorder.heard)} topics")
    for topic in sorted(wanted - recorder.heard - recorder.unknown):
        warn(f"nobody published {topic}")
    if recorder.lost:
        warn(f"{recorder.lost} messages lost: the disk is too slow for them")
    return 0


class _Recorder:
    """Subscribes to each topic as it is offered; what comes waits in `waiting`, in the order of its coming."""

    def __init__(self, participant: DdsParticipant, wanted: set[str]) -> None:
        self._participant, self._wanted = participant, wanted
        self._readers: dict[str, tuple[Reader, str, QosProfile]] = {}
        self.unknown: set[str] = set()
        self.waiting: Queue = Queue(_WAITING)
        self.lost = 0

    @property
    def heard(self) -> set[str]:
        """Topics that somebody has published."""
        return set(self._readers)

    def look(self) -> None:
        """Subscribes to what is new, in a quality of service that every publisher of the topic can meet."""
        offers: dict[str, list[Endpoint]] = {}
        for offer in self._participant.publishers():
            if offer.topic in self._wanted or not self._wanted:
                offers.setdefault(offer.topic, []).append(offer)
        for topic, there in offers.items():
            best = QosProfile(depth=_DEPTH, latched=True)
            reader, kind, before = self._readers.get(topic, (None, there[0].kind, best))
            if kind not in typestore().types:
                if self._wanted and topic not in self.unknown:
                    warn(f"{topic} is a {kind}, whose definition is not known here; it is left out")
                self.unknown.add(topic)
                continue
            # A topic of a bag has one type.
            there = [one for one in there if one.kind == kind]
            reliable = before.reliability == "reliable" and all(one.qos.reliability == "reliable" for one in there)
            latched = before.latched and all(one.qos.latched for one in there)
            profile = QosProfile("reliable" if reliable else "best_effort", _DEPTH, latched)
            if reader is None or profile != before:
                if reader is not None:
                    reader.close()
                take = partial(self._take, topic, kind, latched)
                self._readers[topic] = self._participant.reader(topic, kind, profile, take), kind, profile

    def take(self) -> list[tuple[str, str, bool, bytes, int]]:
        """What has come: topic, type, whether it is for latecomers too, CDR, nanoseconds of its coming."""
        here = []
        while True:
            try:
                here.append(self.waiting.get_nowait())
            except Empty:
                return here

    def _take(self, topic: str, kind: str, latched: bool, data: bytes) -> None:
        try:
            self.waiting.put_nowait((topic, kind, latched, data, time_ns()))
        except Full:
            self.lost += 1
