"""Messages of a recording, whatever its storage, number of files and compression; what is lost is said."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from vps_ros.errors import InputError
from vps_ros.recording.compression import ZSTD_MAGIC, Damaged, decompress, unpack_file
from vps_ros.recording.locate import kind_of, locate
from vps_ros.recording.loss import Loss
from vps_ros.recording.message import Message
from vps_ros.recording.part import Part


class Topic(NamedTuple):
    """A topic of a bag. `count`: messages that can be read."""

    name: str
    type: str
    count: int  # type: ignore[assignment]  # instead of tuple's method


class Bag:
    """An open recording.

    Args:
        path: a .mcap or .db3 file (also zstd-compressed), a rosbag2 folder, or its metadata.yaml.

    Attributes:
        topics: by name.
        parts: the files that are read.
        start, end: time of the first and last message, nanoseconds; 0 when there is none.
        storage: "mcap" or "sqlite3".

    Raises InputError when there is no bag at `path`, or nothing of it can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        located = locate(self.path)
        self._expected = located.expected
        self._losses = list(located.losses)
        self._broken: Counter[tuple[str, str]] = Counter()
        self._stack = ExitStack()
        with self._stack:
            self._parts = self._open_all(located.parts)
            self._stack = self._stack.pop_all()
        self.files = tuple(self._parts)
        self.storage = next(iter(self._parts.values())).storage
        self.topics = self._merge()
        times = [time for part in self._parts.values() for time in part.span]
        self.start, self.end = (min(times), max(times)) if times else (0, 0)

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What could not be read so far; damage inside a file shows when it is read."""
        broken = (
            Loss(f"{count} messages on {topic} cannot be uncompressed", where, count, topic)
            for (where, topic), count in self._broken.items()
        )
        return (*self._losses, *(loss for part in self._parts.values() for loss in part.losses), *broken)

    def lost(self, topic: str) -> int:
        """Messages of a topic that the recording once had and that cannot be read; 0 where nobody can know."""
        if topic in self._expected:
            here = sum(part.topics[topic][1] for part in self._parts.values() if topic in part.topics)
            return max(self._expected[topic][1] - here, 0)
        return sum(part.lost.get(topic, 0) for part in self._parts.values())

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """Messages of these topics (default: all), by time within each file, file after file.

        A message whose own compression is broken is left out and counted as a loss.
        """
        self._broken.clear()
        for file, part in self._parts.items():
            for message in part.messages(topics):
                data = message.data
                # Compression per message is declared in metadata.yaml alone, which single files lose; but CDR
                # starts with 00, so that the magic number is proof enough.
                if data[:4] == ZSTD_MAGIC:
                    try:
                        message = message._replace(data=decompress(data, "zstd"))
                    except Damaged:
                        self._broken[str(file), message.topic] += 1
                        continue
                yield message

    def _open_all(self, files: tuple[Path, ...]) -> dict[Path, Part]:
        parts, refusals = {}, []
        for file in files:
            try:
                parts[file] = self._open(file)
            except InputError as error:
                refusals.append(error)
                self._losses.append(Loss(str(error).removeprefix(f"{file}: "), str(file)))
        if not parts:
            raise refusals[0]
        return parts

    def _open(self, file: Path) -> Part:
        kind = kind_of(file)
        source = file
        if kind == "zstd":
            room = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vps-ros-")))
            source = room / file.name.removesuffix(".zstd").removesuffix(".zst")
            if not unpack_file(file, source):
                self._losses.append(Loss("compressed file is cut off or damaged; its beginning is read", str(file)))
            if source.stat().st_size == 0:
                raise InputError(f"{file}: nothing of it can be uncompressed")
            kind = kind_of(source)
        return self._stack.enter_context(Part(source, kind, str(file)))

    def _merge(self) -> tuple[Topic, ...]:
        counts: dict[str, Topic] = {}
        for part in self._parts.values():
            for name, (kind, count) in part.topics.items():
                before = counts.get(name, Topic(name, kind, 0))
                counts[name] = before._replace(count=before.count + count)
        for name, (kind, _) in self._expected.items():
            counts.setdefault(name, Topic(name, kind, 0))
        return tuple(sorted(counts.values()))
