"""Where the pixels of a camera image lie between the nodes of a small map that is upsampled bilinearly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.preprocess import Fit


@dataclass(frozen=True)
class Axis:
    """One axis of the map: n nodes make n + 1 cells, the outer two of which lie beyond the outer nodes.

    Every pixel of a cell is interpolated between the same two nodes. Cells hold unequal numbers of pixels where the
    scale is no whole number, so tables per cell are padded: a row repeats its last pixel.

    Attributes:
        cell: int64 [pixels], cell of each pixel.
        start, count: int64 [n + 1], first pixel and number of pixels of each cell.
        low, high: int64 [n + 1], the two nodes of each cell.
        pixel: int64 [S, n + 1], pixels of each cell, S the largest count.
        weight: float32 [S, n + 1], weight of the high node at each of them.
        valid: bool [S, n + 1], false where padded.
        at: float32 [pixels], weight of the high node at every pixel of the axis.
    """

    cell: NDArray[np.int64]
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    pixel: NDArray[np.int64]
    weight: NDArray[np.float32]
    valid: NDArray[np.bool_]
    at: NDArray[np.float32]


def _axis(position: NDArray[np.float64], nodes: int) -> Axis:
    """`position`: where each pixel's centre lies among the nodes' (Fit.places), ascending."""
    pixels = len(position)
    low = np.clip(np.floor(position), -1, nodes - 1)
    cell = low.astype(np.int64) + 1
    # Beyond the outer nodes both nodes of a cell are the same one, so that any weight would do.
    at = np.clip(position - low, 0, 1).astype(np.float32)
    count = np.bincount(cell, minlength=nodes + 1)
    start = np.cumsum(count) - count
    cells = np.arange(nodes + 1)
    steps = np.arange(max(int(count.max()), 1))[:, None]
    pixel = np.minimum(start + np.minimum(steps, np.maximum(count - 1, 0)), pixels - 1)
    return Axis(
        cell,
        start,
        count,
        np.maximum(cells - 1, 0),
        np.minimum(cells, nodes - 1),
        pixel,
        at[pixel],
        steps < count,
        at,
    )


@dataclass(frozen=True)
class Grid:
    """Both axes of a map of (h, w) nodes under a camera image of (height, width) pixels.

    Attributes:
        area: float64 [h + 1, w + 1], pixels of each cell.
        corners: int64 [4, (h + 1) * (w + 1)], nodes around each cell (row-major numbers): upper left,
            upper right, lower left, lower right.
    """

    size: tuple[int, int]
    nodes: tuple[int, int]
    y: Axis
    x: Axis
    area: NDArray[np.float64]
    corners: NDArray[np.int64]

    @property
    def largest_cell(self) -> int:
        """Pixels of the largest cell, padded as Axis.pixel is."""
        return len(self.y.pixel) * len(self.x.pixel)

    def expand(self, cells: NDArray) -> NDArray:
        """[height, width]: each pixel has the value of its cell; `cells` is [h + 1, w + 1]."""
        return cells.take(self.x.cell, axis=1).take(self.y.cell, axis=0)


@lru_cache(16)
def grid(where: Fit, nodes: tuple[int, int]) -> Grid:
    """The grid of a mask map of `nodes` (h, w) that covers the whole network input, padding included.

    The upsampled map is the one that torch's interpolate (bilinear) gives when the whole input is brought to camera
    scale, without the padding's part. With align_corners it is the one that two steps give, to the input's size and
    from its part without padding to the camera's: nodes then lie on input pixels, so that the steps are one.
    """
    y, x = (_axis(where.places(i, nodes[i]), nodes[i]) for i in (0, 1))
    corners = np.stack(
        [(row[:, None] * nodes[1] + column).ravel() for row in (y.low, y.high) for column in (x.low, x.high)]
    )
    return Grid(where.camera, nodes, y, x, np.outer(y.count, x.count).astype(np.float64), corners)
