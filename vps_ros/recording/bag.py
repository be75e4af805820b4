"""A recording: its data files, and their messages, independent of storage format, number of files and compression."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import yaml

from vps_ros.errors import InputError
from vps_ros.files import natural_key
from vps_ros.messages.typestore import full_name
from vps_ros.recording import mcap, sqlite
from vps_ros.recording.image_files import IMAGE_SUFFIXES
from vps_ros.recording.storage import (
    ZSTD_MAGIC,
    DataFile,
    Loss,
    Message,
    decompress,
    decompress_file,
    merge_by_time,
)

_ENDING = re.compile(r"\.(mcap|db3)(\.zstd?)?$")
ROS1_SUFFIX = ".bag"
METADATA = "metadata.yaml"
"""Name of the file that describes the files of a rosbag2 folder."""
_FORMATS = ((mcap.MAGIC, "mcap"), (sqlite.MAGIC, "sqlite3"), (ZSTD_MAGIC, "zstd"))
_DATE = re.compile(r"\d{4}[-_.]?\d\d[-_.]?\d\d([-_.T]?\d\d[-_.:]?\d\d[-_.:]?\d\d)?")
_NUMBER_FIRST = re.compile(rf"(\d+)_(?:(.+)_)?{_DATE.pattern}")
_NUMBER_LAST = re.compile(r"_(\d+)$")


@dataclass(frozen=True)
class BagFiles:
    """The data files of a recording.

    Attributes:
        files: in the order of metadata.yaml, or of their names.
        expected: topic -> (type, number of messages) by metadata.yaml, also of missing files; empty without it.
        losses: missing files, unlisted files, unreadable metadata.
    """

    files: tuple[Path, ...]
    expected: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()


def find_bag_files(path: str | Path) -> BagFiles:
    """The data files of the bag at `path`: a data file, a rosbag2 folder, or its metadata.yaml.

    Raises InputError if there is no bag, or there are several.
    """
    path = Path(path)
    if path.name == METADATA and path.is_file():
        path = path.parent
    if path.is_dir():
        return _locate_in_folder(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; give a .mcap or .db3 file, or a rosbag2 folder")
    file_format(path)
    return BagFiles((path,))


def is_bag(path: str | Path) -> bool:
    """Whether `path` is a bag, complete or damaged, rather than images or a video."""
    path = Path(path)
    if path.is_dir():
        names = [p.name for p in _visible(path)]
        if any(is_bag_file(name) for name in names):
            return True
        return METADATA in names and not any(name.lower().endswith(IMAGE_SUFFIXES) for name in names)
    if path.name == METADATA or is_bag_file(path.name):
        return path.exists()
    try:
        file_format(path)
    except InputError:
        return False
    return True


def recording_name(path: str | Path) -> str:
    """The name of a recording without its ending: `drive` for drive.mcap, drive.db3.zstd, drive.mp4 and drive/."""
    name = Path(path).resolve().name
    if _ENDING.search(name):
        return _ENDING.sub("", name)
    return name if Path(path).is_dir() else Path(name).stem


def is_bag_file(name: str) -> bool:
    """Whether the ending of a name is that of a data file of rosbag2, or of a ROS 1 bag."""
    return bool(_ENDING.search(name)) or name.endswith(ROS1_SUFFIX)


def file_format(path: Path) -> str:
    """ "mcap", "sqlite3" or "zstd", from the first bytes of a file; raises InputError for any other."""
    try:
        with path.open("rb") as file:
            return format_of(file, str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def format_of(file: BinaryIO, path: str) -> str:
    """As `file_format`, for an open file; `path` is its name for messages."""
    head = file.read(16)
    for magic, name in _FORMATS:
        if head.startswith(magic):
            return name
    if head.startswith(b"#ROSBAG V"):
        name = PurePosixPath(path).name
        new = name.removesuffix(ROS1_SUFFIX)
        raise InputError(
            f"{path}: is a ROS 1 bag; convert it with `rosbags-convert --src {name} --dst {new}` and give {new}"
        )
    if not head:
        raise InputError(f"{path}: is empty; the recording was never written")
    raise InputError(f"{path}: is not a bag; give a .mcap or .db3 file, or a rosbag2 folder")


def _locate_in_folder(folder: Path) -> BagFiles:
    metadata = folder / METADATA
    if not metadata.is_file():
        return _locate_one_recording(folder)
    try:
        information = yaml.safe_load(metadata.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        names = [PurePosixPath(str(name)).name for name in information["relative_file_paths"]]
        expected = {
            str(entry["topic_metadata"]["name"]): (
                full_name(str(entry["topic_metadata"]["type"])),
                int(entry["message_count"]),
            )
            for entry in information["topics_with_message_count"]
        }
        counts = information.get("files") or ()
        per_file = {PurePosixPath(str(e["path"])).name: int(e.get("message_count", 0)) for e in counts}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        found = _locate_one_recording(folder)
        damaged = Loss("is damaged; the data files are read without it", str(metadata))
        return BagFiles(found.files, losses=(damaged, *found.losses))
    listed = {name: _existing(folder, name) for name in names}
    files = tuple(file for file in listed.values() if file)
    unlisted = [p for p in _data_files(folder) if p not in files]
    if not files:
        if names and not unlisted:
            raise InputError(f"{folder}: {METADATA} lists {_shorten(names)}, which is missing; copy it there")
        found = _locate_one_recording(folder)
        what = f"lists {_shorten(names) or 'no file'}; {_shorten([p.name for p in found.files])} is read instead"
        return BagFiles(found.files, losses=(Loss(what, str(metadata)), *found.losses))
    losses = []
    missing = [name for name, file in listed.items() if not file]
    if missing:
        what = f"{len(missing)} of {len(names)} files are missing ({_shorten(missing)})"
        losses.append(Loss(what, str(folder), sum(per_file.get(name, 0) for name in missing)))
    if unlisted:
        what = f"does not list {_shorten([p.name for p in unlisted])}, which is not read; delete {METADATA} to read it"
        losses.append(Loss(what, str(metadata)))
    return BagFiles(files, expected, tuple(losses))


def _existing(folder: Path, name: str) -> Path | None:
    # Some recorders list a compressed file by the name that it had before.
    for candidate in (name, f"{name}.zstd", f"{name}.zst", re.sub(r"\.zstd?$", "", name)):
        if (folder / candidate).is_file():
            return folder / candidate
    return None


def _visible(folder: Path) -> list[Path]:
    # macOS puts a hidden file with its own data, ._drive_0.mcap, beside each file that it copies.
    return [p for p in folder.iterdir() if not p.name.startswith(".")]


def _data_files(folder: Path) -> list[Path]:
    files = [p for p in _visible(folder) if _ENDING.search(p.name) and p.is_file()]
    # A recorder that compresses files may stop before it has deleted the uncompressed one.
    names = {p.name for p in files}
    files = [p for p in files if not (p.suffix in (".zst", ".zstd") and p.stem in names)]
    return sorted(files, key=natural_key)


def _locate_one_recording(folder: Path) -> BagFiles:
    """The data files of a folder without metadata; raises InputError if there are none, or those of several bags."""
    files = _data_files(folder)
    if not files:
        if any(p.suffix == ROS1_SUFFIX for p in _visible(folder)):
            raise InputError(f"{folder}: holds ROS 1 bags; convert them with `rosbags-convert` first")
        empty = "is an empty folder" if not any(folder.iterdir()) else "holds no bag"
        raise InputError(f"{folder}: {empty}; give a .mcap or .db3 file, or a folder with {METADATA}")
    split: dict[str, list[str]] = {}
    for file in files:
        recording, number = _recording_and_number(_ENDING.sub("", file.name))
        split.setdefault(recording, []).append(number)
    if len(split) > 1:
        raise InputError(
            f"{folder}: holds several bags ({_shorten(list(split))}); give one file, or move each bag to its own folder"
        )
    (numbers,) = split.values()
    if len(set(numbers)) < len(numbers):
        raise InputError(
            f"{folder}: holds several bags (two files have the same number: {_shorten([p.name for p in files])}); "
            "give one file, or move each bag to its own folder"
        )
    order = sorted(int(number) for number in numbers if number)
    gaps = [f"{a} and {b}" for a, b in pairwise(order) if b - a > 1]
    if not gaps:
        return BagFiles(tuple(files))
    what = f"there is no file between the numbers {_shorten(gaps)}; the recording may be incomplete"
    return BagFiles(tuple(files), losses=(Loss(what, str(folder)),))


def _recording_and_number(name: str) -> tuple[str, str]:
    """Name of the recording and number of the file: `drive_3`, or `3_drive_2025_09_30-09_03_30`, the newer naming."""
    first = _NUMBER_FIRST.fullmatch(name)
    if first:
        return first[2] or "", str(int(first[1]))
    last = _NUMBER_LAST.search(name)
    # The end of a date is no number of a file.
    if last and last.start() >= max((m.end() for m in _DATE.finditer(name)), default=0):
        return name[: last.start()], str(int(last[1]))
    return name, ""


def _shorten(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, ... {names[-1]}"


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
        file: the content of a .mcap file, a seekable file object; `path` is then its name for messages. The caller
            closes it.

    Attributes:
        topics: sorted by name; a topic with several types is listed once for each.
        files: the data files in the order of their first messages.
        start, end: times of the first and the last message, nanoseconds; 0 if there is none.
        storage: "mcap" or "sqlite3".

    Raises:
        InputError: there is no bag at `path`, or nothing of it can be read.
        NotIndexed: all of `file` would have to be read, see `vps_ros.recording.mcap.McapFile`.
    """

    def __init__(self, path: str | Path, file: BinaryIO | None = None) -> None:
        self.path = Path(path)
        found = find_bag_files(self.path) if file is None else BagFiles((self.path,))
        self._expected = found.expected
        self._losses = list(found.losses)
        self._corrupt: Counter[tuple[str, str]] = Counter()
        with ExitStack() as stack:
            self._stack = stack
            opened = {self.path: mcap.McapFile(file, str(path))} if file else self._open_all(found.files)
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
        opened: DataFile = mcap.McapFile(source, str(file)) if name == "mcap" else sqlite.SqliteFile(source, str(file))
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
