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
_VALLEY = 0.7
"""Two surfaces are separate where the histogram falls below this share of the smaller one of their peaks."""
_FOREGROUND = 0.25
"""Share of the pixels that the nearest surface needs to be the object; what is behind is seen through or beside it."""
_EROSION, _MOST_EROSION = 0.06, 4
"""Width of the removed edge as a share of the smaller side of the box, and its limit in pixels."""
_EXTENT = (3, 97)
"""Percentiles of the depth of the surface that limit the box."""
_SIDE = 0.1
"""Share of the surface's columns or rows at a side of the box whose depth is that of the side."""


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
    that has a quarter of the pixels is the object. Each side of the mask's box is projected back at the depth of the
    surface beside it. Percentiles limit the depth of the box. Its centre is half way between their middle and the
    median, which background in the mask hardly moves.

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
    v, u = np.nonzero(inner & known)
    depths = metres[v, u].astype(np.float64)
    if depths.size < MIN_PIXELS:
        return None
    chosen = nearest_surface(depths)
    v, u, depths = v[chosen], u[chosen], depths[chosen]
    distance = float(np.median(depths))
    near, far = (float(z) for z in np.percentile(depths, _EXTENT))
    # Borders are half a pixel outside the centres of the outermost pixels.
    x0, x1 = (np.array([left, right]) - 0.5 - intrinsics.cx) / intrinsics.fx * _at_sides(u, depths)
    y0, y1 = (np.array([top, bottom]) - 0.5 - intrinsics.cy) / intrinsics.fy * _at_sides(v, depths)
    return Measurement(
        (float(x0 + x1) / 2, float(y0 + y1) / 2, ((near + far) / 2 + distance) / 2),
        (abs(float(x1 - x0)), abs(float(y1 - y0)), far - near),
        distance,
        depths.size,
    )


def _at_sides(places: NDArray[np.int64], depths: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2], median depth at the two sides of a surface, whose pixels are in these columns (or rows)."""
    low, high = np.quantile(places, [_SIDE, 1 - _SIDE])
    return np.array([np.median(depths[places <= low]), np.median(depths[places >= high])])


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


def nearest_surface(depths: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool [N], the depths of the nearest surface that has a quarter of the pixels, or else of the largest one.

    Surfaces are separated by the valleys of a smoothed histogram with logarithmic bins.

    Args:
        depths: [N], N > 0, positive.
    """
    bins = np.floor(np.log(depths) / np.log(_BIN)).astype(np.int64)
    bins -= bins.min()
    counts = np.bincount(bins)
    starts = np.array([0, *_valleys(np.convolve(np.pad(counts, 1), [0.25, 0.5, 0.25], "valid"))])
    pixels = np.add.reduceat(counts, starts)
    enough = np.flatnonzero(pixels >= _FOREGROUND * depths.size)
    chosen = int(enough[0] if enough.size else pixels.argmax())
    end = starts[chosen + 1] if chosen + 1 < len(starts) else len(counts)
    return (bins >= starts[chosen]) & (bins < end)


def _valleys(density: NDArray[np.float64]) -> list[int]:
    """The bins at which a histogram is divided: the lowest ones between peaks, where they are low enough."""
    beside = np.pad(density, 1)
    peaks = np.flatnonzero((density >= beside[:-2]) & (density > beside[2:]))
    found, last = [], int(peaks[0])
    for peak in peaks[1:].tolist():
        valley = last + int(density[last : peak + 1].argmin())
        if density[valley] < _VALLEY * min(density[last], density[peak]):
            found.append(valley)
            last = peak
        elif density[peak] > density[last]:
            last = peak
    return found
