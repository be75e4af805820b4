"""Depth of the little world of worlds.py: messages of depth cameras, and where its squares are in metres.

The camera of `calibration` has a focal length of 100 pixels and its centre in the middle of 96x64 pixels.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

from support.bags import START, TENTH, camera_info, drive, jpeg, raw

DEPTH_TOPIC, DEPTH_INFO = "/camera/depth/image_raw", "/camera/depth/camera_info"
CALIBRATION = "image_width: 96\nimage_height: 64\ncamera_matrix: {data: [100, 0, 47.5, 0, 100, 31.5, 0, 0, 1]}\n"
"""Text of a calibration file of the camera."""
NEAR, FAR, BACKGROUND = 4.0, 8.0, 20.0
"""Metres of the square that moves, of the one that stands, and of everything else."""
FIRST, STANDING = (-1.44, 0.64, NEAR), (2.88, 0.96, FAR)
"""Centres of the squares in frame 0: columns 4 to 19 and 76 to 91, rows 40 to 55 and 36 to 51."""
VELOCITY = 1.6
"""Of the first square to the right, m/s: 40 pixels/s at 4 m."""


def calibration(stamp: int = START, width: int = 96, height: int = 64):
    """CameraInfo of the view in this size."""
    info, scale = camera_info(stamp), width / 96
    info.width, info.height = width, height
    info.k = np.array([100 * scale, 0, (width - 1) / 2, 0, 100 * scale, (height - 1) / 2, 0, 0, 1])
    return info


def metres_of(frame: int, size: int = 1) -> np.ndarray:
    """float32 [64, 96] times `size`: depth of frame `frame` of `bags.drive`."""
    metres = np.full((64, 96), BACKGROUND, np.float32)
    metres[36:52, 76:92] = FAR
    metres[40:56, 4 + 4 * frame : 20 + 4 * frame] = NEAR
    return metres.repeat(size, 0).repeat(size, 1)


def depth_message(metres: np.ndarray, stamp: int, encoding: str = "16UC1"):
    """sensor_msgs/Image; millimetres for 16UC1."""
    pixels = np.round(metres * 1000).astype(np.uint16) if encoding == "16UC1" else metres.astype(np.float32)
    return raw(pixels, stamp, encoding)


def compressed_depth(metres: np.ndarray, stamp: int, encoding: str):
    """sensor_msgs/CompressedImage as compressed_depth_image_transport makes it, with its defaults (100, 10 m)."""
    scale = 100.0 * 101.0
    offset = 1 - scale / 10
    pixels = metres * 1000 if encoding == "16UC1" else scale / metres + offset
    png = cv2.imencode(".png", pixels.astype(np.uint16))[1].reshape(-1)
    message = jpeg(np.zeros((2, 2, 3), np.uint8), stamp)
    message.format = f"{encoding}; compressedDepth png"
    message.data = np.concatenate([np.frombuffer(struct.pack("<iff", 0, scale, offset), np.uint8), png])
    return message


def depth_drive(count: int = 6, encoding: str = "16UC1", shift: int = 0, info: bool = True):
    """`bags.drive` with a depth image and a CameraInfo for each image; `shift`: of the stamps of depth, ns."""
    messages = []
    for i, one in enumerate(drive(count)):
        stamp = START + i * TENTH + shift
        messages.append(one)
        messages.append((DEPTH_TOPIC, stamp, depth_message(metres_of(i), stamp, encoding)))
        if info:
            messages.append((DEPTH_INFO, stamp, calibration(stamp)))
    return messages


def centre(detection) -> tuple[float, float, float]:
    """Position of a Detection3D."""
    position = detection.bbox.center.position
    return position.x, position.y, position.z


def cloud_points(message) -> np.ndarray:
    """The points of a PointCloud2 as a structured array, read by its fields."""
    formats = {7: "<f4", 4: "<u2", 6: "<u4"}
    kind = np.dtype(
        {
            "names": [f.name for f in message.fields],
            "formats": [formats[f.datatype] for f in message.fields],
            "offsets": [f.offset for f in message.fields],
            "itemsize": message.point_step,
        }
    )
    assert message.row_step == message.width * message.point_step
    return np.frombuffer(bytes(message.data), kind)
