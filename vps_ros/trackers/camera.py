"""The camera's own motion, seen as the motion of what is no object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SPACING = 8
"""Pixels between the places of the working image that are looked at."""
_LEAST = 20
"""Places; with fewer nothing is said."""
_ROUNDS = 3


def camera_motion(flow: NDArray[np.float32], background: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """The affine map that says how far the background moves from the older image to the newer one.

    Iteratively reweighted least squares. A place that is off by r has the weight (1 + (r / 2m)^2)^-4 in the next round,
    m the median over all places: walls and trees that are near move by more than those that are far, and pixels at the
    edge of an object by something else.

    Args:
        flow: float32 [h, w, 2], from each pixel of the newer image to its place in the older one.
        background: bool [h, w], pixels of the newer image that show no thing.

    Returns:
        float64 [3, 2]: (x, y, 1) of the older image times it is the shift, all in widths of the image. None where too
        little background is seen.
    """
    height, width = background.shape
    y, x = np.nonzero(background[_SPACING // 2 :: _SPACING, _SPACING // 2 :: _SPACING])
    if len(x) < _LEAST:
        return None
    y, x = y * _SPACING + _SPACING // 2, x * _SPACING + _SPACING // 2
    shift = flow[y, x].astype(np.float64) / -width
    place = np.column_stack([x / width, y / width, np.ones(len(x))])
    place[:, :2] -= shift
    weight = np.ones(len(x))
    for _ in range(_ROUNDS):
        weighted = place * weight[:, None]
        motion = np.linalg.solve(weighted.T @ place + 1e-9 * np.eye(3), weighted.T @ shift)
        residual = np.abs(place @ motion - shift).sum(axis=1)
        weight = (1 + (residual / (2 * np.median(residual) + 2e-4)) ** 2) ** -4.0
    return motion
