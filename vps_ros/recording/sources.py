"""Frames of whatever holds images: films, folders, bags, cameras and arrays in memory."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from operator import length_hint
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from vps_ros.errors import InputError
from vps_ros.frame import Frame
from vps_ros.recording.loss import Loss
from vps_ros.recording.pictures import DEFAULT_HZ, check_hz, open_pictures, read_image, stamp_of, to_rgb

FRAME_ID = "camera"
"""frame_id of frames that come without one."""
_CAMERA_PROBES = 10
"""Reads of a camera until it counts as silent; some need a moment for their first image."""


Source = TypeVar("Source", bound="FrameSource")


class FrameSource(ABC):
    """Frames in order; iterate over it, as often as the source allows (a camera or an iterator: once).

    Use it as a context manager, or leave closing to the end of the program. `len()` is the number of frames where it
    is known before reading, a TypeError otherwise.

    Attributes:
        name: what is read, for people: a file, a folder, a bag's topic.
        count: number of frames, None where it is not known before reading. Damaged recordings give fewer.
    """

    name: str
    count: int | None

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """The frames; what is missing is in `losses` afterwards. Raises InputError when no frame can be used."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What could not be read so far."""
        return ()

    def close(self) -> None:  # noqa: B027  # most sources keep nothing open
        """Releases files and devices."""

    def __iter__(self) -> Iterator[Frame]:
        """As `frames`; afterwards each loss is a UserWarning."""
        yield from self.frames()
        for loss in self.losses:
            warnings.warn(str(loss), stacklevel=2)

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError(f"{self.name}: the number of frames is not known before they are read")
        return self.count

    def __bool__(self) -> bool:
        return True

    def __enter__(self: Source) -> Source:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class PictureSource(FrameSource):
    """A folder of images in natural order, a single image, or a film.

    Args:
        hz: frames per second; None: the film's own times, DEFAULT_HZ for images.
    """

    def __init__(self, path: Path, hz: float | None = None) -> None:
        self._pictures = open_pictures(path, hz)
        self.name = str(path)
        self.count = self._pictures.count

    def frames(self) -> Iterator[Frame]:
        for picture in self._pictures:
            yield Frame(to_rgb(picture.image), picture.stamp, FRAME_ID)

    @property
    def losses(self) -> tuple[Loss, ...]:
        return self._pictures.losses


class ArraySource(FrameSource):
    """Images from an iterable: arrays (or what NumPy makes arrays of), paths of image files, or Frames.

    Args:
        hz: frames per second, for the stamps. Frames keep their own.
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
            image = read_image(Path(item))[0] if isinstance(item, (str, Path)) else np.asarray(item)
            yield Frame(to_rgb(image, f"image {index} of the {self.name}"), stamp_of(index, self._hz), FRAME_ID)
        if index < 0:
            raise InputError(f"{self.name}: holds no images")


class CameraSource(FrameSource):
    """A camera of this machine, without end; stamps are the system's clock when the image arrived.

    Args:
        device: its number for OpenCV (on Linux, N of /dev/videoN).

    Raises InputError when it cannot be opened; while iterating, when it gives no more images.
    """

    count = None

    def __init__(self, device: int) -> None:
        self.name = f"camera {device}"
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise InputError(
                f"{self.name}: cannot be opened; check that it is connected (/dev/video{device}), that no other "
                "program uses it, and that you may read it"
            )
        # Images that wait in a buffer would be older than their stamp.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def frames(self) -> Iterator[Frame]:
        failures = 0
        while failures < _CAMERA_PROBES:
            if not self._capture.grab():
                failures += 1
                continue
            stamp = time.time_ns()
            failures = 0
            yield Frame.from_bgr(self._capture.retrieve()[1], stamp, FRAME_ID)
        raise InputError(f"{self.name}: gives no images (any more); check its cable")

    def close(self) -> None:
        self._capture.release()
