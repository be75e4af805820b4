"""Bounding boxes of the labels of a picture, from its cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.grid import Grid


class Extent:
    """First and last row and column of each label 0..count while the picture is painted; 0 is void.

    Cells of one label extend it by their whole size. Of the others, only those are searched pixel by pixel that lie in
    a row or column of cells beyond which the label has not been seen.
    """

    def __init__(self, grid: Grid, count: int) -> None:
        self._grid = grid
        self._low = np.full((2, count + 1), np.iinfo(np.int64).max)
        self._high = np.zeros((2, count + 1), np.int64)

    def add_cells(self, labels: NDArray) -> None:
        """Whole cells; `labels` is [h + 1, w + 1], void where a cell's pixels differ."""
        there = np.zeros((2, self._low.shape[1], max(labels.shape)), bool)
        labels = np.where(self._grid.area > 0, labels, 0)
        rows, columns = (np.arange(n) for n in labels.shape)
        there[0, labels, rows[:, None]] = True
        there[1, labels, columns] = True
        for i, axis in enumerate((self._grid.y, self._grid.x)):
            filled = there[i, :, : len(axis.count)]
            seen = np.flatnonzero(filled.any(1))
            self._low[i, seen] = axis.start[filled[seen].argmax(1)]
            last = len(axis.count) - 1 - filled[seen, ::-1].argmax(1)
            self._high[i, seen] = axis.start[last] + axis.count[last]

    def add_block(self, block: Blocks, inside: NDArray, labels: NDArray) -> None:
        """Cells whose pixels differ.

        Args:
            inside: [Sy, Sx, U] labels of their pixels.
            labels: [sets, U] the labels that occur in each cell.
        """
        places = (block.row, block.column)
        axes = (self._grid.y, self._grid.x)
        low, high = self._low.copy(), self._high.copy()
        seen = np.flatnonzero(labels)
        cell, label = seen % len(block), labels.take(seen).astype(np.int64)
        for i, axis in enumerate(axes):
            np.minimum.at(low[i], label, (axis.start + axis.count - 1)[places[i][cell]])
            np.maximum.at(high[i], label, (axis.start + 1)[places[i][cell]])
        outer = np.zeros(len(cell), bool)
        for i, axis in enumerate(axes):
            at = places[i][cell]
            outer |= (axis.start[at] < self._low[i, label]) & (axis.start[at] <= low[i, label])
            end = axis.start[at] + axis.count[at]
            outer |= (end > self._high[i, label]) & (end >= high[i, label])
        cell, label = cell[outer], label[outer]
        found = (inside.take(cell, axis=2) == label).view(np.uint8)
        for i, axis in enumerate(axes):
            along = np.bitwise_or.reduce(found, axis=1 - i)
            at, this = places[i][cell], np.arange(len(cell))
            np.minimum.at(self._low[i], label, axis.pixel[along.argmax(0), at[this]])
            last = len(along) - 1 - along[::-1].argmax(0)
            np.maximum.at(self._high[i], label, axis.pixel[last, at[this]] + 1)

    def add_pixels(self, rows: NDArray[np.int64], columns: NDArray[np.int64], labels: NDArray) -> None:
        """Single pixels."""
        for i, place in enumerate((rows, columns)):
            np.minimum.at(self._low[i], labels, place)
            np.maximum.at(self._high[i], labels, place + 1)

    def boxes(self) -> NDArray[np.float32]:
        """float32 [count, 4] x0 y0 x1 y1, half-open."""
        low = np.where(self._high > 0, self._low, 0)
        return np.stack([low[1], low[0], self._high[1], self._high[0]], axis=1)[1:].astype(np.float32)
