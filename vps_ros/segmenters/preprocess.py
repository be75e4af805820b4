"""Camera image -> network input, and the geometry that leads back."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.model_card import InputSpec

_AREA_FROM = 2.0
"""Shrinking by more than this needs every source pixel; bilinear sampling would skip some and alias."""


class Fit(NamedTuple):
    """How a camera image lies in the network's input: resized to the upper left, padded right and bottom.

    Attributes:
        camera, input, resized: (height, width) of the camera image, of the network's input, and of the part
            of the input that shows the camera image.
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

    def places(self, axis: int, nodes: int) -> NDArray[np.float64]:
        """[camera pixels] where the centre of each pixel of an axis (0: y, 1: x) lies on a map over the whole input.

        Args:
            nodes: of the map along that axis; the first node's centre is 0, the last one's nodes - 1. Pixels that the
                outer nodes do not reach lie beyond these.
        """
        camera, whole, resized = self.camera[axis], self.input[axis], self.resized[axis]
        # One division of whole numbers: a pixel that lies on a node gets nothing of the next one.
        if self.align_corners:
            return np.arange(camera) * ((resized - 1) * (nodes - 1)) / (max(camera - 1, 1) * max(whole - 1, 1))
        return ((2 * np.arange(camera) + 1) * (resized * nodes) / (camera * whole) - 1) / 2

    def nearest(self, axis: int) -> NDArray[np.int64]:
        """[camera pixels] the input pixel nearest to each pixel of an axis (0: y, 1: x)."""
        places = self.places(axis, self.input[axis])
        return np.clip(np.floor(places + 0.5), 0, self.resized[axis] - 1).astype(np.int64)


@lru_cache(64)
def fit(spec: InputSpec, height: int, width: int) -> Fit:
    """Where a camera image of height x width comes to lie."""
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
    """uint8 [1, H, W, 3] of the network's size; a view of `image` when it has that size already.

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
    # OpenCV averages whole 2x2 blocks several times faster than fractional areas, to the same result.
    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
    if image.shape[:2] == (height, width):
        return image
    shrink = max(image.shape[0] / height, image.shape[1] / width)
    method = cv2.INTER_AREA if shrink > _AREA_FROM else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)
