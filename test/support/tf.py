"""Messages of TF."""

from __future__ import annotations

from collections.abc import Sequence

from support.bags import TYPES

OPTICAL = (-0.5, 0.5, -0.5, 0.5)
"""Quaternion of a camera that looks along x of its vehicle: x, y, z of the camera are -y, -z, x."""


def transform(stamp: int, parent: str, child: str, translation: Sequence[float], quaternion: Sequence[float]):
    """geometry_msgs/TransformStamped."""
    types = TYPES.types
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    move = types["geometry_msgs/msg/Vector3"](*map(float, translation))
    turn = types["geometry_msgs/msg/Quaternion"](*map(float, quaternion))
    return types["geometry_msgs/msg/TransformStamped"](
        header=types["std_msgs/msg/Header"](stamp=time, frame_id=parent),
        child_frame_id=child,
        transform=types["geometry_msgs/msg/Transform"](translation=move, rotation=turn),
    )


def transforms(*rows):
    """tf2_msgs/TFMessage."""
    return TYPES.types["tf2_msgs/msg/TFMessage"](transforms=list(rows))
