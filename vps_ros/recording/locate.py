"""Finds the data files of a recording."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from vps_ros.errors import InputError
from vps_ros.files import natural_key
from vps_ros.messages.typestore import full_name
from vps_ros.recording import mcap, sqlite
from vps_ros.recording.compression import ZSTD_MAGIC
from vps_ros.recording.image_files import FORMATS
from vps_ros.recording.storage import Loss

_ENDING = re.compile(r"\.(mcap|db3)(\.zstd?)?$")
_METADATA = "metadata.yaml"
_FORMATS = ((mcap.MAGIC, "mcap"), (sqlite.MAGIC, "sqlite3"), (ZSTD_MAGIC, "zstd"))
_DATE = re.compile(r"\d{4}[-_.]?\d\d[-_.]?\d\d([-_.T]?\d\d[-_.:]?\d\d[-_.:]?\d\d)?")
_NUMBER_FIRST = re.compile(rf"(\d+)_(?:(.+)_)?{_DATE.pattern}")
_NUMBER_LAST = re.compile(r"_(\d+)$")


@dataclass(frozen=True)
class Located:
    """The data files of a recording.

    Attributes:
        files: in the order of metadata.yaml, or of their names.
        expected: topic -> (type, number of messages) by metadata.yaml, also of missing files; empty without it.
        losses: missing files, unlisted files, unreadable metadata.
    """

    files: tuple[Path, ...]
    expected: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()


def locate(path: str | Path) -> Located:
    """The data files of the bag at `path`: a data file, a rosbag2 folder, or its metadata.yaml.

    Raises InputError if there is no bag, or there are several.
    """
    path = Path(path)
    if path.name == _METADATA and path.is_file():
        path = path.parent
    if path.is_dir():
        return _locate_in_folder(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; give a .mcap or .db3 file, or a rosbag2 folder")
    file_format(path)
    return Located((path,))


def is_bag(path: str | Path) -> bool:
    """Whether `path` is a bag, complete or damaged, rather than images or a video."""
    path = Path(path)
    if path.is_dir():
        names = [p.name for p in path.iterdir()]
        if any(_has_bag_name(name) for name in names):
            return True
        return _METADATA in names and not any(name.lower().endswith(FORMATS) for name in names)
    if path.name == _METADATA or _has_bag_name(path.name):
        return path.exists()
    try:
        file_format(path)
    except InputError:
        return False
    return True


def file_format(path: Path) -> str:
    """ "mcap", "sqlite3" or "zstd", from the first bytes of a file; raises InputError for any other."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    for magic, name in _FORMATS:
        if head.startswith(magic):
            return name
    if head.startswith(b"#ROSBAG V"):
        new = path.with_suffix("").name
        raise InputError(
            f"{path}: is a ROS 1 bag; convert it with `rosbags-convert --src {path.name} --dst {new}` and give {new}"
        )
    if not head:
        raise InputError(f"{path}: is empty; the recording was never written")
    raise InputError(f"{path}: is not a bag; give a .mcap or .db3 file, or a rosbag2 folder")


def _has_bag_name(name: str) -> bool:
    return bool(_ENDING.search(name)) or name.endswith(".bag")


def _locate_in_folder(folder: Path) -> Located:
    metadata = folder / _METADATA
    if not metadata.is_file():
        return Located(_files_of_one_recording(folder))
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
        per_file = _message_counts(information)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        files = _files_of_one_recording(folder)
        return Located(files, losses=(Loss("is damaged; the data files are read without it", str(metadata)),))
    found = {name: _existing(folder, name) for name in names}
    files = tuple(file for file in found.values() if file)
    unlisted = [p for p in _data_files(folder) if p not in files]
    if not files:
        if names and not unlisted:
            raise InputError(f"{folder}: {_METADATA} lists {_shorten(names)}, which is missing; copy it there")
        files = _files_of_one_recording(folder)
        what = f"lists {_shorten(names) or 'no file'}; {_shorten([p.name for p in files])} is read instead"
        return Located(files, losses=(Loss(what, str(metadata)),))
    losses = []
    missing = [name for name, file in found.items() if not file]
    if missing:
        what = f"{len(missing)} of {len(names)} files are missing ({_shorten(missing)})"
        losses.append(Loss(what, str(folder), sum(per_file.get(name, 0) for name in missing)))
    if unlisted:
        what = f"does not list {_shorten([p.name for p in unlisted])}, which is not read; delete {_METADATA} to read it"
        losses.append(Loss(what, str(metadata)))
    return Located(files, expected, tuple(losses))


def _message_counts(information: Mapping[str, Any]) -> dict[str, int]:
    entries = information.get("files") or ()
    return {PurePosixPath(str(e["path"])).name: int(e.get("message_count", 0)) for e in entries}


def _existing(folder: Path, name: str) -> Path | None:
    # Some recorders list a compressed file by the name that it had before.
    for candidate in (name, f"{name}.zstd", f"{name}.zst", re.sub(r"\.zstd?$", "", name)):
        if (folder / candidate).is_file():
            return folder / candidate
    return None


def _data_files(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if _ENDING.search(p.name) and p.is_file()]
    # A recorder that compresses files may stop before it has deleted the uncompressed one.
    names = {p.name for p in files}
    files = [p for p in files if not (p.suffix in (".zst", ".zstd") and p.stem in names)]
    return sorted(files, key=natural_key)


def _files_of_one_recording(folder: Path) -> tuple[Path, ...]:
    """The data files of a folder without metadata; raises InputError if there are none, or those of several bags."""
    files = _data_files(folder)
    if not files:
        if any(p.suffix == ".bag" for p in folder.iterdir()):
            raise InputError(f"{folder}: holds ROS 1 bags; convert them with `rosbags-convert` first")
        empty = "is an empty folder" if not any(folder.iterdir()) else "holds no bag"
        raise InputError(f"{folder}: {empty}; give a .mcap or .db3 file, or a folder with {_METADATA}")
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
    return tuple(files)


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
