"""Files of learned weights of trackers: named arrays and JSON metadata."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.files import atomic_write

Arrays = dict[str, NDArray[np.float32]]


def read_weights(path: Path, names: tuple[str, ...], whose: str, remedy: str) -> tuple[Any, Arrays]:
    """The metadata of a file, and its arrays `names` as float32.

    Args:
        whose: the tracker that the weights are for, in error messages.
        remedy: what to do about a wrong file, in error messages.

    Raises InputError when there is no such file, or it is damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return json.loads(str(file["about"])), {name: file[name].astype(np.float32) for name in names}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise InputError(f"{path}: not weights of {whose} ({reason}); {remedy}") from None


def check_arrays(path: Path, arrays: Arrays, shapes: Mapping[str, tuple[int, ...]], remedy: str) -> None:
    """Raises InputError for an array with another shape, or with values that are not finite."""
    for name, shape in shapes.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise InputError(f"{path}: {name!r} is {list(arrays[name].shape)}, not finite {list(shape)}; {remedy}")


def write_weights(path: Path, about: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Writes the file atomically."""
    with atomic_write(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
