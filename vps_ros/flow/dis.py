"""Dense inverse search, OpenCV's fast dense optical flow (Kroeger et al., ECCV 2016)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

PRESETS = ("ultrafast", "fast", "medium")

_SMALLEST_SIDE = 16
"""Below this side DIS has no pyramid to search: it raises, or gives values that are not finite."""


class DisFlow:
    """Optical flow between grey images of one working height.

    Args:
        preset: one of PRESETS; slower ones are finer.
        height: of the working image in pixels; the width keeps the camera's aspect. Smaller images stay as they are.
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
        """Working image, uint8 [h, w, 3], of an RGB image, uint8 [H, W, 3]; the search takes it in grey."""
        height, width = image.shape[:2]
        h, w = self.working_size(height, width)
        if (h, w) == (height, width):
            return image
        return cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)

    def __call__(
        self, source: NDArray[np.uint8], target: NDArray[np.uint8], guess: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """float32 [h, w, 2] (x, y): how far each pixel of `source` lies from its place in `target`.

        The search starts from `guess`, a flow of that shape, or from no motion. Images too small to search have no
        motion.
        """
        if min(source.shape) < _SMALLEST_SIDE:
            return np.zeros((*source.shape, 2), np.float32)
        if source.shape != self._shape:
            # OpenCV's object keeps buffers of the first size, and a guess of another size writes past them. After a
            # search from a guess, one without begins from what that left behind: each kind has an object of its own.
            self._searches = [cv2.DISOpticalFlow.create(self._preset) for _ in range(2)]
            self._shape = source.shape
        if guess is None:
            return self._searches[0].calc(source, target, None)
        return self._searches[1].calc(source, target, guess.copy())
