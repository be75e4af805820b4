"""Camera image -> network input, and the geometry between the two."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.model_card import InputSpec

_AREA_FROM = 2.0
"""Above this factor of shrinking, bilinear sampling would skip source pixels and alias."""


class Fit(NamedTuple):
    """Position of a camera image in the network's input: resized, at the upper left, with padding right and below.

    Attributes:
        camera: (height, width) of the camera image.
        input: (height, width) of the network's input.
        resized: (height, width) of the part of the input that shows the camera image.
        align_corners: see InputSpec.
    """

    camera: tuple[int, int]
    input: tuple[int, int]
    resized: tuple[int, int]
    align_corners: bool = False

    @property
    def pixels_per_input_pixel(self) -> float:
        """Camera pixels that one input pixel stands for."""
        return self.camera[0] * self.camera[1] / (self.resized[0] * self.resized[1])

    def positions(self, axis: int, nodes: int) -> NDArray[np.float64]:
        """[camera pixels] position of each pixel's centre along an axis (0: y, 1: x) of a map over the complete input.

        Args:
            nodes: length of the map along that axis. The centre of the first node is 0, that of the last nodes - 1;
                pixels outside of these have positions below 0 or above nodes - 1.
        """
        camera, full, resized = self.camera[axis], self.input[axis], self.resized[axis]
        # A single division of integers: the position of a pixel that coincides with a node is exact.
        if self.align_corners:
            return np.arange(camera) * ((resized - 1) * (nodes - 1)) / (max(camera - 1, 1) * max(full - 1, 1))
        return ((2 * np.arange(camera) + 1) * (resized * nodes) / (camera * full) - 1) / 2

    def nearest(self, axis: int, nodes: int | None = None, used: int | None = None) -> NDArray[np.int64]:
        """[camera pixels] the nearest node of a map over the complete input, along an axis (0: y, 1: x).

        Args:
            nodes: length of the map along that axis; None: that of the input.
            used: nodes that show the camera image, from the first; None: those of `resized`.
        """
        positions = self.positions(axis, nodes or self.input[axis])
        return np.clip(np.floor(positions + 0.5), 0, (used or self.resized[axis]) - 1).astype(np.int64)


@lru_cache(64)
def fit(spec: InputSpec, height: int, width: int) -> Fit:
    """The position of a camera image of this height and width."""
    size = (spec.height, spec.width)
    if not spec.keep_aspect:
        return Fit((height, width), size, size, spec.align_corners)
    scale = min(spec.height / height, spec.width / width)
    resized = (
        min(max(math.floor(height * scale + 0.5), 1), spec.height),
        min(max(math.floor(width * scale + 0.5), 1), spec.width),
    )
    return Fit((height, width), size, resized, spec.align_corners)


def prepare(image: NDArray[np.uint8], where: Fit, fill: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The network's input, uint8 [1, H, W, 3]; a view of `image` where that has the right size.

    Args:
        image: uint8 [H, W, 3].
        where: from `fit`, for the size of `image`.
        fill: colour of the padding.
    """
    if where.camera != where.resized:
        image = _resize(image, *where.resized)
    if where.resized != where.input:
        below, right = where.input[0] - where.resized[0], where.input[1] - where.resized[1]
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=fill)
    return np.ascontiguousarray(image)[None]


def _resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    # OpenCV averages blocks of 2x2 pixels several times faster than other areas.
    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
    if image.shape[:2] == (height, width):
        return image
    shrink = max(image.shape[0] / height, image.shape[1] / width)
    method = cv2.INTER_AREA if shrink > _AREA_FROM else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)
