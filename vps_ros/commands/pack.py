"""`vps-ros pack`: converts a folder of images, or a video, to a bag."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.commands.console import note, progress, warn
from vps_ros.messages.images import array_to_image
from vps_ros.messages.panoptic import make_header
from vps_ros.messages.typestore import make_message
from vps_ros.recording.image_files import DEFAULT_HZ, StampedImage, open_images
from vps_ros.recording.writer import STORAGES, BagWriter

DESCRIPTION = (
    "Make a bag from a folder of images (in natural order) or a video file. Stamps are those of the video, or count "
    "from 1 s at --hz. With --compressed, JPEG and PNG files are written unchanged, but for those with an EXIF "
    "orientation: they are turned upright and written as JPEG."
)
EXAMPLES = [
    "vps-ros pack images/ -o drive.mcap --hz 30",
    "vps-ros pack images/ -o drive.mcap --compressed",
    "vps-ros pack dashcam.mp4 -o drive/ --storage sqlite3 --topic /front/image_raw --frame-id front",
]
_JPEG_QUALITY = 95


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", help="folder of images, or a video file")
    parser.add_argument("-o", "--output", required=True, help="OUT.mcap for one file, any other name for a folder")
    parser.add_argument(
        "--hz", type=float, help=f"frames per second (default: {DEFAULT_HZ:g}; a video has its own times)"
    )
    parser.add_argument("--compressed", action="store_true", help="write CompressedImage, on TOPIC/compressed")
    parser.add_argument("--storage", choices=tuple(STORAGES), default="mcap", help="default: mcap")
    parser.add_argument("--topic", default="/camera/image_raw", help="default: /camera/image_raw")
    parser.add_argument("--frame-id", default="camera", help="coordinate frame in the header (default: camera)")
    parser.add_argument("--stream", metavar="N", help="number of the video stream; required if there are several")
    parser.add_argument("--force", action="store_true", help="replace an output that exists")


def run(args: argparse.Namespace) -> int:
    images = open_images(args.images, args.hz, args.stream)
    topic = f"{args.topic.rstrip('/')}/compressed" if args.compressed else args.topic
    sizes: Counter[tuple[int, ...]] = Counter()
    # Lossless compression hardly shrinks camera images, and costs time at every replay.
    with BagWriter(args.output, args.force, storage=args.storage, compress=False) as bag:
        make = _compressed if args.compressed else _raw
        for image in progress(images, "pack", images.count):
            sizes[image.image.shape[1::-1]] += 1
            header = make_header(image.stamp, args.frame_id)
            bag.write(topic, make(image, header), image.stamp)
    if len(sizes) > 1:
        found = ", ".join(f"{w}x{h} ({count})" for (w, h), count in sizes.most_common())
        warn(f"images have several sizes: {found}; each change of size starts a new sequence")
    for loss in images.losses:
        warn(str(loss))
    note(f"{Path(args.output)}: {sum(sizes.values())} frames on {topic}")
    return 0


def _raw(image: StampedImage, header: Any) -> Any:
    grey = "mono16" if image.image.itemsize == 2 else "mono8"
    return array_to_image(image.image, grey if image.image.ndim == 2 else "rgb8", header)


def _compressed(image: StampedImage, header: Any) -> Any:
    data, kind = image.encoded or (_to_jpeg(image.image), "jpeg")
    pixels = np.frombuffer(data, np.uint8)
    return make_message("sensor_msgs/msg/CompressedImage", header=header, format=kind, data=pixels)


def _to_jpeg(image: NDArray[Any]) -> bytes:
    if image.itemsize == 2:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
