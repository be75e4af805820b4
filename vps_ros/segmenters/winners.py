"""Claims of sigmoid masks where each pixel goes to one query; what is computed is said in upsample.py.

Each pixel goes to the query with the largest product of class score and mask probability. That product is monotone in
what is interpolated, and what is interpolated lies between its values at the four nodes around a pixel. So a query
wins a whole cell when its product is everywhere above what the others reach at their best, and a query that never
reaches what another has at the least is no contender. Where the product itself is interpolated, a query that wins the
four nodes wins all between them: a convex combination keeps the order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.claims import Claims, ClaimTable, logit, values_at
from vps_ros.segmenters.grid import Grid

_COMPARED = 8
"""Contenders of one cell that are compared pixel by pixel together; where there are more, each pixel stands alone."""
_CHUNK = 1 << 14


def argmax_claims(products: NDArray[np.float32], grid: Grid, threshold: float) -> Claims:
    """Every pixel to the largest of `products` (class score times mask probability, float32 [Q, h, w]), interpolated.

    The area of a mask is that of its product above the threshold, which does not bound what it wins.
    """
    return _Contest(products, None, grid, np.float32(threshold), below=True).claims()


def pixel_wise_claims(logits: NDArray[np.float32], scores: NDArray[np.float32], grid: Grid, threshold: float) -> Claims:
    """Every pixel to the largest product of class score [Q] and sigmoid of the interpolated `logits` [Q, h, w].

    A pixel whose winner has no more than the threshold's probability is claimed by nobody, but counts as won.
    """
    return _Contest(logits, scores, grid, np.float32(logit(threshold)), below=False).claims()


@dataclass
class _Contest:
    """Who wins each pixel, and what each mask covers.

    Attributes:
        nodes: float32 [Q, h, w], what is interpolated.
        scores: float32 [Q] where the product is that of a score and the sigmoid of what is interpolated; None where
            what is interpolated is the product.
        limit: what is interpolated must exceed it to belong to a mask.
        below: whether pixels are claimed also where it does not.
    """

    nodes: NDArray[np.float32]
    scores: NDArray[np.float32] | None
    grid: Grid
    limit: np.float32
    below: bool

    def __post_init__(self) -> None:
        self._flat = self.nodes.reshape(len(self.nodes), -1)
        self._product = self._rate(self._flat, self.scores)
        self._area = self.grid.area.ravel()
        self._won = np.zeros(len(self.nodes))
        self._table = ClaimTable(self.grid, len(self.nodes))

    def claims(self) -> Claims:
        queries, cells = len(self.nodes), len(self._area)
        everywhere, somewhere = self._sides()
        winner = self._certain_winner()
        sure = np.flatnonzero((winner >= 0) & (self._area > 0))
        cell_entry = np.full(cells, -1)
        cell_entry[sure] = winner[sure]
        if not self.below:
            self._won += np.bincount(winner[sure], self._area[sure], queries)
            # One entry more stands for what is won but not claimed; where a border passes, pixels must be looked at.
            cell_entry[sure[~somewhere[winner[sure], sure]]] = queries
            border = sure[somewhere[winner[sure], sure] & ~everywhere[winner[sure], sure]]
            cell_entry[border] = -1
            self._compare(border, winner[border][None], count=False)
        weight = np.bincount(cell_entry + 1, self._area, queries + 2)[1:]
        # The blocks of the borders came first, so that this table's own entries start behind theirs.
        first = self._table.add(np.arange(queries), np.arange(queries), weight)
        cell_entry[cell_entry >= 0] += first
        alone = self._settle(np.flatnonzero((winner < 0) & (self._area > 0)))
        found = self._table.claims(cell_entry, alone, self._mask_area(everywhere, somewhere), self._won)
        if self.below:
            found = replace(found, won=np.bincount(found.query, found.weight.take(found.entry), queries))
        return found

    def _rate(self, value: NDArray[np.float32], scores) -> NDArray[np.float32]:
        """The product that decides, of interpolated values whose queries have these scores."""
        if scores is None:
            return value
        with np.errstate(over="ignore"):
            return scores.reshape(-1, *[1] * (value.ndim - scores.ndim), *scores.shape[1:]) / (1 + np.exp(-value))

    def _sides(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """bool [Q, cells]: whether each mask holds all four nodes around a cell, and whether it holds any."""
        above = np.pad(self.nodes > self.limit, ((0, 0), (1, 1), (1, 1)), mode="edge")
        pair_all, pair_any = above[:, :, :-1] & above[:, :, 1:], above[:, :, :-1] | above[:, :, 1:]
        everywhere, somewhere = pair_all[:, :-1] & pair_all[:, 1:], pair_any[:, :-1] | pair_any[:, 1:]
        return everywhere.reshape(len(above), -1), somewhere.reshape(len(above), -1)

    def _mask_area(self, everywhere: NDArray[np.bool_], somewhere: NDArray[np.bool_]) -> NDArray[np.float64]:
        """[Q] pixels of each mask, whoever wins them."""
        queries, shape = len(self.nodes), self.grid.area.shape
        per_row = everywhere.reshape(queries, *shape).astype(np.float32) @ self.grid.x.count.astype(np.float32)
        area = per_row.astype(np.float64) @ self.grid.y.count
        which, cells = np.nonzero(somewhere & ~everywhere & (self._area > 0))
        for start in range(0, len(which), _CHUNK):
            q, part = which[start : start + _CHUNK], cells[start : start + _CHUNK]
            block = Blocks(self.grid, part)
            value = block.interpolate(self._flat[q, self.grid.corners.take(part, axis=1)])
            area += np.bincount(q, block.count_of(value > self.limit), queries)
        return area

    def _certain_winner(self) -> NDArray[np.int64]:
        """[cells] the query that wins all pixels of a cell, -1 where that is not certain."""
        best, second = self._product[0].copy(), np.full(self._product.shape[1], -np.inf, np.float32)
        winner = np.zeros(len(best), np.int16)
        for q, product in enumerate(self._product[1:], 1):
            if self.scores is not None:
                np.maximum(second, np.minimum(best, product), out=second)
            np.copyto(winner, q, where=product > best)
            np.maximum(best, product, out=best)
        around = winner.take(self.grid.corners)
        certain = (around[0] == around[1]) & (around[0] == around[2]) & (around[0] == around[3])
        if self.scores is not None:
            corners = self.grid.corners
            certain &= best.take(corners).min(0) > second.take(corners).max(0)
        return np.where(certain, around[0], -1)

    def _settle(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Decides cells with several contenders; row, column and entry of the pixels that stand alone."""
        crowded: list[NDArray[np.int64]] = []
        for start in range(0, len(cells), _CHUNK):
            part = cells[start : start + _CHUNK]
            corners = self._product[:, self.grid.corners.take(part, axis=1)]
            contends = corners.max(1) >= corners.min(1).max(0)
            count = contends.sum(0)
            for k in np.unique(count[count <= _COMPARED]):
                places = np.flatnonzero(count == k)
                self._compare(part[places], np.nonzero(contends[:, places].T)[1].reshape(-1, k).T)
            crowded.append(part[count > _COMPARED])
        return self._compare_alone(np.concatenate(crowded) if crowded else cells[:0])

    def _compare(self, cells: NDArray[np.int64], local: NDArray[np.int64], count: bool = True) -> None:
        """Adds the entries of cells in which one of the queries `local` [k, U] wins each pixel, and counts them."""
        if not len(cells):
            return
        block = Blocks(self.grid, cells)
        corners = self._flat[local[:, None], self.grid.corners.take(cells, axis=1)]
        if len(local) == 2 and self.scores is None:
            ahead = block.interpolate(corners[0] - corners[1]) >= 0
            wins = np.stack([ahead, ~ahead])
        else:
            value = block.interpolate(corners)
            wins = _wins(self._rate(value, None if self.scores is None else self.scores[local]))
        if not self.below:
            if count:
                self._won += np.bincount(local.ravel(), block.count_of(wins).ravel(), len(self.nodes))
            wins &= value > self.limit
        block.claim(wins, 1)
        self._table.add_blocks(block, local)

    def _compare_alone(self, cells: NDArray[np.int64]):
        """The same for the pixels of cells with many contenders, each an entry of its own."""
        wanted = np.zeros(self.grid.area.shape, bool)
        wanted.ravel()[cells] = True
        rows, columns = np.nonzero(self.grid.expand(wanted)) if len(cells) else np.zeros((2, 0), np.int64)
        winner, inside = np.zeros(len(rows), np.int64), np.zeros(len(rows), bool)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            value = values_at(self._flat, self.grid, rows[part], columns[part])
            winner[part] = self._rate(value, self.scores).argmax(0)
            inside[part] = self.below | (value[winner[part], np.arange(value.shape[1])] > self.limit)
        if not self.below:
            self._won += np.bincount(winner, minlength=len(self.nodes))
        first = self._table.add(winner[inside], np.flatnonzero(inside), np.ones(len(rows)))
        return rows, columns, first + np.arange(len(rows))


def _wins(product: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each of `product` [k, ...] is the largest; of equals the first is."""
    best, winner = product[0].copy(), np.zeros(product.shape[1:], np.uint8)
    for i, one in enumerate(product[1:], 1):
        np.copyto(winner, i, where=one > best)
        np.maximum(best, one, out=best)
    return winner == np.arange(len(product), dtype=np.uint8).reshape(-1, *[1] * winner.ndim)
