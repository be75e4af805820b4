"""A panoptic map of classes and instances as the segments that trackers take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import Segmentation
from vps_ros.runs import areas, boxes, runs
from vps_ros.taxonomy import VOID_ID, Taxonomy

CODE_DIVISOR = 65536
"""A segment's code is class * 65536 + instance."""
_MOST = np.iinfo(np.uint16).max
_BEYOND = 2**62


@dataclass(frozen=True)
class MapSegments:
    """The segments of one panoptic map.

    Attributes:
        segmentation: one segment for each thing, whether connected or not, and one for each class of stuff.
        codes: int64 [K], class * 65536 + instance of each; instance 0 for what is not tracked.
        groups: classes of things whose instance is 0. KITTI-STEP calls them crowd: several objects that were not told
            apart, which have no identity; here they are segments like those of stuff.
        numbered_stuff: classes of stuff that have instances nevertheless, which are dropped.
    """

    segmentation: Segmentation
    codes: NDArray[np.int64]
    groups: frozenset[int]
    numbered_stuff: frozenset[int]


def segments_of(
    semantic: NDArray[np.uint8], instance: NDArray[np.uint16], taxonomy: Taxonomy, where: str | Path = "map"
) -> MapSegments:
    """The segments of a map, ordered by class and first pixel: what the instances are called has no influence.

    Args:
        semantic: uint8 [H, W] class ids; 255 is void.
        instance: uint16 [H, W].
        taxonomy: which classes are things.
        where: the map's name in errors.

    Raises:
        InputError: a class is not in the taxonomy, or there are more segments than 65535.
    """
    height, width = semantic.shape
    start, length = runs(semantic, instance)
    class_id = semantic.ravel()[start].astype(np.int64)
    number = instance.ravel()[start].astype(np.int64)
    kind = _kinds(taxonomy)[class_id]
    if (kind == _UNKNOWN).any():
        raise InputError(
            f"{where}: class {class_id[kind == _UNKNOWN].min()} is not one of {taxonomy.name} "
            f"({', '.join(f'{c.id} {c.name}' for c in taxonomy.classes)}) nor {VOID_ID}, void; write its classes"
        )
    code = np.where(kind == _THING, class_id * CODE_DIVISOR + number, class_id * CODE_DIVISOR)
    code[kind == _VOID] = _BEYOND
    codes, first, which = np.unique(code, return_index=True, return_inverse=True)
    order = np.lexsort((first, codes // CODE_DIVISOR))
    order = order[codes[order] != _BEYOND]
    if len(order) > _MOST:
        raise InputError(f"{where}: holds {len(order)} segments; more than {_MOST} in a frame cannot be tracked")
    # Void keeps the number 0.
    label = np.zeros(len(codes), np.int64)
    label[order] = np.arange(1, len(order) + 1)
    label = label[which.reshape(-1)]
    codes = codes[order]
    classes = codes // CODE_DIVISOR
    is_thing = (_kinds(taxonomy)[classes] == _THING) & (codes % CODE_DIVISOR > 0)
    small = np.uint8 if len(codes) <= np.iinfo(np.uint8).max else np.uint16
    segmentation = Segmentation(
        np.repeat(label.astype(small), length).reshape(height, width),
        classes.astype(np.int32),
        is_thing,
        np.ones(len(codes), np.float32),
        areas(label, length, len(codes)),
        boxes(label, start, length, width, len(codes)),
    )
    numbered = class_id[(kind == _STUFF) & (number > 0)]
    return MapSegments(
        segmentation,
        codes,
        frozenset(classes[(_kinds(taxonomy)[classes] == _THING) & ~is_thing].tolist()),
        frozenset(np.unique(numbered).tolist()),
    )


_UNKNOWN, _VOID, _STUFF, _THING = range(4)


def _kinds(taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """What each class id 0..255 is."""
    table = np.full(VOID_ID + 1, _UNKNOWN, np.uint8)
    inside = taxonomy.ids < VOID_ID
    table[taxonomy.ids[inside]] = np.where(taxonomy.isthing[inside], _THING, _STUFF)
    table[VOID_ID] = _VOID
    return table
