"""`vps-ros play`: publishes the images of a bag over DDS."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from time import monotonic

from vps_ros.commands.console import log_to_stderr, note, ticker, warn
from vps_ros.commands.dds import add_dds_flags, join
from vps_ros.config import RELIABILITIES
from vps_ros.errors import InputError
from vps_ros.live.process import Signals
from vps_ros.live.transport import QosProfile
from vps_ros.messages.images import DECODERS
from vps_ros.messages.panoptic import CAMERA_INFO_TYPE, camera_info_topic
from vps_ros.recording.bag import Bag
from vps_ros.recording.frames import choose_image_topic
from vps_ros.recording.storage import Message

DESCRIPTION = (
    "Publish the images of a bag, and the camera_info beside them, over DDS, as ROS 2 does, with their stamps and at "
    "the pace of the recording. ROS is not needed. Starts with the first subscriber."
)
EXAMPLES = [
    "vps-ros play drive.mcap",
    "vps-ros play drive/ --topic /front/image_raw --rate 0.5 --loop",
    "vps-ros play drive.mcap & vps-ros live --image /camera/image_raw",
    "vps-ros play drive.mcap --topic /camera/image_raw --topic /camera/depth/image_raw",
]
MAX_GAP_SECONDS = 10.0
"""Longest pause between messages: if a clock is set during the recording, the times of messages differ by decades."""
_SINGLE_IMAGE_SECONDS = 0.1
"""Period of --loop for a single image."""
_FLUSH_SECONDS = 2.0
"""Time for the last images to reach the subscribers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", help="a .mcap or .db3 file, or a rosbag2 folder")
    parser.add_argument("--topic", action="append", help="image topic; repeat it for several (default: the only one)")
    parser.add_argument(
        "--rate", type=float, default=1.0, metavar="R", help="speed relative to the recording (default: 1)"
    )
    parser.add_argument("--loop", action="store_true", help="repeat until interrupted; stamps jump back at each start")
    parser.add_argument(
        "--reliability", choices=RELIABILITIES, default="reliable", help="offered reliability (default: reliable)"
    )
    parser.add_argument(
        "--wait", type=float, default=3.0, metavar="S", help="seconds to wait for a subscriber (default: 3)"
    )
    add_dds_flags(parser)


def run(args: argparse.Namespace) -> int:
    if not args.rate > 0:
        raise InputError(f"--rate {args.rate}: give a number above 0")
    if not args.wait >= 0:
        raise InputError(f"--wait {args.wait}: give seconds, 0 or more")
    with log_to_stderr(), closing(Bag(args.bag)) as bag, Signals() as signals, join(args) as participant:
        from vps_ros.live.dds_transport import NodeAnnouncement

        NodeAnnouncement(participant, "vps_play")
        topics = [topic for name in args.topic or [None] for topic in choose_image_topic(bag, name)]
        # A DDS topic has one type: if a topic of the bag has both, compressed images get the name that ROS gives them.
        types = Counter(t.name for t in topics)
        published = {
            t: f"{t.name}/compressed" if types[t.name] > 1 and t.type.endswith("CompressedImage") else t.name
            for t in topics
        }
        described = {camera_info_topic(t.name) for t in topics}
        published |= {t: t.name for t in bag.topics if t.type == CAMERA_INFO_TYPE and t.name in described}
        writers = {
            (t.name, t.type): participant.writer(name, t.type, QosProfile(args.reliability))
            for t, name in published.items()
        }
        counts = ", ".join(f"{name} ({t.count})" for t, name in published.items())
        note(f"domain {participant.domain}: {counts}; Ctrl-C ends")
        deadline = monotonic() + args.wait
        while not any(writer.subscribers for writer in writers.values()):
            if signals.wait(0.05) or monotonic() > deadline:
                break
        sent = failed = 0
        with ticker() as show:
            for due, message in _schedule(bag, {t.name for t in published}, args.rate, args.loop):
                if signals.wait(due - monotonic()):
                    break
                accepted = writers[message.topic, message.type].send_cdr(message.data)
                if message.type in DECODERS:
                    sent, failed = sent + accepted, failed + (not accepted)
                show(f"{sent} images sent")
            else:
                for writer in writers.values():
                    writer.flush(_FLUSH_SECONDS)
        for loss in bag.losses:
            warn(str(loss))
    note(f"{sent} images sent" + (f", {failed} could not be" if failed else ""))
    return 0


def _schedule(bag: Bag, topics: set[str], rate: float, loop: bool) -> Iterator[tuple[float, Message]]:
    """Each message with its time of publication on the clock of monotonic(); `loop`: without end."""
    due = start = monotonic()
    shortened = False
    while True:
        previous, count, played = None, 0, set[str]()
        for message in bag.messages(topics, (*DECODERS, CAMERA_INFO_TYPE)):
            gap = 0.0 if previous is None else (message.time - previous) / 1e9
            if gap > MAX_GAP_SECONDS and not shortened:
                shortened = True
                warn(f"{bag.path}: pauses above {MAX_GAP_SECONDS:g} s are shortened, the first is {gap:.0f} s")
            due += min(gap, MAX_GAP_SECONDS) / rate
            previous = message.time
            if message.type in DECODERS:
                count += 1
                played.add(message.topic)
            yield due, message
        if not loop or not count:
            return
        # The first image follows the last one at the mean interval.
        images = count / len(played)
        interval = (due - start) / (images - 1) if images > 1 else 0.0
        due = start = due + (interval or _SINGLE_IMAGE_SECONDS / rate)
