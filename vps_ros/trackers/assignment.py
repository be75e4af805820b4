"""From similarities to pairs of which no row and no column occurs twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
_NONE = (np.empty(0, np.int64), np.empty(0, np.int64))


def mutual_best(similarity: NDArray[np.floating], threshold: float) -> Pairs:
    """Rows and columns that are each other's best, above `threshold` (HybridTracker III-D and E).

    The first of equals is taken.
    """
    if similarity.size == 0:
        return _NONE
    column = similarity.argmax(axis=1)
    rows = np.arange(len(column))
    keep = similarity.argmax(axis=0).take(column) == rows
    keep &= similarity[rows, column] > threshold
    rows = keep.nonzero()[0]
    return rows, column.take(rows)


def hungarian(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    similarity: NDArray[np.floating],
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Which of the candidate pairs [P] make the greatest sum of similarities (Hungarian matching), ascending.

    Candidates are those above the threshold, and more alike than 0: pairs that would be thrown away afterwards never
    take part, so that no good pair is given up for two of them. Pairs of different `groups` [P] (classes) share no row
    and no column, and are matched apart, which costs less.
    """
    if not len(rows):
        return np.empty(0, np.int64)
    # Most objects have one candidate that has no other: there is nothing to weigh.
    contested = ((np.bincount(rows).take(rows) > 1) | (np.bincount(columns).take(columns) > 1)).nonzero()[0]
    if not len(contested):
        return np.arange(len(rows))
    wanted = np.ones(len(rows), bool)
    group = np.zeros(len(contested), np.int64) if groups is None else groups[contested]
    for one in set(group.tolist()):
        part = contested[group == one]
        wanted[part] = _best(rows[part], columns[part], similarity[part])
    return wanted.nonzero()[0]


def _best(rows, columns, similarity) -> NDArray[np.bool_]:
    r, r_count = _dense(rows)
    c, c_count = _dense(columns)
    worth = np.zeros((r_count, c_count))
    worth[r, c] = similarity
    partner = np.full(r_count, -1)
    best_r, best_c = linear_sum_assignment(worth, maximize=True)
    partner[best_r] = best_c
    return partner[r] == c


def _dense(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """The numbers renamed to 0, 1, ... in their order, and how many there are."""
    there = np.zeros(numbers.max() + 1, bool)
    there[numbers] = True
    names = np.cumsum(there)
    return names[numbers] - 1, int(names[-1])
