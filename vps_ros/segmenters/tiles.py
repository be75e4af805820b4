"""A segmenter that runs on overlapping crops of the image, for cameras that are wider than the network's input.

The crops lie side by side, have the height of the image, and each shares OVERLAP of its width with the next. Their
segments are joined:

- Things of neighbouring crops are one object if their IoU within the shared columns exceeds SAME. Masks of one crop do
  not overlap, so that each has at most one such partner (Kirillov et al., Panoptic Segmentation, CVPR 2019, section
  4.1). The object has the class, score and embedding of its part with the highest score.
- Objects get their pixels in the order of score, those that are cut by the edge of a crop after all others. An object
  of which no more than VISIBLE stays visible is dropped: it is a cut view of another one.
- Stuff takes the remaining pixels: of the crop whose centre is nearer, and where this has none, of the other.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import Segmentation
from vps_ros.segmenters.segmentation import merge_segments
from vps_ros.segmenters.segmenter import BatchSegmenter, Segmenter, SegmenterParameters
from vps_ros.taxonomy import Taxonomy

OVERLAP = 0.25
SAME = 0.5
VISIBLE = 0.5


class TiledSegmenter:
    """Segmenter that runs another one on crops, all in one batch if its network accepts one.

    Args:
        segmenter: without recurrent state.
        tiles: number of crops, at least 2.

    Raises InputError when the segmenter is recurrent.
    """

    def __init__(self, segmenter: Segmenter, tiles: int) -> None:
        if segmenter.recurrent:
            raise InputError(
                f"tiles: {tiles}: {segmenter.name} keeps state from frame to frame, so that it cannot run on several "
                "crops; use tiles: 1"
            )
        self._segmenter, self._tiles = segmenter, tiles
        self.name, self.providers, self.recurrent = segmenter.name, segmenter.providers, False
        self.milliseconds: dict[str, float] = {}

    @property
    def taxonomy(self) -> Taxonomy:
        return self._segmenter.taxonomy

    def reset(self) -> None:
        self._segmenter.reset()

    def configure(self, parameters: SegmenterParameters) -> None:
        self._segmenter.configure(parameters)

    def interrupt(self) -> None:
        self._segmenter.interrupt()

    def __call__(self, image: NDArray[np.uint8]) -> Segmentation:
        """Segments of uint8 [H, W, 3] RGB. Raises DroppedFrame when the output of the network cannot be used."""
        width = image.shape[1]
        crops = columns(width, self._tiles)
        pieces = [np.ascontiguousarray(image[:, crop]) for crop in crops]
        milliseconds: dict[str, float] = {}
        if isinstance(self._segmenter, BatchSegmenter) and self._segmenter.batched:
            began = perf_counter()
            self._segmenter.run_ahead(pieces)
            milliseconds["network"] = (perf_counter() - began) * 1e3
        found = []
        for piece in pieces:
            found.append(self._segmenter(piece))
            for part, spent in self._segmenter.milliseconds.items():
                milliseconds[part] = milliseconds.get(part, 0.0) + spent
        self.milliseconds = milliseconds
        return join(found, crops, width)


def columns(width: int, tiles: int) -> list[slice]:
    """The columns of each crop of an image of this width."""
    # The last one ends at the border: step * (tiles - 1) + size = width, and step = (1 - OVERLAP) * size.
    size = min(max(round(width / (tiles - OVERLAP * (tiles - 1))), 1), width)
    starts = [round(i * (width - size) / max(tiles - 1, 1)) for i in range(tiles)]
    return [slice(start, start + size) for start in starts]


def join(found: list[Segmentation], crops: list[slice], width: int) -> Segmentation:
    """The segmentation of an image of this width from those of its crops, from left to right."""
    first = np.cumsum([0, *(len(part.class_ids) for part in found)])
    class_ids, is_thing, scores = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("class_ids", "is_thing", "scores")
    )
    # Labels count from 1 over all crops; 0 is void.
    maps = [
        np.append(0, np.arange(start, end) + 1).take(part.map)
        for part, start, end in zip(found, first[:-1], first[1:], strict=True)
    ]
    shifts = [np.array([crop.start, 0] * 2) for crop in crops]
    boxes = np.concatenate([part.boxes.astype(int) + shift for part, shift in zip(found, shifts, strict=True)])
    crop_of = np.repeat(np.arange(len(found)), np.diff(first))
    things = np.append(False, is_thing)
    object_of = np.arange(len(class_ids))
    for left in range(len(found) - 1):
        for a, b in _pairs(maps[left : left + 2], crops[left : left + 2], things):
            object_of[b] = object_of[a]
    objects = [np.flatnonzero(object_of == number) for number in np.unique(object_of[is_thing])]
    labels = np.zeros((len(found[0].map), width), np.uint16)

    def rank(rows: NDArray[np.int64]) -> tuple[bool, float]:
        crop, box = crops[crop_of[rows[0]]], boxes[rows[0]]
        cut = (crop.start > 0 and box[0] == crop.start) or (crop.stop < width and box[2] == crop.stop)
        return len(rows) == 1 and bool(cut), -float(scores[rows].max())

    for rows in sorted(objects, key=rank):
        (x0, y0), (x1, y1) = boxes[rows, :2].min(0).tolist(), boxes[rows, 2:].max(0).tolist()
        mask = np.zeros((y1 - y0, x1 - x0), bool)
        for row in rows:
            left, top, right, bottom = boxes[row].tolist()
            start = crops[crop_of[row]].start
            part = maps[crop_of[row]][top:bottom, left - start : right - start] == row + 1
            mask[top - y0 : bottom - y0, left - x0 : right - x0] |= part
        window = labels[y0:y1, x0:x1]
        free = mask & (window == 0)
        if np.count_nonzero(free) > VISIBLE * np.count_nonzero(mask):
            window[free] = rows[scores[rows].argmax()] + 1
    _add_stuff(labels, maps, crops, things)
    embeddings = [part.embeddings for part in found if part.embeddings is not None]
    vectors = np.concatenate(embeddings) if len(embeddings) == len(found) else None
    return merge_segments(labels, class_ids, is_thing, scores, vectors)


def _pairs(maps: list[NDArray[np.int64]], crops: list[slice], things: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Rows of things of two neighbouring crops that are the same object."""
    shared = crops[0].stop - crops[1].start
    a, b = (np.where(things.take(m), m, 0) for m in (maps[0][:, maps[0].shape[1] - shared :], maps[1][:, :shared]))
    size_a, size_b = (np.bincount(m.ravel(), minlength=len(things)) for m in (a, b))
    pairs, both = np.unique(a * len(things) + b, return_counts=True)
    found = []
    for (i, j), common in zip(np.stack(np.divmod(pairs, len(things)), 1).tolist(), both.tolist(), strict=True):
        if i and j and common > SAME * (size_a[i] + size_b[j] - common):
            found.append((i - 1, j - 1))
    return found


def _add_stuff(
    labels: NDArray[np.uint16], maps: list[NDArray[np.int64]], crops: list[slice], things: NDArray[np.bool_]
) -> None:
    """Writes stuff where `labels` is 0: first of the crop whose centre is nearer, then of any crop."""
    middles = [(a.stop + b.start) // 2 for a, b in zip(crops[:-1], crops[1:], strict=True)]
    nearer = [slice(a, b) for a, b in zip([0, *middles], [*middles, labels.shape[1]], strict=True)]
    for zones in (nearer, crops):
        for zone, crop, m in zip(zones, crops, maps, strict=True):
            window, part = labels[:, zone], m[:, zone.start - crop.start : zone.stop - crop.start]
            np.copyto(window, part, where=(window == 0) & ~things.take(part), casting="unsafe")
