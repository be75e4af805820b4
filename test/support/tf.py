"""Messages of TF."""

from __future__ import annotations

from collections.abc import Sequence

from support.bags import START, TENTH, TYPES

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


def odometry(count: int, first: int = 0):
    """TF of a camera 1.5 m above a vehicle that drives 1 m/s along x of odom, from frame `first` of `bags.drive` on."""
    still = transforms(transform(START, "base", "camera", (0, 0, 1.5), OPTICAL))
    stamps = [START + i * TENTH for i in range(first, count)]
    rows = [transform(stamp, "odom", "base", ((stamp - START) / 1e9, 0, 0), (0, 0, 0, 1)) for stamp in stamps]
    return [
        ("/tf_static", START, still),
        *(("/tf", stamp, transforms(row)) for stamp, row in zip(stamps, rows, strict=True)),
    ]
