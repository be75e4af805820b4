"""How alike two objects are: by place, by appearance, by pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def location_similarity(
    boxes: NDArray[np.float64], predicted: NDArray[np.float64], temperature: float
) -> NDArray[np.float32]:
    """exp(-||b_i - b_j||^2 / T), float [K, M], of boxes [K, 4] and [M, 4] divided by the image's size.

    Video-kMaX equation 5, first factor.
    """
    # -|b - c|^2 = 2 b.c - |b|^2 - |c|^2, as one product of matrices.
    left, right = np.empty((len(boxes), 6)), np.empty((6, len(predicted)))
    left[:, :4], left[:, 4], left[:, 5] = boxes * 2, (boxes * boxes).sum(axis=1), 1
    right[:4], right[4], right[5] = predicted.T, -1, -(predicted * predicted).sum(axis=1)
    right *= 1 / temperature
    exponent = (left @ right).astype(np.float32)
    return np.exp(exponent, out=exponent)


def appearance_similarity(
    vectors: NDArray[np.float32],
    lengths: NDArray[np.float32],
    stored: NDArray[np.float32],
    stored_lengths: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Cosine, float [K, M], of vectors [K, D] and [M, D] and their lengths; 1 where a length is 0: unknown.

    Video-kMaX equation 5, second factor; an object of unknown appearance is judged by its place alone.
    """
    cosine = vectors @ stored.T
    scale = lengths[:, None] * stored_lengths
    if scale.all():
        cosine /= scale
        return cosine
    return np.divide(cosine, scale, out=np.ones_like(scale), where=scale > 0)


def overlap(labels: NDArray, others: NDArray, count: int, other_count: int) -> NDArray[np.int64]:
    """Pixels that label i of one map shares with label j of the other, int64 [count + 1, other_count + 1].

    Both maps [h, w] hold 0 (nothing) and 1..count; the joint histogram is one pass, whatever the number of objects.
    """
    pairs = labels.astype(np.int32).ravel()
    pairs *= other_count + 1
    pairs += others.ravel()
    joint = np.bincount(pairs, minlength=(count + 1) * (other_count + 1))
    return joint.reshape(count + 1, other_count + 1)


def dice(joint: NDArray[np.int64]) -> NDArray[np.float64]:
    """2 |P and G| / (|P| + |G|), float [M, K], of a joint histogram [M + 1, K + 1] (first row and column: nothing).

    HybridTracker equation 7 for binary masks; 0 where both are empty.
    """
    total = joint.sum(axis=1)[1:, None] + joint.sum(axis=0)[1:]
    return 2.0 * joint[1:, 1:] / np.maximum(total, 1)
