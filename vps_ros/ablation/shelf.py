"""Arrays kept on disk for as long as what made them is the same."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.files import atomic_write

_KEY = "key"
_PACKAGES = ("numpy", "scipy", "opencv-python-headless", "panda3d", "onnxruntime", "onnxruntime-gpu")


class Shelf:
    """A folder of arrays by name. An entry of another key than the one asked for counts as absent, and is replaced."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def load(self, name: str, key: str) -> dict[str, NDArray] | None:
        """The entry, or None when it is absent, outdated or damaged."""
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as file:
                return {n: file[n] for n in file.files} if str(file[_KEY]) == key else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def has(self, name: str, key: str) -> bool:
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as file:
                return str(file[_KEY]) == key
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return False

    def store(self, name: str, key: str, arrays: Mapping[str, NDArray]) -> None:
        """Writes the entry, whole or not at all. Raises InputError when the folder cannot be written."""
        with atomic_write(self._folder / f"{name}.npz") as draft:
            np.savez_compressed(draft, **{_KEY: np.array(key)}, **arrays)


def fingerprint(code: Iterable[ModuleType], facts: Any) -> str:
    """Key of what `code` (a package stands for its files) makes from `facts`, which json can write.

    The libraries that draw and compute belong to it too.
    """
    digest = hashlib.sha256()
    for module in code:
        path = Path(str(module.__file__))
        for file in sorted(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    digest.update(json.dumps([facts, _versions()], sort_keys=True).encode())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
