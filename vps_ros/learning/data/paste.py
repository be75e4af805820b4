"""Copy-paste: things of one pair of frames in another pair, with one identity in both of its frames.

Simple Copy-Paste (Ghiasi et al., CVPR 2021), for pairs: where a thing is seen in both frames of its own pair, each
frame gets what is seen of it there, so that it moves and changes as it does. A thing of another data set is placed as
if it stood on the ground of a street.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.learning.data.augmentation import View, see, view_labels
from vps_ros.learning.data.clips import Picture
from vps_ros.learning.network_io import STRIDE_4, LabelGrid
from vps_ros.taxonomy import Taxonomy

FIRST_PASTED = 2**24
"""Instances of what is pasted begin after it; no data set has larger ones."""
LARGEST_SHARE = 0.25
"""Of the picture: a larger thing would hide most of what is there."""
EDGE = 0.8
"""Deviation in pixels of the blur by which the edge of what is pasted is mixed with what is there."""
HEIGHTS = (0.08, 0.6)
"""Of a placed thing, over that of the picture."""
LEAST_HEIGHT = 24
"""In pixels, of a thing that is placed, in its own image."""
ENLARGED = 1.5
"""A placed thing is enlarged at most this much."""

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
    grid: LabelGrid = STRIDE_4,
) -> Picture:
    """`onto`, whose labels lie on the grid, with the things as they are seen in `source` through the view.

    Their instances are those that they have in the source plus `FIRST_PASTED`.
    """
    fine = see(source, view, None, LabelGrid(1))
    semantic, instance = view_labels(source.semantic, source.instance, view, choice, grid)
    keys = [class_id << 32 | number for class_id, number in things]
    pixels, cells = (np.isin(_keys(*labels), keys) for labels in (fine[1:], (semantic, instance)))
    if not pixels.any():
        return onto
    soft = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), EDGE)
    # From a quarter to three quarters: little of what was around the thing comes with it.
    share = np.clip(2 * soft - 0.5, 0, 1)[..., None]
    return Picture(
        (share * fine.image + (1 - share) * onto.image + 0.5).astype(np.uint8),
        np.where(cells, semantic, onto.semantic),
        np.where(cells, instance.astype(np.int64) + FIRST_PASTED, onto.instance),
    )


def placeable_things(picture: Picture, taxonomy: Taxonomy) -> list[Thing]:
    """The things of a picture that are large enough to be placed, and not cut off by its border."""
    keys = np.unique(_keys(picture.semantic, picture.instance))
    things = [(int(k >> 32), int(k & 0xFFFFFFFF)) for k in keys[keys & 0xFFFFFFFF > 0]]
    w, h = picture.size
    found = []
    for thing in things:
        x, y, width, height = _box(picture, thing)
        inside = min(x, y, w - x - width, h - y - height) > 1
        if thing[0] in taxonomy.thing_ids and height >= LEAST_HEIGHT and inside:
            found.append(thing)
    return found


def placing_view(picture: Picture, thing: Thing, size: tuple[int, int], rng: np.random.Generator) -> View:
    """A view of an output of `size` in which the thing stands on the ground, as far off as its height says.

    A camera about as high as the things shows those of height p about p below the horizon.
    """
    x, y, width, height = _box(picture, thing)
    w, h = size
    low, high = np.log(HEIGHTS)
    p = min(h * np.exp(rng.uniform(low, high)), ENLARGED * height, 0.5 * w * height / width)
    scale = p / height
    ground = h * rng.uniform(0.4, 0.55) + p * rng.uniform(0.75, 1.25)
    centre = w * rng.uniform(0, 1)
    sign = -1 if rng.random() < 0.5 else 1
    across = centre - sign * scale * (x + (width - 1) / 2)
    return View(np.array([[sign * scale, 0, across], [0, scale, ground - scale * (y + height - 1)]]), size)


def moved(view: View, rng: np.random.Generator) -> View:
    """Nearly the same view, as another frame of the same camera."""
    w, h = view.size
    zoom, middle = np.exp(rng.normal(0, 0.03)), np.array([[w / 2], [h / 2]])
    matrix = view.matrix.copy()
    matrix[:, :2] *= zoom
    matrix[:, 2:] = zoom * (matrix[:, 2:] - middle) + middle + rng.normal(0, 0.01 * w, (2, 1))
    return View(matrix, view.size)


def _box(picture: Picture, thing: Thing) -> tuple[int, int, int, int]:
    """x, y, width, height."""
    mask = (picture.semantic == thing[0]) & (picture.instance == thing[1])
    return cv2.boundingRect(mask.astype(np.uint8))


def _keys(semantic: NDArray[np.uint8], instance: NDArray[np.integer]) -> NDArray[np.int64]:
    return semantic.astype(np.int64) << 32 | instance.astype(np.int64)
