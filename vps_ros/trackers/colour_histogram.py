"""Colour histograms as appearance, for segmenters that give no embeddings."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import Frame, Segmentation
from vps_ros.label_maps import look_up

_BINS = (16, 4, 4)
"""Bins of CIE L*, a* and b*. Lightness has the most, since most colours of a street are greys."""
_LIMITS = ((0, 255), (108, 148), (108, 148))
"""Centres of the first and the last bin in OpenCV's 8-bit Lab. More saturated colours are rare and count to the
nearest bin."""
_FINER = (4, 2, 2)
"""Cells for each bin of an axis. Pixels are counted in cells, and the counts are then divided between the two nearest
bins of each axis (linear interpolation). This needs one pass over the pixels instead of eight."""
_CELLS = tuple(cells * bins for cells, bins in zip(_FINER, _BINS, strict=True))
_SCENE_WEIGHT = 0.5
"""Weight of the whole image's histogram, which is subtracted: colours of the whole scene do not distinguish objects."""
_SAMPLING = ((1, 1_000), (2, 10_000), (4, math.inf))
"""(step, area): of things with fewer pixels than `area`, every `step`-th row and column is sampled. The whole image is
sampled as the largest things."""
_BATCH = 64
"""Things whose cells are counted at the same time; more do not fit into a processor's cache."""
_EXACT = 1 << 16
"""Number of pixels below which float32 holds all sums of counts times colour weights exactly."""

SIZE = math.prod(_BINS)
"""Length D of the embeddings."""


def with_appearance(frame: Frame, segmentation: Segmentation) -> Segmentation:
    """The segmentation with a colour histogram as the embedding of each thing.

    Args:
        frame: the camera's image.
        segmentation: of that image; embeddings that it has are replaced.

    Returns:
        Embeddings as `colour_histograms` makes them; zeros, which trackers take for unknown, for stuff.

    Raises:
        InputError: image and segmentation differ in size.
    """
    if frame.image.shape[:2] != segmentation.map.shape:
        raise InputError(
            f"frame at {frame.stamp} ns: image {list(frame.image.shape[:2])} and segments "
            f"{list(segmentation.map.shape)} differ in size; give both at the camera's"
        )
    histograms = colour_histograms(frame.image, segmentation.map, segmentation.is_thing, segmentation.areas)
    return replace(segmentation, embeddings=histograms)


def colour_histograms(
    image: NDArray[np.uint8],
    labels: NDArray[np.unsignedinteger],
    wanted: NDArray[np.bool_],
    areas: NDArray[np.integer],
) -> NDArray[np.float32]:
    """Normalised colour histograms of the wanted segments of an image.

    A joint histogram over lightness and the two colour axes of CIE Lab with linear interpolation between bins. Its
    square root is taken, so that dot products are Bhattacharyya coefficients, and half of the whole image's is
    subtracted. The appearance of an object then depends neither on other objects nor on earlier frames.

    Args:
        image: uint8 [H, W, 3] RGB.
        labels: [H, W], 1 + k for the pixels of segment k, 0 elsewhere.
        wanted: bool [K].
        areas: int [K], pixels of each segment.

    Returns:
        float32 [K, SIZE], of norm 1; zeros for segments that are not wanted, and for those without a sampled pixel.
    """
    embeddings = np.zeros((len(wanted), SIZE), np.float32)
    segments = np.flatnonzero(wanted)
    if not len(segments):
        return embeddings
    place, label = _sampled(labels, wanted, areas)
    scene = _scene_pixels(*labels.shape)
    # Row 0 is the complete image.
    table = np.zeros(len(wanted) + 1, np.int32)
    table[segments + 1] = np.arange(1, len(segments) + 1)
    row = np.concatenate([np.zeros(len(scene), np.int32), table.take(label)])
    colors = image.reshape(-1, 3).take(np.concatenate([scene, place]), axis=0)
    found = np.empty((len(segments) + 1, SIZE), np.float32)
    for first in range(0, len(found), _BATCH):
        some = found[first : first + _BATCH]
        inside = np.s_[:] if len(found) <= _BATCH else (first <= row) & (row < first + _BATCH)
        some[:] = _histograms(colors[inside], row[inside] - np.int32(first), len(some))
    own = found[1:]
    seen = own.any(axis=1)
    own -= _SCENE_WEIGHT * found[0]
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    embeddings[segments[seen]] = own[seen]
    return embeddings


@lru_cache(maxsize=8)
def _scene_pixels(height: int, width: int) -> NDArray[np.int64]:
    """Indices in the flattened image of the pixels that are sampled of the complete image."""
    step = _SAMPLING[-1][0]
    return np.arange(height * width).reshape(height, width)[::step, ::step].ravel()


def _sampled(labels, wanted, areas) -> tuple[NDArray[np.int64], NDArray[np.unsignedinteger]]:
    """Indices of the sampled pixels in the flattened image [P], and their labels."""
    width = labels.shape[1]
    places, found = [], []
    smallest: float = 0
    for step, largest in _SAMPLING:
        table = np.zeros(len(wanted) + 1, bool)
        table[1:] = wanted & (smallest <= areas) & (areas < largest)
        smallest = largest
        if not table.any():
            continue
        coarse = np.ascontiguousarray(labels[::step, ::step])
        place = np.flatnonzero(look_up(coarse, table))
        found.append(coarse.ravel().take(place))
        if step > 1:
            y, x = np.divmod(place, coarse.shape[1])
            place = y * (step * width) + x * step
        places.append(place)
    return np.concatenate(places), np.concatenate(found)


def _histograms(colors: NDArray[np.uint8], rows: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Square roots of the histograms of pixels [P, 3], float32 [count, SIZE], of norm 1.

    `rows` [P] says which of the histograms each pixel belongs to. A histogram without pixels is zeros.
    """
    cells = math.prod(_CELLS)
    cell = rows * np.int32(cells)
    if len(colors):
        number = cv2.LUT(cv2.cvtColor(colors[None], cv2.COLOR_RGB2LAB), _TABLES)
        number = number.reshape(-1, len(_CELLS))
        cell += number[:, 0]
        cell += number[:, 1]
        cell += number[:, 2]
    precision = np.float32 if len(colors) < _EXACT else np.float64
    counts = np.bincount(cell, minlength=count * cells).astype(precision)
    counts = (counts.reshape(count * _CELLS[0], -1) @ _COLOUR_SHARE.astype(precision)).astype(np.float64)
    counts = (_SHARES[0].T @ counts.reshape(count, _CELLS[0], -1)).reshape(count, SIZE)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.sqrt(shares.astype(np.float32))


def _table(axis: int) -> NDArray[np.int32]:
    """Contribution of each value [256] of a channel to the number of a pixel's cell."""
    low, high = _LIMITS[axis]
    place = np.clip((np.arange(256) - low) / (high - low), 0, 1)
    number = np.minimum((place * _CELLS[axis]).astype(np.int32), _CELLS[axis] - 1)
    return number * np.int32(math.prod(_CELLS[axis + 1 :]))


def _share(axis: int) -> NDArray[np.float64]:
    """Weights [C, B] of the cells of an axis for its bins.

    They are multiples of 1/64: sums of counts are then exact and do not depend on the order of the segments.
    """
    bins, cells = _BINS[axis], _CELLS[axis]
    place = np.rint((np.arange(cells) + 0.5) / cells * (bins - 1) * 64) / 64
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(bins)))


_TABLES = np.stack([_table(axis) for axis in range(3)], axis=-1)[None]
"""int32 [1, 256, 3], a table for cv2.LUT on three channels."""
_SHARES = tuple(map(_share, range(3)))
_COLOUR_SHARE = np.kron(_SHARES[1], _SHARES[2])
"""Weights for both colour axes together, as one matrix."""
