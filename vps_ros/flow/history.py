"""The last three working images of one stream, and the flow between them, computed when asked for."""

from __future__ import annotations

from collections import deque
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.flow.dis import DisFlow
from vps_ros.flow.warp import compose

_MOST = 4.0
"""No guess is stretched further: after a short step its noise would grow with it."""


class FlowHistory:
    """Flow between the newest image and the one or two before it, both ways.

    The search for a flow starts from the one before, scaled by the time between the frames: a steady motion may
    then be larger than what the search finds from nothing.

    Attributes:
        picture: uint8 [h, w, 3] RGB, the newest image at the working size; None before the first.
        milliseconds: time spent since the last `push`.
    """

    def __init__(self, flow: DisFlow) -> None:
        self._flow = flow
        self._images: deque[NDArray[np.uint8]] = deque(maxlen=3)
        self._stamps: deque[int] = deque(maxlen=3)
        self._steps: deque[NDArray[np.float32] | None] = deque(maxlen=2)
        self._ahead: deque[NDArray[np.float32] | None] = deque(maxlen=2)
        self.picture: NDArray[np.uint8] | None = None
        self.milliseconds = 0.0

    def push(self, image: NDArray[np.uint8], stamp: int = 0) -> tuple[int, int]:
        """Takes the next camera image, uint8 [H, W, 3] RGB, and its time in nanoseconds; gives the working (h, w).

        An image of another size starts afresh.
        """
        began = perf_counter()
        self.picture = self._flow.shrink(image)
        grey = cv2.cvtColor(self.picture, cv2.COLOR_RGB2GRAY)
        if self._images and self._images[-1].shape != grey.shape:
            self.reset()
        self._images.append(grey)
        self._stamps.append(stamp)
        self._steps.append(None)
        self._ahead.append(None)
        self.milliseconds = (perf_counter() - began) * 1e3
        return grey.shape

    def reset(self) -> None:
        self._images.clear()
        self._stamps.clear()
        self._steps.clear()
        self._ahead.clear()
        self.milliseconds = 0.0

    def backward(self, steps: int = 1) -> NDArray[np.float32] | None:
        """float32 [h, w, 2] from the newest image to the one `steps` (1 or 2) before; None where there is none."""
        if len(self._images) <= steps:
            return None
        began = perf_counter()
        flow = self._step(1)
        if steps == 2:
            flow = compose(flow, self._step(2))
        self.milliseconds += (perf_counter() - began) * 1e3
        return flow

    def forward(self, steps: int = 1) -> NDArray[np.float32] | None:
        """float32 [h, w, 2] to the newest image from the one `steps` (1 or 2) before; None where there is none."""
        if len(self._images) <= steps:
            return None
        began = perf_counter()
        flow = self._step_ahead(steps)
        if steps == 2:
            flow = compose(flow, self._step_ahead(1))
        self.milliseconds += (perf_counter() - began) * 1e3
        return flow

    def _step(self, back: int) -> NDArray[np.float32]:
        """Flow from the image `back - 1` before the newest to the one before that."""
        known = self._steps[-back]
        if known is None:
            known = self._flow(self._images[-back], self._images[-back - 1], self._guess() if back == 1 else None)
            self._steps[-back] = known
        return known

    def _step_ahead(self, back: int) -> NDArray[np.float32]:
        """Flow from the image `back` before the newest to the one after that."""
        known = self._ahead[-back]
        if known is None:
            # What moves little lies at about the same place in both: there the way on is the way back, reversed.
            known = self._flow(self._images[-back - 1], self._images[-back], -self._step(back))
            self._ahead[-back] = known
        return known

    def _guess(self) -> NDArray[np.float32] | None:
        """The newest flow, as the one before lets expect it."""
        if len(self._images) < 3 or self._steps[-2] is None:
            return None
        first, second, third = self._stamps
        if second <= first or third <= second:
            return self._steps[-2]
        return self._steps[-2] * np.float32(min((third - second) / (second - first), _MOST))
