"""Who claims which pixels, as a table of few entries that stands for the whole picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.extent import Part, bounding_boxes
from vps_ros.segmenters.grid import Grid


@dataclass(frozen=True)
class Claims:
    """Entries are sets of pixels that the same queries claim.

    Attributes:
        weight: float64 [E], pixels of each entry.
        query, entry: int64 [M], candidate `query` claims the pixels of `entry`; ascending by query. Entries without
            pixels are left out.
        mask_area: float64 [Q], pixels of each candidate's mask, whoever gets them.
        won: float64 [Q], pixels that each candidate wins, whether it claims them or not; None if of no use.
        cell_entry: int64 [cells], entry of a cell's pixels; -1 where they differ.
        blocks: cells whose pixels differ, each group with the number of its first entry.
        pixels: row, column and entry of single pixels.
    """

    grid: Grid
    weight: NDArray[np.float64]
    query: NDArray[np.int64]
    entry: NDArray[np.int64]
    mask_area: NDArray[np.float64]
    cell_entry: NDArray[np.int64]
    blocks: list[tuple[Blocks, int]]
    pixels: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    won: NDArray[np.float64] | None = None

    @cached_property
    def of_query(self) -> list[NDArray[np.int64]]:
        """Entries of each candidate."""
        ends = np.searchsorted(self.query, np.arange(1, len(self.mask_area)))
        return np.split(self.entry, ends)

    def paint(self, labels: NDArray, count: int) -> tuple[NDArray, NDArray[np.float32]]:
        """The picture, and the boxes of its labels.

        Args:
            labels: unsigned integers [E], label of each entry, 0 being void.
            count: labels go up to this.

        Returns:
            [H, W] of the type of `labels`, and float32 [count, 4] x0 y0 x1 y1, half-open; zeros for a label that
            no pixel has.
        """
        shape = tuple(n + 1 for n in self.grid.nodes)
        # Entry -1 reads the zero that stands last.
        cells = np.append(labels, labels.dtype.type(0)).take(self.cell_entry, mode="wrap").reshape(shape)
        picture = self.grid.expand(cells)
        parts = []
        for block, first in self.blocks:
            sets = len(block.subsets)
            entries = slice(first, first + sets * len(block))
            mine = labels[entries].reshape(sets, -1)
            inside = block.paint(picture, mine)
            parts.append(Part(block, inside, np.where(self.weight[entries].reshape(mine.shape) > 0, mine, 0)))
        rows, columns, entry = self.pixels
        alone = labels.take(entry)
        picture[rows, columns] = alone
        return picture, bounding_boxes(self.grid, count, cells, parts, (rows, columns, alone))


@dataclass
class ClaimTable:
    """Claims while they are collected; candidate Q stands for a query that is none."""

    grid: Grid
    candidates: int
    _weight: list[NDArray[np.float64]] = field(default_factory=list)
    _query: list[NDArray[np.int64]] = field(default_factory=list)
    _entry: list[NDArray[np.int64]] = field(default_factory=list)
    _blocks: list[tuple[Blocks, int]] = field(default_factory=list)
    _size: int = 0

    def add(self, query: NDArray[np.int64], entry: NDArray[np.int64], weight: NDArray[np.float64]) -> int:
        """Entries 0.. of `weight`, claimed as `query` and `entry` say; gives the number that the first one gets."""
        first = self._size
        self._weight.append(weight)
        self._query.append(query)
        self._entry.append(entry + first)
        self._size += len(weight)
        return first

    def add_blocks(
        self,
        block: Blocks,
        local: NDArray[np.int64],
        always: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        rest: NDArray[np.int64] | None = None,
    ) -> None:
        """The entries of a group of cells.

        Args:
            local: int [k, U], candidates that the cells' local queries are.
            always: candidate and cell (0..U-1) of those that claim every pixel of a cell besides.
            rest: int [U], candidates that claim the pixels that no local query does.
        """
        sets, cells = len(block.subsets), np.arange(len(block))
        member = [(s, i) for s, subset in enumerate(block.subsets) for i in subset]
        which, who = np.array(member, np.int64).reshape(-1, 2).T
        query, entry = [local[who].ravel()], [(which[:, None] * len(block) + cells).ravel()]
        if always is not None:
            query.append(np.tile(always[0], sets))
            entry.append((np.arange(sets)[:, None] * len(block) + always[1]).ravel())
        if rest is not None:
            query.append(rest)
            entry.append(cells)
        first = self.add(np.concatenate(query), np.concatenate(entry), block.count().ravel())
        self._blocks.append((block, first))

    def claims(
        self,
        cell_entry: NDArray[np.int64],
        pixels,
        mask_area: NDArray[np.float64] | None = None,
        won: NDArray[np.float64] | None = None,
    ) -> Claims:
        """`mask_area` where it is not the sum of the entries; the others as in Claims."""
        weight, query, entry = (np.concatenate(parts) for parts in (self._weight, self._query, self._entry))
        real = np.flatnonzero((query < self.candidates) & (weight.take(entry) > 0))
        query, entry = query.take(real), entry.take(real)
        order = np.argsort(query.astype(np.int16 if self.candidates < 2**15 else np.int64), kind="stable")
        query, entry = query.take(order), entry.take(order)
        if mask_area is None:
            mask_area = np.bincount(query, weight.take(entry), self.candidates)
        return Claims(self.grid, weight, query, entry, mask_area, cell_entry, self._blocks, pixels, won)


def values_at(nodes: NDArray[np.float32], grid: Grid, rows, columns) -> NDArray[np.float32]:
    """[n, P] bilinear values of `nodes` [n, h * w] at single pixels."""
    y, x = grid.y.cell[rows], grid.x.cell[columns]
    around = nodes.take(grid.corners.take(y * (grid.nodes[1] + 1) + x, axis=1), axis=1)
    fy, fx = grid.y.at[rows], grid.x.at[columns]
    top = around[:, 0] + fx * (around[:, 1] - around[:, 0])
    bottom = around[:, 2] + fx * (around[:, 3] - around[:, 2])
    return top + fy * (bottom - top)


def logit(p: float) -> float:
    return -math.inf if p <= 0 else math.inf if p >= 1 else math.log(p / (1 - p))
