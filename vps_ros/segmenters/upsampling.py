"""Resizing: mask logits to the network's input resolution, and label maps from there to the camera image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.label_maps import areas, bounding_boxes, runs
from vps_ros.segmenters.preprocess import Fit


class Region(NamedTuple):
    """A rectangle of nodes of a mask, and pixels whose values depend on these nodes only; (rows, columns) each.

    Attributes:
        nodes, pixels: in the mask, and in the network's input.
        resized: (width, height) of the nodes after upsampling.
        inner: the pixels in that.
    """

    nodes: tuple[slice, slice]
    pixels: tuple[slice, slice]
    resized: tuple[int, int]
    inner: tuple[slice, slice]


@dataclass(frozen=True)
class Upsampling:
    """Bilinear upsampling of maps [h, w] that cover the network's complete input.

    Attributes:
        input: height and width of the network's input.
        size: height and width of the part that shows the camera image; the rest is not computed.
        nodes: height and width of the maps.
        align_corners: see InputSpec.
    """

    input: tuple[int, int]
    size: tuple[int, int]
    nodes: tuple[int, int]
    align_corners: bool

    @classmethod
    def of(cls, where: Fit, nodes: tuple[int, int]) -> Upsampling:
        """For masks of this height and width."""
        return cls(where.input, where.resized, nodes, where.align_corners)

    @cached_property
    def stride(self) -> int:
        """Pixels between nodes; 0 where this is not an integer, or not the same along both axes."""
        (height, width), (h, w) = self.input, self.nodes
        regular = not self.align_corners and height % h == 0 and width % w == 0 and height // h == width // w
        return height // h if regular else 0

    def __call__(self, values: NDArray[np.float32], region: Region | None = None) -> NDArray[np.float32]:
        """float32 at the pixels of `region`, or [H, W] of `size`, of a map [h, w]."""
        if not self.align_corners:
            if region is not None:
                values = values[region.nodes]
                return cv2.resize(values, region.resized, interpolation=cv2.INTER_LINEAR)[region.inner]
            full = cv2.resize(values, self.input[::-1], interpolation=cv2.INTER_LINEAR)
            return full[: self.size[0], : self.size[1]]
        # cv2.resize has no such mode, and cv2.remap rounds positions to 1/32.
        for axis in (0, 1):
            low, high, weight = _aligned(self.nodes[axis], self.input[axis], self.size[axis])
            below, above = values.take(low, axis), values.take(high, axis)
            values = below + weight.reshape(-1, *[1] * (1 - axis)) * (above - below)
        return values if region is None else values[region.pixels]


@lru_cache(32)
def _aligned(nodes: int, pixels: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Lower and upper node of each of the first `size` pixels of an axis, and the weight of the upper node."""
    # A single division of integers: the position of a pixel that coincides with a node is exact.
    position = np.arange(size) * (nodes - 1) / max(pixels - 1, 1)
    low = np.floor(position).astype(np.int64)
    return low, np.minimum(low + 1, nodes - 1), (position - low).astype(np.float32)


def box_pixels(box: NDArray[np.float32], size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of an image of `size` (height, width) whose centres lie in the box x0 y0 x1 y1."""
    x0, y0, x1, y1 = np.ceil(box - np.float32(0.5)).tolist()
    height, width = size
    top, left = (int(min(max(low, 0), n)) for low, n in ((y0, height), (x0, width)))
    return slice(top, int(min(max(y1, top), height))), slice(left, int(min(max(x1, left), width)))


def regions_of(
    relevant: NDArray[np.bool_], upsampling: Upsampling, boxes: NDArray[np.float32] | None = None
) -> list[tuple[int, Region]]:
    """The index of each mask that is relevant at some node, with the region that holds all its relevant pixels.

    Args:
        relevant: bool [N, h, w]. A pixel between four nodes is relevant only if one of these nodes is.
        boxes: [N, 4] x0 y0 x1 y1 in pixels of the network's input: no other pixels are relevant.
    """
    grid, stride = np.array(relevant.shape[1:]), upsampling.stride
    rows, columns = relevant.any(axis=2), relevant.any(axis=1)
    some = np.flatnonzero(rows.any(axis=1))
    # First, and one past the last, of the pixels and nodes along both axes: [R, axis].
    start, stop = np.zeros((len(some), 2), np.int64), np.tile(upsampling.size, (len(some), 1))
    if boxes is not None:
        for i, q in enumerate(some):
            start[i], stop[i] = zip(*((s.start, s.stop) for s in box_pixels(boxes[q], upsampling.size)), strict=True)
    low, high = np.zeros_like(start), start * 0 + grid
    if stride:
        lines = rows[some], columns[some]
        # One more node on either side: the pixels next to a relevant node are interpolated with it.
        low = np.maximum(np.stack([line.argmax(axis=1) for line in lines], axis=1) - 1, 0)
        high = np.minimum(grid + 1 - np.stack([line[:, ::-1].argmax(axis=1) for line in lines], axis=1), grid)
        # From the centre of the first node to that of the last. The outermost nodes extend to the border.
        start = np.maximum(low * stride + np.where(low > 0, stride // 2, 0), start)
        stop = np.minimum(high * stride - np.where(high < grid, stride // 2, 0), stop)
        # The nodes between which the first and the last pixel lie.
        low = np.maximum(low, (2 * start + 1 - stride) // (2 * stride))
        high = np.minimum(high, (2 * stop - 1 - stride) // (2 * stride) + 2)
    resized = (high - low) * stride if stride else start * 0 + upsampling.input
    origin = low * stride
    kept = (start < stop).all(axis=1)
    table = (some, low, high, start, stop, resized, start - origin, stop - origin)
    return [
        (q, Region(_slices(low, high), _slices(start, stop), (width, height), _slices(first, end)))
        for q, low, high, start, stop, (height, width), first, end in zip(
            *(values[kept].tolist() for values in table), strict=True
        )
    ]


def _slices(first: list[int], end: list[int]) -> tuple[slice, slice]:
    return slice(first[0], end[0]), slice(first[1], end[1])


class _Nearest(NamedTuple):
    """The nearest input pixel of each camera pixel along one axis.

    Attributes:
        used: int64 [n], the input pixels that are nearest to at least one camera pixel, ascending.
        index: int64 [camera pixels], index into `used`.
        ends: int64 [n + 1], the first camera pixel of each element of `used`, then the number of camera pixels.
    """

    used: NDArray[np.int64]
    index: NDArray[np.int64]
    ends: NDArray[np.int64]


@lru_cache(32)
def _nearest(where: Fit) -> tuple[_Nearest, _Nearest]:
    """Along y and x."""
    axes = []
    for axis in (0, 1):
        nearest = where.nearest(axis)
        used, first = np.unique(nearest, return_index=True)
        axes.append(_Nearest(used, np.searchsorted(used, nearest), np.append(first, len(nearest))))
    return axes[0], axes[1]


def labels_at_camera(labels: NDArray, where: Fit, count: int) -> tuple[NDArray, NDArray[np.int64], NDArray[np.float32]]:
    """A label map of the network's input resized to the camera image, with area and box of each label there.

    Args:
        labels: unsigned [h, w], of the part of the input that shows the camera image; 0 is void.
        count: the labels are 1..count.

    Returns:
        [H, W] of the same type, int64 [count], and float32 [count, 4] x0 y0 x1 y1, half-open; zeros for a label without
        a camera pixel.
    """
    y, x = _nearest(where)
    # Areas and boxes are computed on the smaller map, where each pixel stands for a rectangle of the camera image.
    if len(y.used) < labels.shape[0] or len(x.used) < labels.shape[1]:
        labels = _at(labels, y.used, x.used)
    start, length = runs(labels)
    row, column = np.divmod(start, labels.shape[1])
    label = labels.ravel()[start].astype(np.int64)
    left, right = x.ends[column], x.ends[column + length]
    top, bottom = y.ends[row], y.ends[row + 1]
    area = areas(label, (right - left) * (bottom - top), count)
    box = bounding_boxes(label, left, top, right, bottom, count)
    return _at(labels, y.index, x.index), area, np.where(area[:, None] > 0, box, 0)


def _at(labels: NDArray, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray:
    """`labels` at those rows and columns. Columns are taken as rows of the transposed map, which is several times as
    fast."""
    return cv2.transpose(cv2.transpose(labels).take(columns, axis=0)).take(rows, axis=0)
