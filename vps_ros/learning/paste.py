"""Copy-paste: things of one pair of frames in another pair, with one identity in both of its frames.

Simple Copy-Paste (Ghiasi et al., CVPR 2021), for pairs: where a thing is seen in both frames of its own pair, each
frame gets what is seen of it there, so that it moves and changes as it does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vps_ros.learning.augment import View, see, view_labels
from vps_ros.learning.clips import Picture
from vps_ros.learning.sides import CELLS, Grid
from vps_ros.taxonomy import Taxonomy

FIRST_PASTED = 2**24
"""Instances of what is pasted begin after it; no data set has larger ones."""
LARGEST_SHARE = 0.25
"""Of the picture: a larger thing would hide most of what is there."""

Thing = tuple[int, int]
"""Class id and instance."""


def choose_things(
    labels: Sequence[tuple[NDArray[np.uint8], NDArray[np.integer]]],
    taxonomy: Taxonomy,
    most: int,
    rng: np.random.Generator,
) -> list[Thing]:
    """One up to `most` things out of several maps (classes, instances), at random; none where there is none."""
    found: set[Thing] = set()
    for semantic, instance in labels:
        keys, counts = np.unique(_keys(semantic, instance), return_counts=True)
        fitting = keys[(keys & 0xFFFFFFFF > 0) & (counts <= LARGEST_SHARE * semantic.size)]
        found |= {(int(k >> 32), int(k & 0xFFFFFFFF)) for k in fitting}
    things = sorted(t for t in found if t[0] in taxonomy.thing_ids)
    if not things:
        return []
    chosen = rng.permutation(len(things))[: int(rng.integers(1, most + 1))]
    return [things[i] for i in chosen]


def paste(
    onto: Picture,
    source: Picture,
    view: View,
    things: Sequence[Thing],
    choice: NDArray[np.int64] | None = None,
    grid: Grid = CELLS,
) -> Picture:
    """`onto`, whose labels lie on the grid, with the things as they are seen in `source` through the view.

    Their instances are those that they have in the source plus `FIRST_PASTED`.
    """
    fine = see(source, view, None, Grid(1))
    semantic, instance = view_labels(source.semantic, source.instance, view, choice, grid)
    keys = [class_id << 32 | number for class_id, number in things]
    pixels, cells = (np.isin(_keys(*labels), keys) for labels in (fine[1:], (semantic, instance)))
    return Picture(
        np.where(pixels[..., None], fine.image, onto.image),
        np.where(cells, semantic, onto.semantic),
        np.where(cells, instance.astype(np.int64) + FIRST_PASTED, onto.instance),
    )


def _keys(semantic: NDArray[np.uint8], instance: NDArray[np.integer]) -> NDArray[np.int64]:
    return semantic.astype(np.int64) << 32 | instance.astype(np.int64)
