"""Synthetic sequences of textured rectangles that move over a background, without identities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import Frame, Segmentation

CLASSES = (11, 13)
INTERVAL = 100_000_000
"""Nanoseconds between frames."""
SMALLEST = 20
"""Pixels; smaller objects have no segment."""


class CrowdFrame(NamedTuple):
    """A frame and its segments in random order; names [K] are the objects."""

    frame: Frame
    segmentation: Segmentation
    names: NDArray[np.int64]


def crowd(
    count: int,
    frames: int,
    size: tuple[int, int],
    width: int = 256,
    missed: float = 0.1,
    seed: int = 0,
) -> Iterator[CrowdFrame]:
    """Objects that move straight, are reflected at the border, and occlude smaller ones.

    Args:
        size: (width, height) of the camera.
        width: of the embeddings, which are random for each object and noisy in each frame; 0: none.
        missed: share of the objects that have no segment in a frame, drawn anew for each.
    """
    rng = np.random.default_rng(seed)
    camera = np.array(size)
    start, step = rng.uniform(0, camera, (count, 2)), rng.normal(0, 3, (count, 2))
    sides = rng.uniform(10, 40, (count, 2))
    sides = sides[np.argsort(sides.prod(axis=1))]
    textures = [_texture(rng, *np.ceil(side).astype(int)) for side in sides]
    background = _texture(rng, *camera)
    appearance, classes = rng.normal(size=(count, width)), rng.choice(CLASSES, count).astype(np.int32)
    for i in range(frames):
        image, labels = background.copy(), np.zeros(camera[::-1], np.int32)
        # A triangle wave: objects are reflected at the border.
        centre = camera - np.abs((start + step * i) % (2 * camera) - camera)
        hidden = rng.random(count) < missed
        for number, (place, texture) in enumerate(zip(np.rint(centre).astype(int), textures, strict=True), 1):
            inside, part = _paste(place, texture, camera)
            image[inside] = texture[part]
            labels[inside] = 0 if hidden[number - 1] else number
        names = np.flatnonzero(np.bincount(labels.ravel(), minlength=count + 1)[1:] >= SMALLEST)
        names = rng.permutation(names)
        noisy = appearance[names] + 0.3 * rng.normal(size=(len(names), width)) if width else None
        yield CrowdFrame(Frame(image, i * INTERVAL), segmented(labels, names, classes[names], noisy), names)


def segmented(
    labels: NDArray[np.int32],
    names: NDArray[np.int64],
    classes: NDArray[np.int32],
    appearance: NDArray[np.floating] | None = None,
) -> Segmentation:
    """Segments `names` [K] of a map [H, W] of 1 + name, 0 elsewhere; boxes and areas are those of the pixels."""
    count = len(names)
    table = np.zeros(max(labels.max(initial=0), names.max(initial=0) + 1) + 1, np.uint8 if count < 255 else np.uint16)
    table[names + 1] = np.arange(1, count + 1)
    numbered = table[labels]
    boxes = np.empty((count, 4), np.float32)
    for k in range(count):
        x, y, width, height = cv2.boundingRect((numbered == k + 1).astype(np.uint8))
        boxes[k] = x, y, x + width, y + height
    return Segmentation(
        numbered,
        classes,
        np.ones(count, bool),
        np.ones(count, np.float32),
        np.bincount(numbered.ravel(), minlength=count + 1)[1:],
        boxes,
        None if appearance is None else appearance.astype(np.float32),
    )


def _texture(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    noise = rng.integers(0, 255, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX)


def _paste(centre: NDArray, texture: NDArray, camera: NDArray) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The region of the image that a texture around `centre` (x, y) covers, and the part of the texture in it."""
    shape = np.array(texture.shape[1::-1])
    first = centre - shape // 2
    low, high = np.maximum(first, 0), np.minimum(first + shape, camera)
    (x0, y0), (x1, y1) = low, np.maximum(high, low)
    (u0, v0), (u1, v1) = low - first, np.maximum(high, low) - first
    return (slice(y0, y1), slice(x0, x1)), (slice(v0, v1), slice(u0, u1))
