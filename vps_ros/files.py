"""Atomic writes of files and folders, listings of folders, the natural order of file names, and files of models."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vps_ros.errors import InputError

_WEIGHTS = Path(__file__).resolve().parent / "weights"


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorting key in which digits in a name count as a number: 2.png before 10.png; 01 before 1, which are equal."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], path.name


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Paths in a folder with one of these lower case suffixes, in natural order; empty where the folder is absent.

    Hidden ones (`.DS_Store`, `._0.jpg`) are left out. Files are not distinguished from folders: a system call for each
    of many thousand names is slow.
    """
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((p for p in found if p.suffix.lower() in suffixes and not p.name.startswith(".")), key=natural_key)


def refuse_existing(path: str | Path, force: bool, marker: str | None = None) -> Path:
    """The path, if it may be written; raises InputError otherwise.

    Args:
        force: allow replacing a file, or a folder that contains `marker`.
        marker: name of a file that identifies a folder written by this package; other folders are never replaced.
    """
    path = Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return path
    # os.replace on a device such as /dev/null would remove the device for every process.
    if not path.is_dir() and not path.is_file():
        raise InputError(f"{path}: is a device, not a file; choose another output")
    if path.is_dir() and (marker is None or not (path / marker).exists()):
        raise InputError(f"{path}: is a folder with other content, which is never replaced; choose another output")
    if not force:
        raise InputError(f"{path}: exists; pass --force to replace it (in Python force=True), or choose another output")
    return path


def refuse_folder(path: str | Path, force: bool) -> Path:
    """As refuse_existing, for an output that must be a file: any folder is refused, even an empty one."""
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    return refuse_existing(path, force)


@contextmanager
def atomic_write(path: str | Path, force: bool = True, marker: str | None = None) -> Iterator[Path]:
    """A temporary path in the folder of `path`, for a file or a folder; moved to `path` when the block succeeds.

    If the block raises, `path` stays as it was and the temporary path is removed. `force` and `marker` as in
    refuse_existing. Raises InputError if `path` must not be replaced or its folder cannot be created.
    """
    path = refuse_existing(path, force, marker)
    if not path.name:
        raise InputError(f"{path.resolve()}: give the name of a file or folder in it")
    # Not tempfile.mkdtemp: a signal that arrives before it returns would leave a folder of unknown name.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir(mode=0o700)
        except OSError as error:
            raise InputError(f"{path}: its folder cannot be written ({error.strerror})") from None
        yield temporary / path.name
        # os.replace does not replace a folder that is not empty.
        replaced = temporary / "replaced" if path.is_dir() and not path.is_symlink() else None
        try:
            if replaced:
                os.rename(path, replaced)
            os.replace(temporary / path.name, path)
        except BaseException:
            if replaced and replaced.exists() and not path.exists():
                os.rename(replaced, path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, values: Any) -> None:
    """Writes the values as indented JSON, atomically; NaN becomes null, since JSON has no NaN."""
    with atomic_write(refuse_folder(path, True)) as temporary:
        temporary.write_text(json.dumps(_to_json(values), indent=2, allow_nan=False) + "\n")


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(v) for v in value]
    if hasattr(value, "tolist"):
        return _to_json(value.tolist())
    if isinstance(value, float) and value != value:
        return None
    return value


def shipped_models() -> tuple[str, ...]:
    """Names of the models in the package, which Config.model takes as well as a path."""
    return tuple(sorted(path.stem for path in _WEIGHTS.glob("*.onnx")))


def model_path(name: str) -> Path:
    """The ONNX file of a shipped model, or at a path; raises InputError when there is none."""
    shipped = _WEIGHTS / f"{name}.onnx"
    if name in shipped_models():
        return shipped
    path = Path(name).expanduser()
    if path.is_file():
        return path
    raise InputError(
        f"model {name!r}: {'a folder, not an ONNX file' if path.is_dir() else 'no such file'}; "
        f"give the path of an ONNX file or a shipped model ({', '.join(shipped_models()) or 'none is installed'})"
    )


def fingerprint(path: Path) -> str:
    """SHA-256 of a file: tracker weights that were learned for one model are refused for another."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
