"""Finds the files of a recording, and says what is wrong with a path that is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from vps_ros.errors import InputError
from vps_ros.messages.typestore import full_name
from vps_ros.recording.compression import ZSTD_MAGIC
from vps_ros.recording.loss import Loss
from vps_ros.recording.pictures import FORMATS

MCAP_MAGIC = b"\x89MCAP0\r\n"
SQLITE_MAGIC = b"SQLite format 3\x00"
_ENDINGS = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd", ".mcap.zst", ".db3.zst")
_BAG_ENDINGS = (*_ENDINGS, ".bag")
_METADATA = "metadata.yaml"


@dataclass(frozen=True)
class Located:
    """Where a recording is.

    Attributes:
        parts: its files, in order.
        expected: topic -> (type, messages), of the parts above and the missing ones, as metadata.yaml says;
            empty where there is none.
        losses: parts that are listed but not there, and metadata that cannot be read.
    """

    parts: tuple[Path, ...]
    expected: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()


def locate(path: str | Path) -> Located:
    """The files of the bag at `path`: a data file, a rosbag2 folder, or its metadata.yaml.

    Raises InputError when there is nothing, or something that is no bag.
    """
    path = Path(path)
    if path.name == _METADATA and path.is_file():
        path = path.parent
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; give a .mcap or .db3 file, or a rosbag2 folder")
    kind_of(path)
    return Located((path,))


def is_bag(path: str | Path) -> bool:
    """Whether `path` is to be read as a bag, whole or damaged, and not as images or a film; False where nothing is."""
    path = Path(path)
    if path.is_dir():
        names = [p.name for p in path.iterdir()]
        if any(name.endswith(_BAG_ENDINGS) for name in names):
            return True
        return _METADATA in names and not any(name.lower().endswith(FORMATS) for name in names)
    if path.name == _METADATA or path.name.endswith(_BAG_ENDINGS):
        return path.exists()
    try:
        kind_of(path)
    except InputError:
        return False
    return True


def kind_of(path: Path) -> str:
    """ "mcap", "sqlite3" or "zstd", from the file's first bytes; raises InputError when it is none of them."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    for magic, kind in ((MCAP_MAGIC, "mcap"), (SQLITE_MAGIC, "sqlite3"), (ZSTD_MAGIC, "zstd")):
        if head.startswith(magic):
            return kind
    if head.startswith(b"#ROSBAG V"):
        new = path.with_suffix("").name
        raise InputError(
            f"{path}: is a ROS 1 bag; convert it with `rosbags-convert --src {path.name} --dst {new}` and give {new}"
        )
    if not head:
        raise InputError(f"{path}: is empty; the recording was never written")
    raise InputError(f"{path}: is not a bag; give a .mcap or .db3 file, or a rosbag2 folder")


def _folder(folder: Path) -> Located:
    metadata = folder / _METADATA
    if not metadata.is_file():
        return Located(_parts_without_metadata(folder))
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
        per_file = _counts(information)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        found = _parts_without_metadata(folder)
        return Located(found, losses=(Loss("is damaged; the data files are read without it", str(metadata)),))
    parts: list[Path] = []
    missing: list[str] = []
    for name in names:
        part = _existing(folder, name)
        parts.append(part) if part else missing.append(name)
    if not parts:
        return _renamed(folder, names)
    losses: tuple[Loss, ...] = ()
    if missing:
        known = sum(per_file.get(name, 0) for name in missing)
        what = f"{len(missing)} of {len(names)} parts are missing ({_shorten(missing)})"
        losses = (Loss(what, str(folder), known),)
    return Located(tuple(parts), expected, losses)


def _renamed(folder: Path, listed: list[str]) -> Located:
    """Data files that metadata.yaml does not list, where none of those that it lists is there."""
    if listed and not any(p.name.endswith(_ENDINGS) for p in folder.iterdir()):
        raise InputError(f"{folder}: {_METADATA} lists {_shorten(listed)}, which is not there; copy it beside it")
    found = _parts_without_metadata(folder)
    what = f"lists {_shorten(listed) or 'no file'}; {_shorten([p.name for p in found])} is read instead"
    return Located(found, losses=(Loss(what, str(folder / _METADATA)),))


def _counts(information: Mapping[str, Any]) -> dict[str, int]:
    entries = information.get("files") or ()
    return {PurePosixPath(str(e["path"])).name: int(e.get("message_count", 0)) for e in entries}


def _existing(folder: Path, name: str) -> Path | None:
    # Some recorders list a compressed file by the name that it had before.
    for candidate in (name, f"{name}.zstd", f"{name}.zst", re.sub(r"\.zstd?$", "", name)):
        if (folder / candidate).is_file():
            return folder / candidate
    return None


def _parts_without_metadata(folder: Path) -> tuple[Path, ...]:
    """Data files of one recording, in the order of their numbers; raises InputError when there are none or several."""
    found = sorted((p for p in folder.iterdir() if p.name.endswith(_ENDINGS) and p.is_file()), key=_number)
    if not found:
        if any(p.suffix == ".bag" for p in folder.iterdir()):
            raise InputError(f"{folder}: holds ROS 1 bags; convert them with `rosbags-convert` first")
        empty = "is an empty folder" if not any(folder.iterdir()) else "holds no bag"
        raise InputError(f"{folder}: {empty}; give a .mcap or .db3 file, or a folder with {_METADATA}")
    if len({re.sub(r"_\d+$", "", p.name.partition(".")[0]) for p in found}) > 1:
        raise InputError(f"{folder}: holds several bags; choose one of {_shorten([p.name for p in found])}")
    return tuple(found)


def _number(path: Path) -> tuple[int, str]:
    number = re.search(r"_(\d+)\.", path.name)
    return (int(number[1]) if number else 0, path.name)


def _shorten(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, ... {names[-1]}"
