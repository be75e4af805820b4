"""Upsampling of mask logits in the ONNX graph, some queries at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vps_ros.learning.in_graph.nodes import Value
from vps_ros.segmenters.preprocess import Fit

BUDGET = 1 << 26
"""Largest number of elements of an intermediate tensor: 256 MiB of float32; a few exist at a time."""


@dataclass(frozen=True)
class Field:
    """Maps of N queries over the network's input, and their upsampling.

    Attributes:
        maps: float32 [1, N, h, w].
        shape: (N, h, w).
        where: how the camera image lies in the network's input.
        budget: most elements of an upsampled tensor; with one query there may be more.
    """

    maps: Value
    shape: tuple[int, int, int]
    where: Fit
    budget: int = BUDGET

    def parts(self) -> Iterator[tuple[slice, Value]]:
        """Slices of queries and their upsampled maps [1, n, height, width]."""
        queries, (height, width) = self.shape[0], self.where.camera
        size = max(1, min(queries, self.budget // (height * width)))
        for start in range(0, queries, size):
            which = slice(start, min(start + size, queries))
            if size == queries:
                yield which, self._all
            else:
                yield which, self.upsample(self.maps.part([which.start], [which.stop], [1]))

    def upsample(self, maps: Value) -> Value:
        """[1, n, h, w] -> [1, n, height, width], the interpolation of segmenters/upsampling.py."""
        axes = [_axis(self.where, i, self.shape[1 + i]) for i in (0, 1)]
        for axis, one in enumerate(axes, 2):
            if one.nodes < self.shape[axis - 1]:
                maps = maps.part([0], [one.nodes], [axis])
            elif one.nodes > self.shape[axis - 1]:
                pads = np.zeros(8, np.int64)
                pads[4 + axis] = one.nodes - self.shape[axis - 1]
                maps = maps.nodes.op("Pad", maps, pads, type=maps.type, mode="edge")
        scales = np.array([1, 1, *(one.scale for one in axes)], np.float32)
        mode = "asymmetric" if self.where.align_corners else "half_pixel"
        maps = maps.nodes.op(
            "Resize", maps, None, scales, type=maps.type, mode="linear", coordinate_transformation_mode=mode
        )
        for axis, one in enumerate(axes, 2):
            if one.given > one.pixels:
                maps = maps.part([0], [one.pixels], [axis])
        return maps

    @cached_property
    def _all(self) -> Value:
        return self.upsample(self.maps)


@dataclass(frozen=True)
class _Axis:
    """Parameters of Resize for one axis: number of grid nodes, scale, number of output pixels (`given`), and the number
    of them that are used (`pixels`)."""

    nodes: int
    scale: np.float32
    given: int
    pixels: int


def _axis(where: Fit, axis: int, nodes: int) -> _Axis:
    """Resize puts pixel i at (i + 0.5) / scale - 0.5 (half_pixel) or i / scale (asymmetric), as Fit.places does."""
    places = where.positions(axis, nodes)
    pixels = len(places)
    if places[-1] <= 0:
        return _Axis(1, np.float32(pixels), pixels, pixels)
    exact = 1 / places[1] if where.align_corners else 0.5 / (places[0] + 0.5)
    scale = np.float32(exact)
    if abs(nodes * exact - pixels) < 1e-3:
        # The scale must not be rounded so that the last pixel is missing.
        while _given(nodes, scale) < pixels:
            scale = np.nextafter(scale, np.float32(np.inf))
    needed = min(nodes, math.floor(places[-1]) + 2)
    while _given(needed, scale) < pixels:
        needed += 1
    return _Axis(needed, scale, _given(needed, scale), pixels)


def _given(nodes: int, scale: np.float32) -> int:
    return math.floor(np.float32(nodes) * scale)
