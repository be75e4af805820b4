"""One-to-one assignment of rows and columns from similarities."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

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
    place = find_rows(sorted_ids, wanted)
    known = (place >= 0).nonzero()[0]
    place = place.take(known)
    order = place.argsort()
    return known.take(order), place.take(order)


def find_rows(sorted_ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index in `sorted_ids` of each of those `wanted`, int64 [W]; -1 where it does not occur."""
    if not len(sorted_ids):
        return np.full(len(wanted), -1)
    place = sorted_ids.searchsorted(wanted)
    place[sorted_ids.take(place, mode="clip") != wanted] = -1
    return place


def _optimal(rows, columns, similarity) -> NDArray[np.bool_]:
    """Which of the pairs [P] are in the optimal assignment."""
    used_rows, r = np.unique(rows, return_inverse=True)
    used_columns, c = np.unique(columns, return_inverse=True)
    matrix = np.zeros((len(used_rows), len(used_columns)))
    matrix[r, c] = similarity
    partner = np.full(len(used_rows), -1)
    best_r, best_c = _scipy_assignment().linear_sum_assignment(matrix, maximize=True)
    partner[best_r] = best_c
    return partner[r] == c


@lru_cache(maxsize=1)
def _scipy_assignment() -> ModuleType:
    """SciPy's module with `linear_sum_assignment`.

    It is one compiled file, which is loaded by its path: the package scipy.optimize around it would take 50 MB of
    memory and most of the start-up time of `replay`. A SciPy that has no such file is imported as usual.
    """
    scipy = importlib.util.find_spec("scipy")
    for folder in (scipy and scipy.submodule_search_locations) or ():
        finder = FileFinder(str(Path(folder) / "optimize"), (ExtensionFileLoader, EXTENSION_SUFFIXES))
        if (spec := finder.find_spec("_lsap")) is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module("scipy.optimize")
