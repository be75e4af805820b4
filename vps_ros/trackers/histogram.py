"""Appearance out of the image alone: a colour histogram of each thing, where the segmenter gives no embedding."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import Frame, Segmentation

_BINS = (16, 4, 4)
"""Bins of CIE L*, a* and b*: lightness finest, since most of a street is grey."""
_LIMITS = ((0, 255), (108, 148), (108, 148))
"""First and last bin's centre in OpenCV's 8-bit Lab; stronger colours, which are rare, count to the nearest bin."""
_FINER = (4, 2, 2)
"""Cells counted for each bin of an axis: pixels are counted hard and then shared between the two nearest bins of each
axis, which costs one pass over the pixels instead of eight and keeps a colour on a bin's edge from jumping."""
_CELLS = tuple(cells * bins for cells, bins in zip(_FINER, _BINS, strict=True))
_SURROUNDINGS = 0.5
"""Share of the image's own colours that is taken off: what all of the scene has in common tells nothing apart."""
_SAMPLING = ((1, 1_000), (2, 10_000), (4, math.inf))
"""Of things of fewer pixels than the second number, every so many pixels across and down are looked at; the image's
own colours are looked at as those of the largest things."""
_BATCH = 256
"""Things whose cells are held at a time."""

SIZE = math.prod(_BINS)
"""D of the embeddings."""


def with_appearance(frame: Frame, segmentation: Segmentation) -> Segmentation:
    """The segmentation with a colour histogram as the embedding of each thing.

    A joint histogram over lightness and the two colour axes of CIE Lab, each pixel shared between the nearest bins,
    its square root taken (the dot product of two such is their Bhattacharyya coefficient) and half of the whole
    image's subtracted. What an object looks like then does not depend on the other objects, nor on the past.

    Args:
        frame: the camera's image.
        segmentation: of that image; embeddings that it has are replaced.

    Returns:
        Embeddings float32 [K, SIZE] of length 1; zeros, which trackers take for unknown, for stuff and for a thing of
        which no pixel was looked at.

    Raises:
        InputError: image and segmentation differ in size.
    """
    if frame.image.shape[:2] != segmentation.map.shape:
        raise InputError(
            f"frame at {frame.stamp} ns: image {list(frame.image.shape[:2])} and segments "
            f"{list(segmentation.map.shape)} differ in size; give both at the camera's"
        )
    embeddings = np.zeros((len(segmentation), SIZE), np.float32)
    if not segmentation.is_thing.any():
        return replace(segmentation, embeddings=embeddings)
    step, smallest = _SAMPLING[-1][0], 0
    scene = frame.image[::step, ::step].reshape(-1, 3)
    scene = _SURROUNDINGS * _histograms(scene, np.zeros(len(scene), np.int32), 1)[0]
    for step, largest in _SAMPLING:
        areas = segmentation.areas
        things = np.flatnonzero(segmentation.is_thing & (smallest <= areas) & (areas < largest))
        smallest = largest
        if not len(things):
            continue
        pixels, labels = frame.image[::step, ::step].reshape(-1, 3), segmentation.map[::step, ::step]
        for some in np.split(things, range(_BATCH, len(things), _BATCH)):
            embeddings[some] = _appearance(pixels, labels, some, len(segmentation), scene)
    return replace(segmentation, embeddings=embeddings)


def _appearance(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.unsignedinteger],
    things: NDArray[np.int64],
    count: int,
    scene: NDArray,
) -> NDArray[np.float32]:
    """Embeddings [T, SIZE] of the segments `things` [T] of the `count` in a map [h, w] of pixels [h * w, 3]."""
    rows = np.zeros(count + 1, np.int32)
    rows[things + 1] = np.arange(1, len(things) + 1)
    row = np.take(rows, labels).ravel()
    # Comparing first: NumPy finds what is true five times as fast as what is not zero.
    place = np.flatnonzero(row != 0)
    own = _histograms(np.take(pixels, place, axis=0), row[place] - 1, len(things))
    seen = own.any(axis=1)
    own[seen] -= scene
    own[seen] /= np.linalg.norm(own[seen], axis=1, keepdims=True)
    return own


def _histograms(colors: NDArray[np.uint8], rows: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Square roots of the histograms [count, SIZE] of pixels [P, 3], each in the histogram `rows` [P]; of length 1.

    A histogram without pixels is zeros.
    """
    cell = rows * np.int32(math.prod(_CELLS))
    if len(colors):
        for channel, table in zip(cv2.split(cv2.cvtColor(colors[:, None], cv2.COLOR_RGB2LAB)), _TABLES, strict=True):
            cell += np.take(table, channel.ravel())
    counts = np.bincount(cell, minlength=count * math.prod(_CELLS)).astype(np.float64)
    counts = counts.reshape(count, *_CELLS)
    for share in _SHARES:
        # Contracts the first colour axis and puts its bins last: after three turns all are in order again.
        counts = np.tensordot(counts, share, ([1], [0]))
    counts = counts.reshape(count, SIZE)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.sqrt(shares.astype(np.float32))


def _table(axis: int) -> NDArray[np.int32]:
    """What a channel's value [256] adds to the number of a pixel's cell."""
    low, high = _LIMITS[axis]
    place = np.clip((np.arange(256) - low) / (high - low), 0, 1)
    number = np.minimum((place * _CELLS[axis]).astype(np.int32), _CELLS[axis] - 1)
    return number * np.int32(math.prod(_CELLS[axis + 1 :]))


def _share(axis: int) -> NDArray[np.float64]:
    """How each cell [C] is shared between the two nearest bins [B] of an axis.

    In 64ths: sums of counts are then exact, and an object's histogram does not depend on how segments are numbered.
    """
    bins, cells = _BINS[axis], _CELLS[axis]
    place = np.rint((np.arange(cells) + 0.5) / cells * (bins - 1) * 64) / 64
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(bins)))


_TABLES = tuple(map(_table, range(3)))
_SHARES = tuple(map(_share, range(3)))
