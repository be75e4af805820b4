"""Messages of a recording, independent of storage format, number of files and compression."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError
from vps_ros.recording.compression import ZSTD_MAGIC, decompress, decompress_file
from vps_ros.recording.locate import file_format, locate
from vps_ros.recording.mcap import McapFile
from vps_ros.recording.sqlite import SqliteFile
from vps_ros.recording.storage import DataFile, Loss, Message, merge_by_time


@dataclass(frozen=True, order=True)
class Topic:
    """A topic of a bag and one of its types; `count`: messages of this type that can be read.

    The type of messages other than CDR ends with their encoding: "foxglove.Log (json)". They can only be listed.
    """

    name: str
    type: str
    count: int


class Bag:
    """An open recording. Use it as a context manager.

    Args:
        path: a .mcap or .db3 file (also zstd-compressed), a rosbag2 folder, or its metadata.yaml.

    Attributes:
        topics: sorted by name; a topic with several types is listed once for each.
        files: the data files in the order of their first messages.
        start, end: times of the first and the last message, nanoseconds; 0 if there is none.
        storage: "mcap" or "sqlite3".

    Raises InputError if there is no bag at `path`, or nothing of it can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        located = locate(self.path)
        self._expected = located.expected
        self._losses = list(located.losses)
        self._corrupt: Counter[tuple[str, str]] = Counter()
        with ExitStack() as stack:
            self._stack = stack
            opened = self._open_all(located.files)
            self._stack = stack.pop_all()
        self._files = dict(sorted(opened.items(), key=lambda item: item[1].span or (0, 0)))
        self.files = tuple(self._files)
        self.storage = next(iter(self._files.values())).storage
        self.topics = self._list_topics()
        times = [time for file in self._files.values() for time in file.span or ()]
        self.start, self.end = (min(times), max(times)) if times else (0, 0)

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What could not be read so far; damage may be found only while messages are read."""
        losses = [*self._losses, *(loss for file in self._files.values() for loss in file.losses)]
        if not losses:
            for topic in dict.fromkeys([*self._expected, *(t.name for t in self.topics)]):
                if count := self.lost(topic):
                    what = f"{count} messages on {topic} are counted in metadata.yaml, but are not in the files"
                    losses.append(Loss(what, str(self.path), count, topic))
        for (file, topic), count in self._corrupt.items():
            losses.append(Loss(f"{count} messages on {topic} cannot be decompressed", file, count, topic))
        return tuple(losses)

    def lost(self, topic: str) -> int:
        """Number of messages that were recorded on a topic and cannot be read, as far as metadata or index say."""
        lost = sum(file.lost(topic) for file in self._files.values())
        if topic in self._expected:
            found = sum(n for file in self._files.values() for (name, _), n in file.topics.items() if name == topic)
            lost = max(self._expected[topic][1] - found, lost)
        return lost

    def messages(
        self, topics: Collection[str] | None = None, types: Collection[str] | None = None
    ) -> Iterator[Message]:
        """Messages by time, of these topics and of these types (None: all).

        A message whose own compression is damaged is left out and counted as a loss.
        """
        self._corrupt.clear()
        opened = [(f.span[0], partial(self._read, name, f, topics)) for name, f in self._files.items() if f.span]
        return (m for m in merge_by_time(opened) if types is None or m.type in types)

    def _read(self, name: Path, file: DataFile, topics: Collection[str] | None) -> Iterator[Message]:
        for message in file.messages(topics):
            # Only metadata.yaml declares compression of messages. CDR starts with a zero byte, zstd does not.
            if message.data[:4] == ZSTD_MAGIC:
                data, complete = decompress(message.data, "zstd")
                if not complete:
                    self._corrupt[str(name), message.topic] += 1
                    continue
                message = message._replace(data=data)
            yield message

    def _open_all(self, files: tuple[Path, ...]) -> dict[Path, DataFile]:
        opened, errors = {}, []
        for file in files:
            try:
                opened[file] = self._open(file)
            except InputError as error:
                errors.append(error)
                self._losses.append(Loss(str(error).removeprefix(f"{file}: "), str(file)))
        if not opened:
            raise errors[0]
        return opened

    def _open(self, file: Path) -> DataFile:
        source, name = file, file_format(file)
        if name == "zstd":
            directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vps-ros-"))
            source = Path(directory) / file.name.removesuffix(".zstd").removesuffix(".zst")
            if not decompress_file(file, source):
                self._losses.append(Loss("compressed file is cut off or damaged; its beginning is read", str(file)))
            if source.stat().st_size == 0:
                raise InputError(f"{file}: nothing of it can be decompressed")
            name = file_format(source)
        opened: DataFile = McapFile(source, str(file)) if name == "mcap" else SqliteFile(source, str(file))
        self._stack.callback(opened.close)
        return opened

    def _list_topics(self) -> tuple[Topic, ...]:
        counts: Counter[tuple[str, str]] = Counter()
        for file in self._files.values():
            counts.update(file.topics)
        for topic, (kind, _) in self._expected.items():
            if topic not in {name for name, _ in counts}:
                counts[topic, kind] = 0
        return tuple(sorted(Topic(*key, count) for key, count in counts.items()))
