"""Which of several maps is the largest at every camera pixel, when they are upsampled bilinearly.

A pixel's values are one convex combination of those at the four nodes around it. So a map that is the largest at these
four is the largest at every pixel between them, and one that is below another at all four is below it at every pixel.
In the cells where that leaves several, two or three contend mostly, and only these are interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.claims import Claims, ClaimTable
from vps_ros.segmenters.grid import Grid

_TOGETHER = (2, 3, 6)
"""Cells with so many contenders, or fewer, are compared together; the few with more by all that any of them has."""
_CHUNK = 1 << 14
"""Cells whose corners are looked at together."""
_VALUES = 1 << 24
"""Values that are interpolated together."""
_ROUNDING = np.float32(1e-5)
"""Kept from comparisons of corners, relative to their values, so that rounding excludes nobody."""
_FOUR = np.arange(4)[:, None]


@dataclass(frozen=True)
class Maps:
    """Maps to be upsampled.

    Attributes:
        every: float32 [N, nodes].
        named: int64 [n], ascending, those that can matter; none of the others exceeds `bound` at any node.
        values: float32 [n, nodes], those of the named.
        winner: int64 [nodes], place in `named` of the largest at each node.
    """

    every: NDArray[np.float32]
    named: NDArray[np.int64]
    values: NDArray[np.float32]
    winner: NDArray[np.int64]
    bound: float = -np.inf


def largest_claims(maps: Maps, rows: NDArray[np.int64], candidates: int, grid: Grid) -> Claims:
    """Every pixel to the largest map, of equals to the first; nobody claims what goes to a map that is no candidate.

    Args:
        rows: int64 [N], candidate that each map is; `candidates`, their number, for one that is none.
    """
    around = maps.winner.take(grid.corners)
    certain = (around[0] == around[1]) & (around[2] == around[3]) & (around[0] == around[2])
    area, named = grid.area.ravel(), rows.take(maps.named)
    table = ClaimTable(grid, candidates)
    cell_entry = np.where(certain, around[0], -1)
    table.add(named, np.arange(len(named)), np.bincount(cell_entry + 1, area, len(named) + 1)[1:])
    cells = np.flatnonzero(~certain & (area > 0))
    for start in range(0, len(cells), _CHUNK):
        part = cells[start : start + _CHUNK]
        references = around.take(part, axis=1)[::3]
        enough = _settle(table, grid, part, maps.values, named, references, maps.bound, _TOGETHER)
        if len(enough) < len(part):
            steep = np.delete(np.arange(len(part)), enough)
            references = maps.named.take(references.take(steep, axis=1))
            _settle(table, grid, part[steep], maps.every, rows, references, -np.inf, ())
    nowhere = np.zeros(0, np.int64)
    return table.claims(cell_entry, (nowhere, nowhere, nowhere))


def _settle(
    table: ClaimTable, grid: Grid, cells, values, rows, references, bound: float, together: tuple[int, ...]
) -> NDArray[np.int64]:
    """Adds the entries of those `cells` in which nothing that stays below `bound` can be the largest; their places.

    `references` [2, U]: maps that are the largest at the first and at the last corner.
    """
    corners = values.take(grid.corners.take(cells, axis=1), axis=1)
    places = np.arange(len(cells))
    contends = np.ones((len(corners), len(cells)), bool)
    lowest = np.full(len(cells), -np.inf, np.float32)
    for reference in references:
        theirs = corners[reference, _FOUR, places]
        np.maximum(lowest, theirs.min(0), out=lowest)
        contends &= (corners > theirs - _ROUNDING * (1 + np.abs(theirs))).any(1)
    count = contends.sum(0)
    count[lowest < bound] = 0
    most = max(int(count.max()), 1)
    sizes = (*(k for k in together if k < most), most)
    for fewest, k in zip((1, *sizes), sizes, strict=False):
        where = np.flatnonzero((count > fewest) & (count <= k))
        step = max(1, _VALUES // (k * grid.largest_cell))
        for start in range(0, len(where), step):
            part = where[start : start + step]
            _compare(table, grid, cells[part], corners, part, _first(contends.take(part, axis=1), k), rows)
    return np.flatnonzero(count)


def _first(contends: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """[k, U] the contenders of each cell, ascending; where they are fewer, the first again."""
    if contends.sum() == k * contends.shape[1]:
        return np.nonzero(contends.T)[1].reshape(-1, k).T
    order = np.argsort(~contends, axis=0, kind="stable")[:k]
    return np.where(np.take_along_axis(contends, order, 0), order, order[0])


def _compare(table: ClaimTable, grid: Grid, cells, corners, places, local: NDArray[np.int64], rows) -> None:
    """Adds the entries of cells in which one of the maps `local` [k, U] is the largest at each pixel."""
    block = Blocks(grid, cells)
    values = corners[local[:, None], _FOUR, places]
    if len(local) == 2:
        later = block.interpolate(values[1] - values[0])[None] > 0
    else:
        winner = first_largest(block.interpolate(values))
        later = winner == np.arange(1, len(local), dtype=winner.dtype).reshape(-1, 1, 1, 1)
    # What none of the others has goes to the first.
    block.claim(later, 1)
    local = rows.take(local)
    table.add_blocks(block, local[1:], rest=local[0])


def first_largest(values: NDArray[np.float32]) -> NDArray[np.unsignedinteger]:
    """Which of `values` [k, ...] is the largest at each place; of equals the first."""
    best, winner = values[0].copy(), np.zeros(values.shape[1:], np.uint8 if len(values) < 256 else np.uint16)
    for i, one in enumerate(values[1:], 1):
        np.copyto(winner, i, where=one > best)
        np.maximum(best, one, out=best)
    return winner
