"""Files that are either whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError


def refuse_existing(path: str | Path, force: bool, marker: str | None = None) -> Path:
    """The path, when it may be written; raises InputError when what is there must stay.

    Args:
        force: replace a file, or a folder of our own making.
        marker: name of an entry by which such a folder is known; other folders are never replaced.
    """
    path = Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return path
    # Moving a file to the place of a device would take the device away from the whole machine.
    if not path.is_dir() and not path.is_file():
        raise InputError(f"{path}: a device, not a file; choose another output")
    if path.is_dir() and (marker is None or not (path / marker).exists()):
        raise InputError(f"{path}: a folder of something else, which is never replaced; choose another output")
    if not force:
        raise InputError(f"{path}: exists; pass --force to replace it (in Python force=True), or choose another output")
    return path


def refuse_folder(path: str | Path, force: bool) -> Path:
    """As refuse_existing, where only a file may be written: a folder is refused, even an empty one."""
    if Path(path).is_dir():
        raise InputError(f"{path}: a folder; give the name of a file")
    return refuse_existing(path, force)


@contextmanager
def whole(path: str | Path, force: bool = True, marker: str | None = None) -> Iterator[Path]:
    """A temporary path beside `path` to write a file or folder to; moved to `path` when the block succeeds.

    When the block fails, or the process is interrupted, nothing is left at `path` that was not there before.
    `force` and `marker` are those of refuse_existing. Raises InputError when `path` must stay as it is, or its
    folder cannot be made.
    """
    path = refuse_existing(path, force, marker)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path}: its folder cannot be written ({error.strerror})") from None
    try:
        draft = room / path.name
        yield draft
        if path.is_dir() and not path.is_symlink():
            os.rename(path, room / "replaced")
        os.replace(draft, path)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def write_json(path: str | Path, values: Any) -> None:
    """The values as indented JSON, whole or not at all; NaN becomes null, since JSON has none."""
    with whole(refuse_folder(path, True)) as draft:
        draft.write_text(json.dumps(_plain(values), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and value != value:
        return None
    return value
