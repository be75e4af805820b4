"""What a host says of its own health, and the DiagnosticArray of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from vps_ros.messages.panoptic import make_header

TOPIC, TYPE = "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"


class Level(IntEnum):
    """Values of DiagnosticStatus.level."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Status:
    """Health of one part.

    Attributes:
        name: "node: part".
        message: one line.
        values: names and what they are, as people read them.
        hardware_id: what it runs on.
    """

    name: str
    level: Level
    message: str
    values: tuple[tuple[str, str], ...] = ()
    hardware_id: str = ""


def diagnostics(stamp: int, statuses: Sequence[Status], messages: Any) -> Any:
    """DiagnosticArray of a moment (ns)."""
    rows = [
        messages.make(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=int(s.level),
            name=s.name,
            message=s.message,
            hardware_id=s.hardware_id,
            values=[messages.make("diagnostic_msgs/msg/KeyValue", key=key, value=value) for key, value in s.values],
        )
        for s in statuses
    ]
    return messages.make(TYPE, header=make_header(stamp, "", messages), status=rows)
