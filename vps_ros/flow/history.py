"""The last three working images of one stream, and the flow between them, computed when asked for."""

from __future__ import annotations

from collections import deque
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from vps_ros.flow.dis import DisFlow
from vps_ros.flow.warp import compose


class FlowHistory:
    """Backward flow from the newest image to one or two images before it.

    Attributes:
        milliseconds: time spent since the last `push`.
    """

    def __init__(self, flow: DisFlow) -> None:
        self._flow = flow
        self._images: deque[NDArray[np.uint8]] = deque(maxlen=3)
        self._steps: deque[NDArray[np.float32] | None] = deque(maxlen=2)
        self.milliseconds = 0.0

    def push(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        """Takes the next camera image, uint8 [H, W, 3] RGB; gives (h, w) of the working image.

        An image of another size starts afresh.
        """
        began = perf_counter()
        grey = self._flow.prepare(image)
        if self._images and self._images[-1].shape != grey.shape:
            self.reset()
        self._images.append(grey)
        self._steps.append(None)
        self.milliseconds = (perf_counter() - began) * 1e3
        return grey.shape

    def reset(self) -> None:
        self._images.clear()
        self._steps.clear()
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

    def _step(self, back: int) -> NDArray[np.float32]:
        """Flow from the image `back - 1` before the newest to the one before that."""
        known = self._steps[-back]
        if known is None:
            known = self._steps[-back] = self._flow(self._images[-back], self._images[-back - 1])
        return known
