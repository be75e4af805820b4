"""Decompression of whole and of cut data; zstd comes with rosbags or with Python itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from compression import zstd
except ImportError:
    try:
        from backports import zstd
    except ImportError:  # rosbags before 0.11.3 brings this one
        import zstandard as zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20


class Damaged(Exception):
    """Compressed data that is not what it should be, or ends too early."""


def decompress(data: bytes | memoryview, kind: str) -> bytes:
    """The data, uncompressed, of one of the compressions of MCAP: "zstd", "lz4" or "" (none). Raises Damaged."""
    out, complete = decompress_prefix(data, kind)
    if not complete:
        raise Damaged("compressed data ends too early or is damaged")
    return out


def decompress_prefix(data: bytes | memoryview, kind: str) -> tuple[bytes, bool]:
    """As much as can be uncompressed, and whether that is all of it. Raises Damaged for an unknown compression."""
    if kind == "":
        return bytes(data), True
    out, view = bytearray(), memoryview(data)
    complete = _feed(kind, (view[i : i + _BLOCK] for i in range(0, len(view), _BLOCK)), out.extend)
    return bytes(out), complete


def unpack_file(source: Path, target: Path) -> bool:
    """Uncompresses a zstd file, as far as it goes; whether that was all of it."""
    with source.open("rb") as compressed, target.open("wb") as plain:
        return _feed("zstd", iter(lambda: compressed.read(_BLOCK), b""), plain.write)


def _feed(kind: str, blocks: Any, give: Callable[[bytes], Any]) -> bool:
    new = _decompressor(kind)
    decompressor, complete = new(), False
    try:
        for block in blocks:
            rest = bytes(block)
            while rest:
                if complete:
                    # Several frames may follow each other in one stream.
                    decompressor = new()
                give(decompressor.decompress(rest))
                complete = bool(decompressor.eof)
                rest = (decompressor.unused_data or b"") if complete else b""
    except _errors(kind):
        return False
    return complete


def _decompressor(kind: str) -> Callable[[], Any]:
    if kind == "zstd":
        if hasattr(zstd.ZstdDecompressor, "decompressobj"):
            return lambda: zstd.ZstdDecompressor().decompressobj()
        return zstd.ZstdDecompressor
    if kind == "lz4":
        import lz4.frame

        return lz4.frame.LZ4FrameDecompressor
    raise Damaged(f"unknown compression {kind!r}")


def _errors(kind: str) -> tuple[type[Exception], ...]:
    return (zstd.ZstdError, EOFError) if kind == "zstd" else (RuntimeError, EOFError)
