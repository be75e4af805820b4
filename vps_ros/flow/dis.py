"""Dense optical flow by dense inverse search (DIS; Kroeger et al., ECCV 2016), in OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.parameters import Parameters, parameter

PRESETS = ("ultrafast", "fast", "medium")

_SMALLEST_SIDE = 16
"""DIS raises an error, or returns values that are not finite, for images with a smaller side."""


@dataclass(frozen=True)
class WorkingSizeParameters(Parameters):
    """Parameters of the resolution at which masks are compared."""

    flow_height: int = parameter(
        192,
        "height of the images and masks for optical flow; a larger one resolves smaller objects",
        unit="px",
        low=16,
        high=2160,
        source="chosen",
    )


@dataclass(frozen=True)
class FlowParameters(WorkingSizeParameters):
    """Parameters of the optical flow."""

    flow_preset: str = parameter(
        "ultrafast", "fineness of the optical flow (OpenCV DIS)", choices=PRESETS, source="chosen: the fastest"
    )


class DisFlow:
    """Optical flow between grey images at the working size.

    Args:
        preset: one of PRESETS, from coarse and fast to fine and slow.
        height: of the working image in pixels; the aspect is that of the camera image. Smaller images keep their size.
    """

    def __init__(self, preset: str = "fast", height: int = 192) -> None:
        self._height = height
        self._preset = PRESETS.index(preset)
        self._shape: tuple[int, ...] | None = None

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the working image for a camera of that size."""
        scale = min(1.0, self._height / height)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Working image, uint8 [h, w, 3], of an RGB image, uint8 [H, W, 3]."""
        height, width = self.working_size(*image.shape[:2])
        if (height, width) == image.shape[:2]:
            return image
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)

    def __call__(
        self, source: NDArray[np.uint8], target: NDArray[np.uint8], guess: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Displacement (x, y) of each pixel from `source` to `target`, float32 [h, w, 2], in pixels.

        Args:
            source: uint8 [h, w], grey. Images with a side below 16 pixels get a flow of zeros.
            target: as `source`.
            guess: float32 [h, w, 2], flow from which the search starts; None starts from zeros.
        """
        if min(source.shape) < _SMALLEST_SIDE:
            return np.zeros((*source.shape, 2), np.float32)
        if source.shape != self._shape:
            # OpenCV's object keeps buffers of the first image size and writes past their end for a larger guess. It
            # also starts a search without a guess from the result of the last one with a guess. So there is one object
            # for searches with a guess and one for those without, and both are replaced when the size changes.
            self._searches = [cv2.DISOpticalFlow.create(self._preset) for _ in range(2)]
            self._shape = source.shape
        if guess is None:
            return self._searches[0].calc(source, target, None)
        return self._searches[1].calc(source, target, guess.copy())
