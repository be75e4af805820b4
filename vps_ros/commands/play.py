"""`vps-ros play`: a bag's images on the ROS 2 wire."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from time import monotonic

from vps_ros.commands.console import log_to_stderr, note, ticker, warn
from vps_ros.commands.dds import Signals, add_dds_flags, join
from vps_ros.config import RELIABILITIES
from vps_ros.errors import InputError
from vps_ros.recording.bag import Bag
from vps_ros.recording.message import Message
from vps_ros.recording.reader import choose_image_topic

DESCRIPTION = (
    "Publish a bag's images on the ROS 2 wire (DDS) at the pace at which they were recorded, stamps and all, without "
    "ROS. Begins when somebody listens."
)
EXAMPLES = [
    "vps-ros play drive.mcap",
    "vps-ros play drive/ --topic /front/image_raw --rate 0.5 --loop",
    "vps-ros play drive.mcap & vps-ros live --image /camera/image_raw",
]
_ALONE = 0.1
"""Seconds between rounds of a single image."""
_LAST = 2.0
"""Seconds for the last images to reach who listens."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", help="a .mcap or .db3 file, or a rosbag2 folder")
    parser.add_argument(
        "--topic", action="append", help="image topic, again and again for several (default: the only one)"
    )
    parser.add_argument(
        "--rate", type=float, default=1.0, metavar="R", help="times the pace of the recording (default: 1)"
    )
    parser.add_argument(
        "--loop", action="store_true", help="begin again at the end, until interrupted; time jumps back"
    )
    parser.add_argument(
        "--reliability", choices=RELIABILITIES, default="reliable", help="what is offered (default: reliable)"
    )
    parser.add_argument(
        "--wait", type=float, default=3.0, metavar="S", help="seconds to wait for a subscriber at most (default: 3)"
    )
    add_dds_flags(parser)


def run(args: argparse.Namespace) -> int:
    if not args.rate > 0:
        raise InputError(f"--rate {args.rate}: give a number above 0")
    if not args.wait >= 0:
        raise InputError(f"--wait {args.wait}: give seconds, 0 or more")
    with log_to_stderr(), closing(Bag(args.bag)) as bag, Signals() as signals, join(args) as participant:
        from vps_ros.live.transport import QosProfile

        topics = [choose_image_topic(bag, name) for name in args.topic or [None]]
        writers = {t.name: participant.writer(t.name, t.type, QosProfile(args.reliability)) for t in topics}
        note(f"domain {participant.domain}: {', '.join(f'{t.name} ({t.count})' for t in topics)}; Ctrl-C ends")
        patience = monotonic() + args.wait
        while not any(writer.subscribers for writer in writers.values()):
            if signals.wait(0.05) or monotonic() > patience:
                break
        sent = lost = 0
        with ticker() as show:
            for due, message in _paced(bag, set(writers), args.rate, args.loop):
                if signals.wait(due - monotonic()):
                    break
                if writers[message.topic].send_cdr(message.data):
                    sent += 1
                else:
                    lost += 1
                show(f"{sent} images sent")
            else:
                for writer in writers.values():
                    writer.flush(_LAST)
        for loss in bag.losses:
            warn(str(loss))
    note(f"{sent} images sent" + (f", {lost} could not be" if lost else ""))
    return 0


def _paced(bag: Bag, topics: set[str], rate: float, again: bool) -> Iterator[tuple[float, Message]]:
    """Each message with the time of monotonic() at which it is due; `again`: without end, the images in a round."""
    began = monotonic()
    while True:
        first = due = None
        count = 0
        for message in bag.messages(topics):
            first = message.time if first is None else first
            due = max(began + (message.time - first) / 1e9 / rate, due or began)
            count += 1
            yield due, message
        if not again or due is None:
            return
        # The first image follows the last one as images usually follow each other.
        images = count / len(topics)
        usual = (due - began) / (images - 1) if images > 1 else 0.0
        began = due + (usual or _ALONE / rate)
