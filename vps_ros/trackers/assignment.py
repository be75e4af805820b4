"""One-to-one assignment of rows and columns from similarities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
_NONE = (np.empty(0, np.int64), np.empty(0, np.int64))


def mutual_best(similarity: NDArray[np.floating], threshold: float) -> Pairs:
    """Rows and columns that are each other's maximum, above `threshold` (mutual check, HybridTracker III-D and III-E).

    Of equal maxima the first one counts.
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
    """Indices of the candidate pairs that maximise the sum of similarities (Hungarian matching), ascending.

    Args:
        rows: int64 [P], of the candidates. Pairs below a threshold must be left out before: otherwise a good
            pair could be given up for two bad ones that are rejected afterwards.
        columns: as `rows`.
        similarity: float [P], positive.
        groups: int64 [P], such as classes, if pairs of different groups share no row and no column. Each group is
            then assigned by itself, which is faster.
    """
    if not len(rows):
        return np.empty(0, np.int64)
    # Usually most pairs share neither row nor column with another pair, and need no optimisation.
    contested = ((np.bincount(rows).take(rows) > 1) | (np.bincount(columns).take(columns) > 1)).nonzero()[0]
    if not len(contested):
        return np.arange(len(rows))
    wanted = np.ones(len(rows), bool)
    group = np.zeros(len(contested), np.int64) if groups is None else groups[contested]
    for one in set(group.tolist()):
        part = contested[group == one]
        wanted[part] = _optimal(rows[part], columns[part], similarity[part])
    return wanted.nonzero()[0]


def find(sorted_ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> Pairs:
    """Indices of those `wanted` that occur in `sorted_ids`, and their indices there, int64 [F] each, by the latter."""
    if not len(sorted_ids) or not len(wanted):
        return _NONE
    place = sorted_ids.searchsorted(wanted)
    place[place == len(sorted_ids)] = 0
    known = (sorted_ids.take(place) == wanted).nonzero()[0]
    place = place.take(known)
    order = place.argsort()
    return known.take(order), place.take(order)


def _optimal(rows, columns, similarity) -> NDArray[np.bool_]:
    """Which of the pairs [P] are in the optimal assignment."""
    used_rows, r = np.unique(rows, return_inverse=True)
    used_columns, c = np.unique(columns, return_inverse=True)
    matrix = np.zeros((len(used_rows), len(used_columns)))
    matrix[r, c] = similarity
    partner = np.full(len(used_rows), -1)
    best_r, best_c = linear_sum_assignment(matrix, maximize=True)
    partner[best_r] = best_c
    return partner[r] == c
