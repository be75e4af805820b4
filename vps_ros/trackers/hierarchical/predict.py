"""Step 1, predict: the motion of the camera, from the optical flow of the background."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

_SPACING = 8
"""Pixels of the working image between samples of the flow."""
_MIN_SAMPLES = 20
_ITERATIONS = 3
_RIDGE = 1e-9 * np.eye(3)


def camera_motion(flow: NDArray[np.float32], *things: NDArray) -> NDArray[np.float64] | None:
    """Affine motion of the background from the older image to the newer one.

    Iteratively reweighted least squares. A sample with the residual r gets the weight (1 + (r / 2m)^2)^-4 in the next
    iteration, where m is the median of all residuals. So near walls and trees, which move more than the rest, and
    pixels at the borders of objects have little influence.

    Args:
        flow: float32 [h, w, 2], from each pixel of the newer image to its place in the older one.
        things: maps [h, w], each other than 0 at pixels of the newer image that are not background.

    Returns:
        float64 [3, 2]. The row vector (x, y, 1) of a point of the older image times it is the point's displacement, in
        image widths. None if there is too little background.
    """
    places, indices = _grid(*flow.shape[:2])
    chosen = np.logical_and.reduce([one.ravel().take(indices) == 0 for one in things]).nonzero()[0]
    count = len(chosen)
    if count < _MIN_SAMPLES:
        return None
    # One row for each quantity: NumPy's inner loops then run over the samples.
    samples = np.empty((5, count))
    place, shift = samples[:3], samples[3:]
    place[:] = places.take(chosen, axis=1)
    shift[:] = flow.reshape(-1, 2).take(indices.take(chosen), axis=0).T
    shift /= -flow.shape[1]
    place[:2] -= shift
    normal, middle = place @ samples.T, [(count - 1) // 2, count // 2]
    for _ in range(_ITERATIONS - 1):
        residual = np.abs(_solution(normal).T @ place - shift).sum(axis=0)
        low, high = np.partition(residual, middle)[middle]
        residual /= low + high + 2e-4
        weight = 1 / (1 + residual * residual)
        weight *= weight
        weight *= weight
        normal = (place * weight) @ samples.T
    return _solution(normal)


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Places (x, y, 1) of the samples, float64 [3, S] in image widths, and their indices in the flattened image."""
    y, x = np.mgrid[_SPACING // 2 : height : _SPACING, _SPACING // 2 : width : _SPACING].reshape(2, -1)
    return np.stack([x, y, np.full(len(x), width)]) / width, y * width + x


def _solution(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Motion [3, 2] of the normal equations [3, 3 + 2]."""
    return cv2.solve(normal[:, :3] + _RIDGE, normal[:, 3:].copy(), flags=cv2.DECOMP_CHOLESKY)[1]
