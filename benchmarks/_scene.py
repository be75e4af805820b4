"""Class and mask logits of a street as of a trained network: 26 of 64 queries with a segment, smooth borders, noise."""

from __future__ import annotations

import cv2
import numpy as np

FINE = 4
"""The street is painted this much finer than the logits."""
LOWEST, HIGHEST = -12.0, 8.0
THINGS = 18
(ROAD, SIDEWALK, BUILDING, POLE, VEGETATION, TERRAIN, SKY, PERSON, CAR, VOID) = (0, 1, 2, 5, 8, 9, 10, 11, 13, 19)


def street(size: tuple[int, int], queries: int = 64, slope: float = 2.0, seed: int = 0) -> dict[str, np.ndarray]:
    """Outputs of a segmenter.

    Args:
        size: (h, w) of the mask logits.
        slope: by how much logits fall per node across a border.
    """
    rng = np.random.default_rng(seed)
    owner, classes = _paint(size, rng)
    masks = rng.normal(LOWEST, 1, (queries, 1, 1)) + np.zeros((queries, *size))
    for query in classes:
        inside = (owner == query).astype(np.uint8)
        if inside.any():
            distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
            small = cv2.resize(distance, size[::-1], interpolation=cv2.INTER_AREA) / FINE
            masks[query] = np.clip(small * slope, LOWEST, HIGHEST)
    masks += rng.normal(0, 0.3, masks.shape)
    logits = rng.normal(0, 0.7, (queries, VOID + 1))
    for query in range(queries):
        logits[query, classes.get(query, VOID)] += 7
    return {
        "class_logits": logits[None].astype(np.float32),
        "mask_logits": masks[None].astype(np.float32),
        "query_embeddings": rng.normal(size=(1, queries, 128)).astype(np.float32),
    }


def _paint(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, dict[int, int]]:
    """Which query owns each pixel, and the class of each query: what is near is painted over what is far."""
    height, width = size[0] * FINE, size[1] * FINE
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x / width * 10, y / height * 3
    horizon = 1.35 + 0.08 * np.sin(2 * x)
    roofs = 0.5 + 0.25 * np.sin(1.7 * x) + 0.1 * np.sin(9 * x)
    stuff = [
        (SKY, y >= 0),
        (BUILDING, (y > roofs) & (x < 4.2)),
        (VEGETATION, (y > roofs + 0.3) & (x > 5.5)),
        (TERRAIN, y > horizon),
        (SIDEWALK, y > horizon + 0.12 * (1 + 0.1 * np.abs(x - 5))),
        (ROAD, (y > horizon) & (np.abs(x - 5) < 1 + 4 * (y - horizon))),
        (POLE, (np.abs(x - 2.2) < 0.05) & (y > 0.4) & (y < 1.6)),
        (POLE, (np.abs(x - 8.1) < 0.06) & (y > 0.3) & (y < 1.7)),
    ]
    things = []
    for i in range(THINGS):
        foot = 1.35 + 1.2 * (i / THINGS) ** 2
        size_here, centre = foot - 1.15, rng.uniform(0.2, 9.8)
        kind, wide, high = (CAR, 1.0, 0.45) if rng.random() < 0.6 else (PERSON, 0.18, 0.55)
        inside = np.abs((x - centre) / (wide * size_here)) ** 3 + np.abs((y - foot) / (high * size_here)) ** 3 < 1
        things.append((kind, inside))
    owner = np.zeros((height, width), np.int64)
    for query, (_, inside) in enumerate(stuff + things):
        owner[inside] = query
    return owner, {query: kind for query, (kind, _) in enumerate(stuff + things)}
