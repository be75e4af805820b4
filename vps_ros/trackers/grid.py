"""Thing masks as one small label map on the flow's working grid."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import Segmentation
from vps_ros.trackers.things import Things


def thing_labels(segmentation: Segmentation, things: Things, grid: tuple[int, int]) -> NDArray[np.uint16]:
    """uint16 [h, w]: 1 + k where thing k is at the centre of the cell, 0 elsewhere."""
    table = np.zeros(max(len(segmentation) + 1, 256), np.uint16)
    table[things.index + 1] = np.arange(1, len(things) + 1)
    labels = segmentation.map
    if labels.dtype not in (np.uint8, np.uint16):
        labels = labels.astype(np.uint16)
    if labels.shape != grid:
        labels = cv2.resize(labels, grid[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    if labels.dtype == np.uint8:
        return cv2.LUT(labels, table[:256])
    return np.take(table, labels)
