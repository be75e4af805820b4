"""Position and size of one object from the depth inside its mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame_3d import Intrinsics, Vector

MIN_PIXELS = 6
"""Pixels with depth that an object needs."""
_BIN = 1.04
"""Ratio of the limits of a bin of the depth histogram: 4 % is 0.4 m at 10 m, below the depth of a person up to 10 m."""
_OCCUPIED = 0.01
"""Share of the pixels from which on a bin counts as occupied: fewer are noise or mixed pixels at edges."""
_FOREGROUND = 0.25
"""Share of the pixels that the nearest surface needs to be the object; what is behind is seen through or beside it."""
_EROSION, _MOST_EROSION = 0.06, 4
"""Width of the removed edge as a share of the smaller side of the box, and its limit in pixels."""
_EXTENT = (5, 95)
"""Percentiles of the depth of the surface that limit the box."""


@dataclass(frozen=True)
class Measurement:
    """Box around the visible surface of an object, in the frame of the camera (x right, y down, z forward), metres.

    Attributes:
        position: its centre.
        size: along the axes of the camera.
        distance: median depth of the surface.
        pixels: used.
    """

    position: Vector
    size: Vector
    distance: float
    pixels: int


def measure(mask: NDArray[np.bool_], metres: NDArray[np.float32], intrinsics: Intrinsics) -> Measurement | None:
    """The box of an object; None if fewer than MIN_PIXELS of its pixels have depth.

    The edge of the mask is left out, where depth cameras mix two surfaces. Of the surfaces in the mask, the nearest one
    that has a quarter of the pixels is the object. The corners of the mask's box are projected back at its median
    depth, and percentiles limit its depth.

    Args:
        mask: bool [H, W].
        metres: [H, W] depth along the optical axis, NaN where it is unknown.
        intrinsics: of this image.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    metres, mask = metres[top:bottom, left:right], mask[top:bottom, left:right]
    known = np.isfinite(metres)
    inner = erode(mask, min(max(round(_EROSION * min(mask.shape)), 1), _MOST_EROSION), known)
    depths = metres[inner & known].astype(np.float64)
    if depths.size < MIN_PIXELS:
        return None
    surface = nearest_surface(depths)
    distance = float(np.median(surface))
    near, far = np.percentile(surface, _EXTENT)
    # Half a pixel outside the centres of the outermost pixels.
    corners = intrinsics.points(np.array([left, right]) - 0.5, np.array([top, bottom]) - 0.5, np.array(distance))
    (x0, y0, _), (x1, y1, _) = corners
    return Measurement(
        (float(x0 + x1) / 2, float(y0 + y1) / 2, float(near + far) / 2),
        (float(x1 - x0), float(y1 - y0), float(far - near)),
        distance,
        surface.size,
    )


def erode(mask: NDArray[np.bool_], width: int, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask [H, W] without an edge of up to `width` pixels, as wide as leaves MIN_PIXELS that are `known`.

    Pixels outside the array count as outside the mask.
    """
    for _ in range(width):
        padded = np.pad(mask, 1)
        inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        if np.count_nonzero(inner & known) < MIN_PIXELS:
            break
        mask = inner
    return mask


def nearest_surface(depths: NDArray[np.float64]) -> NDArray[np.float64]:
    """The depths of the nearest surface that has a quarter of the pixels, or else of the largest one.

    Surfaces are separated by empty bins of a histogram with logarithmic bins; one empty bin does not separate.

    Args:
        depths: [N], N > 0, positive.
    """
    bins = np.floor(np.log(depths) / np.log(_BIN)).astype(np.int64)
    counts = np.bincount(bins - bins.min())
    occupied = np.flatnonzero(counts >= max(_OCCUPIED * depths.size, 1))
    starts = np.concatenate([[0], np.flatnonzero(np.diff(occupied) > 2) + 1])
    pixels = np.add.reduceat(counts[occupied], starts)
    enough = np.flatnonzero(pixels >= _FOREGROUND * depths.size)
    chosen = int(enough[0] if enough.size else pixels.argmax())
    group = np.split(occupied, starts[1:])[chosen] + bins.min()
    return depths[(bins >= group[0]) & (bins <= group[-1])]
