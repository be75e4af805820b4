"""From label maps to the targets of the losses: one row for each segment of an image.

The labels of many data sets are incomplete. Rules for every loss:

- A cell without a segment (`segments` is -1) is in no mask, whether it is void or unlabelled.
- A cell may have a class (`semantic`) or a group of classes (`group`) without a segment; only class losses use it.
- Where `unlabelled` is true there may be an unlabelled segment. An unmatched query may be correct there, so the weight
  of its void label is the share of its mask in labelled cells (`labelled_share`).
- The absence of things is known only in the cells of `known_things`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.datasets.class_mapping import LabelCodes
from vps_ros.taxonomy import Taxonomy

LEAST_CELLS = 4
"""Smaller segments, in cells of the mask stride, are void: they cannot be found at that stride."""


class Targets(NamedTuple):
    """Targets of one image, or of a batch with a leading B. There are M rows; unused rows have class -1.

    Attributes:
        segments: int64 [h, w], row of each cell, -1 for void.
        classes: int64 [M], index into the taxonomy.
        tracks: int64 [M], instance id of a thing, constant within its clip and class; 0 for stuff.
        semantic: int64 [h, w], index into the taxonomy, -1 for void and groups.
        group: int64 [h, w], row of `members` for a cell with one of several classes, -1 elsewhere; None without groups.
        members: bool [G, C + 1], classes of each group; the last column is void. None as `group`.
        unlabelled: bool [h, w], cells where a segment may be missing in `segments`; None if there are none.
    """

    segments: Tensor
    classes: Tensor
    tracks: Tensor
    semantic: Tensor
    group: Tensor | None = None
    members: Tensor | None = None
    unlabelled: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Targets:
        """The targets with a function applied to every tensor."""
        return Targets(*(None if t is None else change(t) for t in self))

    def trimmed(self) -> Targets:
        """A batch without the rows that none of its images uses; at least one row stays."""
        rows = max(1, int((self.classes >= 0).sum(1).max()))
        return self._replace(classes=self.classes[:, :rows], tracks=self.tracks[:, :rows])

    def masks(self) -> Tensor:
        """float32 [B, M, h, w] of a batch: 1 where a cell belongs to the segment of a row."""
        rows = torch.arange(self.classes.shape[1], device=self.segments.device)[None, :, None, None]
        return (self.segments[:, None] == rows).float()


def make_targets(
    semantic: NDArray, instance: NDArray, taxonomy: Taxonomy, rows: int, codes: LabelCodes | None = None
) -> Targets:
    """Targets of one image: its largest `rows` segments. A thing without an instance id belongs to no segment.

    Args:
        semantic: uint8 [h, w], class ids, 255 for void; or codes of `codes`.
        instance: integer [h, w], 0 for stuff.
    """
    codes = codes or LabelCodes.of(taxonomy)
    classes = codes.index[semantic]
    thing = np.append(taxonomy.isthing, False)[classes]
    crowd = thing & (instance == 0)
    known = codes.complete[semantic] & ~crowd
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
        torch.from_numpy(codes.group[semantic]),
        torch.from_numpy(codes.members),
        torch.from_numpy(codes.unlabelled[semantic] | crowd),
    )


def stack(targets: list[Targets]) -> Targets:
    """A batch of targets of the same size."""
    return Targets(*(torch.stack(parts) for parts in zip(*targets, strict=True)))


def labelled_share(masks: Tensor, targets: Targets) -> Tensor | None:
    """[B, N]: share of each query's mask in labelled cells, without gradient; None if all cells are labelled.

    It is exactly 0 in an image without labels.

    Args:
        masks: [B, N, h, w], probabilities.
    """
    if targets.unlabelled is None or not targets.unlabelled.any():
        return None
    p = masks.detach().flatten(2)
    labelled = (~targets.unlabelled).flatten(1).to(p.dtype)
    return (p @ labelled[:, :, None])[:, :, 0] / p.sum(2).clamp(min=1e-6)


def known_things(targets: Targets, isthing: Tensor) -> Tensor:
    """bool [B, h, w]: cells of a segment, and cells whose class or group of classes is not a thing.

    In all other cells there may be a thing that is in no segment.

    Args:
        isthing: bool [C].
    """
    known = (targets.semantic >= 0) & ~isthing[targets.semantic.clamp(min=0)]
    if targets.group is not None and targets.members is not None and targets.members.shape[1]:
        things = (targets.members[:, :, :-1] & isthing).any(2)
        of_cell = things.gather(1, targets.group.clamp(min=0).flatten(1)).reshape(known.shape)
        known = torch.where(targets.group >= 0, ~of_cell, known)
    return known | (targets.segments >= 0)
