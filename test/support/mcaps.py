"""MCAP files for tests, put together record by record after the specification (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import lz4.frame

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
    stored = lz4.frame.compress(records) if compression == "lz4" else records
    head = struct.pack("<QQQI", min(times), max(times), len(records), zlib.crc32(records) if crc else 0)
    return record(6, head + text(compression) + struct.pack("<Q", len(stored)) + stored)


def message_index(number: int, times: Sequence[int]) -> bytes:
    entries = b"".join(struct.pack("<QQ", time, 0) for time in times)
    return record(7, struct.pack("<HI", number, len(entries)) + entries)


def end() -> bytes:
    """No summary: readers have to scan."""
    return record(15, struct.pack("<I", 0)) + record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC
