"""What the commands on DDS share: their flags, and joining the domain."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vps_ros.errors import InputError

if TYPE_CHECKING:
    from vps_ros.live.dds import DdsParticipant


def add_dds_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--domain", type=int, metavar="N", help="DDS domain (default: ROS_DOMAIN_ID, else 0)")
    parser.add_argument(
        "--interface", metavar="I", help="network interface, by name or address (default: as CYCLONEDDS_URI says)"
    )


def join(args: argparse.Namespace) -> DdsParticipant:
    """A participant of the domain that the flags name; raises InputError without a domain or without cyclonedds."""
    try:
        from vps_ros.live.dds import DdsParticipant
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cyclonedds":
            raise
        raise InputError('this command needs cyclonedds; pip install "vps_ros[live]"') from None
    return DdsParticipant(args.domain, args.interface)
