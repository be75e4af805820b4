"""What the commands on the ROS 2 wire have in common."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vps_ros.errors import InputError

if TYPE_CHECKING:
    from vps_ros.live.dds import Bus


def add_wire_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--domain", type=int, metavar="N", help="DDS domain (default: ROS_DOMAIN_ID, else 0)")
    parser.add_argument(
        "--interface", metavar="I", help="network interface, by name or address (default: as CYCLONEDDS_URI says)"
    )


def join(args: argparse.Namespace) -> Bus:
    """The bus of the domain that the flags name; raises InputError when there is none, or nothing to join it with."""
    try:
        from vps_ros.live.dds import Bus
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cyclonedds":
            raise
        raise InputError('the ROS 2 wire needs cyclonedds; pip install "vps_ros[live]"') from None
    return Bus(args.domain, args.interface)
