"""A camera's message to the Frame that flows through the house: the same for a bag and for what is live."""

from __future__ import annotations

from typing import Any

from vps_ros.frame import Frame
from vps_ros.messages.images import DECODERS
from vps_ros.messages.panoptic import nanoseconds


def frame_of(message: Any, kind: str, received: int) -> Frame:
    """The frame of an image message of type `kind`, one of DECODERS.

    Args:
        received: nanoseconds at which it came in. A driver that sets no stamp leaves it zero; this clock is then all
            there is.

    Raises DroppedFrame when the image cannot be used.
    """
    header = message.header
    return Frame(DECODERS[kind](message), nanoseconds(header.stamp) or received, str(header.frame_id))
