"""Who tracks the frames of the live benchmarks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """What `vps-ros live` does (DDS), or the node itself (rclpy), which has a slot always.

    Attributes:
        model: a shipped one.
        waiting: where frames wait, "slot" or "fifo".
    """

    transport: str = "DDS"
    model: str = "streets-s"
    waiting: str = "slot"
