"""Warping of labels with a flow, and composition of two flows.

All flows here are backward flows: from each pixel of the newer image to its place in the older one. Each pixel of the
newer image then looks its label up in the older image. This leaves no holes in an object that grows, and no pixel gets
two labels. Both happen when each pixel of the older mask is moved forward, as in HybridTracker III-C.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

_OUTSIDE = 1e6
"""Flow of pixels whose path leaves the image, in pixels; larger than any image."""


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
