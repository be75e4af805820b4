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
    things = np.flatnonzero(segmentation.is_thing)
    if not len(things):
        return replace(segmentation, embeddings=embeddings)
    pixels = frame.image.reshape(-1, 3)
    place, label = _looked_at(segmentation)
    step = _SAMPLING[-1][0]
    scene = frame.image[::step, ::step].reshape(-1, 3)
    scene = _SURROUNDINGS * _histograms(scene, np.zeros(len(scene), np.int32), 1)[0]
    rows = np.zeros(len(segmentation) + 1, np.int32)
    rows[things + 1] = np.arange(len(things), dtype=np.int32)
    row = rows.take(label)
    for first in range(0, len(things), _BATCH):
        some = things[first : first + _BATCH]
        if len(things) > _BATCH:
            inside = (row >= first) & (row < first + _BATCH)
            own = _histograms(pixels.take(place[inside], axis=0), row[inside] - np.int32(first), len(some))
        else:
            own = _histograms(pixels.take(place, axis=0), row, len(some))
        seen = own.any(axis=1)
        own[seen] -= scene
        own[seen] /= np.linalg.norm(own[seen], axis=1, keepdims=True)
        embeddings[some] = own
    return replace(segmentation, embeddings=embeddings)


def _looked_at(segmentation: Segmentation) -> tuple[NDArray[np.int64], NDArray[np.unsignedinteger]]:
    """Places in the flattened image [P] of the pixels of things that are looked at, and their labels in the map."""
    width = segmentation.map.shape[1]
    places, labels = [], []
    smallest: float = 0
    for step, largest in _SAMPLING:
        wanted = np.zeros(max(len(segmentation) + 1, 256), bool)
        wanted[1 : len(segmentation) + 1] = (
            segmentation.is_thing & (smallest <= segmentation.areas) & (segmentation.areas < largest)
        )
        smallest = largest
        if not wanted.any():
            continue
        coarse = np.ascontiguousarray(segmentation.map[::step, ::step])
        if coarse.dtype == np.uint8:
            place = np.flatnonzero(cv2.LUT(coarse, wanted[:256].view(np.uint8)).view(bool))
        else:
            place = np.flatnonzero(wanted.take(coarse))
        labels.append(coarse.ravel().take(place))
        if step > 1:
            y, x = np.divmod(place, coarse.shape[1])
            place = y * (step * width) + x * step
        places.append(place)
    return np.concatenate(places), np.concatenate(labels)


def _histograms(colors: NDArray[np.uint8], rows: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Square roots of the histograms [count, SIZE] of pixels [P, 3], each in the histogram `rows` [P]; of length 1.

    A histogram without pixels is zeros.
    """
    cells = math.prod(_CELLS)
    cell = rows * np.int32(cells)
    if len(colors):
        number = cv2.LUT(cv2.cvtColor(colors[None], cv2.COLOR_RGB2LAB), _TABLES)
        number = number.reshape(-1, len(_CELLS))
        cell += number[:, 0]
        cell += number[:, 1]
        cell += number[:, 2]
    counts = np.bincount(cell, minlength=count * cells).astype(np.float64)
    counts = counts.reshape(count * _CELLS[0], -1) @ _COLOUR_SHARE
    counts = (_SHARES[0].T @ counts.reshape(count, _CELLS[0], -1)).reshape(count, SIZE)
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


_TABLES = np.stack([_table(axis) for axis in range(3)], axis=-1)[None]
"""int32 [1, 256, 3], as OpenCV looks three channels up at once."""
_SHARES = tuple(map(_share, range(3)))
_COLOUR_SHARE = np.kron(_SHARES[1], _SHARES[2])
"""Both colour axes at once, so that no axis need be moved."""
