"""Maps whose red and blue were swapped on the way to the file, as happens where a writer takes B, G, R."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.taxonomy import VOID_ID, Taxonomy


def refuse_swapped(labels: LabelMap, taxonomy: Taxonomy, where: object) -> None:
    """Raises InputError when a map of class (R) and instance (256 G + B) makes sense only with red and blue swapped.

    That is: stuff or void has instances as the map is, and none, and no unknown class, the other way round. A map that
    makes sense both ways is taken as it is.

    Args:
        labels: uint8 [H, W] and uint16 [H, W], as they were decoded.
    """
    unnumbered = _unnumbered(taxonomy)
    if not _numbered(unnumbered, *labels):
        return
    blue, high = (labels.instance & 0xFF).astype(np.uint8), labels.instance & 0xFF00
    known = np.zeros(VOID_ID + 1, np.uint8)
    known[[*taxonomy.by_id, VOID_ID]] = 1
    if cv2.LUT(blue, known).all() and not _numbered(unnumbered, blue, high | labels.semantic):
        raise InputError(
            f"{where}: red and blue are swapped; write the class as R and the instance as G and B "
            "(OpenCV's imwrite takes B, G, R)"
        )


def _unnumbered(taxonomy: Taxonomy) -> NDArray[np.uint8]:
    table = np.full(VOID_ID + 1, 1, np.uint8)
    table[list(taxonomy.thing_ids)] = 0
    return table


def _numbered(unnumbered: NDArray[np.uint8], semantic: NDArray[np.uint8], instance: NDArray[np.integer]) -> bool:
    return bool((cv2.LUT(semantic, unnumbered) & (instance > 0)).any())
