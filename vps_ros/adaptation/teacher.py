"""Labels of a teacher, confirmed by its results for the mirrored image, a smaller one, and enlarged parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import LabelMap
from vps_ros.frame import Segmentation
from vps_ros.labelling.segments import class_map
from vps_ros.taxonomy import VOID_ID, Taxonomy

ZOOM = 1.3
"""Factor by which images are made smaller, and parts of them larger. Chosen."""
_GREY = (114, 114, 114)

SegmentImage = Callable[[NDArray[np.uint8]], Segmentation]


def views(image: NDArray[np.uint8], segment: SegmentImage) -> Iterator[NDArray[np.uint8]]:
    """Class maps uint8 [H, W] of a view of the image each, 255 where the view shows nothing or the result is void."""
    height, width = image.shape[:2]
    yield class_map(segment(np.ascontiguousarray(image[:, ::-1])))[:, ::-1]
    # A network resizes each image to its input: in a larger frame of grey, objects are smaller there.
    high, wide = round(height * ZOOM), round(width * ZOOM)
    top, left = (high - height) // 2, (wide - width) // 2
    framed = cv2.copyMakeBorder(
        image, top, high - height - top, left, wide - width - left, cv2.BORDER_CONSTANT, value=_GREY
    )
    yield class_map(segment(framed))[top : top + height, left : left + width]
    high, wide = round(height / ZOOM), round(width / ZOOM)
    top = (height - high) // 2
    found = np.full((height, width), VOID_ID, np.uint8)
    for left in (0, width - wide):
        part = class_map(segment(np.ascontiguousarray(image[top : top + high, left : left + wide])))
        place = found[top : top + high, left : left + wide]
        # Where the two parts overlap and differ, neither is right for certain.
        place[...] = np.where((place == VOID_ID) | (place == part), part, VOID_ID)
    yield found


def confirmed(labels: LabelMap, others: list[NDArray[np.uint8]], taxonomy: Taxonomy) -> LabelMap:
    """The labels of a teacher where at least half of the other views that show a class agree; void elsewhere.

    A pixel to which all other views give one class of stuff gets that class.

    Args:
        others: class maps uint8 [H, W]; 255 where a view has no opinion.
    """
    known = np.sum([one != VOID_ID for one in others], axis=0)
    agree = np.sum([one == labels.semantic for one in others], axis=0)
    kept = (labels.semantic != VOID_ID) & (2 * agree >= known)
    first = others[0]
    same = np.all([one == first for one in others], axis=0) & (first != VOID_ID) & ~taxonomy.thing_table[first]
    semantic = np.where(kept, labels.semantic, np.where(same, first, VOID_ID)).astype(np.uint8)
    return LabelMap(semantic, np.where(kept, labels.instance, 0).astype(labels.instance.dtype))
