"""MCAP files for tests, put together record by record after the specification (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import lz4.frame

from vps_ros.recording.storage import zstd

MAGIC = b"\x89MCAP0\r\n"


def text(value: str) -> bytes:
    return struct.pack("<I", len(value.encode())) + value.encode()


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(content)) + content


def header(profile: str = "ros2") -> bytes:
    return record(1, text(profile) + text("test"))


def schema(number: int, name: str, encoding: str = "ros2msg") -> bytes:
    return record(3, struct.pack("<H", number) + text(name) + text(encoding) + text(""))


def channel(number: int, schema_number: int, topic: str, encoding: str = "cdr") -> bytes:
    return record(4, struct.pack("<HH", number, schema_number) + text(topic) + text(encoding) + text(""))


def message(number: int, time: int, data: bytes) -> bytes:
    return record(5, struct.pack("<HIQQ", number, 0, time, time) + bytes(data))


def chunk(records: bytes, times: Sequence[int], compression: str = "", crc: bool = True) -> bytes:
    stored = {"lz4": lz4.frame.compress, "zstd": zstd.compress, "": bytes}[compression](records)
    head = struct.pack("<QQQI", min(times), max(times), len(records), zlib.crc32(records) if crc else 0)
    return record(6, head + text(compression) + struct.pack("<Q", len(stored)) + stored)


def message_index(number: int, times: Sequence[int]) -> bytes:
    entries = b"".join(struct.pack("<QQ", time, 0) for time in times)
    return record(7, struct.pack("<HI", number, len(entries)) + entries)


def end() -> bytes:
    """No summary: readers have to scan."""
    return record(15, struct.pack("<I", 0)) + record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC


def summary(*records: bytes, start: int) -> bytes:
    """End of the data section, summary and footer, for a file of `start` bytes."""
    data_end = record(15, struct.pack("<I", 0))
    place = start + len(data_end) if records else 0
    return data_end + b"".join(records) + record(2, struct.pack("<QQI", place, 0, 0)) + MAGIC


def chunk_index(place: int, content: bytes, times: Sequence[int], indexes: dict[int, int], end: int) -> bytes:
    """`content`: the chunk record; `indexes`: channel -> place of its message index; `end`: place after these."""
    offsets = b"".join(struct.pack("<HQ", number, at) for number, at in indexes.items())
    head = struct.pack("<QQQQ", min(times), max(times), place, len(content))
    return record(
        8,
        head
        + struct.pack("<I", len(offsets))
        + offsets
        + struct.pack("<Q", end - place - len(content))
        + text("")
        + bytes(16),
    )


def statistics(counts: dict[int, int], chunks: int, times: Sequence[int]) -> bytes:
    """`counts`: channel -> number of messages."""
    entries = b"".join(struct.pack("<HQ", number, count) for number, count in counts.items())
    head = struct.pack("<QHIIIIQQ", sum(counts.values()), 1, len(counts), 0, 0, chunks, min(times), max(times))
    return record(11, head + struct.pack("<I", len(entries)) + entries)


@dataclass(frozen=True)
class Layout:
    """What a writer puts in a file besides messages.

    Attributes:
        indexed: chunks with a message index (all those not in it have none); None: all.
        chunk_index: whether the summary lists the chunks.
        statistics: whether the summary has statistics.
        definitions: "file", "chunk" or "both": where schemas and channels are, besides the summary.
        summary_definitions: whether the summary repeats them.
        compression: "", "lz4" or "zstd" of the chunks.
        crc: whether chunks have a checksum.
    """

    indexed: frozenset[int] | None = None
    chunk_index: bool = True
    statistics: bool = True
    definitions: str = "file"
    summary_definitions: bool = True
    compression: str = ""
    crc: bool = True


Messages = Sequence[tuple[int, int, bytes]]
"""Channel, time and content of each message."""


def build(channels: dict[int, tuple[str, str, str]], blocks: Sequence[tuple[bool, Messages]], layout: Layout) -> bytes:
    """An MCAP file.

    Args:
        channels: number -> topic, type, encoding of the messages.
        blocks: whether they are in a chunk, and the messages.
    """
    numbers = {kind: k for k, kind in enumerate(dict.fromkeys(kind for _, kind, _ in channels.values() if kind), 1)}
    definitions = b"".join(schema(number, kind) for kind, number in numbers.items())
    definitions += b"".join(channel(k, numbers.get(kind, 0), t, e) for k, (t, kind, e) in channels.items())
    out = MAGIC + header()
    if layout.definitions in ("file", "both"):
        out += definitions
    times, counts, index = [], dict.fromkeys(channels, 0), []
    for k, (chunked, messages) in enumerate(blocks):
        records = b"".join(message(*one) for one in messages)
        times += [time for _, time, _ in messages]
        for number, _, _ in messages:
            counts[number] += 1
        if not chunked:
            out += records
            continue
        if layout.definitions in ("chunk", "both"):
            records = definitions + records
        span = [time for _, time, _ in messages] or [0]
        content, place, places = chunk(records, span, layout.compression, layout.crc), len(out), {}
        out += content
        if layout.indexed is None or k in layout.indexed:
            for number in dict.fromkeys(number for number, _, _ in messages):
                places[number] = len(out)
                out += message_index(number, [time for n, time, _ in messages if n == number])
        index.append(chunk_index(place, content, span, places, len(out)))
    records = [definitions] if layout.summary_definitions else []
    records += index if layout.chunk_index else []
    records += [statistics(counts, len(index), times or [0])] if layout.statistics else []
    return out + summary(*records, start=len(out))
