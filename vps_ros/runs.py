"""Label maps as runs: segments are long stretches along the rows, so that few of them tell all about many pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def runs(labels: NDArray, *more: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel (row-major) and length of every run of equal pixels in [H, W]; runs end with their row.

    Args:
        more: further maps [H, W] whose changes end a run too.
    """
    begins = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    for one in more:
        begins[:, 1:] |= one[:, 1:] != one[:, :-1]
    start = np.flatnonzero(begins)
    return start, np.diff(start, append=labels.size)


def areas(label: NDArray[np.int64], length: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """int64 [count], pixels of the labels 1..count; `label` is that of each run."""
    return np.bincount(label, length, count + 1)[1:].astype(np.int64)


def boxes(
    label: NDArray[np.int64], start: NDArray[np.int64], length: NDArray[np.int64], width: int, count: int
) -> NDArray[np.float32]:
    """float32 [count, 4] x0 y0 x1 y1, half-open, of the labels 1..count, each of which occurs.

    `label` is that of each run; `start` and `length` are those of `runs` of a map of this width.
    """
    y, x = np.divmod(start, width)
    low = np.full((2, count + 1), np.iinfo(np.int64).max)
    high = np.zeros((2, count + 1), np.int64)
    for axis, (first, end) in enumerate(((x, x + length), (y, y + 1))):
        np.minimum.at(low[axis], label, first)
        np.maximum.at(high[axis], label, end)
    return np.concatenate([low, high])[:, 1:].T.astype(np.float32)
