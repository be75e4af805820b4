"""Label maps to what the losses want: one row for each segment of an image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.taxonomy import VOID_ID, Taxonomy

LEAST_CELLS = 4
"""Segments smaller than this, in cells of the mask stride, are void: nothing at that stride can find them."""


class Targets(NamedTuple):
    """Of one image, or stacked over a batch with a leading B; M rows, those past the last segment have class -1.

    Attributes:
        segments: int64 [h, w], row of each cell, -1 for void.
        classes: int64 [M], index into the taxonomy.
        tracks: int64 [M], instance of a thing, which lasts through its clip in its class; 0 for stuff.
        semantic: int64 [h, w], index into the taxonomy, -1 for void.
    """

    segments: Tensor
    classes: Tensor
    tracks: Tensor
    semantic: Tensor


def make_targets(semantic: NDArray, instance: NDArray, taxonomy: Taxonomy, rows: int) -> Targets:
    """Targets of one image. The largest `rows` segments are kept; a thing without an instance id is void.

    Args:
        semantic: uint8 [h, w], class ids, 255 void.
        instance: integer [h, w], 0 for stuff.
    """
    index = np.full(VOID_ID + 1, -1, np.int64)
    index[taxonomy.ids] = np.arange(len(taxonomy))
    classes = index[semantic]
    thing = np.append(taxonomy.isthing, False)[classes]
    known = (classes >= 0) & ~(thing & (instance == 0))
    keys = np.where(known, classes << 32 | np.where(thing, instance, 0).astype(np.int64), -1)
    found, where, counts = np.unique(keys, return_inverse=True, return_counts=True)
    kept = np.flatnonzero((found >= 0) & (counts >= LEAST_CELLS))
    kept = kept[np.argsort(-counts[kept], kind="stable")][:rows]
    row = np.full(len(found), -1, np.int64)
    row[kept] = np.arange(len(kept))
    out_classes, out_tracks = np.full(rows, -1, np.int64), np.zeros(rows, np.int64)
    out_classes[: len(kept)] = found[kept] >> 32
    out_tracks[: len(kept)] = found[kept] & 0xFFFFFFFF
    return Targets(
        torch.from_numpy(row[where.reshape(semantic.shape)]),
        torch.from_numpy(out_classes),
        torch.from_numpy(out_tracks),
        torch.from_numpy(classes),
    )


def stack(targets: list[Targets]) -> Targets:
    """One batch of targets of the same size."""
    return Targets(*(torch.stack(parts) for parts in zip(*targets, strict=True)))
