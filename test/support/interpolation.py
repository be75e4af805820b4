"""Bilinear interpolation from its definition: what post-processing is compared with."""

import numpy as np


def interpolated(nodes, size, pixels, align_corners=False):
    """Bilinear interpolation of [N, h, w] to `size`, cut to the first `pixels`; float64, from its definition."""
    values = nodes.astype(np.float64)
    for axis in (0, 1):
        n, whole = nodes.shape[axis + 1], size[axis]
        if align_corners:
            position = np.arange(whole) * (n - 1) / max(whole - 1, 1)
        else:
            position = (np.arange(whole) + 0.5) * n / whole - 0.5
        position = np.clip(position, 0, n - 1)[: pixels[axis]]
        low = np.floor(position).astype(int)
        weight = (position - low).reshape((-1,) + (1,) * (1 - axis))
        below, above = values.take(low, axis + 1), values.take(np.minimum(low + 1, n - 1), axis + 1)
        values = below + weight * (above - below)
    return values


def at_input(nodes, where):
    """Values [N, H, W] of `nodes` at the pixels of the model's input that the image fills; `where` is a Fit."""
    return interpolated(nodes, where.input, where.resized, where.align_corners)
