"""Decompression of complete, truncated and damaged data; zstd comes with rosbags or with Python itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

try:
    from compression import zstd
except ImportError:
    try:
        from backports import zstd
    except ImportError:  # rosbags before 0.11.3 depends on this one
        import zstandard as zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20


class Damaged(Exception):
    """Data that is truncated, or not what its header says."""


def decompress(data: bytes | memoryview, compression: str) -> tuple[bytes, bool]:
    """As much as can be decompressed, and whether the data is complete and valid.

    Args:
        compression: as MCAP names it: "zstd", "lz4" or "" (none). Raises Damaged for any other.
    """
    if compression == "":
        return bytes(data), True
    output, view = bytearray(), memoryview(data)
    complete = _decompress(compression, (view[i : i + _BLOCK] for i in range(0, len(view), _BLOCK)), output.extend)
    return bytes(output), complete


def decompress_file(source: Path, target: Path) -> bool:
    """Decompresses a zstd file as far as possible; returns whether it is complete and valid."""
    with source.open("rb") as compressed, target.open("wb") as plain:
        return _decompress("zstd", iter(lambda: compressed.read(_BLOCK), b""), plain.write)


def _decompress(compression: str, blocks: Iterable[Any], write: Callable[[bytes], Any]) -> bool:
    create = _decompressor(compression)
    decompressor, complete = create(), False
    errors = (zstd.ZstdError, EOFError) if compression == "zstd" else (RuntimeError, EOFError)
    try:
        for block in blocks:
            rest = bytes(block)
            while rest:
                if complete:
                    # Storage that allocates fixed blocks pads with zeros.
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    # Several frames may follow each other in one stream.
                    decompressor, complete = create(), False
                write(decompressor.decompress(rest))
                complete = bool(decompressor.eof)
                rest = (decompressor.unused_data or b"") if complete else b""
    except errors:
        return False
    return complete


def _decompressor(compression: str) -> Callable[[], Any]:
    if compression == "zstd":
        if hasattr(zstd.ZstdDecompressor, "decompressobj"):
            return lambda: zstd.ZstdDecompressor().decompressobj()
        return zstd.ZstdDecompressor
    if compression == "lz4":
        import lz4.frame

        return lz4.frame.LZ4FrameDecompressor
    raise Damaged(f"unknown compression {compression!r}")
