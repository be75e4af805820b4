"""How likely a pair of object and thing is the same: a small network that looks twice, with NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.trackers.evidence import COLUMNS
from vps_ros.trackers.weights import check_arrays, read_weights, write_weights

FORMAT = 1
CERTAIN = 12.0
"""Log-odds beyond which a pair is as good as certain."""
RIVALS = 3
"""Columns that the second look has more than the first: the first look's log-odds, and those of both sides' rivals."""
RIVAL_SCALE = 1 / 3
ARRAYS = ("mean", "scale", "hidden", "hidden_bias", "out", "out_bias")
SECOND = ("again", "again_bias", "again_out", "again_out_bias")
_NAMES = (*ARRAYS, *SECOND)
_AGAIN = "train it again with `vps-ros train --config config/train/hierarchical.yaml`"


@dataclass(frozen=True)
class Judge:
    """Log-odds of pairs, against the thing being new and the object being hidden.

    The first look judges each pair by its own evidence. The second also knows how good the rest of the thing's objects
    and of the object's things are: a poor match that is the only one left to both is worth more than a fair one beside
    a better. Each look is one layer of rectified units.

    Attributes:
        mean, scale: float32 [F] of the columns.
        hidden, hidden_bias, out, out_bias: of the first look, [H, F], [H], [H], [].
        again, again_bias, again_out, again_out_bias: of the second, [H, F + RIVALS], [H], [H], [].
        about: of the file.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    hidden: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    out: NDArray[np.float32]
    out_bias: NDArray[np.float32]
    again: NDArray[np.float32]
    again_bias: NDArray[np.float32]
    again_out: NDArray[np.float32]
    again_out_bias: NDArray[np.float32]
    about: dict[str, Any] = field(default_factory=dict)

    def __call__(self, columns: NDArray[np.float32], m: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float32]:
        """Log-odds [P] of pairs with the evidence `columns` [P, F], of objects m [P] and things k [P]."""
        x = (columns - self.mean) * self.scale
        first = np.maximum(x @ self.hidden.T + self.hidden_bias, 0) @ self.out + self.out_bias
        first = np.clip(first, -CERTAIN, CERTAIN)
        seen = np.column_stack([first, rivals(first, m), rivals(first, k)]).astype(np.float32) * np.float32(RIVAL_SCALE)
        second = np.concatenate([x, seen], axis=1) @ self.again.T + self.again_bias
        return first + np.maximum(second, 0) @ self.again_out + self.again_out_bias


def rivals(odds: NDArray[np.floating], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """log(1 + sum of exp(odds) of the other pairs of the same group), [P]."""
    powers = np.exp(odds.astype(np.float64))
    return np.log1p(np.maximum(np.bincount(group, powers)[group] - powers, 0)) if len(odds) else powers


@lru_cache(maxsize=1)
def shipped() -> Judge:
    """The judge in the package, made by `vps-ros train --config config/train/hierarchical.yaml`."""
    with resources.as_file(resources.files("vps_ros") / "weights" / "hierarchical.npz") as path:
        return read(path)


def read(path: Path) -> Judge:
    """Raises InputError when there is no such file, or it is damaged or judges other evidence."""
    about, arrays = read_weights(path, _NAMES, "the hierarchical tracker", _AGAIN)
    if not isinstance(about, dict) or about.get("format") != FORMAT or tuple(about.get("columns", ())) != COLUMNS:
        raise InputError(f"{path}: judges other evidence than this version has; {_AGAIN}")
    f, h, a = len(COLUMNS), *(len(np.atleast_1d(arrays[name])) for name in ("hidden", "again"))
    shapes = ((f,), (f,), (h, f), (h,), (h,), (), (a, f + RIVALS), (a,), (a,), ())
    check_arrays(path, arrays, dict(zip(_NAMES, shapes, strict=True)), _AGAIN)
    return Judge(**arrays, about=about)


def write(path: Path, judge: Judge) -> None:
    """Writes the file, whole or not at all."""
    write_weights(path, judge.about, {name: getattr(judge, name) for name in _NAMES})
