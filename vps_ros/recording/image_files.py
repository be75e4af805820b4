"""Reads image files, folders of images and videos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.files import list_files
from vps_ros.messages.images import is_cut_jpeg
from vps_ros.recording.storage import Loss

FIRST_STAMP = 1_000_000_000
"""Stamp of the first frame, nanoseconds: one second, since zero means "not set" in ROS."""
FORMATS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
DEFAULT_HZ = 10.0
_COMPRESSED_FORMATS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
"""First bytes of a file -> the format of a CompressedImage that holds it unchanged. Suffixes are often wrong."""
_TIFF_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}


@dataclass(frozen=True)
class StampedImage:
    """An image of a folder or a video.

    Attributes:
        image: uint8 [H, W, 3] RGB or uint8 / uint16 [H, W] grey.
        stamp: nanoseconds.
        encoded: content of the file and its format ("jpeg", "png"), if a CompressedImage can hold it unchanged.
    """

    image: NDArray[Any]
    stamp: int
    encoded: tuple[bytes, str] | None = None


class ImageFolder:
    """Images of a folder in natural order (2 before 10) at `hz` per second; or a single image file.

    Raises InputError if there are none; during iteration, if one cannot be decoded (the message names it).
    """

    losses: tuple[Loss, ...] = ()

    def __init__(self, path: Path, hz: float | None = None) -> None:
        self.hz = DEFAULT_HZ if hz is None else hz
        self.files = [path] if path.is_file() else _image_paths(path)
        self.count = len(self.files)

    def __iter__(self) -> Iterator[StampedImage]:
        index = 0
        for file in self.files:
            for image, encoded in read_images(file):
                yield StampedImage(image, stamp_of(index, self.hz), encoded)
                index += 1


class Video:
    """Frames of a video file at its own times, or at `hz` per second.

    Raises InputError if it cannot be opened or holds no video. After iteration, `losses` says how many frames at its
    end could not be decoded, and why.
    """

    def __init__(self, path: Path, hz: float | None = None) -> None:
        self.path, self.hz = path, hz
        self.losses: tuple[Loss, ...] = ()
        with self._open() as container:
            self.count = container.streams.video[0].frames or None

    def __iter__(self) -> Iterator[StampedImage]:
        self.losses = ()
        with self._open() as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0) or DEFAULT_HZ
            first, index = None, -1
            try:
                for index, frame in enumerate(container.decode(stream)):
                    if self.hz is not None or frame.pts is None:
                        stamp = stamp_of(index, self.hz or rate)
                    else:
                        first = frame.pts if first is None else first
                        elapsed = (frame.pts - first) * Fraction(frame.time_base) * 1_000_000_000
                        stamp = FIRST_STAMP + round(elapsed)
                    yield StampedImage(frame.to_ndarray(format="rgb24"), stamp)
            except av.FFmpegError as error:
                if index < 0:
                    raise InputError(f"{self.path}: no frame can be decoded ({error.strerror})") from None
                self._set_loss(f"only the first {index + 1} frames can be decoded ({error.strerror})", index + 1)
            if index < 0:
                raise InputError(f"{self.path}: holds no frames")
            if self.count and index + 1 < self.count and not self.losses:
                self._set_loss(f"only {index + 1} of its {self.count} frames are there", index + 1)

    def _set_loss(self, what: str, read: int) -> None:
        self.losses = (Loss(what, str(self.path), max((self.count or 0) - read, 0)),)

    def _open(self) -> Any:
        try:
            container = av.open(str(self.path))
        except av.FFmpegError as error:
            formats = ", ".join(FORMATS)
            raise InputError(
                f"{self.path}: neither an image ({formats}) nor a video that FFmpeg reads ({error.strerror})"
            ) from None
        if not container.streams.video:
            container.close()
            raise InputError(f"{self.path}: holds no video stream")
        return container


def open_images(path: str | Path, hz: float | None = None) -> ImageFolder | Video:
    """The images of a folder or the frames of a video; raises InputError if there is neither."""
    path = Path(path)
    if hz is not None:
        check_hz(hz)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give a folder of images or a video file")
    if path.is_dir() or path.suffix.lower() in FORMATS:
        return ImageFolder(path, hz)
    return Video(path, hz)


def check_hz(hz: float) -> None:
    """Raises InputError for a rate outside 0.001 to 1000000 frames per second."""
    if not 1e-3 <= hz <= 1e6:
        raise InputError(f"hz {hz:g}: give frames per second between 0.001 and 1000000")


def stamp_of(index: int, hz: float) -> int:
    """Stamp of frame `index` (from 0), nanoseconds, without the drift of a sum of rounded steps."""
    return FIRST_STAMP + round(index * 1_000_000_000 / Fraction(hz))


def read_image(file: Path) -> NDArray[Any]:
    """Pixels of a file with one image, as in StampedImage; raises InputError as `read_images`, or if it has several."""
    images = read_images(file)
    if len(images) > 1:
        raise InputError(f"{file}: holds {len(images)} images; give files with one image")
    return images[0][0]


def read_images(file: Path) -> list[tuple[NDArray[Any], tuple[bytes, str] | None]]:
    """Pixels and encoded content of an image file, as in StampedImage; EXIF orientation is ignored.

    A file has several images if it is a TIFF with pages, or an animated PNG or WebP.

    Raises InputError if it cannot be decoded (the message names the file).
    """
    remedy = "replace or remove it"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); {remedy}") from None
    kind = next((kind for first, kind in _COMPRESSED_FORMATS.items() if data.startswith(first)), None)
    packed = np.frombuffer(data, np.uint8)
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        complete, images = cv2.imdecodemulti(packed, flags) if packed.size else (False, ())
    except cv2.error:
        complete, images = False, ()
    if not complete or not images or is_cut_jpeg(packed):
        raise InputError(f"{file}: is not an image that can be decoded; {remedy}")
    if _is_cut_tiff(data):
        raise InputError(f"{file}: is cut off after image {len(images)}; {remedy}")
    found = []
    for image in images:
        if image.dtype not in (np.uint8, np.uint16) or (image.ndim == 3 and image.shape[2] != 3):
            pixels = f"{image.dtype} {list(image.shape[2:])}"
            raise InputError(f"{file}: has pixels of {pixels}; give 8 or 16 bits; {remedy}")
        if image.ndim == 3:
            if image.dtype == np.uint16:
                image = cv2.convertScaleAbs(image, alpha=1 / 257)
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        found.append((image, (data, kind) if kind and len(images) == 1 else None))
    return found


def _is_cut_tiff(data: bytes) -> bool:
    """Whether a page of a TIFF is missing at its end; OpenCV returns the pages before it without an error."""
    order = _TIFF_BYTE_ORDERS.get(data[:4])
    if order is None:
        return False
    at, seen = 4, set()
    while (page := int.from_bytes(data[at : at + 4], order)) and page not in seen:
        seen.add(page)
        # A page is the number of its entries, the entries of 12 bytes, and the place of the next page.
        at = page + 2 + 12 * int.from_bytes(data[page : page + 2], order)
        if at + 4 > len(data):
            return True
    return False


def to_rgb(image: NDArray[Any], where: str = "image") -> NDArray[np.uint8]:
    """uint8 [H, W, 3] of an image in RGB [H, W, 3] or grey [H, W] or [H, W, 1], uint8 or uint16.

    Raises InputError for any other array; the message begins with `where`.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if (
        image.dtype not in (np.uint8, np.uint16)
        or 0 in image.shape
        or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
    ):
        raise InputError(
            f"{where}: is {image.dtype} {list(image.shape)}; give uint8 or uint16, [height, width, 3] in RGB order or "
            "[height, width] in grey"
        )
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image


def _image_paths(folder: Path) -> list[Path]:
    found = [p for p in list_files(folder, FORMATS) if p.is_file()]
    if found:
        return found
    inner = sorted(p.name for p in folder.iterdir() if p.is_dir())
    hint = f"; choose one of its folders: {', '.join(inner[:5])}" if inner else f"; give images ({', '.join(FORMATS)})"
    empty = "is empty" if not any(folder.iterdir()) else "holds no images"
    raise InputError(f"{folder}: {empty}{hint}")
