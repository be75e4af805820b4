"""Segmentations out of ground truth: true masks, and masks as a mediocre segmenter might give them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets import StreetFrame
from vps_ros.frame import Segmentation
from vps_ros.taxonomy import CITYSCAPES

SMALLEST = 20
"""Pixels; smaller things have no segment."""
_LOOK_ALIKE = {11: 12, 12: 11, 13: 14, 14: 13, 15: 14, 16: 15, 17: 18, 18: 17}


def segmentations(
    frames: Iterator[StreetFrame],
    seed: int = 0,
    missed: float = 0.0,
    ragged: float = 0.0,
    flicker: float = 0.0,
) -> Iterator[tuple[StreetFrame, Segmentation, NDArray[np.int64]]]:
    """Frames, things without identity in random order, and which instance each segment is, int64 [K].

    Args:
        missed: share of the things that have no segment in a frame, drawn anew for each frame.
        ragged: pixels by which borders are off, standard deviation.
        flicker: share of the things that are called by a class that looks alike.
    """
    rng = np.random.default_rng(seed)
    for street in frames:
        instance = _wavy(street.instance, rng, ragged) if ragged else street.instance
        areas = np.bincount(instance.ravel())
        names = np.flatnonzero(areas >= SMALLEST)
        names = rng.permutation(names[(names > 0) & (rng.random(len(names)) >= missed)])
        table = np.zeros(len(areas), np.uint16)
        table[names] = np.arange(1, len(names) + 1)
        classes = np.array([_class(street, name) for name in names], np.int32)
        for k in np.flatnonzero(rng.random(len(names)) < flicker):
            classes[k] = _LOOK_ALIKE.get(int(classes[k]), classes[k])
        labels = table[instance]
        yield street, _segmentation(labels, classes), names


def _segmentation(labels: NDArray[np.uint16], classes: NDArray[np.int32]) -> Segmentation:
    count = len(classes)
    boxes = np.empty((count, 4), np.float32)
    for k in range(count):
        x, y, width, height = cv2.boundingRect((labels == k + 1).astype(np.uint8))
        boxes[k] = x, y, x + width, y + height
    return Segmentation(
        labels.astype(np.uint8) if count < 255 else labels,
        classes,
        np.ones(count, bool),
        np.ones(count, np.float32),
        np.bincount(labels.ravel(), minlength=count + 1)[1:],
        boxes,
    )


def _class(street: StreetFrame, name: int) -> int:
    there = street.semantic[street.instance == name]
    things = there[np.isin(there, CITYSCAPES.thing_ids)]
    return int(things[0]) if len(things) else 13


def _wavy(labels: NDArray[np.uint16], rng: np.random.Generator, amount: float) -> NDArray[np.uint16]:
    """Labels looked up at places that are off by a smooth random field."""
    height, width = labels.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    knots = (max(height // 6, 2), max(width // 6, 2))
    off = [
        cv2.resize(rng.normal(0, amount, knots).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(2)
    ]
    return cv2.remap(labels, x + off[0], y + off[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
