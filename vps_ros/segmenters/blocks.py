"""Cells of a grid that are evaluated pixel by pixel, many at a time."""

from __future__ import annotations

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

    Attributes:
        subsets: sets of local queries that claim a pixel together anywhere, the empty set first, smaller before larger.
    """

    def __init__(self, grid: Grid, cells: NDArray[np.int64]) -> None:
        self.grid = grid
        self.cells = cells
        self.row, self.column = np.divmod(cells, grid.nodes[1] + 1)
        self.subsets: tuple[Members, ...] = ((),)
        self._masks = np.zeros((0, len(grid.y.pixel), len(grid.x.pixel), len(cells)), bool)
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

    def claim(self, claims: NDArray[np.bool_], together: int, released: NDArray[np.bool_] | None = None) -> None:
        """Keeps who claims which pixel.

        Args:
            claims: bool [k, Sy, Sx, U].
            together: at most so many claim one pixel.
            released: bool [Sy, Sx, U], pixels that belong to no set of their cell, not even to the empty one.
        """
        if released is not None:
            claims &= ~released
            self._released = released
        masks: dict[tuple[int, ...], NDArray[np.bool_]] = {(i,): mask for i, mask in enumerate(claims) if mask.any()}
        alone = [members[0] for members in masks]
        level = list(masks)
        for _ in range(1, together):
            larger: dict[tuple[int, ...], NDArray[np.bool_]] = {}
            for members in level:
                for i in alone:
                    if i > members[-1] and (both := masks[members] & claims[i]).any():
                        wider = (*members, i)
                        larger[wider] = both
            masks.update(larger)
            level = list(larger)
        self.subsets = ((), *masks)
        if masks:
            self._masks = np.stack(list(masks.values()))

    def count(self) -> NDArray[np.float64]:
        """[subsets, U] pixels of each cell that exactly these local queries claim."""
        everyone = self.grid.area.ravel()[self.cells]
        if self._released is not None:
            everyone = everyone - self.count_of(self._released)
        return _exactly(self.subsets) @ np.concatenate([everyone[None], self.count_of(self._masks)])

    def count_of(self, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        """[..., U] pixels of each cell that are marked in bool [..., Sy, Sx, U]."""
        if self._inside is not None:
            masks = masks & self._inside
        # Adding bytes to bytes is what NumPy does fastest; a column of a cell is seldom higher than a byte can count.
        counter = np.uint8 if masks.shape[-3] < 256 else np.uint32
        columns = np.add.reduce(masks.view(np.uint8), axis=-3, dtype=counter)
        return np.add.reduce(columns, axis=-2, dtype=np.float64)

    def paint(self, picture: NDArray, labels: NDArray) -> NDArray:
        """Writes the cells' pixels into the picture, released ones as 0, and gives them as [Sy, Sx, U].

        Args:
            picture: unsigned [H, W], contiguous.
            labels: [subsets, U] of the picture's type, label of a pixel that exactly these local queries claim.
        """
        # XOR is its own inverse: with each set's label brought to what its subsets do not say already, a pixel's
        # label is the XOR over all the sets that claim it, without a look-up per pixel.
        padded = np.concatenate([labels, np.zeros((1, len(self)), labels.dtype)])
        terms = np.bitwise_xor.reduce(padded[_within(self.subsets)], axis=1)
        # 0 - 1 wraps to all ones.
        inside = np.negative(self._masks.view(np.uint8).astype(picture.dtype, copy=False))
        inside &= terms[1:, None, None]
        inside = np.bitwise_xor.reduce(inside, axis=0)
        inside ^= terms[0]
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
def _exactly(subsets: tuple[Members, ...]) -> NDArray[np.float64]:
    """Matrix from counts of pixels that at least a set claims to counts of those that exactly it claims."""
    at_least = np.array([[set(small) <= set(large) for large in subsets] for small in subsets], np.float64)
    return np.linalg.inv(at_least).round()


@lru_cache(256)
def _within(subsets: tuple[Members, ...]) -> NDArray[np.int64]:
    """[subsets, most] places of the subsets of each set, itself included; filled up with len(subsets)."""
    inside = [[i for i, small in enumerate(subsets) if set(small) <= set(large)] for large in subsets]
    most = max(len(places) for places in inside)
    return np.array([places + [len(subsets)] * (most - len(places)) for places in inside])
