"""What the commands on DDS share: their flags, and joining the domain."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vps_ros.errors import InputError
from vps_ros.live.transport import absolute

if TYPE_CHECKING:
    from vps_ros.live.dds import DdsParticipant


def add_dds_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--domain", type=int, metavar="N", help="DDS domain (default: ROS_DOMAIN_ID, else 0)")
    parser.add_argument(
        "--interface", metavar="I", help="network interface, by name or address (default: as CYCLONEDDS_URI says)"
    )


def camera_topics(given: list[str], flag: str) -> dict[str, str]:
    """Name of each camera -> its absolute topic, of values TOPIC or NAME=TOPIC; "" is the name of a single camera.

    Raises InputError, which names the flag, when a camera of several has no name or that of another one.
    """
    topics: dict[str, str] = {}
    for text in given:
        name, _, topic = text.rpartition("=")
        name = name and absolute(name)[1:]
        if name in topics:
            other = f"{name!r} is the name of two cameras" if name else "several cameras need names"
            raise InputError(f"{flag} {text}: {other}; give {flag} front=/front/image_raw {flag} rear=...")
        topics[name] = absolute(topic)
    if "" in topics and len(topics) > 1:
        raise InputError(f"{flag} {topics['']}: several cameras need names; give {flag} front={topics['']}")
    return topics


def join(args: argparse.Namespace) -> DdsParticipant:
    """A participant of the domain that the flags name; raises InputError without a domain or without cyclonedds."""
    try:
        from vps_ros.live.dds import DdsParticipant
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cyclonedds":
            raise
        raise InputError('this command needs cyclonedds; pip install "vps_ros[live]"') from None
    return DdsParticipant(args.domain, args.interface)
