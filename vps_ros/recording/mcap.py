"""Reads MCAP files, complete or damaged (specification: https://mcap.dev/spec).

The index in the summary is used if it is complete: its counts equal those of the statistics, and there are no messages
outside the chunks that it lists. Otherwise the data section is read record by record, and all chunks are decompressed
once to count their messages.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from vps_ros.errors import InputError
from vps_ros.messages.typestore import full_name
from vps_ros.recording.storage import Damaged, Loss, Message, decompress, merge_by_time, type_name

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX, _CHUNK_INDEX = 2, 3, 4, 5, 6, 7, 8
_STATISTICS, _DATA_END = 11, 15
_RECORD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_FOOTER_BODY = struct.Struct("<QQI")
_STATISTICS_HEAD = struct.Struct("<QHIIIIQQI")
_RUN_BYTES = 1 << 20
_LARGE = 1 << 16
"""Bytes of a message from which the pages of the file are released after it was read."""
_ERRORS = (struct.error, UnicodeDecodeError, Damaged)


class _Channel(NamedTuple):
    topic: str
    schema: int
    encoding: str


@dataclass
class _Block:
    """A chunk, or consecutive messages outside chunks.

    Attributes:
        begin, end: byte range in the file.
        chunk: whether it is a chunk record.
        truncated: whether the record continues beyond `end`.
        indexed: channel -> number of messages by the message index.
        counts: channel -> number of messages that can be read.
        first, last: times of messages, nanoseconds; None while unknown.
        error: why it cannot be read.
    """

    begin: int
    end: int
    chunk: bool
    truncated: bool = False
    indexed: Counter[int] = field(default_factory=Counter)
    counts: Counter[int] = field(default_factory=Counter)
    first: int | None = None
    last: int | None = None
    error: str = ""

    def add_times(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)


class _ChunkIndex(NamedTuple):
    """Entry of the summary. `offset`: of the chunk record; `end`: of its message index; `counts`: by channel."""

    first: int
    last: int
    offset: int
    length: int
    end: int
    counts: Counter[int]

    def block(self) -> _Block:
        begin, end = self.offset + _RECORD.size, self.offset + self.length
        return _Block(begin, end, True, indexed=self.counts, counts=self.counts, first=self.first, last=self.last)


class NotIndexed(InputError):
    """The index of an MCAP file is missing or incomplete."""


class McapFile:
    """An open MCAP file; see storage.DataFile.

    Args:
        file: its path, or a seekable file object, of which only the summary and the chunks with wanted topics are read.
            The caller closes it.
        name: path for messages to the user.

    Raises:
        InputError: the file is damaged and no message can be read.
        NotIndexed: `file` is a file object, and its index is incomplete: all of it would have to be read.
    """

    storage = "mcap"

    def __init__(self, file: Path | BinaryIO, name: str) -> None:
        self._name = name
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, _Channel] = {}
        self._blocks: list[_Block] = []
        self._index: list[_ChunkIndex] = []
        self._summary_start = 0
        # Number of messages by the statistics: of each channel, and in total (None: no statistics).
        self._counted: Counter[int] = Counter()
        self._counted_total: int | None = None
        self._totals: tuple[Counter[int], Counter[int]] | None = None
        self._damage: list[Loss] = []
        self._stack = ExitStack()
        self._mapped: mmap.mmap | None = None
        if isinstance(file, Path):
            opened = self._stack.enter_context(file.open("rb"))
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            self._stack.callback(_close, mapped)
            self._data: memoryview | _FileBytes = self._stack.enter_context(memoryview(mapped))
            self._mapped = mapped
        else:
            self._data = _FileBytes(file)
        try:
            with suppress(*_ERRORS):
                self._read_summary()
            if self._index_is_complete():
                self._blocks = [entry.block() for entry in self._index]
            elif not isinstance(file, Path):
                raise NotIndexed(f"{name}: its index is missing or incomplete")
            else:
                self._read_data_section()
                for block in self._blocks:
                    self._load(block)
            if self.losses and not self.topics.total():
                raise InputError(f"{name}: {self.losses[0].what.partition(';')[0]}, and no message can be read")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stack.close()

    @property
    def topics(self) -> Counter[tuple[str, str]]:
        topics = Counter({self._topic(c): 0 for c in self._channels})
        found, _ = self._count()
        for channel, count in found.items():
            if channel in self._channels:
                topics[self._topic(channel)] += count
        return topics

    @property
    def span(self) -> tuple[int, int] | None:
        blocks = [(b.first, b.last) for b in self._blocks if b.first is not None and b.last is not None]
        return (min(first for first, _ in blocks), max(last for _, last in blocks)) if blocks else None

    @property
    def losses(self) -> list[Loss]:
        losses = list(self._damage)
        for block in self._blocks:
            if block.error:
                at = block.begin - _RECORD.size
                losses.append(Loss(f"the damaged chunk at byte {at} is left out ({block.error})", self._name))
        found, declared = self._count()
        undefined = sum(count for channel, count in found.items() if channel not in self._channels)
        if undefined:
            losses.append(Loss(f"{undefined} messages on channels that are not defined are left out", self._name))
        total = max(self._counted_total or 0, declared.total())
        if total > found.total() and not losses:
            what = f"holds {found.total()} of the {total} messages that its index and statistics list"
            losses.append(Loss(what, self._name))
        return losses

    def lost(self, topic: str) -> int:
        found, declared = self._count()
        return sum(max(declared[c] - found[c], 0) for c, channel in self._channels.items() if channel.topic == topic)

    def messages(self, topics: Collection[str] | None) -> Iterator[Message]:
        channels = {c for c, channel in self._channels.items() if topics is None or channel.topic in topics}
        wanted = [b for b in self._blocks if b.first is not None and not channels.isdisjoint(b.counts)]
        return merge_by_time([(b.first or 0, partial(self._messages, b, channels)) for b in wanted])

    def _messages(self, block: _Block, channels: set[int]) -> Iterator[Message]:
        content, found = self._load(block)
        for time, channel, begin, end in sorted((f for f in found if f[1] in channels), key=lambda f: f[0]):
            data = bytes(content[begin:end])
            if self._mapped is not None and len(data) >= _LARGE and hasattr(mmap, "MADV_DONTNEED"):
                # Otherwise the pages that were read count to the memory of the process until the end.
                self._mapped.madvise(mmap.MADV_DONTNEED)
            yield Message(*self._topic(channel), time, data)

    def _topic(self, channel: int) -> tuple[str, str]:
        topic, schema, encoding = self._channels[channel]
        return topic, type_name(full_name(self._schemas.get(schema, "")), encoding)

    def _count(self) -> tuple[Counter[int], Counter[int]]:
        """Number of messages by channel: that can be read, and that index or statistics list."""
        if self._totals is None:
            indexed = _sum(b.indexed for b in self._blocks)
            self._totals = _sum(b.counts for b in self._blocks), indexed | self._counted
        return self._totals

    def _index_is_complete(self) -> bool:
        counts, at = _sum(c.counts for c in self._index), len(MAGIC)
        if counts.total() != self._counted_total or (self._counted and counts != +self._counted):
            return False
        if any(c not in self._channels or self._channels[c].schema not in (0, *self._schemas) for c in counts):
            return False
        for begin, end in [*((c.offset, c.end) for c in self._index), (self._summary_start, 0)]:
            if any(kind in (_MESSAGE, _CHUNK) for kind, _, _ in _records(self._data[at:begin])):
                return False
            at = end
        return all(entry.counts for entry in self._index)

    def _read_summary(self) -> None:
        """Reads statistics, definitions and the index of chunks."""
        data = self._data
        at = len(data) - len(MAGIC) - _FOOTER_BODY.size - _RECORD.size
        if at < len(MAGIC):
            return
        footer = data[at:]
        if _RECORD.unpack_from(footer) != (_FOOTER, _FOOTER_BODY.size):
            return
        start, _, _ = _FOOTER_BODY.unpack_from(footer, _RECORD.size)
        if not len(MAGIC) <= start < at:
            return
        self._summary_start = start
        summary = data[start:at]
        for kind, begin, end in _records(summary):
            if kind == _CHUNK_INDEX:
                self._index.append(_chunk_index(summary[begin:end]))
            elif kind == _STATISTICS:
                self._counted_total, *_, length = _STATISTICS_HEAD.unpack_from(summary, begin)
                entries = begin + _STATISTICS_HEAD.size
                self._counted.update(dict(struct.iter_unpack("<HQ", summary[entries : entries + length])))
            else:
                self._define(kind, summary, begin, end)
        self._index.sort(key=lambda c: c.offset)

    def _chunk_offsets(self) -> list[int]:
        """Chunks of the index that are where it says."""
        offsets = (c.offset for c in self._index if c.offset + _RECORD.size <= self._summary_start)
        lengths = {c.offset: c.length - _RECORD.size for c in self._index}
        return [o for o in offsets if _RECORD.unpack(self._data[o : o + _RECORD.size]) == (_CHUNK, lengths[o])]

    def _read_data_section(self) -> None:
        data, size, at, chunks = self._data, len(self._data), len(MAGIC), self._chunk_offsets()
        while at + _RECORD.size <= size:
            index = bisect_right(chunks, at)
            limit = chunks[index] if index < len(chunks) else size
            kind, length = _RECORD.unpack(data[at : at + _RECORD.size])
            begin, end = at + _RECORD.size, at + _RECORD.size + length
            if kind in (_DATA_END, _FOOTER) and limit == size:
                return
            if kind == _CHUNK:
                self._blocks.append(_Block(begin, min(end, limit), True, end > limit))
            if kind != 0 and end <= limit:
                try:
                    self._read_record(kind, begin, end)
                except _ERRORS:
                    self._damage.append(Loss(f"a damaged record at byte {at} is left out", self._name))
                at = end
            elif limit < size:
                self._damage.append(Loss(f"damaged at byte {at}; reading continues at byte {limit}", self._name))
                at = limit
            else:
                break
        what = f"cut off or damaged at byte {min(at, size)}; the messages that can be read are used"
        self._damage.append(Loss(what, self._name))

    def _read_record(self, kind: int, begin: int, end: int) -> None:
        """A record of the data section, outside chunks."""
        last = self._blocks[-1] if self._blocks else None
        record = self._data[begin:end]
        if kind == _MESSAGE:
            channel, _, time, _ = _MESSAGE_HEAD.unpack_from(record)
            start = begin - _RECORD.size
            if last is None or last.chunk or last.end != start or end - last.begin > _RUN_BYTES:
                last = _Block(start, start, False)
                self._blocks.append(last)
            last.end = end
            last.counts[channel] += 1
            last.add_times(time, time)
        elif kind == _MESSAGE_INDEX and last is not None and last.chunk:
            channel, length = struct.unpack_from("<HI", record)
            last.indexed[channel] += min(length, len(record) - 6) // 16
        else:
            self._define(kind, record, 0, len(record))

    def _define(self, kind: int, data: memoryview, begin: int, end: int) -> None:
        if kind == _SCHEMA:
            (number,) = struct.unpack_from("<H", data, begin)
            self._schemas.setdefault(number, _string(data, begin + 2, end)[0])
        elif kind == _CHANNEL:
            number, schema = struct.unpack_from("<HH", data, begin)
            topic, at = _string(data, begin + 4, end)
            encoding, _ = _string(data, at, end)
            self._channels.setdefault(number, _Channel(topic, schema, encoding))

    def _load(self, block: _Block) -> tuple[memoryview, list[tuple[int, int, int, int]]]:
        """The block's content and its messages: time, channel, and byte range in the content. Updates its counts."""
        self._totals = None
        found: list[tuple[int, int, int, int]] = []
        try:
            content = self._content(block)
            for kind, begin, end in _records(content):
                if kind == _MESSAGE:
                    channel, _, time, _ = _MESSAGE_HEAD.unpack_from(content, begin)
                    found.append((time, channel, begin + _MESSAGE_HEAD.size, end))
                else:
                    self._define(kind, content, begin, end)
        except _ERRORS as error:
            # The end of a truncated chunk is reported once, as the end of the file.
            if not block.truncated:
                block.error = str(error)
            if not found:
                content = memoryview(b"")
        block.counts = Counter(channel for _, channel, _, _ in found)
        if found:
            block.add_times(min(found)[0], max(found)[0])
        return content, found

    def _content(self, block: _Block) -> memoryview:
        data = self._data[block.begin : block.end]
        if not block.chunk:
            return data
        _, _, size, checksum, length = _CHUNK_HEAD.unpack_from(data)
        at = _CHUNK_HEAD.size + length
        compression = bytes(data[_CHUNK_HEAD.size : at]).decode()
        (stored,) = struct.unpack_from("<Q", data, at)
        content: Any = data[at + 8 :][:stored]
        if compression:
            content, _ = decompress(content, compression)
        # What follows the declared size is padding; what is missing is an error only if the record is all there.
        content = memoryview(content)[:size]
        if len(content) == size:
            if checksum and zlib.crc32(content) != checksum:
                raise Damaged("its checksum is wrong")
        elif not block.truncated:
            raise Damaged(f"{len(content)} of its {size} bytes can be read")
        return content


class _FileBytes:
    """The content of a seekable file as a memoryview; a slice reads its bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> memoryview:
        begin, end, _ = part.indices(self._size)
        if begin >= end:
            return memoryview(b"")
        self._file.seek(begin)
        return memoryview(self._file.read(end - begin))


def _close(mapped: mmap.mmap) -> None:
    # A memoryview in use elsewhere keeps the mapping open until it is released.
    with suppress(BufferError):
        mapped.close()


def _records(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """Complete records: opcode and byte range of the content."""
    at = 0
    while at + _RECORD.size <= len(data):
        kind, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + length > len(data):
            return
        yield kind, at, at + length
        at += length


def _chunk_index(record: memoryview) -> _ChunkIndex:
    first, last, offset, length, size = struct.unpack_from("<QQQQI", record)
    (index_length,) = struct.unpack_from("<Q", record, 36 + size)
    end = offset + length + index_length
    places = sorted((place, channel) for channel, place in struct.iter_unpack("<HQ", record[36 : 36 + size]))
    # A message index is a record of 15 bytes, and 16 for each message.
    counts = {channel: (after - place - 15) // 16 for (place, channel), (after, _) in pairwise([*places, (end, 0)])}
    return _ChunkIndex(first, last, offset, length, end, +Counter(counts))


def _sum(counters: Iterable[Counter[int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _string(data: memoryview, at: int, end: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", data, at)
    if at + 4 + length > end:
        raise Damaged("a string exceeds its record")
    return bytes(data[at + 4 : at + 4 + length]).decode(), at + 4 + length
