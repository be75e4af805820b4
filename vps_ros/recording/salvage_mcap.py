"""Reads a damaged MCAP file record by record (specification: https://mcap.dev/spec).

A recorder that lost power leaves a file without index, often with half a chunk at its end. Whole messages of that
half are read too; a chunk whose checksum is wrong is left out.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from vps_ros.errors import InputError
from vps_ros.messages.typestore import full_name
from vps_ros.recording.compression import Damaged, decompress, decompress_prefix
from vps_ros.recording.locate import MCAP_MAGIC
from vps_ros.recording.loss import Loss
from vps_ros.recording.message import Message

_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX, _DATA_END = 1, 2, 3, 4, 5, 6, 7, 15
_RECORD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_FOOTER_BODY = struct.Struct("<QQI")


class _Channel(NamedTuple):
    topic: str
    type: str


class _Entry(NamedTuple):
    """Where a message is: `chunk` is the place of its chunk record, or -1 for the file itself."""

    time: int
    order: int
    channel: int
    chunk: int
    begin: int
    end: int


class SalvagedMcap:
    """What can be read of an MCAP file; see part.Salvage. Raises InputError when that is nothing."""

    def __init__(self, file: Path, where: str) -> None:
        self._where = where
        self._channels: dict[int, _Channel] = {}
        self._schemas: dict[int, str] = {}
        self._entries: list[_Entry] = []
        self._lost: Counter[int] = Counter()
        self._foreign: set[str] = set()
        self.losses: list[Loss] = []
        self._open = file.open("rb")
        self._mapped = mmap.mmap(self._open.fileno(), 0, access=mmap.ACCESS_READ)
        self._data = memoryview(self._mapped)
        self._chunk = lru_cache(maxsize=2)(self._decompress)
        try:
            self._scan()
        except BaseException:
            self.close()
            raise
        self._entries.sort()
        counts = Counter(self._channels[e.channel].topic for e in self._entries)
        self.topics = {c.topic: (c.type, counts[c.topic]) for c in self._channels.values()}
        self.lost: Counter[str] = Counter()
        for channel, count in self._lost.items():
            if channel in self._channels:
                self.lost[self._channels[channel].topic] += count
        self.span = (self._entries[0].time, self._entries[-1].time) if self._entries else ()

    def close(self) -> None:
        self._chunk.cache_clear()
        self._data.release()
        # A slice that somebody still holds keeps the mapping; it then goes with the last of them.
        with suppress(BufferError):
            self._mapped.close()
        self._open.close()

    def messages(self, topics: Collection[str] | None) -> Iterator[Message]:
        """By log time, and by place in the file where times are equal."""
        for entry in self._entries:
            channel = self._channels[entry.channel]
            if topics is None or channel.topic in topics:
                source = self._data if entry.chunk < 0 else self._chunk(entry.chunk)
                yield Message(channel.topic, channel.type, entry.time, bytes(source[entry.begin : entry.end]))

    def _scan(self) -> None:
        at, size = len(MCAP_MAGIC), len(self._data)
        damaged_chunk, complete = False, False
        while at + _RECORD.size <= size:
            kind, length = _RECORD.unpack_from(self._data, at)
            begin, end = at + _RECORD.size, at + _RECORD.size + length
            if kind in (_DATA_END, _FOOTER):
                complete = True
                break
            if kind == 0 or (end > size and kind != _CHUNK):
                break
            if kind == _CHUNK:
                whole = self._read_chunk(at, begin, min(end, size), end <= size)
                damaged_chunk = not whole
            elif kind == _MESSAGE_INDEX and damaged_chunk and length >= 6:
                # The only trace of how much a damaged chunk held.
                channel, entries = struct.unpack_from("<HI", self._data, begin)
                self._lost[channel] += entries // 16
            else:
                self._read_record(kind, self._data, begin, end, -1)
            at = end
        if not complete:
            what = f"cut off or damaged at byte {min(at, size)}; what came before is read"
            self.losses.append(Loss(what, self._where))
        if self._foreign and not self._channels:
            found = ", ".join(sorted(self._foreign))
            raise InputError(f"{self._where}: its messages are {found}, not those of ROS 2; convert the bag")
        if not self._entries and self.losses:
            raise InputError(f"{self._where}: {self.losses[0].what.partition(';')[0]}, and no message can be read")

    def _read_record(self, kind: int, data: memoryview, begin: int, end: int, chunk: int) -> None:
        try:
            if kind == _SCHEMA:
                (number,) = struct.unpack_from("<H", data, begin)
                self._schemas[number], _ = _string(data, begin + 2, end)
            elif kind == _CHANNEL:
                number, schema = struct.unpack_from("<HH", data, begin)
                topic, at = _string(data, begin + 4, end)
                encoding, _ = _string(data, at, end)
                if encoding == "cdr":
                    self._channels[number] = _Channel(topic, full_name(self._schemas.get(schema, "")))
                else:
                    self._foreign.add(encoding or "of an unnamed encoding")
            elif kind == _MESSAGE and end - begin >= _MESSAGE_HEAD.size:
                channel, _, time, _ = _MESSAGE_HEAD.unpack_from(data, begin)
                if channel in self._channels:
                    place = begin + _MESSAGE_HEAD.size
                    self._entries.append(_Entry(time, len(self._entries), channel, chunk, place, end))
        except (struct.error, UnicodeDecodeError, Damaged):
            self.losses.append(Loss(f"a damaged record before byte {end} is left out", self._where))

    def _read_chunk(self, at: int, begin: int, end: int, entire: bool) -> bool:
        """Notes the messages of the chunk record at `at`; whether all of it could be read."""
        try:
            content, complete = self._content(begin, end, entire)
        except (struct.error, UnicodeDecodeError, Damaged) as error:
            if entire:
                self.losses.append(Loss(f"a damaged chunk at byte {at} is left out ({error})", self._where))
            return False
        data, place = memoryview(content), 0
        while place + _RECORD.size <= len(data):
            kind, length = _RECORD.unpack_from(data, place)
            place += _RECORD.size
            if place + length > len(data):
                break
            self._read_record(kind, data, place, place + length, at)
            place += length
        return complete

    def _content(self, begin: int, end: int, entire: bool) -> tuple[bytes, bool]:
        _, _, size, checksum, name = _CHUNK_HEAD.unpack_from(self._data, begin)
        at = begin + _CHUNK_HEAD.size
        compression = bytes(self._data[at : at + name]).decode()
        (stored,) = struct.unpack_from("<Q", self._data, at + name)
        at += name + 8
        if not entire:
            content, _ = decompress_prefix(self._data[at:end], compression)
            return content[:size], False
        if at + stored > end:
            raise Damaged("its length is wrong")
        content = decompress(self._data[at : at + stored], compression)
        if len(content) != size or (checksum and zlib.crc32(content) != checksum):
            raise Damaged("its checksum is wrong")
        return content, True

    def _decompress(self, at: int) -> memoryview:
        _, length = _RECORD.unpack_from(self._data, at)
        begin, end = at + _RECORD.size, at + _RECORD.size + length
        return memoryview(self._content(begin, min(end, len(self._data)), end <= len(self._data))[0])


def has_summary(file: Path) -> bool:
    """Whether an MCAP file is whole and ends with an index."""
    length = _RECORD.size + _FOOTER_BODY.size + len(MCAP_MAGIC)
    with file.open("rb") as data:
        if data.seek(0, os.SEEK_END) < length:
            return False
        data.seek(-length, os.SEEK_END)
        tail = data.read()
    kind, size = _RECORD.unpack_from(tail)
    if (kind, size) != (_FOOTER, _FOOTER_BODY.size) or not tail.endswith(MCAP_MAGIC):
        return False
    return _FOOTER_BODY.unpack_from(tail, _RECORD.size)[0] != 0


def _string(data: memoryview, at: int, end: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", data, at)
    if at + 4 + length > end:
        raise Damaged("a text runs over its record")
    return bytes(data[at + 4 : at + 4 + length]).decode(), at + 4 + length
