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


def hungarian(similarity: NDArray[np.floating], threshold: float) -> Pairs:
    """The pairs above `threshold` with the greatest sum of similarities (Hungarian matching).

    Pairs not above it never take part, so that a good pair is not given up for two that would be thrown away
    afterwards.
    """
    if similarity.size == 0:
        return _NONE
    allowed = similarity > threshold
    per_row, per_column = allowed.sum(axis=1), allowed.sum(axis=0)
    rows, columns = np.nonzero(allowed)
    # Most objects have one candidate that has no other: there is nothing to weigh.
    alone = (per_row[rows] == 1) & (per_column[columns] == 1)
    if alone.all():
        return rows, columns
    contested_rows = np.unique(rows[~alone])
    contested_columns = np.unique(columns[~alone])
    inside = np.ix_(contested_rows, contested_columns)
    # Shifted so that a forbidden pair, at 0, is never worth more than an allowed one.
    worth = np.where(allowed[inside], similarity[inside] - min(threshold, 0.0), 0.0)
    r, c = linear_sum_assignment(worth, maximize=True)
    kept = allowed[inside][r, c]
    return (
        np.concatenate([rows[alone], contested_rows[r[kept]]]),
        np.concatenate([columns[alone], contested_columns[c[kept]]]),
    )
