"""The thing segments of one frame, in an order that does not depend on how the segmenter numbered them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import Segmentation


@dataclass(frozen=True)
class Things:
    """Thing segments of one frame, arrays side by side.

    Attributes:
        index: int64 [K], place in the Segmentation's arrays.
        class_ids: int64 [K].
        scores: float64 [K].
        areas: int64 [K], pixels of the camera.
        boxes: float64 [K, 4], x0 y0 x1 y1 divided by the image's width and height.
        embeddings: float32 [K, D] of unit length, zeros where the segment has none; None without any.
        raw_embeddings: float32 [K, D] as the segmenter gave them, zeros where they cannot be used.
        size: (height, width) of the camera.
    """

    index: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    areas: NDArray[np.int64]
    boxes: NDArray[np.float64]
    embeddings: NDArray[np.float32] | None
    raw_embeddings: NDArray[np.float32] | None
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def of(cls, segmentation: Segmentation) -> Things:
        """Things of a segmentation, ordered by box, area, class and score, then by their first pixel.

        Masks do not overlap, so the order is complete: everything that follows, sums and ties included, is the
        same however the segments were numbered.
        """
        index = np.flatnonzero(segmentation.is_thing)
        index = index[_canonical(segmentation, index)]
        height, width = segmentation.map.shape
        boxes = segmentation.boxes[index].astype(np.float64) / (width, height, width, height)
        unit, raw = _usable(segmentation.embeddings, index)
        return cls(
            index,
            segmentation.class_ids[index].astype(np.int64),
            segmentation.scores[index].astype(np.float64),
            segmentation.areas[index].astype(np.int64),
            boxes,
            unit,
            raw,
            (height, width),
        )


def normalise(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rows [K, D] at unit length, and bool [K] whether each has a direction: finite and not zero.

    Rows without one become zeros.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        square = np.einsum("kd,kd->k", vectors, vectors)
    good = np.isfinite(square) & (square > 1e-24)
    if good.all():
        return vectors / np.sqrt(square)[:, None], good
    length = np.sqrt(square, where=good, out=np.ones_like(square))
    return np.where(good[:, None], vectors, np.float32(0)) / length[:, None], good


def _usable(embeddings, index) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    if embeddings is None or embeddings.ndim != 2 or embeddings.shape[1] == 0:
        return None, None
    raw = embeddings[index].astype(np.float32, copy=False)
    unit, good = normalise(raw)
    if not good.all():
        raw = np.where(good[:, None], raw, np.float32(0))
    return unit, raw


def _canonical(segmentation: Segmentation, index: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(index) < 2:
        return np.arange(len(index))
    keys = np.column_stack(
        [
            segmentation.scores[index],
            segmentation.class_ids[index],
            segmentation.areas[index],
            segmentation.boxes[index][:, ::-1],
        ]
    )
    order = np.lexsort(keys.T)
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).all(axis=1).any():
        numbers, first = np.unique(segmentation.map, return_index=True)
        place = np.full(int(max(numbers.max(), index.max() + 1)) + 1, segmentation.map.size)
        place[numbers] = first
        order = np.lexsort(np.column_stack([place[index + 1], keys]).T)
    return order
