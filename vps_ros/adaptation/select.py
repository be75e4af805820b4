"""Which frames of unlabelled recordings to learn from: novel ones, and those where the model is unsteady or wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import Segmentation

BASE = 0.2
"""Weight of novelty where neither flicker nor disagreement is seen. Chosen."""


@dataclass(frozen=True)
class Observed:
    """What is known of each of F frames of one recording.

    Attributes:
        features: float32 [F, D], of the content of the frame.
        disagreement: float32 [F], share of pixels to which teacher and student give different classes.
        flicker: float32 [F], share of pixels whose class changes from the frame before for the student but not for the
            teacher; 0 for the first frame.
    """

    features: NDArray[np.float32]
    disagreement: NDArray[np.float32]
    flicker: NDArray[np.float32]


def feature(segmentation: Segmentation, classes: int) -> NDArray[np.float32]:
    """float32 [D]: mean embedding of the things, of length 1, and square roots of the shares of the classes.

    Without embeddings it is the shares alone. Their square roots have length 1, too, so both parts weigh the same.
    """
    shares = np.bincount(segmentation.class_ids, segmentation.areas, classes)[:classes] / segmentation.map.size
    parts = [np.sqrt(shares)]
    if segmentation.embeddings is not None:
        vectors = segmentation.embeddings[segmentation.is_thing].astype(np.float64)
        mean = vectors.mean(0) if len(vectors) else np.zeros(segmentation.embeddings.shape[1])
        parts.append(mean / max(float(np.linalg.norm(mean)), 1e-6))
    return np.concatenate(parts).astype(np.float32)


def select(recordings: list[Observed], count: int, length: int) -> list[tuple[int, int]]:
    """(recording, first frame) of the clips to label, the most informative first.

    Each is the clip with the largest product of novelty, the distance of its middle frame to the nearest chosen one,
    and BASE + disagreement + flicker (farthest-first traversal: Sener and Savarese, Active Learning for Convolutional
    Neural Networks: A Core-Set Approach, ICLR 2018). Clips do not overlap.

    Args:
        count: of clips; fewer are returned where there are fewer.
        length: frames of a clip.
    """
    places = [(r, f) for r, one in enumerate(recordings) for f in range(len(one.disagreement) - length + 1)]
    if not places:
        return []
    recording, frame = np.array(places).T
    middle = length // 2
    features = np.array([recordings[r].features[f + middle] for r, f in places])
    value = np.array(
        [
            BASE + recordings[r].disagreement[f : f + length].mean() + recordings[r].flicker[f : f + length].mean()
            for r, f in places
        ]
    )
    distance = np.linalg.norm(features - features.mean(0), axis=1)
    # Of equal frames, the one with the larger value is still chosen.
    distance += 1e-6
    free = np.ones(len(places), bool)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < count and free.any():
        best = int(np.where(free, distance * value, -1).argmax())
        r, f = places[best]
        chosen.append((r, f))
        free &= (recording != r) | (abs(frame - f) >= length)
        new = np.linalg.norm(features - features[best], axis=1) + 1e-6
        distance = np.minimum(distance, new) if len(chosen) > 1 else new
    return chosen
