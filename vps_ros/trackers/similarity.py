"""Similarities of tracks and detections: location, appearance, masks and boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_GATHER_COST = 12
"""Time of one dot product of gathered vectors, relative to that of one element of a matrix product (measured)."""
_RATIO_LIMITS = (-6.0, 4.0)


def location_similarity(
    boxes: NDArray[np.float64], predicted: NDArray[np.float64], temperature: float
) -> NDArray[np.float32]:
    """exp(-||b_i - b_j||^2 / T), float [K, M], of boxes [K, 4] and [M, 4] divided by the image's size.

    Video-kMaX equation 5, first factor.
    """
    # -|b - c|^2 = 2 b.c - |b|^2 - |c|^2 is one matrix product.
    left, right = np.empty((len(boxes), 6)), np.empty((6, len(predicted)))
    left[:, :4], left[:, 4], left[:, 5] = boxes * 2, (boxes * boxes).sum(axis=1), 1
    right[:4], right[4], right[5] = predicted.T, -1, -(predicted * predicted).sum(axis=1)
    right *= 1 / temperature
    exponent = (left @ right).astype(np.float32)
    return np.exp(exponent, out=exponent)


def appearance_similarity(
    vectors: NDArray[np.float32],
    norms: NDArray[np.float32],
    stored: NDArray[np.float32],
    stored_norms: NDArray[np.float32],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.float32]:
    """Cosine, float [P], of the `pairs` of vectors [K, D] and [M, D]; 1 where one is unknown, that is, has norm 0.

    Video-kMaX equation 5, second factor; with the factor 1 the location alone decides.
    """
    k, m = pairs
    scale = norms[k] * stored_norms[m]
    return np.divide(dots(vectors, stored, pairs), scale, out=np.ones_like(scale), where=scale > 0)


def dots(
    vectors: NDArray[np.float32], others: NDArray[np.float32], pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.float32]:
    """Dot products, float [P], of the `pairs` of vectors [K, D] and [M, D]."""
    k, m = pairs
    # A matrix product is faster for each pair than gathering the two vectors, but computes all pairs.
    if len(k) * _GATHER_COST < len(vectors) * len(others):
        return np.einsum("pd,pd->p", vectors.take(k, axis=0), others.take(m, axis=0))
    return (vectors @ others.T)[k, m]


def overlap(labels: NDArray, others: NDArray, count: int, other_count: int) -> NDArray[np.int64]:
    """Joint histogram of two label maps: pixels that label i shares with label j, int64 [count + 1, other_count + 1].

    Args:
        labels: [h, w], with values 0 (no object) to count and to other_count.
        others: as `labels`.
    """
    width = other_count + 1
    cells = (count + 1) * width
    # The smallest integer type is the fastest. Pixels that are 0 in both maps are counted without the histogram.
    pairs = labels.astype(np.uint16 if cells <= 2**16 else np.int64).ravel()
    pairs *= pairs.dtype.type(width)
    pairs += others.ravel().astype(pairs.dtype, copy=False)
    some = pairs[pairs != 0]
    joint = np.bincount(some, minlength=cells)
    joint[0] = pairs.size - some.size
    return joint.reshape(count + 1, width)


def dice(joint: NDArray[np.int64]) -> NDArray[np.float64]:
    """2 |P and G| / (|P| + |G|), float [M, K], of a joint histogram [M + 1, K + 1] (first row and column: no object).

    HybridTracker equation 7 for binary masks; 0 where both are empty.
    """
    total = joint.sum(axis=1)[1:, None] + joint.sum(axis=0)[1:]
    return 2.0 * joint[1:, 1:] / np.maximum(total, 1)


def iou(joint: NDArray[np.int64]) -> NDArray[np.float64]:
    """|P and G| / |P or G|, float [M, K], of a joint histogram as `dice` takes it."""
    total = joint.sum(axis=1)[1:, None] + joint.sum(axis=0)[1:]
    return joint[1:, 1:] / np.maximum(total - joint[1:, 1:], 1)


def box_iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union, float [...], of boxes [..., 4] x0 y0 x1 y1, broadcast; 0 where both are empty."""
    width, height = (
        np.maximum(np.minimum(boxes[..., a + 2], others[..., a + 2]) - np.maximum(boxes[..., a], others[..., a]), 0)
        for a in (0, 1)
    )
    both = width * height
    area, other_area = ((b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (boxes, others))
    either = area + other_area - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def bidirectional_softmax(products: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean of the softmax over rows and of the softmax over columns, float [M, K], of dot products [M, K].

    Quasi-dense tracking (Pang et al., CVPR 2021): it is high only where each is the best match of the other.
    """
    if products.size == 0:
        return np.zeros(products.shape)
    return (_softmax(products, 0) + _softmax(products, 1)) / 2


def cosine_log_likelihood_ratio(
    cosine: NDArray[np.floating], same: Sequence[float], different: Sequence[float]
) -> NDArray[np.float64]:
    """log p(cosine | same object) - log p(cosine | different objects), within limits, of normal distributions.

    Args:
        cosine: of two appearances.
        same, different: mean and variance of both distributions.
    """
    (same_mean, same_variance), (different_mean, variance) = same, different
    # A cosine above the mean of the same object counts as the mean: more similarity never lowers the likelihood.
    below, above = np.minimum(cosine, same_mean) - same_mean, cosine - different_mean
    ratio = above * above * (0.5 / variance) - below * below * (0.5 / same_variance)
    ratio += 0.5 * math.log(variance / same_variance)
    return np.minimum(np.maximum(ratio, _RATIO_LIMITS[0]), _RATIO_LIMITS[1])


def _softmax(values: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)
