"""Recordings of unusual layout, and what is read of them."""

import numpy as np

from support import mcaps
from support.bags import START, TENTH, TOPIC, TYPES, raw, string
from vps_ros.recording.frames import BagReader

IMAGE, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA = (TOPIC, IMAGE, "cdr")


def image(k, make=raw):
    """Serialised image whose pixels all are `k`, at the k-th tenth of a second."""
    message = make(np.full((4, 6, 3), k, np.uint8), START + k * TENTH)
    return bytes(TYPES.serialize_cdr(message, message.__msgtype__))


def text(value):
    return bytes(TYPES.serialize_cdr(string(value), "std_msgs/msg/String"))


def at(*numbers, channel=1):
    return [(channel, START + k * TENTH, image(k)) for k in numbers]


def read(path, topic=None):
    """Numbers of the frames in the order of reading, and the losses."""
    with BagReader(path, topic) as bag:
        frames = list(bag.frames())
        assert all(abs(int(f.image.mean()) - (f.stamp - START) // TENTH) <= 2 for f in frames)
        return [(f.stamp - START) // TENTH for f in frames], bag.losses


def mcap(path, blocks, layout=None, channels=None):
    path.write_bytes(mcaps.build(channels or {1: CAMERA}, blocks, layout or mcaps.Layout()))
    return path
