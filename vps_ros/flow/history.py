"""Optical flow between the last three images of a stream, its composition over two steps, and warping with it.

All flows here are backward flows: from each pixel of the newer image to its position in the older one, where its label
is looked up. So an object that grows has no holes, and no pixel gets two labels. Both happen when the pixels of the
older mask are moved forward, as in HybridTracker III-C.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.flow.flow import Flow, FlowParameters, make_flow

_MAX_SCALE = 4.0
"""Largest factor by which a flow is scaled as initial guess: with a larger one, noise would be too large."""
_OUTSIDE = 1e6
"""Flow of pixels whose path leaves the image, in pixels; larger than any image."""


class FlowHistory:
    """Flow between the newest image and the one or two before it, in both directions of time.

    With DIS the search for a backward flow starts from the flow of the step before, scaled by the ratio of the time
    steps. So a steady motion may be larger than what the search finds from zero.

    Attributes:
        image: uint8 [h, w, 3] RGB, the newest image at the working size; None before the first.
        milliseconds: time spent here since the last `push`.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._images: deque[NDArray[np.uint8]] = deque(maxlen=3)
        self._stamps: deque[int] = deque(maxlen=3)
        # Flows between neighbouring images, by the newer of the two; None until they are requested.
        self._backward: deque[NDArray[np.float32] | None] = deque(maxlen=2)
        self._forward: deque[NDArray[np.float32] | None] = deque(maxlen=2)
        self.image: NDArray[np.uint8] | None = None
        self.milliseconds = 0.0

    @classmethod
    def of(cls, parameters: FlowParameters) -> FlowHistory:
        """An empty history with the flow that the parameters choose; raises InputError when it cannot be used."""
        return cls(make_flow(parameters))

    def push(self, image: NDArray[np.uint8], stamp: int = 0) -> tuple[int, int]:
        """Adds a camera image and returns the working (height, width).

        Args:
            image: uint8 [H, W, 3] RGB. The history is cleared when its size changes.
            stamp: nanoseconds.
        """
        began = perf_counter()
        self.image = self._flow.shrink(image)
        prepared = self._flow.prepare(self.image)
        if self._images and self._images[-1].shape != prepared.shape:
            self.reset()
        self._images.append(prepared)
        self._stamps.append(stamp)
        self._backward.append(None)
        self._forward.append(None)
        self.milliseconds = (perf_counter() - began) * 1e3
        return prepared.shape[:2]

    def reset(self) -> None:
        for kept in (self._images, self._stamps, self._backward, self._forward):
            kept.clear()
        self.milliseconds = 0.0

    def backward(self, steps: int = 1) -> NDArray[np.float32] | None:
        """Flow from the newest image to the one `steps` (1 or 2) before, float32 [h, w, 2]; None without such an image.

        Pixels whose path leaves the image get a flow that is larger than the image.
        """
        return self._composed(self._backward_step, (1, 2)[:steps])

    def forward(self, steps: int = 1) -> NDArray[np.float32] | None:
        """Flow to the newest image from the one `steps` (1 or 2) before, as `backward`."""
        return self._composed(self._forward_step, (2, 1)[2 - steps :])

    def _composed(
        self, step: Callable[[int], NDArray[np.float32]], places: Sequence[int]
    ) -> NDArray[np.float32] | None:
        """The steps at `places`, in the order of the path."""
        if len(self._images) <= len(places):
            return None
        began = perf_counter()
        flow, *older = map(step, places)
        for one in older:
            flow = compose(flow, one)
        self.milliseconds += (perf_counter() - began) * 1e3
        return flow

    def _backward_step(self, back: int) -> NDArray[np.float32]:
        """Flow to the image `back` before the newest from the one after it."""
        flow = self._backward[-back]
        if flow is None:
            guess = self._guess() if back == 1 else None
            flow = self._backward[-back] = self._flow(self._images[-back], self._images[-back - 1], guess)
        return flow

    def _forward_step(self, back: int) -> NDArray[np.float32]:
        """Flow from the image `back` before the newest to the one after it."""
        flow = self._forward[-back]
        if flow is None:
            # For small motions the negated backward flow is close to the forward flow, so the search starts from it.
            guess = -self._backward_step(back) if self._flow.uses_guess else None
            flow = self._forward[-back] = self._flow(self._images[-back - 1], self._images[-back], guess)
        return flow

    def _guess(self) -> NDArray[np.float32] | None:
        """Expected flow of the newest step: that of the step before, scaled by the ratio of the time steps."""
        if len(self._images) < 3 or self._backward[-2] is None:
            return None
        first, second, third = self._stamps
        if second <= first or third <= second:
            return self._backward[-2]
        return self._backward[-2] * np.float32(min((third - second) / (second - first), _MAX_SCALE))


def pull(values: NDArray, flow: NDArray[np.float32], outside: float, smooth: bool = False) -> NDArray:
    """`values` [h, w] or [h, w, C] of the older image, sampled at the origin of each pixel of the newer one.

    Nearest neighbour, or bilinear if `smooth`. Pixels whose origin is outside the image get `outside`.
    """
    height, width = flow.shape[:2]
    return cv2.remap(
        values,
        flow + _grid(height, width),
        None,
        cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(outside, outside, outside, outside),
    )


def warp_labels(labels: NDArray[np.uint16], flow: NDArray[np.float32]) -> NDArray[np.uint16]:
    """uint16 [h, w]: labels of the older image moved into the newer one; 0 where the origin is outside the image."""
    return pull(labels, flow, 0)


def compose(newest: NDArray[np.float32], older: NDArray[np.float32]) -> NDArray[np.float32]:
    """Flow from t to t-2 from those of t to t-1 (`newest`) and t-1 to t-2 (`older`), float32 [h, w, 2] each.

    F(q) = newest(q) + older(q + newest(q)), HybridTracker equation 8. Pixels whose path leaves the image get a flow
    that is larger than any image.
    """
    return newest + pull(older, newest, _OUTSIDE, smooth=True)


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grid = np.stack([x, y], axis=-1)
    grid.setflags(write=False)
    return grid
