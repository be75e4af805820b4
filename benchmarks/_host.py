"""The programs that track the frames of the live benchmarks."""

from __future__ import annotations

import importlib.util
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass

CYCLONE = "rmw_cyclonedds_cpp"


@dataclass(frozen=True)
class Host:
    """The same parts as `vps-ros live` (DDS), or the node itself (rclpy), which always has a slot.

    Attributes:
        model: a shipped one.
        waiting: where frames wait, "slot" or "fifo".
    """

    transport: str = "DDS"
    model: str = "streets-s"
    waiting: str = "slot"


def missing() -> str:
    """What this shell lacks for rclpy; "" for nothing."""
    if importlib.util.find_spec("rclpy") is None:
        return "rclpy is missing"
    if importlib.util.find_spec("vps_ros.msg") is None:
        return "no workspace with vps_ros is sourced"
    # The private domain of a benchmark needs a setting of Cyclone DDS.
    return "" if os.environ.get("RMW_IMPLEMENTATION") == CYCLONE else f"RMW_IMPLEMENTATION is not {CYCLONE}"


@contextmanager
def private_domain():
    """Environment variables of a private DDS domain on the loopback interface.

    With the receive buffer that docs/ros.md advises for large images, which `vps-ros live` has by itself.
    """
    inner = '<General><Interfaces><NetworkInterface name="lo"/></Interfaces></General>'
    inner += '<Internal><SocketReceiveBufferSize min="default" max="16MB"/></Internal>'
    inner += f"<Discovery><Tag>{secrets.token_hex(8)}</Tag></Discovery>"
    own = {
        "CYCLONEDDS_URI": f"<CycloneDDS><Domain>{inner}</Domain></CycloneDDS>",
        "ROS_DOMAIN_ID": str(1 + secrets.randbelow(100)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
