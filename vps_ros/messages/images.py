"""sensor_msgs/Image and CompressedImage to RGB arrays and Frames, and arrays to Image.

Colour conversions follow cv_bridge: YUV is BT.601 in video range, `8UC3` is BGR, and 16-bit images are scaled
from 0..65535 to 0..255 (value / 257, rounded), whatever number of bits the camera really uses.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame
from vps_ros.frame import Frame
from vps_ros.messages.typestore import byte_view, make_message, nanoseconds

Rgb: TypeAlias = NDArray[np.uint8]

_BYTES = {
    # encoding of one byte per value: (channels, cv2 code to RGB, or None for RGB)
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "8UC4": (4, cv2.COLOR_BGRA2RGB),
    # OpenCV names a mosaic by the second pixel of its second row and the one after it, ROS by its first four.
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUYV),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUYV),
}
_PIXELS = {name: (channels, code, "u1") for name, (channels, code) in _BYTES.items()} | {
    name[:-1] + "16": (channels, code, "u2") for name, (channels, code) in _BYTES.items() if name.endswith("8")
}
"""encoding: (channels, cv2 code, NumPy type of a value without byte order)."""
_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21, "nv24": None}
ENCODINGS = (*_PIXELS, *_PLANAR)
"""Values of Image.encoding that `image_to_rgb` reads."""

_SHOWN = 40
"""Characters of a message's own text that an error message repeats."""
_DEPTH = re.compile(r"(16U|16S|32F|64F)C1$")
_BT601 = np.array(
    # Video range: Y 16..235, U and V 16..240 around 128 (ITU-R BT.601); the last column subtracts the offsets.
    [
        [1.164383, 0.0, 1.596027, -16 * 1.164383 - 128 * 1.596027],
        [1.164383, -0.391762, -0.812968, -16 * 1.164383 + 128 * (0.391762 + 0.812968)],
        [1.164383, 2.017232, 0.0, -16 * 1.164383 - 128 * 2.017232],
    ]
)


def image_to_rgb(message: Any) -> Rgb:
    """uint8 [H, W, 3] of a sensor_msgs/Image; a view of its data for unpadded `rgb8`, else a new array.

    Raises DroppedFrame when the encoding is unknown or the data is not what the header says.
    """
    height, width, encoding = int(message.height), int(message.width), str(message.encoding)
    if height < 1 or width < 1:
        raise DroppedFrame(f"image of {width}x{height} pixels is empty")
    data = _bytes(message.data)
    if encoding in _PLANAR:
        return _planar(data, height, width, int(message.step), encoding)
    if encoding not in _PIXELS:
        raise _unknown(encoding)
    channels, code, kind = _PIXELS[encoding]
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    used = width * channels * dtype.itemsize
    pixels = _rows(data, height, used, int(message.step), f"{width}x{height} {encoding}").view(dtype)
    pixels = pixels.astype(kind, copy=False).reshape(height, width, channels)
    return _to_rgb(pixels, encoding, code)


def compressed_to_rgb(message: Any) -> Rgb:
    """uint8 [H, W, 3] of a sensor_msgs/CompressedImage with a JPEG or PNG; EXIF orientation is ignored.

    `format` may be plain ("jpeg") or as image_transport writes it ("rgb8; jpeg compressed bgr8").
    Raises DroppedFrame when the image is corrupt or holds no colour image.
    """
    original, _, how = (part.strip() for part in str(message.format).partition(";"))
    if "compressedDepth" in how or _DEPTH.match(original):
        raise DroppedFrame(f"format {message.format[:_SHOWN]!r} is a depth image; choose a colour or grey topic")
    data = _bytes(message.data)
    if data.size == 0:
        raise DroppedFrame("compressed image without data")
    if is_cut_jpeg(data):
        raise DroppedFrame("JPEG ends before its last line")
    mosaic = original in _PIXELS and original.startswith("bayer") and "compressed bgr" not in how
    flags = cv2.IMREAD_GRAYSCALE if mosaic else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(data, flags | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise DroppedFrame(f"compressed image cannot be decoded ({error.err})") from None
    if image is None:
        named = message.format[:_SHOWN]
        raise DroppedFrame(f"compressed image ({data.size} bytes, format {named!r}) cannot be decoded")
    if image.dtype not in (np.uint8, np.uint16):
        raise DroppedFrame(f"compressed image has pixels of {image.dtype}; only 8 and 16 bits are read")
    if mosaic:
        return _to_rgb(image[:, :, None], original, _PIXELS[original][1])
    if image.dtype == np.uint16:
        image = _narrow(image)
    # image_transport may give the encoder RGB as if it were BGR; the decoded "BGR" is then RGB.
    if how and "compressed" in how and "compressed bgr" not in how and original in ("rgb8", "rgba8", "rgb16", "rgba16"):
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def array_to_image(array: NDArray[Any], encoding: str, header: Any) -> Any:
    """A sensor_msgs/Image of a [H, W] or [H, W, channels] array, without padding, in this machine's byte order."""
    return make_message(
        "sensor_msgs/msg/Image",
        header=header,
        height=array.shape[0],
        width=array.shape[1],
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=array.nbytes // array.shape[0],
        data=byte_view(array),
    )


def array_to_compressed(array: NDArray[Any], encoding: str, header: Any) -> Any:
    """A sensor_msgs/CompressedImage: JPEG of an `rgb8` array [H, W, 3], PNG of a `mono8` or `mono16` array [H, W].

    `format` is written as by image_transport. PNG keeps every value.
    """
    if encoding == "rgb8":
        array, extension, options = cv2.cvtColor(array, cv2.COLOR_RGB2BGR), ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]
        described = "rgb8; jpeg compressed bgr8"
    else:
        extension, options = ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]
        described = f"{encoding}; png compressed "
    _, data = cv2.imencode(extension, array, options)
    return make_message("sensor_msgs/msg/CompressedImage", header=header, format=described, data=data.reshape(-1))


def image_to_array(message: Any, encoding: str, dtype: type[np.generic]) -> NDArray[Any]:
    """[H, W] array of a one-channel Image of this encoding; raises DroppedFrame when it is something else."""
    height, width = int(message.height), int(message.width)
    if message.encoding != encoding or height < 1 or width < 1:
        raise DroppedFrame(f"image is {width}x{height} {message.encoding!r}, not {encoding!r}")
    kind = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    what = f"{width}x{height} {encoding}"
    rows = _rows(_bytes(message.data), height, width * kind.itemsize, int(message.step), what)
    return rows.view(kind).astype(dtype, copy=False)


def _bytes(data: Any) -> NDArray[np.uint8]:
    """The data field as an array, without a copy unless it is a list."""
    if isinstance(data, (list, tuple)):
        return np.array(data, np.uint8)
    return np.frombuffer(data, np.uint8)


def _rows(data: NDArray[np.uint8], height: int, used: int, step: int, what: str) -> NDArray[np.uint8]:
    """uint8 [height, used], contiguous: the rows without their padding to `step` bytes."""
    if step < used or data.size != height * step:
        raise _wrong_size(data, used, step, what)
    return np.ascontiguousarray(data.reshape(height, step)[:, :used])


def _wrong_size(data: NDArray[np.uint8], used: int, step: int, what: str) -> DroppedFrame:
    return DroppedFrame(
        f"image of {what} needs rows of at least {used} bytes, and data of step x rows; it has step {step} and "
        f"{data.size} bytes of data"
    )


def _to_rgb(pixels: NDArray[Any], encoding: str, code: int | None) -> Rgb:
    height, width, channels = pixels.shape
    if code is None:
        return pixels if pixels.dtype == np.uint8 else _narrow(pixels)
    if channels == 2 and width % 2:
        raise DroppedFrame(f"{encoding} image is {width} pixels wide; pixels come in pairs")
    if encoding.startswith("bayer") and (height < 3 or width < 3):
        raise DroppedFrame(f"{encoding} image of {width}x{height} pixels; a mosaic needs at least 3x3")
    image = cv2.cvtColor(pixels, code)
    return image if image.dtype == np.uint8 else _narrow(image)


def _narrow(image: NDArray[np.uint16]) -> Rgb:
    shape = image.shape
    return cv2.convertScaleAbs(image.reshape(shape[0], -1), alpha=1 / 257).reshape(shape)


def _planar(data: NDArray[np.uint8], height: int, width: int, step: int, encoding: str) -> Rgb:
    """A plane of Y, then one of interleaved U and V: half as many rows (nv12, nv21), or rows twice as long (nv24).

    `step` is that of Y. Many drivers give the bytes of all planes divided by the height instead; then rows have no
    padding, and the size of the data tells which one it is.
    """
    code = _PLANAR[encoding]
    half = code is not None
    if half and (height % 2 or width % 2):
        raise DroppedFrame(f"{encoding} image of {width}x{height} pixels; both must be even")
    lines = height * 3 // 2 if half else height * 3
    if data.size == height * step == lines * width:
        step = width
    what = f"{width}x{height} {encoding} ({lines} rows)"
    if code is not None:
        return cv2.cvtColor(_rows(data, lines, width, step, what), code)
    if data.size != lines * step:
        raise _wrong_size(data, width, step, what)
    luma = _rows(data[: height * step], height, width, step, what)
    chroma = _rows(data[height * step :], height, 2 * width, 2 * step, what).reshape(height, width, 2)
    return cv2.transform(np.dstack((luma, chroma)), _BT601)


def is_cut_jpeg(data: NDArray[np.uint8]) -> bool:
    """Whether this is a JPEG without its end marker: decoders fill the rest of such an image with grey."""
    if data.size < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return False
    raw, at = memoryview(data), 2
    while at + 4 <= data.size and raw[at] == 0xFF and raw[at + 1] != 0xDA:
        at += 1 if raw[at + 1] == 0xFF else 2 + (raw[at + 2] << 8 | raw[at + 3])
    # A thumbnail has an end marker too: search only behind the header.
    return bytes(raw[min(at, data.size) :]).rfind(b"\xff\xd9") < 0


def _unknown(encoding: str) -> DroppedFrame:
    # A corrupt message may hold a megabyte of text here.
    encoding = encoding[:_SHOWN]
    if _DEPTH.match(encoding):
        return DroppedFrame(f"encoding {encoding!r} is depth or raw data; choose a colour or grey topic")
    return DroppedFrame(f"unknown encoding {encoding!r}; known are {', '.join(ENCODINGS)}")


DECODERS: dict[str, Callable[[Any], Rgb]] = {
    "sensor_msgs/msg/Image": image_to_rgb,
    "sensor_msgs/msg/CompressedImage": compressed_to_rgb,
}
"""Message type of an image -> its conversion to an RGB array."""


MAX_SECONDS = 2**31 - 1
"""Largest `sec` of builtin_interfaces/Time."""


def frame_of(message: Any, kind: str, received: int) -> Frame:
    """The Frame of an image message of type `kind`, one of DECODERS.

    Args:
        received: time of arrival in nanoseconds; the stamp of a message whose driver left its stamp at zero.

    Raises DroppedFrame when the image cannot be used, or its time is after 2038: results could not have this stamp.
    """
    header = message.header
    stamp = nanoseconds(header.stamp) or received
    if stamp // 10**9 > MAX_SECONDS:
        raise DroppedFrame("its time is after 2038-01-19, the last that a ROS stamp can hold; correct the clock")
    return Frame(DECODERS[kind](message), stamp, str(header.frame_id))
