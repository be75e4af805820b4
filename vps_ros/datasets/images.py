"""Image files of the data sets: camera images, and PNG label maps whose pixels are read exactly as they are coded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError

RGB = (8, 2)
GREY = (8, 0)
GREY16 = (16, 0)
PALETTE = (8, 3)
"""Codings of pixels: bits per channel and PNG's colour type. Pixels of PALETTE are its indices."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}
_STEPS = {1: 255, 2: 85, 4: 17}
"""Grey levels between neighbouring palette indices of this many bits after decoding as grey."""
_ENDS = {b"\x89PNG": b"IEND", b"\xff\xd8": b"\xff\xd9"}
"""First bytes of PNG and JPEG files -> the marker near their end."""
_TRAILING = 65536
"""Bytes that may follow the end marker: some cameras append data of their own."""


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """A camera image, uint8 [H, W, 3] RGB, with pixels in the order of the file: label maps ignore EXIF orientation.

    Raises InputError when the file is absent, truncated or cannot be decoded.
    """
    data = _read(path, "add the image of these labels")
    # OpenCV fills the missing part of a truncated image with grey.
    if any(data.startswith(head) and end not in data[-_TRAILING:] for head, end in _ENDS.items()):
        raise InputError(f"{path}: is cut off; copy it again")
    try:
        image = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"{path}: is not an image that can be decoded; copy it again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def load_png(path: str | Path, codings: tuple[tuple[int, int], ...], expected: str) -> NDArray[np.integer]:
    """The pixels of a PNG.

    Args:
        path: the file.
        codings: those that are accepted. Small palettes, which some writers pack into 1, 2 or 4 bits, go with PALETTE.
        expected: how the file should be coded, for errors.

    Returns:
        uint8 [H, W, 3] in the order R, G, B; uint8 or uint16 [H, W] for grey; uint8 [H, W] of indices for a palette.

    Raises:
        InputError: the file is absent, is not a complete PNG, or is coded otherwise.
    """
    data = _read(path, expected)
    chunks = _chunks(data, path, expected)
    header = chunks[0][1]
    depth, colour = header[8], header[9]
    if (depth, colour) not in codings and not (colour == PALETTE[1] and PALETTE in codings):
        raise InputError(f"{path}: coded as {depth}-bit {_COLOUR_TYPES.get(colour, 'unknown')}; {expected}")
    pixels = _decode(_without_colour_data(chunks), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{path}: PNG cannot be decoded; write it again")
    if colour == RGB[1]:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels // _STEPS[depth] if depth in _STEPS else pixels


def save_png(path: str | Path, pixels: NDArray[np.integer]) -> None:
    """Writes uint8 [H, W, 3] (R, G, B), or uint8 or uint16 [H, W], and makes the file's folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes())


def _read(path: str | Path, expected: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {expected}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {expected}") from None


def _decode(data: bytes, flags: int) -> NDArray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _chunks(data: bytes, path: str | Path, expected: str) -> list[tuple[bytes, bytes]]:
    """Type and content of each chunk. OpenCV alone expands palettes, and only prints a warning for a truncated file."""
    if not data.startswith(_SIGNATURE):
        raise InputError(f"{path}: not a PNG file; {expected}")
    at, kind = len(_SIGNATURE), b""
    chunks = []
    while kind != b"IEND":
        if at + 12 > len(data):
            raise InputError(f"{path}: PNG is cut off; copy or write it again")
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 4 : at + 8 + length]
        stored = data[at + 8 + length : at + 12 + length]
        if len(stored) < 4:
            raise InputError(f"{path}: PNG is cut off; copy or write it again")
        if zlib.crc32(body) != int.from_bytes(stored, "big"):
            raise InputError(f"{path}: PNG is damaged (checksum of a {kind!r} chunk); copy or write it again")
        chunks.append((kind, body[4:]))
        at += 12 + length
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise InputError(f"{path}: PNG has no header; write it again")
    return chunks


def _without_colour_data(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """The file with header and pixels only, the indices of a palette as grey values.

    OpenCV returns the colours of a palette, which may repeat, and adds an alpha channel for a tRNS chunk.
    """
    header = chunks[0][1]
    palette = header[9] == PALETTE[1]
    kept = [(b"IHDR", header[:9] + b"\0" + header[10:] if palette else header)]
    kept += [(kind, body) for kind, body in chunks[1:] if kind in (b"IDAT", b"IEND")]
    packed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in kept)
    return _SIGNATURE + b"".join(packed)
