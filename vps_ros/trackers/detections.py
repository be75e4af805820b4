"""Detections: the thing segments of one frame, in an order that does not depend on how the segmenter numbered them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import Segmentation

_MIN_SQUARED_NORM = 1e-24
"""Squared norm below which an embedding has no direction."""


@dataclass(frozen=True)
class Detections:
    """Thing segments of one frame, one row of each array for each of the K detections.

    Attributes:
        index: int64 [K], row in the Segmentation's arrays.
        class_ids: int64 [K].
        scores: float64 [K].
        areas: int64 [K], pixels of the camera.
        boxes: float64 [K, 4], x0 y0 x1 y1 divided by the image's width and height.
        embeddings: float32 [K, D] as the segmenter gave them, zeros where they cannot be used; None without any.
        norms: float32 [K], Euclidean norms of the embeddings; 0 where there is none.
        size: (height, width) of the camera image.
        tubes: int64 [K], numbers of tubes over the stream, 0 for none; None for frames that were segmented alone.
    """

    index: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    areas: NDArray[np.int64]
    boxes: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None
    norms: NDArray[np.float32]
    size: tuple[int, int]
    tubes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def of(cls, segmentation: Segmentation, appearance: bool = True) -> Detections:
        """The detections of a segmentation, sorted by left side, the other sides, area, class, score and first pixel.

        Masks do not overlap, so no two detections are equal in all of these. All later results, rounding and ties
        included, are therefore the same for every numbering of the segments.

        Args:
            appearance: False leaves the embeddings out.

        Raises InputError when the number of embeddings is not that of the segments.
        """
        index = segmentation.is_thing.nonzero()[0]
        index = index.take(_sorted(segmentation, index))
        height, width = segmentation.map.shape
        boxes = segmentation.boxes.take(index, axis=0).astype(np.float64)
        boxes *= (1 / width, 1 / height, 1 / width, 1 / height)
        if segmentation.embeddings is not None and len(segmentation.embeddings) != len(segmentation):
            raise InputError(
                f"{len(segmentation.embeddings)} embeddings were given for {len(segmentation)} segments; "
                "give one row for each segment, or none at all"
            )
        embeddings, norms = _usable(segmentation.embeddings if appearance else None, index)
        return cls(
            index,
            segmentation.class_ids.take(index).astype(np.int64, copy=False),
            segmentation.scores.take(index).astype(np.float64, copy=False),
            segmentation.areas.take(index).astype(np.int64, copy=False),
            boxes,
            embeddings,
            norms,
            (height, width),
            None if segmentation.tubes is None else segmentation.tubes.take(index),
        )


def norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean norms [K] of rows [K, D]; 0 for a row without a direction: not finite, or almost zero."""
    square = np.einsum("kd,kd->k", vectors, vectors)
    # A NaN makes both min() and max() NaN, which compares false, so this path has finite values only.
    if len(square) and square.min() > _MIN_SQUARED_NORM and square.max() < np.inf:
        return np.sqrt(square, out=square)
    good = (square > _MIN_SQUARED_NORM) & (square < np.inf)
    return np.sqrt(np.where(good, square, np.float32(0)))


def _usable(
    embeddings: NDArray[np.float32] | None, index: NDArray[np.int64]
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
    if embeddings is None or embeddings.ndim != 2 or embeddings.shape[1] == 0:
        return None, np.zeros(len(index), np.float32)
    vectors = embeddings.take(index, axis=0).astype(np.float32, copy=False)
    found = norms(vectors)
    unusable = found == 0
    if unusable.any():
        vectors[unusable] = 0
    return vectors, found


def _sorted(segmentation: Segmentation, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order [K] of the segments `index` [K]."""
    boxes = segmentation.boxes.take(index, axis=0)
    order = boxes[:, 0].argsort(kind="stable")
    left = boxes[:, 0].take(order)
    equal = left[1:] == left[:-1]
    if not equal.any():
        return order
    # Only runs of equal left sides need the other keys.
    tied = np.zeros(len(index), bool)
    tied[1:] = equal
    tied[:-1] |= equal
    tied = tied.nonzero()[0]
    which = order.take(tied)
    boxes, index = boxes.take(which, axis=0), index.take(which)
    keys = (
        segmentation.scores.take(index),
        segmentation.class_ids.take(index),
        segmentation.areas.take(index),
        *boxes.T[1:],
        boxes[:, 0],
    )
    among = np.lexsort(keys)
    alike = np.ones(len(among) - 1, bool)
    for key in keys:
        ordered = key.take(among)
        alike &= ordered[1:] == ordered[:-1]
    if alike.any():
        numbers, first = np.unique(segmentation.map, return_index=True)
        place = np.full(int(max(numbers.max(), index.max() + 1)) + 1, segmentation.map.size)
        place[numbers] = first
        among = np.lexsort((place[index + 1], *keys))
    order[tied] = which[among]
    return order
