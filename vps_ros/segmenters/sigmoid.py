"""Claims of sigmoid masks that may overlap; what is computed, and why it is exact, is said in upsample.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.claims import Claims, ClaimTable, logit, values_at
from vps_ros.segmenters.grid import Grid
from vps_ros.segmenters.softmax import mean_above

_COMPARED = 6
"""Masks evaluated by name in one cell; where there are more, each pixel is an entry of its own."""


def sigmoid_claims(logits: NDArray[np.float32], grid: Grid, threshold: float) -> Claims:
    """Claims of sigmoid masks that may overlap.

    Args:
        logits: float32 [Q, h, w] of the candidates, finite.
        threshold: least probability.
    """
    height, width = grid.nodes
    limit = np.float32(logit(threshold))
    above = np.pad(logits > limit, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = (above[:, :-1, :-1], above[:, :-1, 1:], above[:, 1:, :-1], above[:, 1:, 1:])
    shape = (len(logits), grid.corners.shape[1])
    everywhere = (around[0] & around[1] & around[2] & around[3]).reshape(shape)
    somewhere = (around[0] | around[1] | around[2] | around[3]).reshape(shape)
    flat = logits.reshape(len(logits), height * width)
    area = grid.area.ravel()
    unsure = somewhere & ~everywhere
    needed = np.where(area > 0, unsure.sum(0), 0)
    table = ClaimTable(grid, len(logits))
    cells = np.flatnonzero(needed == 0)
    cell_entry = np.full(len(area), -1)
    cell_entry[cells] = np.arange(len(cells))
    query, entry = np.nonzero(everywhere[:, cells])
    table.add(query, entry, area[cells])
    for k in np.unique(needed[(needed > 0) & (needed <= _COMPARED)]):
        places = np.flatnonzero(needed == k)
        local = np.nonzero(unsure[:, places].T)[1].reshape(-1, k).T
        block = Blocks(grid, places)
        value = block.interpolate(flat[local[:, None], grid.corners.take(places, axis=1)])
        block.claim(value > limit, k)
        query, entry = np.nonzero(everywhere[:, places])
        table.add_blocks(block, local, (query, entry))
    rows, columns = _pixels_of(grid, np.flatnonzero(needed > _COMPARED))
    member = values_at(flat, grid, rows, columns) > limit
    query, entry = np.nonzero(member)
    first = table.add(query, entry, np.ones(len(rows)))
    return table.claims(cell_entry, (rows, columns, first + np.arange(len(rows))))


def sigmoid_mask_scores(logits: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """[Q] mean probability of masks [Q, h, w] where it exceeds the threshold; 0 where it does nowhere."""
    with np.errstate(over="ignore"):
        return mean_above(1 / (1 + np.exp(-logits.reshape(len(logits), -1))), threshold)


def _pixels_of(grid: Grid, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of every pixel of the cells."""
    wanted = np.zeros(grid.area.shape, bool)
    wanted.ravel()[cells] = True
    if not len(cells):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows, columns = np.nonzero(grid.expand(wanted))
    return rows, columns
