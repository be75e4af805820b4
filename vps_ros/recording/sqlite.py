"""Reads SQLite3 data files, complete or damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.messages.typestore import full_name
from vps_ros.recording.storage import Loss, Message, type_name

MAGIC = b"SQLite format 3\x00"
_MAX_UNREADABLE = 200
"""Consecutive unreadable rows after which the rest of the file is not tried."""


class SqliteFile:
    """An open SQLite3 file; see storage.DataFile.

    Args:
        name: path for messages to the user.

    Raises InputError if it is not a bag, or it is damaged and no message can be read.
    """

    storage = "sqlite3"

    def __init__(self, file: Path, name: str) -> None:
        self._name = name
        self._damage: list[Loss] = []
        self._unreadable: dict[int, int] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="vps-ros-")
        try:
            self._database = self._connect(file)
        except BaseException:
            self._directory.cleanup()
            raise
        try:
            # Without this SQLite refuses a file that is shorter than its header says.
            self._database.execute("PRAGMA writable_schema=ON")
            listed = self._database.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
            self._topics = {
                number: (str(topic), type_name(full_name(str(kind)), form)) for number, topic, kind, form in listed
            }
            size, count = _pages(file)
            self._rows = self._scan(complete=size * count <= file.stat().st_size)
            if self._damage and not len(self._rows):
                raise InputError(f"{name}: cut off or damaged, and no message can be read")
        except sqlite3.Error as error:
            self.close()
            raise InputError(f"{name}: not readable as an SQLite3 bag ({error})") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._database.close()
        self._directory.cleanup()

    @property
    def topics(self) -> Counter[tuple[str, str]]:
        topics = Counter(dict.fromkeys(self._topics.values(), 0))
        for number, count in zip(*np.unique(self._rows[:, 2], return_counts=True), strict=True):
            if int(number) in self._topics:
                topics[self._topics[int(number)]] += int(count)
        topics.subtract(self._topics[number] for number in self._unreadable.values())
        return topics

    @property
    def span(self) -> tuple[int, int] | None:
        return (int(self._rows[0, 0]), int(self._rows[-1, 0])) if len(self._rows) else None

    @property
    def losses(self) -> list[Loss]:
        losses = list(self._damage)
        if self._unreadable and not losses:
            losses.append(Loss(f"damaged; {len(self._unreadable)} messages cannot be read", self._name))
        undefined = len(self._rows) - np.isin(self._rows[:, 2], list(self._topics)).sum()
        if undefined:
            losses.append(Loss(f"{undefined} messages on topics that are not defined are left out", self._name))
        return losses

    def lost(self, topic: str) -> int:
        return sum(self._topics[number][0] == topic for number in self._unreadable.values())

    def messages(self, topics: Collection[str] | None) -> Iterator[Message]:
        wanted = [n for n, (topic, _) in self._topics.items() if topics is None or topic in topics]
        for time, row, number in self._rows[np.isin(self._rows[:, 2], wanted)].tolist():
            try:
                (data,) = self._database.execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchone()
                message = Message(*self._topics[number], time, bytes(memoryview(data)))
            except (sqlite3.Error, TypeError):
                self._unreadable[row] = number
                continue
            yield message

    def _connect(self, file: Path) -> sqlite3.Connection:
        log = file.with_name(f"{file.name}-wal")
        if log.is_file() and log.stat().st_size:
            # A recorder that crashed leaves its newest messages in the write-ahead log.
            database = _open(file, "mode=ro")
            try:
                # SQLite reads the log at the first query only.
                database.execute("SELECT count(*) FROM topics").fetchone()
                return database
            except sqlite3.Error as error:
                database.close()
                self._damage.append(Loss(f"its log {log.name} cannot be used ({error})", self._name))
        return _open(self._without_partial_page(file), "immutable=1")

    def _without_partial_page(self, file: Path) -> Path:
        """The file, or a copy without its last page if that is incomplete: SQLite would fill it with zeros."""
        size, (page, _) = file.stat().st_size, _pages(file)
        if page < 512 or size % page == 0:
            return file
        copy = Path(self._directory.name) / "copy.db3"
        shutil.copyfile(file, copy)
        os.truncate(copy, size - size % page)
        return copy

    def _scan(self, complete: bool) -> NDArray[np.int64]:
        """Rows [N, 3] of time, id and topic, by time and id.

        Args:
            complete: False also reads the last byte of each message, which is on the last of its pages.
        """
        last_byte = "" if complete else ", substr(data, -1)"
        query = f"SELECT timestamp, id, topic_id{last_byte} FROM messages WHERE id > ? ORDER BY id"
        values, last, unreadable = array("q"), 0, 0
        while unreadable < _MAX_UNREADABLE:
            try:
                for row in self._database.execute(query, (last,)):
                    if row[1] <= last:
                        raise sqlite3.DatabaseError("rows are out of order")
                    values.extend(array("q", row[:3]))
                    last, unreadable = row[1], 0
                break
            except (sqlite3.Error, TypeError, OverflowError):
                last, unreadable = last + 1, unreadable + 1
                if unreadable == 1 and not self._damage:
                    self._damage.append(Loss("cut off or damaged; the readable messages are read", self._name))
        rows = np.array(values, np.int64).reshape(-1, 3)
        return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _pages(file: Path) -> tuple[int, int]:
    """Size and number of the database's pages by its header; 0 pages if the header does not say."""
    with file.open("rb") as head:
        header = head.read(100)
    size = int.from_bytes(header[16:18], "big")
    # The number is valid if the version that wrote it also wrote the last change.
    count = int.from_bytes(header[28:32], "big") if header[24:28] == header[92:96] else 0
    # By the file format, 1 means 65536, which does not fit.
    return 65536 if size == 1 else size, count


def _open(file: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?{options}", uri=True, check_same_thread=False)
