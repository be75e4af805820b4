"""Bags for tests, written by the rosbags library and not by our own writer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from support.worlds import picture

TYPES = get_typestore(Stores.ROS2_JAZZY)
TOPIC = "/camera/image_raw"
TENTH = 100_000_000
START = 1_700_000_000_000_000_000


def _header(stamp: int):
    time = TYPES.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return TYPES.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def raw(image: np.ndarray, stamp: int, encoding: str = "rgb8"):
    """sensor_msgs/Image of an array that already has the encoding's layout."""
    height, width = image.shape[:2]
    return TYPES.types["sensor_msgs/msg/Image"](
        header=_header(stamp),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=image.nbytes // height,
        data=np.ascontiguousarray(image).view(np.uint8).reshape(-1),
    )


def jpeg(image: np.ndarray, stamp: int):
    """sensor_msgs/CompressedImage."""
    data = cv2.imencode(".jpg", image[:, :, ::-1])[1].reshape(-1)
    return TYPES.types["sensor_msgs/msg/CompressedImage"](header=_header(stamp), format="jpeg", data=data)


def camera_info(stamp: int):
    """sensor_msgs/CameraInfo whose matrix K is 0..8."""
    make = TYPES.types
    return make["sensor_msgs/msg/CameraInfo"](
        header=_header(stamp),
        height=64,
        width=96,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.arange(9.0),
        r=np.eye(3).ravel(),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=make["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )


def string(text: str):
    """std_msgs/String, for topics that hold no image."""
    return TYPES.types["std_msgs/msg/String"](data=text)


def write(path: Path, messages: Sequence[tuple[str, int, object]], storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A rosbag2 folder of (topic, receive time in ns, message)."""
    with Writer(path, version=9, storage_plugin=storage) as bag:
        connections = {}
        for topic, stamp, message in messages:
            if topic not in connections:
                connections[topic] = bag.add_connection(topic, message.__msgtype__, typestore=TYPES)
            bag.write(connections[topic], stamp, TYPES.serialize_cdr(message, message.__msgtype__))
    return path


def drive(count: int = 6, topic: str = TOPIC, make=raw) -> list[tuple[str, int, object]]:
    """Messages of a drive past two squares, one of which moves, at 10 Hz."""
    stamps = [START + i * TENTH for i in range(count)]
    pictures = [picture({0: (4 + 4 * i, 40), 1: (76, 36)}) for i in range(count)]
    return [(topic, stamp, make(image, stamp)) for stamp, image in zip(stamps, pictures, strict=True)]


def plain(message):
    """A message of rosbags as what JSON has."""
    if hasattr(message, "__msgtype__"):
        # rosbags keeps constants beside the fields; ROS wants their names in capitals.
        names = [name for name in message.__dataclass_fields__ if name.islower() and name != "__msgtype__"]
        return {name: plain(getattr(message, name)) for name in names}
    if isinstance(message, np.ndarray):
        return message.tolist()
    return [plain(m) for m in message] if isinstance(message, list) else message
