"""One data file of a recording: read with rosbags, and, where that refuses it, record by record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from rosbags.rosbag2 import Reader

from vps_ros.errors import InputError
from vps_ros.messages.typestore import full_name
from vps_ros.recording.loss import Loss
from vps_ros.recording.message import Message
from vps_ros.recording.salvage_mcap import SalvagedMcap, has_summary
from vps_ros.recording.salvage_sqlite import SalvagedSqlite, has_log


class Salvage(Protocol):
    """What can be read of a file that rosbags refuses."""

    losses: list[Loss]

    @property
    def topics(self) -> Mapping[str, tuple[str, int]]: ...

    @property
    def lost(self) -> Mapping[str, int]: ...

    @property
    def span(self) -> tuple[int, ...]: ...

    def messages(self, topics: Collection[str] | None) -> Iterator[Message]:
        """By log time."""
        ...

    def close(self) -> None:
        """Lets go of the file."""


class Part:
    """A data file, open; `where` is what its losses call it.

    Attributes:
        storage: "mcap" or "sqlite3".
        topics: name -> (type, messages).
        lost: name -> messages known to be lost.
        losses: grows while messages are read.
        span: times of the first and last message; empty when there is none.

    Raises InputError when nothing of the file can be read.
    """

    def __init__(self, file: Path, storage: str, where: str) -> None:
        self.storage = storage
        self._file, self._where = file, where
        self._salvage: Salvage | None = None
        self._reader: Reader | None = None
        try:
            if storage == "mcap" and not has_summary(file):
                # rosbags takes messages without an index as they come, and gives up where their time jumps back.
                self._fall_back()
                return
            if storage == "sqlite3" and has_log(file):
                # rosbags does not look into it.
                self._fall_back()
                return
            reader = Reader(file)
            reader.open()
            self._reader = reader
            self.topics: Mapping[str, tuple[str, int]] = _topics(reader)
            self.lost: Mapping[str, int] = {}
            self.losses: list[Loss] = []
            self.span: tuple[int, ...] = (reader.start_time, reader.end_time - 1) if reader.message_count else ()
        except InputError:
            self.__exit__()
            raise
        except Exception:
            # rosbags reports damage by whatever its parser stumbles over.
            self._fall_back()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._reader is not None:
            with suppress(Exception):
                self._reader.close()
        if self._salvage is not None:
            self._salvage.close()

    def messages(self, topics: Collection[str] | None) -> Iterator[Message]:
        """Messages of these topics (None: all) by log time; those that cannot be read are left out and said."""
        if self._salvage is not None:
            yield from self._salvage.messages(topics)
            return
        given: Counter[tuple[str, int]] = Counter()
        try:
            for message in self._whole(topics):
                given[message.topic, message.time] += 1
                yield message
            return
        except (GeneratorExit, InputError):
            raise
        except Exception:
            salvage = self._fall_back()
        for message in salvage.messages(topics):
            if given[message.topic, message.time]:
                given[message.topic, message.time] -= 1
            else:
                yield message

    def _whole(self, topics: Collection[str] | None) -> Iterator[Message]:
        reader = self._reader
        chosen = [c for c in reader.connections if topics is None or c.topic in topics] if reader else []
        if not reader or not chosen:
            return
        for connection, time, data in reader.messages(chosen):
            yield Message(connection.topic, full_name(connection.msgtype), time, data)

    def _fall_back(self) -> Salvage:
        make: Callable[[Path, str], Salvage] = SalvagedMcap if self.storage == "mcap" else SalvagedSqlite
        salvage = self._salvage = make(self._file, self._where)
        self.topics, self.lost, self.losses, self.span = salvage.topics, salvage.lost, salvage.losses, salvage.span
        return salvage


def _topics(reader: Reader) -> dict[str, tuple[str, int]]:
    topics: dict[str, tuple[str, int]] = {}
    for c in reader.connections:
        if c.ext.serialization_format != "cdr":
            raise InputError(f"{reader.path}: {c.topic} is {c.ext.serialization_format}, not CDR; convert the bag")
        _, count = topics.get(c.topic, ("", 0))
        topics[c.topic] = (full_name(c.msgtype), count + c.msgcount)
    return topics
