"""What the readers of MCAP and SQLite3 files have in common: messages, losses, order of time, decompression."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

# zstd comes with rosbags or with Python itself.
try:
    from compression import zstd
except ImportError:
    try:
        from backports import zstd
    except ImportError:  # rosbags before 0.11.3 depends on this one
        import zstandard as zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20


class Message(NamedTuple):
    """Topic, full type name, time at which it was recorded (nanoseconds), and serialised content (CDR)."""

    topic: str
    type: str
    time: int
    data: bytes


@dataclass(frozen=True)
class Loss:
    """Something that could not be read.

    Attributes:
        what: one line for the user.
        where: file or topic.
        count: number of lost messages; 0 if unknown.
        topic: topic of the lost messages; "" if several topics may be affected.
    """

    what: str
    where: str
    count: int = 0
    topic: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class DataFile(Protocol):
    """An open data file of a recording. Damage may be found only while messages are read; properties are up to date."""

    storage: str

    @property
    def topics(self) -> Mapping[tuple[str, str], int]:
        """(topic, type) -> number of messages. The type of messages other than CDR ends with their encoding."""

    @property
    def span(self) -> tuple[int, int] | None:
        """Times of the first and the last message, nanoseconds; None if the file holds no messages."""

    @property
    def losses(self) -> Sequence[Loss]: ...

    def lost(self, topic: str) -> int:
        """Number of messages of a topic that the file should hold and that cannot be read."""

    def messages(self, topics: Collection[str] | None) -> Iterator[Message]:
        """Messages of these topics (None: all) by time."""

    def close(self) -> None: ...


def type_name(name: str, encoding: str) -> str:
    """The type of a topic as DataFile.topics has it."""
    return name or "unknown type" if encoding == "cdr" else f"{name} ({encoding or 'unknown encoding'})".strip()


def merge_by_time(sources: Sequence[tuple[int, Callable[[], Iterator[Message]]]]) -> Iterator[Message]:
    """Messages of several sources in the order of their times.

    Args:
        sources: time of the first message, and a function that opens the source. A source is opened only when its first
            message is due, so that a long recording needs little memory.
    """
    waiting = sorted(range(len(sources)), key=lambda i: sources[i][0], reverse=True)
    heap: list[tuple[int, int, Message, Iterator[Message]]] = []
    while heap or waiting:
        while waiting and (not heap or sources[waiting[-1]][0] <= heap[0][0]):
            order = waiting.pop()
            iterator = sources[order][1]()
            first = next(iterator, None)
            if first is not None:
                heapq.heappush(heap, (first.time, order, first, iterator))
        if not heap:
            continue
        _, order, message, iterator = heap[0]
        yield message
        following = next(iterator, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following.time, order, following, iterator))


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
