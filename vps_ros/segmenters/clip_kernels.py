"""Clip-level aggregation of mask kernels: one kernel for each object and stuff class of a clip, for all its frames.

Source: Miao et al., VIPSeg (CVPR 2022), section 4.2, "Clip-fused Kernel".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_LEAST_NORM = 1e-12


def fuse_kernels(
    frames: Sequence[Mapping[str, NDArray]], isthing: NDArray[np.bool_], least_cosine: float
) -> dict[str, NDArray[np.float32]]:
    """The queries of a clip, M of them, from those of its frames.

    Queries of one thing class become one if the cosine of their embeddings, or of their kernels without embeddings,
    is at least `least_cosine`. The paper compares kernels, which it trains to be similar for one object; embeddings
    are trained for this alone. Of a group, the query with the highest score comes first, and the others are compared
    with it. Stuff queries are averaged if they have the same place among the queries and the same class. A fused query
    has the mean kernel, class logits and embedding of its group. Queries whose most likely class is void are left out.

    Args:
        frames: outputs of the network for each frame: class_logits [1, N, C + 1], mask_kernels [1, N, D], and
            optionally query_embeddings [1, N, E].
        isthing: bool [C], of each class.

    Returns:
        class_logits [1, M, C + 1], mask_kernels [1, M, D], and query_embeddings [1, M, E] if the frames have them.
        Without any query one that is void is returned, M = 1.
    """
    names = [name for name in ("class_logits", "mask_kernels", "query_embeddings") if name in frames[0]]
    rows = {name: np.concatenate([frame[name][0] for frame in frames]).astype(np.float32) for name in names}
    logits = rows["class_logits"]
    count, void = len(isthing), logits.shape[1] - 1
    columns = logits.argmax(axis=1)
    used = np.flatnonzero(columns != void)
    is_thing = np.append(isthing, False)[columns]
    query = np.tile(np.arange(len(logits) // len(frames)), len(frames))
    # Of equal scores, the earlier frame and the earlier query come first.
    order = used[np.argsort(-_probability(logits, columns)[used], kind="stable")]
    groups = _similar(order[is_thing[order]], rows.get("query_embeddings", rows["mask_kernels"]), columns, least_cosine)
    stuff = order[~is_thing[order]]
    _, same = np.unique(query[stuff] * (count + 1) + columns[stuff], return_inverse=True)
    groups += [stuff[same == one] for one in range(same.max(initial=-1) + 1)]
    if not groups:
        nothing = {name: np.zeros((1, 1, values.shape[1]), np.float32) for name, values in rows.items()}
        nothing["class_logits"][..., void] = 1
        return nothing
    return {name: np.stack([values[group].mean(axis=0) for group in groups])[None] for name, values in rows.items()}


def _similar(
    order: NDArray[np.int64], vectors: NDArray[np.float32], columns: NDArray[np.int64], least_cosine: float
) -> list[NDArray[np.int64]]:
    """Groups of the rows `order`, best first: each with the later rows of its class that are similar to it."""
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _LEAST_NORM)
    groups = []
    while len(order):
        first = order[0]
        alike = (units[order] @ units[first] >= least_cosine) & (columns[order] == columns[first])
        alike[0] = True
        groups.append(order[alike])
        order = order[~alike]
    return groups


def _probability(logits: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Softmax probability [N] of one column of each row."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers[np.arange(len(logits)), columns] / powers.sum(axis=1)
