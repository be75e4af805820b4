"""A message as a recording holds it."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """Topic, full type name, nanoseconds at which the recorder got it, and its CDR bytes."""

    topic: str
    type: str
    time: int
    data: bytes
