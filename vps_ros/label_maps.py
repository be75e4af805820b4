"""Label maps: look-up of labels; areas and boxes from runs of equal pixels along the rows, far fewer than pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def look_up(labels: NDArray[np.integer], table: NDArray) -> NDArray:
    """`table[labels]` for labels uint8 or uint16 [H, W], each of which is in the table [N]; fastest for uint8."""
    if labels.dtype != np.uint8:
        # With "clip" NumPy writes directly into `out`; the bounds check of the default mode makes a copy.
        return np.take(table, labels, out=np.empty(labels.shape, table.dtype), mode="clip")
    # Imported on use: this module is loaded with the declarations of parameters, which must not load OpenCV.
    import cv2

    padded = np.zeros(256, table.dtype)
    padded[: len(table)] = table[:256]
    # OpenCV has no bool.
    return cv2.LUT(labels, padded.view(np.uint8)).view(bool) if table.dtype == bool else cv2.LUT(labels, padded)


def pixel_counts(labels: NDArray[np.unsignedinteger], count: int) -> NDArray[np.int64]:
    """int64 [count], pixels of the labels 0..count - 1 in [H, W], which has no others; fastest for uint8."""
    # OpenCV returns float32, which holds integers up to 2^24.
    if labels.dtype != np.uint8 or labels.size > 1 << 24:
        return np.bincount(labels.ravel(), minlength=count)
    import cv2

    return cv2.calcHist([labels], [0], None, [count], [0, count]).ravel().astype(np.int64)


def nearest(index: NDArray[np.integer], size: int, other: int) -> NDArray[np.int64]:
    """The rows (or columns) of an image with `other` rows at the place of rows `index` of one of `size` rows."""
    return ((index + 0.5) * other / size).astype(np.int64)


def runs(labels: NDArray, *more: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel (row-major) and length of every run of equal pixels in [H, W]; a run ends at the end of its row.

    Args:
        more: further maps [H, W]; a run ends where one of them changes, too.
    """
    begins = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    for one in more:
        begins[:, 1:] |= one[:, 1:] != one[:, :-1]
    start = np.flatnonzero(begins)
    return start, np.diff(start, append=labels.size)


def areas(label: NDArray[np.int64], pixels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """int64 [count], pixels of the labels 1..count, from label and number of pixels of each run."""
    return np.bincount(label, pixels, count + 1)[1:].astype(np.int64)


def boxes(
    label: NDArray[np.int64], start: NDArray[np.int64], length: NDArray[np.int64], width: int, count: int
) -> NDArray[np.float32]:
    """float32 [count, 4] x0 y0 x1 y1, half-open, of the labels 1..count, each of which must occur.

    Args:
        label: of each run.
        start: first pixel of each run, see `runs`.
        length: of each run.
        width: of the map.
    """
    y, x = np.divmod(start, width)
    return bounding_boxes(label, x, y, x + length, y + 1, count)


def bounding_boxes(
    label: NDArray[np.int64],
    left: NDArray[np.int64],
    top: NDArray[np.int64],
    right: NDArray[np.int64],
    bottom: NDArray[np.int64],
    count: int,
) -> NDArray[np.float32]:
    """As `boxes`, from the rectangle of each run: left and top are included, right and bottom are not."""
    low = np.full((2, count + 1), np.iinfo(np.int64).max)
    high = np.zeros((2, count + 1), np.int64)
    for axis, (first, end) in enumerate(((left, right), (top, bottom))):
        np.minimum.at(low[axis], label, first)
        np.maximum.at(high[axis], label, end)
    return np.concatenate([low, high])[:, 1:].T.astype(np.float32)
