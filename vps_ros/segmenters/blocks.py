"""Cells of a grid that are evaluated pixel by pixel, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.grid import Grid

Members = tuple[int, ...]
"""Which of a cell's local queries claim a pixel, ascending."""


class Blocks:
    """U cells, each with k local queries of which any may claim any pixel.

    Arrays over pixels are [Sy, Sx, U]: the cell is the fastest axis, so that every operation runs over long rows.
    Cells with fewer than Sy x Sx pixels repeat their last ones; those repetitions are painted but not counted.

    Args:
        cells: int64 [U], numbers of the cells in the grid (row-major over [h + 1, w + 1]).
    """

    def __init__(self, grid: Grid, cells: NDArray[np.int64]) -> None:
        self.grid = grid
        self.cells = cells
        self.row, self.column = np.divmod(cells, grid.nodes[1] + 1)
        self._masks: dict[Members, NDArray[np.bool_]] = {}
        self._released: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.cells)

    def interpolate(self, corners: NDArray[np.float32]) -> NDArray[np.float32]:
        """[..., 4, U] at the corners of each cell -> [..., Sy, Sx, U] at its pixels."""
        fx = self.grid.x.weight.take(self.column, axis=1)
        fy = self.grid.y.weight.take(self.row, axis=1)[:, None]
        left, right = corners[..., 0::2, None, :], corners[..., 1::2, None, :]
        edges = fx * (right - left)
        edges += left
        top, bottom = edges[..., 0, :, :], edges[..., 1, :, :]
        inside = fy * (bottom - top)[..., None, :, :]
        inside += top[..., None, :, :]
        return inside

    def claim(self, claims: Sequence[NDArray[np.bool_]], together: int) -> None:
        """Keeps who claims which pixel, by the sets of local queries that do so together anywhere.

        Args:
            claims: k of bool [Sy, Sx, U].
            together: at most so many claim one pixel.
        """
        masks = {(i,): mask for i, mask in enumerate(claims) if mask.any()}
        smaller = list(masks)
        for _ in range(2, min(together, len(claims)) + 1):
            larger = {}
            for members in smaller:
                for i in range(members[-1] + 1, len(claims)):
                    if (i,) not in masks:
                        continue
                    both = masks[members] & claims[i]
                    if both.any():
                        larger[(*members, i)] = both
            masks.update(larger)
            smaller = list(larger)
        self._masks = masks

    def release(self, pixels: NDArray[np.bool_]) -> None:
        """These pixels, bool [Sy, Sx, U], belong to no set of the cell any more, not even to the empty one."""
        self._released = pixels
        for mask in self._masks.values():
            mask &= ~pixels

    @property
    def subsets(self) -> list[Members]:
        """Sets of local queries that may claim a pixel together, the empty set first, smaller before larger."""
        return [(), *self._masks]

    def count(self) -> NDArray[np.float64]:
        """[subsets, U] pixels of each cell that exactly these local queries claim."""
        at_least = {(): self.grid.area.ravel()[self.cells]}
        if self._released is not None:
            at_least[()] = at_least[()] - self.count_of(self._released)
        for members, mask in self._masks.items():
            at_least[members] = self.count_of(mask)
        exactly = list(at_least.values())
        # Whoever is claimed by a larger set is claimed by its subsets too: take the larger ones off, largest first.
        for larger, smaller in reversed(_inclusions(tuple(at_least))):
            exactly[smaller] = exactly[smaller] - exactly[larger]
        return np.stack(exactly)

    def count_of(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """[U] pixels of each cell that are marked in bool [Sy, Sx, U]."""
        return _per_cell(mask if self._inside is None else mask & self._inside)

    def paint(self, picture: NDArray, labels: NDArray) -> NDArray:
        """Writes the cells' pixels into the picture, released ones as 0, and gives them as [Sy, Sx, U].

        Args:
            picture: unsigned [H, W], contiguous.
            labels: [subsets, U] of the picture's type, label of a pixel that exactly these local queries claim.
        """
        subsets = self.subsets
        # XOR is its own inverse: with each set's label brought to what its subsets do not say already, a pixel's
        # label is the XOR over all the sets that claim it, without a look-up per pixel.
        terms = [label.copy() for label in labels]
        for larger, smaller in _inclusions(tuple(subsets)):
            terms[larger] ^= terms[smaller]
        shape = (len(self.grid.y.pixel), len(self.grid.x.pixel), len(self))
        inside = np.empty(shape, picture.dtype)
        inside[:] = terms[0]
        for members, term in zip(subsets[1:], terms[1:], strict=True):
            if term.any():
                # 0 - 1 wraps to all ones.
                inside ^= np.negative(self._masks[members].view(np.uint8).astype(picture.dtype, copy=False)) & term
        if self._released is not None and terms[0].any():
            inside[self._released] = 0
        picture.reshape(-1)[self.positions()] = inside
        return inside

    def positions(self) -> NDArray[np.int64]:
        """[Sy, Sx, U] place of each pixel in the flattened image."""
        rows = self.grid.y.pixel.take(self.row, axis=1) * self.grid.size[1]
        return rows[:, None] + self.grid.x.pixel.take(self.column, axis=1)

    def pick(self, where: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns in the image of the pixels marked in bool [Sy, Sx, U], repetitions left out."""
        if self._inside is not None:
            where = where & self._inside
        i, j, cell = np.unravel_index(np.flatnonzero(where), where.shape)
        return self.grid.y.pixel[i, self.row[cell]], self.grid.x.pixel[j, self.column[cell]]

    @cached_property
    def _inside(self) -> NDArray[np.bool_] | None:
        """bool [Sy, Sx, U], false where a pixel is repeated; None when none is."""
        size = len(self.grid.y.pixel) * len(self.grid.x.pixel)
        if (self.grid.area.ravel()[self.cells] == size).all():
            return None
        rows = self.grid.y.valid.take(self.row, axis=1)
        return rows[:, None] & self.grid.x.valid.take(self.column, axis=1)


@lru_cache(256)
def _inclusions(subsets: tuple[Members, ...]) -> list[tuple[int, int]]:
    """Places (larger, smaller) of every set and each of its proper subsets, ascending by the larger."""
    return [
        (i, j)
        for i, larger in enumerate(subsets)
        for j, smaller in enumerate(subsets[:i])
        if set(smaller) < set(larger)
    ]


def _per_cell(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    # Adding bytes to bytes is what NumPy does fastest; a column of a cell is seldom higher than a byte can count.
    counter = np.uint8 if len(mask) < 256 else np.uint32
    columns = np.add.reduce(mask.view(np.uint8), axis=0, dtype=counter)
    return np.add.reduce(columns, axis=0, dtype=np.float64)
