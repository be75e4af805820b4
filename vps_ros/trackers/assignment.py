"""From a similarity matrix to pairs of which no row and no column occurs twice."""

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
    keep = (similarity.argmax(axis=0)[column] == rows) & (similarity[rows, column] > threshold)
    return rows[keep], column[keep]


def hungarian(similarity: NDArray[np.floating], allowed: NDArray[np.bool_]) -> Pairs:
    """The `allowed` pairs with the greatest sum of similarities (Hungarian matching); both matrices [R, C].

    The others never take part, so that a good pair is not given up for two that would be thrown away afterwards.
    Allowed similarities are greater than 0.
    """
    rows, columns = np.nonzero(allowed)
    if not len(rows):
        return rows, columns
    # Most objects have one candidate that has no other: there is nothing to weigh.
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    if alone.all():
        return rows, columns
    contested_rows, r = np.unique(rows[~alone], return_inverse=True)
    contested_columns, c = np.unique(columns[~alone], return_inverse=True)
    worth = np.zeros((len(contested_rows), len(contested_columns)))
    worth[r, c] = similarity[rows[~alone], columns[~alone]]
    r, c = linear_sum_assignment(worth, maximize=True)
    kept = worth[r, c] > 0
    return (
        np.concatenate([rows[alone], contested_rows[r[kept]]]),
        np.concatenate([columns[alone], contested_columns[c[kept]]]),
    )
