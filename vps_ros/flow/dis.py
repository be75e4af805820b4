"""Dense optical flow by dense inverse search (DIS; Kroeger et al., ECCV 2016), in OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.flow.flow import PRESETS, Flow, FlowParameters

_SMALLEST_SIDE = 16
"""DIS raises an error, or returns values that are not finite, for images with a smaller side."""


class DisFlow(Flow):
    """Optical flow between grey images at the working size.

    Args:
        preset: one of PRESETS, from coarse and fast to fine and slow.
        height: see Flow.
    """

    def __init__(self, preset: str = "fast", height: int = 192) -> None:
        super().__init__(height)
        self._preset = PRESETS.index(preset)
        self._shape: tuple[int, ...] | None = None

    @classmethod
    def of(cls, parameters: FlowParameters) -> DisFlow:
        return cls(parameters.flow_preset, parameters.flow_height)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)

    def __call__(
        self, source: NDArray[np.uint8], target: NDArray[np.uint8], guess: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """See Flow; images with a side below 16 pixels get a flow of zeros."""
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
