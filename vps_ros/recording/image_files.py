"""Reads image files, folders of images and videos."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.files import list_files
from vps_ros.messages.images import is_cut_jpeg
from vps_ros.recording.storage import Loss

FIRST_STAMP = 1_000_000_000
"""Stamp of the first frame, nanoseconds: one second, since zero means "not set" in ROS."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
DEFAULT_HZ = 10.0
_COMPRESSED_FORMATS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
"""First bytes of a file -> the format of a CompressedImage that holds it unchanged. Suffixes are often wrong."""
_EXIF = (b"Exif\0\0", b"eXIf")
"""Names of the EXIF data in a JPEG and in a PNG."""
_ATTACHED_PICTURE = 0x400
"""AV_DISPOSITION_ATTACHED_PIC of FFmpeg: a stream that is one picture, such as the cover of a recording."""
_TIFF_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}


@dataclass(frozen=True)
class StampedImage:
    """An image of a folder or a video.

    Attributes:
        image: uint8 [H, W, 3] RGB or uint8 / uint16 [H, W] grey.
        stamp: nanoseconds.
        encoded: content of the file and its format ("jpeg", "png"), if a CompressedImage can hold it unchanged; not of
            a file with an EXIF orientation, which readers of messages ignore.
    """

    image: NDArray[Any]
    stamp: int
    encoded: tuple[bytes, str] | None = None
    name: str = ""


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
                yield StampedImage(image, stamp_of(index, self.hz), encoded, file.stem)
                index += 1


class Video:
    """Upright frames of a video file at its own times, or at `hz` per second.

    Args:
        stream: number of the video stream in the file; required if there are several. Cover pictures do not count.

    Attributes:
        count: number of frames; None if unknown, as in a video of which an edit list shows a part.
        losses: complete after iteration.

    Raises InputError if it cannot be opened, holds no video, or several and `stream` is not one of them.
    """

    def __init__(self, path: Path, hz: float | None = None, stream: str | None = None) -> None:
        self.path, self.hz = path, hz
        self.losses: tuple[Loss, ...] = ()
        with self._open() as container:
            chosen = _choose_stream(container, path, stream)
            self._index = chosen.index
            self.count = None if _is_edited(chosen) else chosen.frames or None

    def __iter__(self) -> Iterator[StampedImage]:
        self.losses = ()
        with self._open() as container:
            stream = container.streams[self._index]
            period = 1 / Fraction(self.hz or stream.average_rate or DEFAULT_HZ)
            elapsed, previous, read = Fraction(0), None, 0
            for read, frame in enumerate(self._decode(container, stream), 1):
                if self.hz is None and frame.pts is not None:
                    time = frame.pts * Fraction(frame.time_base)
                    # Where two videos were joined, the times start again.
                    if previous is not None and time > previous:
                        period = time - previous
                    previous = time
                elapsed += period if read > 1 else 0
                image = _upright(frame.to_ndarray(format="rgb24"), frame)
                yield StampedImage(image, FIRST_STAMP + round(elapsed * 1_000_000_000))

    def _decode(self, container: Any, stream: Any) -> Iterator[Any]:
        """The frames that can be decoded, in the order of display; then sets `losses`.

        Raises InputError at the end if there is none.
        """
        import av

        read, damaged, incomplete, end, reason = 0, 0, 0, 0, ""
        try:
            for packet in container.demux(stream):
                if packet.pts is not None:
                    end = max(end, packet.pts + (packet.duration or 0))
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    damaged, reason = damaged + 1, f" ({error.strerror})"
                    continue
                read += len(frames)
                incomplete += sum(frame.is_corrupt for frame in frames)
                yield from frames
        except av.FFmpegError as error:
            reason = f" ({error.strerror})"
            self._set_loss(f"only the first {read} frames can be read{reason}", read)
        if not read:
            raise InputError(f"{self.path}: no frame can be decoded{reason}")
        if self.losses:
            return
        if self.count and read < self.count:
            self._set_loss(f"only {read} of its {self.count} frames can be decoded{reason}", read)
        elif damaged:
            what = "1 damaged packet is" if damaged == 1 else f"{damaged} damaged packets are"
            self._set_loss(f"{what} left out{reason}", read, damaged)
        else:
            missing = (_declared_end(stream) or 0) - end * stream.time_base
            if missing * (stream.average_rate or 0) > 1:
                self._set_loss(f"its last {float(missing):.2f} s are missing", read)
            elif incomplete:
                self._set_loss(f"{incomplete} frame(s) are damaged and shown as far as they can be decoded", read)

    def _set_loss(self, what: str, read: int, least: int = 0) -> None:
        self.losses = (Loss(what, str(self.path), max((self.count or 0) - read, least)),)

    def _open(self) -> Any:
        # Imported on use: bags and image files do not need it.
        import av

        if self.path.is_file() and not self.path.stat().st_size:
            raise InputError(f"{self.path}: is empty; copy or record it again")
        try:
            container = av.open(str(self.path))
        except av.FFmpegError as error:
            why = error.strerror
        else:
            # FFmpeg draws text files, such as .txt and .nfo, as a terminal would show them.
            if container.format.name != "tty":
                return container
            container.close()
            why = "it is text"
        formats = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"{self.path}: neither an image ({formats}) nor a video that FFmpeg reads ({why})")


def _choose_stream(container: Any, path: Path, number: str | None) -> Any:
    """The video stream of a file with this number; without number, the only one."""
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        only = " but a cover picture" if container.streams.video else ""
        raise InputError(f"{path}: holds no video stream{only}")
    chosen = streams if number is None else [s for s in streams if str(s.index) == number]
    if len(chosen) == 1:
        return chosen[0]
    there = ", ".join(f"{s.index} ({s.codec_context.name} {s.width}x{s.height})" for s in streams)
    if number is not None:
        raise InputError(f"{path}: no video stream {number}; there are {there}")
    raise InputError(
        f"{path}: several video streams; choose a number with --topic (pack: --stream, in Python topic=): {there}"
    )


def _is_cover(stream: Any) -> bool:
    # PyAV before 13 does not give the disposition; a cover picture is then a stream without frame rate.
    disposition = getattr(stream, "disposition", None)
    return not stream.average_rate if disposition is None else bool(disposition & _ATTACHED_PICTURE)


def _is_edited(stream: Any) -> bool:
    """Whether an edit list of an MP4 shows a part of the frames, or some repeatedly: `duration` is after editing."""
    if "mov" not in stream.container.format.name or not (stream.frames and stream.duration and stream.average_rate):
        return False
    return abs(stream.duration * stream.time_base * stream.average_rate - stream.frames) > 0.5


def _declared_end(stream: Any) -> Fraction | None:
    """Seconds from time 0 of the file to the end of a stream, as the file says; None if it does not say it."""
    if _is_edited(stream):
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    container = stream.container
    if "matroska" in container.format.name:
        if stated := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
            hours, minutes, seconds = (Fraction(number) for number in stated.groups())
            return 3600 * hours + 60 * minutes + seconds
        if len(container.streams) == 1 and container.duration:
            return Fraction(container.duration, 1_000_000)
    return None


def _upright(image: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    """The image turned and mirrored as the display matrix of its frame says, to the nearest multiple of 90 degrees.

    `frame.rotation` of PyAV is not used: it has no mirroring, and PyAV 12 does not have it.
    """
    # Iteration gives the data up to PyAV 18, and their types from PyAV 19 on.
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # Rows (a, b, u), (c, d, v), (x, y, w): a pixel (p, q) is shown at (a p + c q + x, b p + d q + y).
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def open_images(path: str | Path, hz: float | None = None, stream: str | None = None) -> ImageFolder | Video:
    """The images of a folder or the frames of a video; raises InputError if there is neither.

    Args:
        stream: number of the stream of a video that has several.
    """
    path = Path(path)
    if hz is not None:
        check_hz(hz)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give a folder of images or a video file")
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        if stream is not None:
            raise InputError(f"stream {stream}: only videos have streams; {path} is not a video, leave it out")
        return ImageFolder(path, hz)
    return Video(path, hz, stream)


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
    """Pixels and encoded content of an image file, as in StampedImage; the EXIF orientation of JPEG and PNG is applied.

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
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    try:
        complete, images = cv2.imdecodemulti(packed, flags) if packed.size else (False, ())
    except cv2.error:
        complete, images = False, ()
    if not complete or not images or is_cut_jpeg(packed):
        raise InputError(f"{file}: is not an image that can be decoded; {remedy}")
    if _is_cut_tiff(data):
        raise InputError(f"{file}: is cut off after image {len(images)}; {remedy}")
    if kind and any(name in data for name in _EXIF):
        as_stored = cv2.imdecode(packed, flags | cv2.IMREAD_IGNORE_ORIENTATION)
        if not np.array_equal(as_stored, images[0]):
            kind = None
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
    found = [p for p in list_files(folder, IMAGE_SUFFIXES) if p.is_file()]
    if found:
        return found
    inner = sorted(p.name for p in folder.iterdir() if p.is_dir())
    hint = f"give images ({', '.join(IMAGE_SUFFIXES)})"
    if inner:
        hint = f"choose one of its folders: {', '.join(inner[:5])}"
    empty = "is empty" if not any(folder.iterdir()) else "holds no images"
    raise InputError(f"{folder}: {empty}; {hint}")
