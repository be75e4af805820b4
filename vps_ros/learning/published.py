"""Checkpoints that other programs wrote: tensors by name, of which each must have its place."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vps_ros.errors import InputError

_NORMALISATION = ("pixel_mean", "pixel_std")
"""Of the image; detectron2's older models keep them, and they are the same for all."""
_ARRAYS = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}
"""What arrays are put together from, in modules of numpy."""


class _Arrays(pickle.Unpickler):
    """Reads arrays and plain containers; refuses all else, so that no code of the file runs."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in _ARRAYS:
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        if (module, name) == ("collections", "OrderedDict"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def read(path: str | Path, what: str) -> dict[str, Tensor]:
    """The tensors of a .pth or .pkl checkpoint by name, on the CPU; no code that a pickle names is run.

    Args:
        what: whose checkpoint is asked for, in the message.

    Raises InputError when there are none.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a file of {what}")
    try:
        if path.suffix == ".pkl":
            with open(path, "rb") as file:
                content = _Arrays(file, encoding="latin1").load()
        else:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # both raise many kinds, by where the damage is
        raise InputError(f"{path}: not a readable checkpoint ({_line(error)})") from None
    tensors = content.get("model", content) if isinstance(content, dict) else None
    if isinstance(tensors, dict):
        tensors = {n: torch.from_numpy(t) if isinstance(t, np.ndarray) else t for n, t in tensors.items()}
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()) or not tensors:
        raise InputError(f"{path}: holds no `model` with tensors by name; `--from` says which program wrote it")
    return {str(name): t for name, t in tensors.items() if name not in _NORMALISATION}


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def require_same(wanted: Iterable[str], given: Iterable[str], where: str, what: str) -> None:
    """Raises InputError when the file `where` has more or fewer tensors than `what` has places for."""
    surplus, missing = sorted(set(given) - set(wanted)), sorted(set(wanted) - set(given))
    parts = [
        f"{len(names)} tensor{'s' * (len(names) > 1)} {which} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
        for names, which in ((surplus, "left over"), (missing, "missing"))
        if names
    ]
    if parts:
        raise InputError(f"{where}: not {what} as published: {'; '.join(parts)}")
