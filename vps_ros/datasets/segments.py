"""The segments of a panoptic map, as the input of a tracker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import Segmentation
from vps_ros.label_maps import areas, boxes, runs
from vps_ros.taxonomy import VOID_ID, Taxonomy

CODE_DIVISOR = 65536
"""A segment's code is class * 65536 + instance."""
_MAX_SEGMENTS = np.iinfo(np.uint16).max
_VOID_CODE = 2**62


@dataclass(frozen=True)
class MapSegments:
    """The segments of one panoptic map.

    Attributes:
        segmentation: one segment for each thing, connected or not, and one for each class of stuff.
        codes: int64 [K], class * 65536 + instance of each; instance 0 for segments that are not tracked.
        crowds: classes of things with instance 0: several objects that are not separated, without identity. They are
            segments like those of stuff.
        numbered_stuff: classes of stuff that have instances in the map; these are dropped.
    """

    segmentation: Segmentation
    codes: NDArray[np.int64]
    crowds: frozenset[int]
    numbered_stuff: frozenset[int]


def segments_of(
    semantic: NDArray[np.uint8], instance: NDArray[np.uint16], taxonomy: Taxonomy, where: str | Path = "map"
) -> MapSegments:
    """The segments of a map, ordered by class and first pixel, so that the numbers of instances have no influence.

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
    is_void, thing = class_id == VOID_ID, taxonomy.thing_table
    unknown = ~is_void & ~np.isin(class_id, taxonomy.ids)
    if unknown.any():
        raise InputError(
            f"{where}: class {class_id[unknown].min()} is not one of {taxonomy.name} "
            f"({', '.join(f'{c.id} {c.name}' for c in taxonomy.classes)}) nor {VOID_ID}, void; write its classes"
        )
    code = np.where(thing[class_id], class_id * CODE_DIVISOR + number, class_id * CODE_DIVISOR)
    code[is_void] = _VOID_CODE
    codes, first, which = np.unique(code, return_index=True, return_inverse=True)
    order = np.lexsort((first, codes // CODE_DIVISOR))
    order = order[codes[order] != _VOID_CODE]
    if len(order) > _MAX_SEGMENTS:
        raise InputError(
            f"{where}: holds {len(order)} segments; more than {_MAX_SEGMENTS} in a frame cannot be tracked"
        )
    # Void keeps the number 0.
    label = np.zeros(len(codes), np.int64)
    label[order] = np.arange(1, len(order) + 1)
    label = label[which.reshape(-1)]
    codes = codes[order]
    classes = codes // CODE_DIVISOR
    is_thing = thing[classes] & (codes % CODE_DIVISOR > 0)
    small = np.uint8 if len(codes) <= np.iinfo(np.uint8).max else np.uint16
    segmentation = Segmentation(
        np.repeat(label.astype(small), length).reshape(height, width),
        classes.astype(np.int32),
        is_thing,
        np.ones(len(codes), np.float32),
        areas(label, length, len(codes)),
        boxes(label, start, length, width, len(codes)),
    )
    numbered = class_id[~is_void & ~thing[class_id] & (number > 0)]
    return MapSegments(
        segmentation,
        codes,
        frozenset(classes[thing[classes] & ~is_thing].tolist()),
        frozenset(np.unique(numbered).tolist()),
    )
