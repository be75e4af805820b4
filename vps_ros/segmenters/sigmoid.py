"""Claims of sigmoid masks; what is computed, and why it is exact, is said in upsample.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.claims import Claims, ClaimTable, logit, values_at
from vps_ros.segmenters.grid import Grid
from vps_ros.segmenters.softmax import mean_above

_COMPARED = 6
"""Masks evaluated by name in one cell; where there are more, each pixel is an entry of its own."""


def sigmoid_claims(
    logits: NDArray[np.float32],
    candidates: NDArray[np.int64],
    grid: Grid,
    threshold: float,
    exclusive: bool,
    scores: NDArray[np.float32],
) -> Claims:
    """Claims of sigmoid masks.

    Args:
        logits: float32 [N, h, w], finite.
        candidates: int [Q] queries whose claims are wanted.
        threshold: least probability.
        exclusive: see the module.
        scores: float32 [Q] class scores, which decide between masks when `exclusive`.
    """
    height, width = grid.nodes
    limit = np.float32(logit(threshold))
    chosen = logits[candidates]
    above = np.pad(chosen > limit, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = (above[:, :-1, :-1], above[:, :-1, 1:], above[:, 1:, :-1], above[:, 1:, 1:])
    shape = (len(chosen), grid.corners.shape[1])
    everywhere = (around[0] & around[1] & around[2] & around[3]).reshape(shape)
    somewhere = (around[0] | around[1] | around[2] | around[3]).reshape(shape)
    flat = chosen.reshape(len(chosen), height * width)
    area = grid.area.ravel()
    # Where a pixel goes to one of several claimants, all of them must be compared; else only those that are not sure.
    unsure = somewhere & ~everywhere
    evaluated = np.where(somewhere.sum(0) > 1, somewhere, unsure) if exclusive else unsure
    needed = np.where(area > 0, evaluated.sum(0), 0)
    certain = needed == 0
    table = ClaimTable(grid, len(candidates))
    cells = np.flatnonzero(certain)
    cell_entry = np.full(len(area), -1)
    cell_entry[cells] = np.arange(len(cells))
    table.add(*np.nonzero(everywhere[:, cells]), area[cells])
    mask_area = everywhere[:, cells] @ area[cells] if exclusive else None
    for k in np.unique(needed[(needed > 0) & (needed <= _COMPARED)]):
        places = np.flatnonzero(needed == k)
        local = np.nonzero(evaluated[:, places].T)[1].reshape(-1, k).T
        block = Blocks(grid, places)
        value = block.interpolate(flat[local[:, None], grid.corners.take(places, axis=1)])
        claims = value > limit
        if exclusive:
            mask_area += np.bincount(local.ravel(), block.count_of(claims).ravel(), len(candidates))
            claims = _largest_product(value, claims, scores[local])
        block.claim(claims, 1 if exclusive else k)
        table.add_blocks(block, local, None if exclusive else np.nonzero(everywhere[:, places]))
    rows, columns = _pixels_of(grid, np.flatnonzero(needed > _COMPARED))
    value = values_at(flat, grid, rows, columns)
    member = value > limit
    if exclusive:
        mask_area += member.sum(1)
        member = _largest_product(value, member, np.broadcast_to(scores[:, None], value.shape))
    first = table.add(*np.nonzero(member), np.ones(len(rows)))
    return table.claims(cell_entry, (rows, columns, first + np.arange(len(rows))), mask_area)


def sigmoid_mask_scores(logits: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """[Q] mean probability of masks [Q, h, w] where it exceeds the threshold; 0 where it does nowhere."""
    with np.errstate(over="ignore"):
        return mean_above(1 / (1 + np.exp(-logits.reshape(len(logits), -1))), threshold)


def _largest_product(value, claims, scores) -> NDArray[np.bool_]:
    """Claims, like `claims`, left to the claimant with the largest score * sigmoid(value); of equals to the first."""
    best, winner = np.zeros(value.shape[1:], np.float32), np.full(value.shape[1:], -1, np.int16)
    for i, claimed in enumerate(claims):
        with np.errstate(over="ignore"):
            product = np.where(claimed, scores[i] / (1 + np.exp(-value[i])), 0)
        better = product > best
        np.copyto(best, product, where=better)
        winner[better] = i
    return winner == np.arange(len(claims)).reshape(-1, *[1] * winner.ndim)


def _pixels_of(grid: Grid, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of every pixel of the cells."""
    wanted = np.zeros(grid.area.shape, bool)
    wanted.ravel()[cells] = True
    return np.nonzero(grid.expand(wanted)) if len(cells) else (np.zeros(0, np.int64), np.zeros(0, np.int64))
