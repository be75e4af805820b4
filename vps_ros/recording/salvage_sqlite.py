"""Reads a damaged SQLite3 data file row by row."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from vps_ros.errors import InputError
from vps_ros.messages.typestore import full_name
from vps_ros.recording.loss import Loss
from vps_ros.recording.message import Message

_PATIENCE = 200
"""Unreadable rows in a row after which the rest of the file is given up."""


class _Row(NamedTuple):
    time: int
    id: int
    topic: int


class SalvagedSqlite:
    """What can be read of an SQLite3 file; see part.Salvage. Raises InputError when that is nothing."""

    def __init__(self, file: Path, where: str) -> None:
        self._where = where
        self.losses: list[Loss] = []
        self.lost: Counter[str] = Counter()
        self._room = tempfile.TemporaryDirectory(prefix="vps-ros-")
        self._database = self._connect(file)
        try:
            # Without this SQLite refuses a file that is shorter than its header says.
            self._database.execute("PRAGMA writable_schema=ON")
            listed = self._database.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
        except sqlite3.Error as error:
            self.close()
            raise InputError(f"{where}: not readable as an SQLite3 bag ({error})") from None
        self._names = {number: (name, full_name(kind)) for number, name, kind, form in listed if form == "cdr"}
        self._rows = sorted(row for row in self._scan() if row.topic in self._names)
        counts = Counter(self._names[row.topic][0] for row in self._rows)
        self.topics = {name: (kind, counts[name]) for name, kind in self._names.values()}
        self.span = (self._rows[0].time, self._rows[-1].time) if self._rows else ()
        if not self._rows and self.losses:
            self.close()
            raise InputError(f"{where}: cut off or damaged, and no message can be read")

    def _connect(self, file: Path) -> sqlite3.Connection:
        if has_log(file):
            database = _open(file, "mode=ro")
            try:
                # SQLite looks into the log only now.
                database.execute("SELECT count(*) FROM topics").fetchone()
                return database
            except sqlite3.Error as error:
                database.close()
                self.losses.append(Loss(f"its log {file.name}-wal cannot be used ({error})", self._where))
        return _open(_whole_pages(file, Path(self._room.name)), "immutable=1")

    def close(self) -> None:
        self._database.close()
        self._room.cleanup()

    def messages(self, topics: Collection[str] | None) -> Iterator[Message]:
        """By log time."""
        for row in self._rows:
            name, kind = self._names[row.topic]
            if topics is None or name in topics:
                (data,) = self._database.execute("SELECT data FROM messages WHERE id = ?", (row.id,)).fetchone()
                yield Message(name, kind, row.time, data)

    def _scan(self) -> Iterator[_Row]:
        # The last byte of a message is on the last of its pages: who can read it can read the message.
        query = "SELECT id, topic_id, timestamp, substr(data, -1) FROM messages WHERE id > ? ORDER BY id"
        last, unreadable = 0, 0
        while unreadable < _PATIENCE:
            try:
                for number, topic, time, _ in self._database.execute(query, (last,)):
                    if number <= last:
                        raise sqlite3.DatabaseError("rows are out of order")
                    yield _Row(time, number, topic)
                    last, unreadable = number, 0
                break
            except sqlite3.Error:
                last, unreadable = last + 1, unreadable + 1
                if unreadable == 1:
                    self.losses.append(Loss("cut off or damaged; the messages that are whole are read", self._where))


def has_log(file: Path) -> bool:
    """Whether a recorder that crashed left its newest messages in a write-ahead log beside the file."""
    log = file.with_name(f"{file.name}-wal")
    return log.is_file() and log.stat().st_size > 0


def _whole_pages(file: Path, room: Path) -> Path:
    """The file, or, where it ends within a page, a copy without that page.

    SQLite would fill the page up with zeros, and give messages that nobody has recorded.
    """
    size = file.stat().st_size
    with file.open("rb") as head:
        page = int.from_bytes(head.read(18)[16:18], "big")
    # By the file format, 1 stands for 65536, which does not fit.
    page = 65536 if page == 1 else page
    if page < 512 or size % page == 0:
        return file
    copy = room / "whole.db3"
    shutil.copyfile(file, copy)
    os.truncate(copy, size - size % page)
    return copy


def _open(file: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?{how}", uri=True, check_same_thread=False)
