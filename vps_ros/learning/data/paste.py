"""Copy-paste augmentation: objects of one pair of frames in another pair, with one identity in both frames.

Simple Copy-Paste (Ghiasi et al., CVPR 2021), extended to pairs: an object that is visible in both frames of its own
pair is pasted into both, each time as in that frame. An object of another data set is placed at a plausible position
and size on the ground of a street.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.learning.data.augmentation import View, apply_view, view_labels
from vps_ros.learning.data.clips import Picture
from vps_ros.learning.network_io import STRIDE_4, LabelGrid
from vps_ros.taxonomy import Taxonomy

FIRST_PASTED = 2**24
"""Added to the instance ids of pasted objects; no data set has larger ids."""
LARGEST_SHARE = 0.25
"""Largest area of a pasted object, as a share of the image."""
EDGE = 0.8
"""Standard deviation in pixels of the blur that blends the edge of a pasted object."""
HEIGHTS = (0.08, 0.6)
"""Range of the height of a placed object, relative to that of the image."""
LEAST_HEIGHT = 24
"""Smallest height in pixels, in its own image, of an object that is placed."""
ENLARGED = 1.5
"""Largest magnification of a placed object."""

ObjectKey = tuple[int, int]
"""Class id and instance id."""


def choose_objects(
    labels: Sequence[tuple[NDArray[np.uint8], NDArray[np.integer]]],
    taxonomy: Taxonomy,
    most: int,
    rng: np.random.Generator,
) -> list[ObjectKey]:
    """1 to `most` random objects of several label maps (classes, instances); an empty list if there are none."""
    found: set[ObjectKey] = set()
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
    things: Sequence[ObjectKey],
    choice: NDArray[np.int64] | None = None,
    grid: LabelGrid = STRIDE_4,
) -> Picture:
    """Pastes the objects of `source`, transformed by the view, into `onto`, whose labels are on the grid.

    Their instance ids are those of the source plus `FIRST_PASTED`.
    """
    fine = apply_view(source, view, None, LabelGrid(1))
    semantic, instance = view_labels(source.semantic, source.instance, view, choice, grid)
    keys = [class_id << 32 | number for class_id, number in things]
    pixels, cells = (np.isin(_keys(*labels), keys) for labels in (fine[1:], (semantic, instance)))
    if not pixels.any():
        return onto
    soft = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), EDGE)
    # A narrower transition than the blur, so that little of the background of the object is pasted.
    share = np.clip(2 * soft - 0.5, 0, 1)[..., None]
    return Picture(
        (share * fine.image + (1 - share) * onto.image + 0.5).astype(np.uint8),
        np.where(cells, semantic, onto.semantic),
        np.where(cells, instance.astype(np.int64) + FIRST_PASTED, onto.instance),
    )


def placeable_objects(picture: Picture, taxonomy: Taxonomy) -> list[ObjectKey]:
    """The objects of an image that are large enough to be placed and do not touch its border."""
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


def placing_view(picture: Picture, thing: ObjectKey, size: tuple[int, int], rng: np.random.Generator) -> View:
    """A view of an output of `size` in which the object stands on the ground at a distance that fits its height.

    In the image of a camera at about the height of the objects, an object p pixels high ends about p below the horizon.
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


def jitter_view(view: View, rng: np.random.Generator) -> View:
    """The view with a small random change, as in the next frame of a camera."""
    w, h = view.size
    zoom, middle = np.exp(rng.normal(0, 0.03)), np.array([[w / 2], [h / 2]])
    matrix = view.matrix.copy()
    matrix[:, :2] *= zoom
    matrix[:, 2:] = zoom * (matrix[:, 2:] - middle) + middle + rng.normal(0, 0.01 * w, (2, 1))
    return View(matrix, view.size)


def _box(picture: Picture, thing: ObjectKey) -> tuple[int, int, int, int]:
    """The box of an object: x, y, width, height."""
    mask = (picture.semantic == thing[0]) & (picture.instance == thing[1])
    return cv2.boundingRect(mask.astype(np.uint8))


def _keys(semantic: NDArray[np.uint8], instance: NDArray[np.integer]) -> NDArray[np.int64]:
    return semantic.astype(np.int64) << 32 | instance.astype(np.int64)
