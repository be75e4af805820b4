"""Step 1, predict: the motion of the camera, from the optical flow of the background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SPACING = 8
"""Pixels of the working image between samples of the flow."""
_MIN_SAMPLES = 20
_ITERATIONS = 3


def camera_motion(flow: NDArray[np.float32], background: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Affine motion of the background from the older image to the newer one.

    Iteratively reweighted least squares. A sample with the residual r gets the weight (1 + (r / 2m)^2)^-4 in the next
    iteration, where m is the median of all residuals. So near walls and trees, which move more than the rest, and
    pixels at the borders of objects have little influence.

    Args:
        flow: float32 [h, w, 2], from each pixel of the newer image to its place in the older one.
        background: bool [h, w], pixels of the newer image that belong to no thing.

    Returns:
        float64 [3, 2]. The row vector (x, y, 1) of a point of the older image times it is the point's displacement, in
        image widths. None if there is too little background.
    """
    height, width = background.shape
    y, x = np.nonzero(background[_SPACING // 2 :: _SPACING, _SPACING // 2 :: _SPACING])
    if len(x) < _MIN_SAMPLES:
        return None
    y, x = y * _SPACING + _SPACING // 2, x * _SPACING + _SPACING // 2
    shift = flow[y, x].astype(np.float64) / -width
    place = np.column_stack([x / width, y / width, np.ones(len(x))])
    place[:, :2] -= shift
    weight = np.ones(len(x))
    for _ in range(_ITERATIONS):
        weighted = place * weight[:, None]
        motion = np.linalg.solve(weighted.T @ place + 1e-9 * np.eye(3), weighted.T @ shift)
        residual = np.abs(place @ motion - shift).sum(axis=1)
        weight = (1 + (residual / (2 * np.median(residual) + 2e-4)) ** 2) ** -4.0
    return motion
