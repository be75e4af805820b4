"""Writes MP4 videos for browsers, atomically; images of several sizes in one frame or in one sheet."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.files import atomic_write, refuse_folder
from vps_ros.frame import Frame, PanopticFrame

CODECS = ("libx264", "libopenh264", "libvpx-vp9")
"""Encoders whose videos browsers play, in the order of preference."""
MAX_FRAME_SECONDS = 2.0
"""Maximum duration of a frame in seconds, so that a pause of a recording does not stop the video."""
_TIME_BASE = Fraction(1, 90_000)
_DEFAULT_FPS = 10.0


class VideoWriter:
    """Writes RGB images as an MP4 (H.264, yuv420p, index at the front). Use it as a context manager.

    Images are shown at their stamps, or at a fixed rate with `fps`. The first image sets the size; others are fitted
    into it with black bars. The file appears when the block ends without an error; after an error the path stays as it
    was.

    Args:
        path: a name that ends in .mp4.
        fps: images per second; None uses the stamps (10 per second if an image has none, or time goes back).
        force: replace a file that exists.

    Raises:
        InputError: the name does not end in .mp4, the file exists, `fps` is not positive, or no image was written.
    """

    def __init__(self, path: str | Path, fps: float | None = None, force: bool = False) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise InputError(f"{path}: videos are written as MP4; give a name that ends in .mp4")
        if fps is not None and not 0 < fps <= 1000:
            raise InputError(f"{path}: {fps:g} frames per second cannot be; give a number above 0, at most 1000")
        self._fps = fps
        self._step = 1.0 / (fps or _DEFAULT_FPS)
        self._output = atomic_write(refuse_folder(self.path, force), force)
        self._container: av.container.OutputContainer | None = None
        self._entered = False
        self._seconds = 0.0
        self._stamp: int | None = None

    def __enter__(self) -> VideoWriter:
        self._exits = ExitStack()
        self._target = self._exits.enter_context(self._output)
        self._exits.push(self._close)
        self._entered = True
        return self

    def __exit__(self, *error: Any) -> None:
        self._exits.__exit__(*error)

    def write(self, image: NDArray[np.uint8], stamp: int | Frame | PanopticFrame | None = None) -> None:
        """Appends an image.

        Args:
            image: uint8 RGB [H, W, 3].
            stamp: nanoseconds, or the frame or result that has them; None: those of an image from `draw`.

        Raises InputError for any other array, and outside of the `with` block.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise InputError(f"{self.path}: image is {found}; give uint8 [height, width, 3] in RGB order")
        if not self._entered:
            raise InputError(f"{self.path}: not open; write inside of `with VideoWriter(...) as video:`")
        if stamp is None:
            stamp = getattr(image, "stamp", None)
        if isinstance(stamp, (Frame, PanopticFrame)):
            stamp = stamp.stamp
        container = self._container
        if container is None:
            container = self._open(image)
        else:
            self._seconds += self._duration(stamp)
        self._stamp = stamp
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(self._fit(image)), format="rgb24")
        frame.pts, frame.time_base = round(self._seconds / _TIME_BASE), _TIME_BASE
        with self._named_errors():
            container.mux(self._stream.encode(frame))

    def _duration(self, stamp: int | None) -> float:
        """Seconds between the last frame and this one."""
        if self._fps is None and stamp is not None and self._stamp is not None and stamp > self._stamp:
            self._step = min(max((stamp - self._stamp) * 1e-9, 0.001), MAX_FRAME_SECONDS)
        return self._step

    def _open(self, image: NDArray[np.uint8]) -> av.container.OutputContainer:
        self._height, self._width = image.shape[:2]
        name = next((c for c in CODECS if _can_encode(c)), None)
        if name is None:
            raise InputError(f"{self.path}: this build of PyAV has no encoder for browsers ({', '.join(CODECS)})")
        options = {"movflags": "faststart", "video_track_timescale": str(_TIME_BASE.denominator)}
        container = self._container = av.open(str(self._target), "w", format="mp4", options=options)
        # The rate is a hint for the encoder; each frame has its own time.
        rate = Fraction(self._fps or _DEFAULT_FPS).limit_denominator(1001)
        self._stream = container.add_stream(name, rate=rate)
        self._stream.width, self._stream.height = self._width + self._width % 2, self._height + self._height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _TIME_BASE
        if name == "libx264":
            self._stream.options = {"preset": "veryfast", "crf": "20"}
        return container

    def _fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image at the size of the video; yuv420p needs even sides, so the last pixel may be repeated."""
        if image.shape[:2] != (self._height, self._width):
            image = letterbox(image, self._height, self._width)
        bottom, right = self._height % 2, self._width % 2
        return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else image

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        container, self._container = self._container, None
        self._entered = False
        if kind is not None:
            if container is not None:
                with suppress(av.error.FFmpegError):
                    container.close()
        elif container is None:
            raise InputError(f"{self.path}: no frame was written")
        else:
            with self._named_errors():
                container.mux(self._stream.encode(None))
                container.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turns errors of the system, such as a full disk, into OSError with the file; others into InputError."""
        try:
            yield
        except av.error.FFmpegError as error:
            if error.errno in errno.errorcode:
                raise OSError(error.errno, error.strerror, str(self.path)) from None
            size = f"{self._width}x{self._height}"
            raise InputError(
                f"{self.path}: images of {size} cannot be encoded ({error.strerror}); leave the video out"
            ) from None


def letterbox(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The image scaled to fit [height, width], centred on black."""
    scale = min(height / image.shape[0], width / image.shape[1])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def contact_sheet(images: Sequence[NDArray[np.uint8]], columns: int, gap: int = 4) -> NDArray[np.uint8]:
    """The images in rows of `columns`, RGB uint8, `gap` white pixels apart; all take the size of the first.

    Raises InputError when there is no image or `columns` is not positive.
    """
    if not len(images) or columns < 1:
        raise InputError("a contact sheet needs at least one image and one column")
    height, width = images[0].shape[:2]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        same = image.shape[:2] == (height, width)
        sheet[top : top + height, left : left + width] = image if same else letterbox(image, height, width)
    return sheet


def _can_encode(name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except av.error.FFmpegError:
        return False
    return True
