"""Claims of sigmoid masks where each pixel goes to one query; what is computed is said in upsample.py.

Each pixel goes to the query with the largest product of class score and mask probability. That product is monotone in
what is interpolated, and what is interpolated lies between its values at the four nodes around a pixel. So a query
wins a whole cell when its product is everywhere above what the others reach at their best, and a query that never
reaches what another has at the least is no contender. Where the product itself is interpolated, largest.py decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.claims import Claims, ClaimTable, logit, values_at
from vps_ros.segmenters.grid import Grid
from vps_ros.segmenters.largest import Maps, first_largest, largest_claims

_COMPARED = 8
"""Contenders of one cell that are compared pixel by pixel together; where there are more, each pixel stands alone."""
_CHUNK = 1 << 14


def argmax_claims(products: NDArray[np.float32], grid: Grid, threshold: float) -> Claims:
    """Every pixel to the largest of `products` (class score times mask probability, float32 [Q, h, w]), interpolated.

    The area of a mask is that of its product above the threshold, which does not bound what it wins.
    """
    everyone, flat = np.arange(len(products)), products.reshape(len(products), -1)
    maps = Maps(flat, everyone, flat, _best_two(flat)[0])
    found = largest_claims(maps, everyone, len(everyone), grid)
    won = np.bincount(found.query, found.weight.take(found.entry), len(everyone))
    return replace(found, mask_area=_Sides.of(products, np.float32(threshold), grid).area(), won=won)


def pixel_wise_claims(logits: NDArray[np.float32], scores: NDArray[np.float32], grid: Grid, threshold: float) -> Claims:
    """Every pixel to the largest product of class score [Q] and sigmoid of the interpolated `logits` [Q, h, w].

    A pixel whose winner has no more than the threshold's probability is claimed by nobody, but counts as won.
    """
    return _Contest(logits, scores, grid, np.float32(logit(threshold))).claims()


@dataclass(frozen=True)
class _Sides:
    """Where masks are above a limit.

    Attributes:
        nodes: float32 [Q, h, w].
        everywhere, somewhere: bool [Q, cells], whether each mask holds all four nodes around a cell, or any.
    """

    nodes: NDArray[np.float32]
    limit: np.float32
    grid: Grid
    everywhere: NDArray[np.bool_]
    somewhere: NDArray[np.bool_]

    @classmethod
    def of(cls, nodes: NDArray[np.float32], limit: np.float32, grid: Grid) -> _Sides:
        above = np.pad(nodes > limit, ((0, 0), (1, 1), (1, 1)), mode="edge")
        pair_all, pair_any = above[:, :, :-1] & above[:, :, 1:], above[:, :, :-1] | above[:, :, 1:]
        everywhere, somewhere = pair_all[:, :-1] & pair_all[:, 1:], pair_any[:, :-1] | pair_any[:, 1:]
        return cls(nodes, limit, grid, everywhere.reshape(len(above), -1), somewhere.reshape(len(above), -1))

    def area(self) -> NDArray[np.float64]:
        """[Q] pixels of each mask, whoever wins them."""
        queries, shape = len(self.nodes), self.grid.area.shape
        flat = self.nodes.reshape(queries, -1)
        per_row = self.everywhere.reshape(queries, *shape).astype(np.float32) @ self.grid.x.count.astype(np.float32)
        area = per_row.astype(np.float64) @ self.grid.y.count
        which, cells = np.nonzero(self.somewhere & ~self.everywhere & (self.grid.area.ravel() > 0))
        for start in range(0, len(which), _CHUNK):
            q, part = which[start : start + _CHUNK], cells[start : start + _CHUNK]
            block = Blocks(self.grid, part)
            value = block.interpolate(flat[q, self.grid.corners.take(part, axis=1)])
            area += np.bincount(q, block.count_of(value > self.limit), queries)
        return area


@dataclass
class _Contest:
    """Who wins each pixel, and what each mask covers.

    Attributes:
        nodes: float32 [Q, h, w] logits.
        scores: float32 [Q] of the classes.
        limit: logits must exceed it to belong to a mask.
    """

    nodes: NDArray[np.float32]
    scores: NDArray[np.float32]
    grid: Grid
    limit: np.float32

    def __post_init__(self) -> None:
        self._flat = self.nodes.reshape(len(self.nodes), -1)
        self._product = self._rate(self._flat, self.scores)
        self._area = self.grid.area.ravel()
        self._won = np.zeros(len(self.nodes))
        self._table = ClaimTable(self.grid, len(self.nodes))

    def claims(self) -> Claims:
        queries, cells = len(self.nodes), len(self._area)
        sides = _Sides.of(self.nodes, self.limit, self.grid)
        winner = self._certain_winner()
        sure = np.flatnonzero((winner >= 0) & (self._area > 0))
        cell_entry = np.full(cells, -1)
        cell_entry[sure] = winner[sure]
        self._won += np.bincount(winner[sure], self._area[sure], queries)
        # One entry more stands for what is won but not claimed; where a border passes, pixels must be looked at.
        there = sides.somewhere[winner[sure], sure]
        cell_entry[sure[~there]] = queries
        border = sure[there & ~sides.everywhere[winner[sure], sure]]
        cell_entry[border] = -1
        self._compare(border, winner[border][None], count=False)
        weight = np.bincount(cell_entry + 1, self._area, queries + 2)[1:]
        # The blocks of the borders came first, so that this table's own entries start behind theirs.
        first = self._table.add(np.arange(queries), np.arange(queries), weight)
        cell_entry[cell_entry >= 0] += first
        alone = self._settle(np.flatnonzero((winner < 0) & (self._area > 0)))
        return self._table.claims(cell_entry, alone, sides.area(), self._won)

    @staticmethod
    def _rate(value: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product that decides, of interpolated logits whose queries have these scores."""
        with np.errstate(over="ignore"):
            return scores.reshape(-1, *[1] * (value.ndim - scores.ndim), *scores.shape[1:]) / (1 + np.exp(-value))

    def _certain_winner(self) -> NDArray[np.int64]:
        """[cells] the query that wins all pixels of a cell, -1 where that is not certain."""
        corners = self.grid.corners
        winner, best, second = _best_two(self._product)
        around = winner.take(corners)
        certain = (around[0] == around[1]) & (around[0] == around[2]) & (around[0] == around[3])
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
        value = block.interpolate(self._flat[local[:, None], self.grid.corners.take(cells, axis=1)])
        winner = first_largest(self._rate(value, self.scores[local]))
        wins = winner == np.arange(len(local), dtype=np.uint8).reshape(-1, 1, 1, 1)
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
            inside[part] = value[winner[part], np.arange(value.shape[1])] > self.limit
        self._won += np.bincount(winner, minlength=len(self.nodes))
        first = self._table.add(winner[inside], np.flatnonzero(inside), np.ones(len(rows)))
        return rows, columns, first + np.arange(len(rows))


def _best_two(values: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """[nodes] each: which of `values` [Q, nodes] is the largest (of equals the first), it, and the next one."""
    best, second = values[0].copy(), np.full(values.shape[1], -np.inf, np.float32)
    winner = np.zeros(len(best), np.int64)
    for q, one in enumerate(values[1:], 1):
        np.maximum(second, np.minimum(best, one), out=second)
        np.copyto(winner, q, where=one > best)
        np.maximum(best, one, out=best)
    return winner, best, second
