"""Bounding boxes of the labels of a picture, from its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.grid import Axis, Grid


class Part(NamedTuple):
    """Cells whose pixels differ.

    Attributes:
        inside: [Sy, Sx, U] labels of their pixels.
        labels: [sets, U] the labels that occur in each cell, and 0.
    """

    block: Blocks
    inside: NDArray
    labels: NDArray


def bounding_boxes(
    grid: Grid,
    count: int,
    cells: NDArray,
    parts: Sequence[Part],
    pixels: tuple[NDArray[np.int64], NDArray[np.int64], NDArray],
) -> NDArray[np.float32]:
    """float32 [count, 4] x0 y0 x1 y1, half-open, of the labels 1..count; zeros for one that no pixel has.

    Cells of one label extend it by their whole size. Of the others, only those are searched pixel by pixel that lie in
    the first or last row or column of cells that the label touches.

    Args:
        cells: [h + 1, w + 1] labels of the cells of one label, 0 for the others.
        pixels: row, column and label of single pixels that no part holds.
    """
    cells = np.where(grid.area > 0, cells, 0)
    seen = [np.flatnonzero(part.labels) for part in parts]
    found = [
        (part, places % len(part.block), part.labels.take(places).astype(np.int64))
        for part, places in zip(parts, seen, strict=True)
    ]
    spans = []
    for i, axis in enumerate((grid.y, grid.x)):
        span = _Span(axis, count, cells if i == 0 else cells.T)
        for part, cell, label in found:
            span.touched[label, _place(part.block, i)[cell]] = True
        span.touched[pixels[2], axis.cell.take(pixels[i])] = True
        span.settle()
        spans.append(span)
    for part, cell, label in found:
        outer = np.zeros(len(cell), bool)
        for i, span in enumerate(spans):
            outer |= span.is_outer(label, _place(part.block, i)[cell])
        cell, label = cell[outer], label[outer]
        same = (part.inside.take(cell, axis=2) == label).view(np.uint8)
        for i, span in enumerate(spans):
            span.search(label, _place(part.block, i)[cell], np.bitwise_or.reduce(same, axis=1 - i))
    for i, span in enumerate(spans):
        np.minimum.at(span.low, pixels[2], pixels[i])
        np.maximum.at(span.high, pixels[2], pixels[i] + 1)
    y, x = spans
    boxes = np.stack([x.low, y.low, x.high, y.high], axis=1)[1:]
    return np.where(boxes[:, 2:3] > 0, boxes, 0).astype(np.float32)


def _place(block: Blocks, axis: int) -> NDArray[np.int64]:
    return block.column if axis else block.row


class _Span:
    """First pixel and end of each label along one axis.

    Attributes:
        touched: bool [labels, cells of the axis], filled in before `settle`.
        low, high: int64 [labels], exact once every outer cell has been searched.
    """

    def __init__(self, axis: Axis, count: int, cells: NDArray) -> None:
        self._axis = axis
        self._whole = np.zeros((count + 1, len(axis.count)), bool)
        self._whole[cells, np.arange(len(axis.count))[:, None]] = True
        self.touched = self._whole.copy()

    def settle(self) -> None:
        """Takes over what whole cells decide."""
        axis, labels = self._axis, np.arange(len(self.touched))
        self._first = self.touched.argmax(1)
        self._last = self.touched.shape[1] - 1 - self.touched[:, ::-1].argmax(1)
        begins, ends = self._whole[labels, self._first], self._whole[labels, self._last]
        self.low = np.where(begins, axis.start[self._first], np.iinfo(np.int64).max)
        self.high = np.where(ends, (axis.start + axis.count)[self._last], 0)
        # What a whole cell has settled needs no search.
        self._first[begins] = -1
        self._last[ends] = -1

    def is_outer(self, label: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a label may begin or end in a cell of the axis."""
        return (place == self._first[label]) | (place == self._last[label])

    def search(self, label: NDArray[np.int64], place: NDArray[np.int64], there: NDArray) -> None:
        """`there`: [S, n] whether the label has a pixel at each step of the cell."""
        pixel = self._axis.pixel
        np.minimum.at(self.low, label, pixel[there.argmax(0), place])
        np.maximum.at(self.high, label, pixel[len(there) - 1 - there[::-1].argmax(0), place] + 1)
