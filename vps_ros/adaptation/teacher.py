"""Labels of a teacher, confirmed by its results for the mirrored image, a smaller one, and enlarged parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import LabelMap
from vps_ros.frame import Segmentation
from vps_ros.labelling.segments import class_map, mask_ious, thing_map
from vps_ros.taxonomy import VOID_ID, Taxonomy

ZOOM = 1.3
"""Factor by which images are made smaller, and parts of them larger. Chosen."""
_GREY = (114, 114, 114)

SegmentImage = Callable[[NDArray[np.uint8]], Segmentation]
HIDDEN = 254
"""Class of pixels that a view does not show."""
_SAME_OBJECT = 0.5
"""Mask IoU above which two masks are one object, as in PQ."""
_SHOWN = 0.95
"""Share of the pixels of an object, from which a view that shows them must find it. Chosen."""


def views(image: NDArray[np.uint8], segment: SegmentImage) -> Iterator[LabelMap]:
    """Labels of a view of the image each, [H, W]; HIDDEN where the view shows nothing."""
    height, width = image.shape[:2]

    def labels(view: NDArray[np.uint8]) -> LabelMap:
        found = segment(np.ascontiguousarray(view))
        return LabelMap(class_map(found), thing_map(found))

    mirrored = labels(image[:, ::-1])
    yield LabelMap(mirrored.semantic[:, ::-1], mirrored.instance[:, ::-1])
    # A network resizes each image to its input: in a larger frame of grey, objects are smaller there.
    high, wide = round(height * ZOOM), round(width * ZOOM)
    top, left = (high - height) // 2, (wide - width) // 2
    framed = labels(
        cv2.copyMakeBorder(image, top, high - height - top, left, wide - width - left, cv2.BORDER_CONSTANT, value=_GREY)
    )
    inside = np.s_[top : top + height, left : left + width]
    yield LabelMap(framed.semantic[inside], framed.instance[inside])
    high, wide = round(height / ZOOM), round(width / ZOOM)
    top = (height - high) // 2
    for left in (0, width - wide):
        inside = np.s_[top : top + high, left : left + wide]
        part = labels(image[inside])
        semantic, instance = np.full((height, width), HIDDEN, np.uint8), np.zeros((height, width), np.uint16)
        semantic[inside], instance[inside] = part.semantic, part.instance
        yield LabelMap(semantic, instance)


def confirmed(labels: LabelMap, others: list[LabelMap], taxonomy: Taxonomy) -> LabelMap:
    """The labels of a teacher where at least half of the other views that show a class agree; void elsewhere.

    An object is void unless every view that shows it has it, too. A pixel to which all views that show it give one
    class of stuff gets that class.

    Args:
        others: of `views`.
    """
    semantics = np.array([one.semantic for one in others])
    shown = semantics != HIDDEN
    agree = (semantics == labels.semantic).sum(0)
    kept = (labels.semantic != VOID_ID) & (2 * agree >= (shown & (semantics != VOID_ID)).sum(0))
    kept &= _same_objects(labels, others)
    first = others[0].semantic
    same = ((semantics == first) | ~shown).all(0) & (first != VOID_ID) & ~taxonomy.thing_table[first]
    semantic = np.where(kept, labels.semantic, np.where(same, first, VOID_ID)).astype(np.uint8)
    return LabelMap(semantic, np.where(kept, labels.instance, 0).astype(labels.instance.dtype))


def _same_objects(labels: LabelMap, others: list[LabelMap]) -> NDArray[np.bool_]:
    """bool [H, W], false for objects that a view shows, but has no object of the same class and mask there."""
    ids, rows = np.unique(np.append(0, labels.instance), return_inverse=True)
    rows = rows[1:].reshape(labels.instance.shape)
    count = len(ids) - 1
    areas = np.bincount(rows.reshape(-1), minlength=count + 1)
    classes = _classes(labels.semantic, rows, count)
    kept = np.ones(count + 1, bool)
    for view in others:
        columns = int(view.instance.max())
        same = classes[:, None] == _classes(view.semantic, view.instance, columns)
        found = (same & (mask_ious(rows, view.instance, count, columns) > _SAME_OBJECT)).any(1)
        hidden = np.bincount(rows[view.semantic == HIDDEN], minlength=count + 1) > (1 - _SHOWN) * areas
        kept[1:] &= found | hidden[1:]
    return kept[rows]


def _classes(semantic: NDArray[np.uint8], instance: NDArray[np.integer], count: int) -> NDArray[np.uint8]:
    """uint8 [count], class of each object 1..count."""
    found = np.full(count + 1, VOID_ID, np.uint8)
    found[instance] = semantic
    return found[1:]
