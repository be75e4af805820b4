"""Mask logits at the network's input resolution, and label maps from there to the camera's pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.runs import runs
from vps_ros.segmenters.preprocess import Fit


class Region(NamedTuple):
    """A rectangle of the masks' nodes, and the pixels that only these nodes decide; (rows, columns) each."""

    nodes: tuple[slice, slice]
    pixels: tuple[slice, slice]


@dataclass(frozen=True)
class Upsampling:
    """Bilinear upsampling of maps [h, w] that cover the network's whole input.

    Attributes:
        input: height and width of the network's input.
        size: height and width of its part that shows the camera image; only this is computed.
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

    def with_nodes(self, nodes: tuple[int, int]) -> Upsampling:
        """The same for maps of another height and width."""
        return replace(self, nodes=nodes)

    @cached_property
    def stride(self) -> int:
        """Pixels between nodes; 0 where they are no whole number, or not the same along both axes."""
        (height, width), (h, w) = self.input, self.nodes
        whole = not self.align_corners and height % h == 0 and width % w == 0 and height // h == width // w
        return height // h if whole else 0

    def __call__(self, values: NDArray[np.float32], region: Region | None = None) -> NDArray[np.float32]:
        """float32 at the pixels of `region`, or [H, W] of `size`, of a map [h, w]."""
        if region is not None and self.stride:
            values = values[region.nodes]
            height, width = (n * self.stride for n in values.shape)
            full = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
            first_row, first_column = (side.start * self.stride for side in region.nodes)
            rows, columns = region.pixels
            return full[
                max(rows.start - first_row, 0) : max(rows.stop - first_row, 0),
                max(columns.start - first_column, 0) : max(columns.stop - first_column, 0),
            ]
        if self.align_corners:
            # OpenCV's resize has no such mode, and its warps round positions to 1/32.
            for axis in (0, 1):
                low, high, weight = _aligned(self.nodes[axis], self.input[axis], self.size[axis])
                below, above = values.take(low, axis), values.take(high, axis)
                values = below + weight.reshape(-1, *[1] * (1 - axis)) * (above - below)
            return values
        height, width = self.input
        full = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
        return full[: self.size[0], : self.size[1]]


@lru_cache(32)
def _aligned(nodes: int, pixels: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Nodes below and above each of the first `size` pixels of an axis, and the weight of the one above."""
    # One division of whole numbers: a pixel that lies on a node gets nothing of the next one.
    place = np.arange(size) * (nodes - 1) / max(pixels - 1, 1)
    low = np.floor(place).astype(np.int64)
    return low, np.minimum(low + 1, nodes - 1), (place - low).astype(np.float32)


def bounding_slices(matters: NDArray[np.bool_], upsampling: Upsampling) -> list[tuple[int, Region]]:
    """Masks that matter at some node, each with the region outside of which it matters at no pixel.

    Args:
        matters: bool [N, h, w]. Between four nodes at which a mask does not matter, it does not matter.
    """
    count, h, w = matters.shape
    height, width = upsampling.size
    stride = upsampling.stride
    rows, columns = matters.any(2), matters.any(1)
    found = []
    # First and last node that matters, along both axes.
    edges = [(m.argmax(1), m.shape[1] - m[:, ::-1].argmax(1)) for m in (rows, columns)]
    for q in np.flatnonzero(rows.any(1)).tolist():
        if not stride:
            found.append((q, Region((slice(0, h), slice(0, w)), (slice(0, height), slice(0, width)))))
            continue
        nodes, pixels = [], []
        for (low, high), size, most in zip(edges, (h, w), (height, width), strict=True):
            # One more node on either side: pixels beyond the last that matters are interpolated with it.
            first, end = max(int(low[q]) - 1, 0), min(int(high[q]) + 1, size)
            nodes.append(slice(first, end))
            # From the centre of the first node to that of the last; the map's outer nodes decide what lies beyond them.
            start = first * stride + (stride // 2 if first else 0)
            stop = end * stride - (stride // 2 if end < size else 0)
            pixels.append(slice(min(start, most), min(stop, most)))
        found.append((q, Region((nodes[0], nodes[1]), (pixels[0], pixels[1]))))
    return found


class _Nearest(NamedTuple):
    """Input pixels that camera pixels take their label from.

    Attributes:
        place: int64 [camera pixels of an axis], in `taken`.
        taken: int64 [n], input pixels that are taken at least once, ascending.
        ends: int64 [n + 1], first camera pixel of each, and the number of camera pixels.
    """

    place: NDArray[np.int64]
    taken: NDArray[np.int64]
    ends: NDArray[np.int64]


@lru_cache(32)
def _nearest(where: Fit) -> tuple[_Nearest, _Nearest]:
    """Along y and x."""
    axes = []
    for axis in (0, 1):
        nearest = where.nearest(axis)
        taken, first = np.unique(nearest, return_index=True)
        axes.append(_Nearest(np.searchsorted(taken, nearest), taken, np.append(first, len(nearest))))
    return axes[0], axes[1]


def describe(labels: NDArray, where: Fit, count: int) -> tuple[NDArray, NDArray[np.int64], NDArray[np.float32]]:
    """A label map of the input at the camera's pixels, and area and box of each label there.

    Args:
        labels: unsigned [h, w], of the input's part that shows the camera image; labels 1..count, 0 being void.

    Returns:
        [H, W] of the same type, int64 [count], and float32 [count, 4] x0 y0 x1 y1, half-open; zeros for a label that no
        camera pixel has.
    """
    y, x = _nearest(where)
    # Areas and boxes are counted where the map is smallest: every pixel of it stands for a rectangle of the camera's.
    if len(y.taken) < labels.shape[0] or len(x.taken) < labels.shape[1]:
        labels = labels.take(y.taken, axis=0).take(x.taken, axis=1)
    start, length = runs(labels)
    row, column = np.divmod(start, labels.shape[1])
    label = labels.ravel()[start].astype(np.int64)
    left, right = x.ends[column], x.ends[column + length]
    top, bottom = y.ends[row], y.ends[row + 1]
    areas = np.bincount(label, (right - left) * (bottom - top), count + 1)[1:].astype(np.int64)
    low, high = np.full((2, count + 1), np.iinfo(np.int64).max), np.zeros((2, count + 1), np.int64)
    for axis, (begin, end) in enumerate(((left, right), (top, bottom))):
        np.minimum.at(low[axis], label, begin)
        np.maximum.at(high[axis], label, end)
    boxes = np.concatenate([low, high])[:, 1:].T
    picture = labels.take(x.place, axis=1).take(y.place, axis=0)
    return picture, areas, np.where(areas[:, None] > 0, boxes, 0).astype(np.float32)
