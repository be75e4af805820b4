"""Frames with stamps from every kind of source: bags, videos, folders of images, cameras and arrays."""

from __future__ import annotations

import dataclasses
import re
import time
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import length_hint
from pathlib import Path
from threading import Condition, Thread
from typing import Any, BinaryIO, TypeVar

import cv2
import numpy as np

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import Frame
from vps_ros.messages.images import DECODERS, frame_of
from vps_ros.messages.typestore import read_message
from vps_ros.recording.bag import Bag, Topic, is_bag
from vps_ros.recording.image_files import (
    DEFAULT_HZ,
    IMAGE_SUFFIXES,
    ImageFolder,
    check_hz,
    open_images,
    read_image,
    stamp_of,
    to_rgb,
)
from vps_ros.recording.labels import SEGMENTS
from vps_ros.recording.storage import Loss

FRAME_ID = "camera"
"""frame_id of frames from sources without one."""
_CAMERA_ATTEMPTS = 10
"""Failed reads after which a camera counts as disconnected; some need a moment for their first image."""
_SCHEMES = {"rtsp", "rtsps", "rtmp", "rtp", "udp", "tcp", "srt", "http", "https"}
_PASSWORD = re.compile("//[^/]*@")
_TIMEOUT_MS = 10_000
"""Time without an answer after which a camera in the network counts as disconnected."""
_LISTED_TOPICS = 12
"""Topics listed in an error message; vehicles record hundreds."""

Source = TypeVar("Source", bound="FrameSource")


def open_frames(
    source: str | Path | int | Iterable[Any], *, topic: str | None = None, hz: float | None = None
) -> FrameSource:
    """Opens any source of images and returns its frames with stamps. Images become uint8 RGB [H, W, 3].

    | source | frames | stamps |
    |---|---|---|
    | path of a video | all that can be decoded | times of the video from 1 s on, or `hz` |
    | path of a folder of images, or of one image | in natural order of the names (2 before 10) | `hz`, from 1 s on |
    | path of a bag: .mcap, .db3, rosbag2 folder | of `topic`, in the order of recording | of the messages |
    | int, number of a camera | as they arrive, without end | system clock |
    | address of a camera in the network: rtsp://, http://, ... | the newest one each time | system clock |
    | iterable of arrays, of paths or of Frames | one for each item | `hz`, from 1 s on; Frames keep theirs |

    Grey images become RGB, 16 bits become 8 (65535 becomes 255), alpha of image files is dropped, and their EXIF
    orientation is applied. Arrays must be RGB; arrays from OpenCV are BGR: make Frames of them with Frame.from_bgr. A
    new image size starts a new sequence.

    Args:
        topic: image topic of a bag, or number of a video stream ("1"); required if there are several.
        hz: frames per second; default 10, or the times of the video.

    Raises:
        InputError: the path does not exist or holds no images, or `topic` or `hz` does not apply to this source; during
            iteration, if an image of a folder cannot be decoded (the message names it), or no frame at all. A truncated
            video or bag gives the frames that are left; the loss is a UserWarning at the end, and in `losses`.
    """
    if isinstance(source, str) and is_address(source):
        _refuse_topic(topic, "a camera")
        _refuse_hz(hz)
        return NetworkCamera(source)
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; give a video, a folder of images or a bag")
        if not is_bag(path):
            if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
                _refuse_topic(topic, path)
            return ImageSource(path, hz, topic)
        if hz is not None:
            raise InputError(f"hz {hz:g}: {path} is a bag, which has stamps of its own; leave hz out")
        return BagReader(path, topic)
    _refuse_topic(topic, source)
    if isinstance(source, int) and not isinstance(source, bool):
        _refuse_hz(hz)
        return CameraSource(source)
    if isinstance(source, Iterable):
        return ArraySource(source, DEFAULT_HZ if hz is None else hz)
    raise InputError(f"{_describe(source)}: give a path, the number of a camera, or an iterable of images")


class FrameSource(ABC):
    """An iterable of frames in order; a camera or an iterator can be iterated over only once.

    Use it as a context manager, or leave closing to the end of the program. `len()` is the number of frames, or a
    TypeError if that is unknown before reading.

    Attributes:
        name: file, folder or topic that is read.
        count: number of frames, None if unknown before reading. Damaged recordings give fewer.
        file_names: stamp of each frame so far -> name of its file without suffix; None if frames are not files.
    """

    name: str
    count: int | None = None
    file_names: dict[int, str] | None = None

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """The frames; afterwards, `losses` is complete. Raises InputError if no frame can be used."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What could not be read so far."""
        return ()

    def close(self) -> None:  # noqa: B027  # most sources have nothing to close
        """Releases files and devices."""

    def __iter__(self) -> Iterator[Frame]:
        """As `frames`; at the end, each loss is a UserWarning."""
        yield from self.frames()
        for loss in self.losses:
            warnings.warn(str(loss), stacklevel=2)

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError(f"{self.name}: the number of frames is not known before reading")
        return self.count

    def __bool__(self) -> bool:
        return True

    def __enter__(self: Source) -> Source:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class ImageSource(FrameSource):
    """A folder of images in natural order, a single image, or a video.

    Args:
        hz: frames per second; None: the times of the video, DEFAULT_HZ for images.
        stream: number of the stream of a video that has several.
    """

    def __init__(self, path: Path, hz: float | None = None, stream: str | None = None) -> None:
        self._images = open_images(path, hz, stream)
        self.name = str(path)
        self.count = self._images.count
        self.file_names = {} if isinstance(self._images, ImageFolder) else None

    def frames(self) -> Iterator[Frame]:
        for item in self._images:
            if self.file_names is not None:
                self.file_names[item.stamp] = item.name
            yield Frame(to_rgb(item.image), item.stamp, FRAME_ID)

    @property
    def losses(self) -> tuple[Loss, ...]:
        return self._images.losses


class ArraySource(FrameSource):
    """Images from an iterable: arrays (or what NumPy converts to one), paths of image files, or Frames.

    Args:
        hz: frames per second, for the stamps. Frames keep theirs.
    """

    def __init__(self, items: Iterable[Any], hz: float = DEFAULT_HZ) -> None:
        check_hz(hz)
        if isinstance(items, np.ndarray) and items.ndim != 4:
            raise InputError(f"array {list(items.shape)}: give [frames, height, width, 3], or a list of images")
        self._items, self._hz = items, hz
        self.name = type(items).__name__
        self.count = length_hint(items) or None

    def frames(self) -> Iterator[Frame]:
        index = -1
        for index, item in enumerate(self._items):
            if isinstance(item, Frame):
                yield item
                continue
            image = read_image(Path(item)) if isinstance(item, (str, Path)) else np.asarray(item)
            yield Frame(to_rgb(image, f"image {index} of the {self.name}"), stamp_of(index, self._hz), FRAME_ID)
        if index < 0:
            raise InputError(f"{self.name}: holds no images")


class CameraSource(FrameSource):
    """A camera of this machine, without end; stamps are the system clock at the arrival of the image.

    Args:
        device: its number for OpenCV (on Linux, N of /dev/videoN).

    Raises InputError if it cannot be opened; during iteration, if it gives no more images.
    """

    def __init__(self, device: int) -> None:
        self.name = f"camera {device}"
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise InputError(
                f"{self.name}: cannot be opened; check that it is connected (/dev/video{device}), that no other "
                "program uses it, and that you have permission to read it"
            )
        # A buffered image would be older than its stamp.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def frames(self) -> Iterator[Frame]:
        failures = 0
        while failures < _CAMERA_ATTEMPTS:
            grabbed, stamp = self._capture.grab(), time.time_ns()
            received, image = self._capture.retrieve() if grabbed else (False, None)
            # Some cameras send JPEG images, which are decoded here; a damaged one may be None.
            if not received or image is None:
                failures += 1
                continue
            failures = 0
            yield Frame.from_bgr(image, stamp, FRAME_ID)
        raise InputError(f"{self.name}: gives no images; check its cable")

    def close(self) -> None:
        self._capture.release()


class NetworkCamera(FrameSource):
    """A camera in the network, by FFmpeg. Each frame is the newest image: what arrives in between is left out.

    Args:
        url: rtsp://HOST/..., http://HOST/... (MJPEG) or another address that FFmpeg can read.

    Raises InputError if there is no video at the address; during iteration, if no more images come.
    """

    def __init__(self, url: str) -> None:
        self.name = _PASSWORD.sub("//", url)
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
        self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)
        if not self._capture.isOpened():
            raise InputError(
                f"{self.name}: no video at this address; check that the camera is reachable, and its user and password"
            )
        self._newest: Frame | None = None
        self._ended = self._closing = False
        self._changed = Condition()
        # FFmpeg queues images that nobody takes, and a slow program would see older and older ones.
        self._thread = Thread(target=self._receive, name="vps-camera", daemon=True)
        self._thread.start()

    def frames(self) -> Iterator[Frame]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest or self._ended)
                frame, self._newest = self._newest, None
            if frame is None:
                raise InputError(f"{self.name}: gives no more images; check the camera and the network")
            yield frame

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._capture.release()

    def _receive(self) -> None:
        while not self._closing:
            received, image = self._capture.read()
            frame = Frame.from_bgr(image, time.time_ns(), FRAME_ID) if received else None
            with self._changed:
                self._newest, self._ended = frame or self._newest, not received
                self._changed.notify_all()
            if not received:
                return


def is_address(source: str) -> bool:
    """Whether a source is a camera in the network."""
    scheme, found, _ = source.partition("://")
    return bool(found) and scheme in _SCHEMES


def is_camera(source: str) -> bool:
    """Whether a source is the number of a camera or the address of one in the network."""
    return is_address(source) or (source.isdecimal() and not Path(source).exists())


@dataclass(frozen=True)
class RecordedFrame(Frame):
    """A Frame of a bag; `received`: time at which it was recorded, nanoseconds."""

    received: int = 0


class BagReader(FrameSource):
    """The frames of one image topic of a bag.

    Args:
        path: a .mcap or .db3 file, or a rosbag2 folder.
        topic: required if the bag has several image topics.
        file: the content of a .mcap file, see `vps_ros.recording.bag.Bag`.

    Attributes:
        topic: name of the topic.
        count: number of its image messages; frames() yields one frame for each that can be decoded.

    Raises InputError if there is no bag, no image topic, or several and `topic` is not given.
    """

    def __init__(self, path: str | Path, topic: str | None = None, file: BinaryIO | None = None) -> None:
        self._bag = Bag(path, file)
        try:
            chosen = choose_image_topic(self._bag, topic)
        except InputError:
            self.close()
            raise
        self.topic = self.name = chosen[0].name
        self.count = sum(t.count for t in chosen)
        self._skipped: Counter[str] = Counter()

    def close(self) -> None:
        self._bag.close()

    def frames(self) -> Iterator[RecordedFrame]:
        """Each frame that can be decoded; `losses` counts the others. Raises InputError at the end if there is none."""
        self._skipped.clear()
        decoded = 0
        for message in self._bag.messages([self.topic], DECODERS):
            try:
                frame = frame_of(read_message(message.data, message.type), message.type, message.time)
            except DroppedFrame as error:
                self._skipped[str(error)] += 1
            else:
                decoded += 1
                yield RecordedFrame(frame.image, frame.stamp, frame.frame_id, message.time)
        if not decoded:
            reason = f": {next(iter(self._skipped))}" if self._skipped else _first_loss(self._bag)
            raise InputError(f"{self._bag.path}: no frame on {self.topic} can be used{reason}")

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What could not be read so far; complete after frames(). `count` is of frames of this topic."""
        lost = self._bag.lost(self.topic)
        losses = []
        for loss in self._bag.losses:
            if not loss.topic:
                # The number is known for all files together; the first loss gets it.
                loss, lost = dataclasses.replace(loss, count=lost), 0
            if loss.topic in ("", self.topic):
                losses.append(loss)
        for reason, count in self._skipped.items():
            what = f"{count} frame{'s' if count > 1 else ''} skipped: {reason}"
            losses.append(Loss(what, self.topic, count, self.topic))
        return tuple(losses)


def choose_image_topic(bag: Bag, topic: str | None) -> tuple[Topic, ...]:
    """The image topic to read, one entry for each image type on it.

    Raises InputError, with a list of topics, if there is no such topic, none at all, or several.
    """
    if not bag.topics:
        raise InputError(f"{bag.path}: holds no messages{_first_loss(bag)}")
    candidates = [t for t in bag.topics if topic in (None, t.name)]
    images = [t for t in candidates if t.type in DECODERS]
    if not candidates:
        raise InputError(f"{bag.path}: no topic {topic}; there are {_list_topics(bag.topics)}")
    if not images and topic is not None:
        there = [t for t in bag.topics if t.type in DECODERS]
        remedy = f"image topics are {_list_topics(there)}" if there else "the bag has no image topic"
        raise InputError(f"{bag.path}: {topic} is a {candidates[0].type}, not an image; {remedy}")
    if not images:
        remedy = "; only CDR messages (ROS 2) can be read" if all(t.type.endswith(")") for t in bag.topics) else ""
        raise InputError(f"{bag.path}: no image topic; there are {_list_topics(bag.topics)}{remedy}")
    filled = [t for t in images if t.count]
    if not filled:
        raise InputError(f"{bag.path}: {images[0].name} holds no messages{_first_loss(bag)}")
    if topic is None:
        results = filled
        filled = [t for t in filled if not _is_result(bag, t)]
        if not filled:
            raise InputError(
                f"{bag.path}: no image topic of a camera, only results ({_list_topics(results)}); give the recording "
                "that they were made from, or name the topic with --topic (in Python topic=)"
            )
    if len({t.name for t in filled}) > 1:
        # Depth and label images have the same type as camera images, but cannot be converted to RGB.
        filled = [t for t in filled if _is_colour_image(bag, t)] or filled
    if len({t.name for t in filled}) > 1:
        raise InputError(
            f"{bag.path}: several image topics; choose one with --topic (in Python topic=): {_list_topics(filled)}"
        )
    return tuple(filled)


def _is_result(bag: Bag, topic: Topic) -> bool:
    """Whether the topic is an output of vps_ros, such as `panoptic` or `overlay`: `segments` is in its namespace."""
    namespaces = [t.name.removesuffix("segments") for t in bag.topics if t.type == SEGMENTS]
    return any(len(space) > 1 and topic.name.startswith(space) for space in namespaces)


def _is_colour_image(bag: Bag, topic: Topic) -> bool:
    message = next(bag.messages([topic.name], [topic.type]), None)
    if message is None:
        return False
    try:
        DECODERS[topic.type](read_message(message.data, topic.type))
    except DroppedFrame:
        return False
    return True


def _list_topics(topics: Sequence[Topic]) -> str:
    names = [f"{t.name} ({t.type}, {t.count})" for t in topics]
    more = [f"and {len(names) - _LISTED_TOPICS} more (`vps-ros inspect` lists them)"]
    return ", ".join(names[:_LISTED_TOPICS] + (more if len(names) > _LISTED_TOPICS else []))


def _first_loss(bag: Bag) -> str:
    return f"; {bag.losses[0]}" if bag.losses else ""


def _refuse_hz(hz: float | None) -> None:
    if hz is not None:
        raise InputError(f"hz {hz:g}: a camera has its own rate; leave hz out")


def _refuse_topic(topic: str | None, source: Any) -> None:
    if topic is not None:
        raise InputError(
            f"topic {topic}: only bags and videos have topics; {_describe(source)} is neither, leave topic out"
        )


def _describe(source: Any) -> str:
    return str(source) if isinstance(source, (str, Path, int)) else f"a {type(source).__name__}"
