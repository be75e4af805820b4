"""Softmax masks at the nodes of the mask logits, and at single pixels between them."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.claims import values_at
from vps_ros.segmenters.grid import Grid
from vps_ros.segmenters.largest import Maps

_NEGLIGIBLE = 10.0
"""A query that stays this far below the largest logit at every node is left out, and bounded with the rest."""
_CHUNK = 1 << 14


class SoftmaxField:
    """Mask logits at the nodes, without the queries that matter at none.

    Logits are kept relative to the largest of their node. That changes no softmax, at pixels neither, and keeps what
    matters small, so that probabilities are right to the last digits of float32.

    Args:
        logits: float32 [N, h, w], finite.

    Attributes:
        queries: int64 [n], those that matter.
        logits: float32 [n, nodes].
        winner: int64 [nodes], place in `queries` of the one with the largest logit.
        total: float32 [nodes], sum over queries of exp(logit).
    """

    def __init__(self, logits: NDArray[np.float32]) -> None:
        flat = logits.reshape(len(logits), -1)
        self._all = self.logits = flat - flat.max(0)
        nearest = self._all.max(1)
        alive = nearest > -_NEGLIGIBLE
        self.queries = np.flatnonzero(alive)
        if len(self.queries) < len(flat):
            self.logits = self._all.take(self.queries, axis=0)
        self._lost = nearest[~alive]
        # Much faster than argmax over the slow axis; backwards, so that of equals the first stays.
        query, node = np.divmod(np.flatnonzero(self.logits == 0)[::-1], flat.shape[1])
        self.winner = np.empty(flat.shape[1], np.int64)
        self.winner[node] = query
        self._power = np.exp(self.logits)
        self.total = self._power.sum(0)

    @cached_property
    def log_sum(self) -> NDArray[np.float32]:
        """float32 [nodes], log sum exp."""
        return np.log(self.total)

    @cached_property
    def _log_unnamed(self) -> float:
        return float(np.logaddexp.reduce(self._lost)) if len(self._lost) else -math.inf

    @property
    def unnamed(self) -> float:
        """At most what the queries left out add to the softmax at any node."""
        return math.exp(max(self._log_unnamed, -80))

    @property
    def maps(self) -> Maps:
        """The logits, for where only the largest counts."""
        bound = float(self._lost.max()) if len(self._lost) else -math.inf
        return Maps(self._all, self.queries, self.logits, self.winner, bound)

    def rows_of(self, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
        """[N] place of each query in `candidates`; their number for the others."""
        rows = np.full(len(self._all), len(candidates))
        rows[candidates] = np.arange(len(candidates))
        return rows

    def mask_scores(self, chosen: NDArray[np.int64], threshold: float, exclusive: bool) -> NDArray[np.float64]:
        """[len(chosen)] mean probability over the nodes where it exceeds the threshold; 0 where it does at none.

        With `exclusive` over those of them that the query wins: below a threshold of 1/2 others may own the rest, and
        an object's score would fall with its share of the image.
        """
        if not exclusive:
            return mean_above(np.exp(self._all.take(chosen, axis=0)) / self.total, threshold)
        # Relative to the largest logit, which is theirs.
        p = 1 / self.total
        inside = p > threshold
        n = len(self.queries)
        owned = np.bincount(self.winner, inside, n)
        scores = np.zeros(len(self._all))
        scores[self.queries] = np.bincount(self.winner, p * inside, n) / np.maximum(owned, 1)
        return scores.take(chosen)

    def at_pixels(
        self, grid: Grid, rows, columns, candidates: NDArray[np.int64], threshold: float, exclusive: bool
    ) -> NDArray[np.bool_]:
        """bool [Q, P]: claims of the candidates at single pixels, with every query in the softmax."""
        row = self.rows_of(candidates)
        claims = np.zeros((len(candidates) + 1, len(rows)), bool)
        pruned = len(self.queries) < len(self._all)
        for start in range(0, len(rows), _CHUNK):
            part = np.arange(start, min(start + _CHUNK, len(rows)))
            value, top = _exp_at(self.logits, grid, rows[part], columns[part])
            total = value.sum(0)
            log_sum = values_at(self.log_sum[None], grid, rows[part], columns[part])[0]
            # Far above the largest logit, any bound says no more than that every query has to be asked.
            extra = np.exp(np.clip(self._log_unnamed + log_sum - top, -100, 80)) if pruned else np.zeros_like(top)
            claimed, at_most = value > threshold * (total + extra), value > threshold * total
            doubt = (claimed != at_most).any(0) | (extra * (1 - threshold) >= threshold * total) | (extra >= 1)
            claims[row[self.queries, None], part] = _largest(claimed, value) if exclusive else claimed
            if pruned and doubt.any():
                part = part[doubt]
                value, _ = _exp_at(self._all, grid, rows[part], columns[part])
                claimed = value > threshold * value.sum(0)
                claims[row[:, None], part] = _largest(claimed, value) if exclusive else claimed
        return claims[:-1]


def mean_above(p: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """[Q] mean of each row of `p` over the values above the threshold; 0 where there is none."""
    inside = (p > threshold).astype(np.float32)
    return np.einsum("qn,qn->q", p, inside) / np.maximum(inside.sum(1), 1)


def _exp_at(nodes: NDArray[np.float32], grid: Grid, rows, columns) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[n, P] exponentials of the values at pixels, relative to the largest, and [P] the largest."""
    value = values_at(nodes, grid, rows, columns)
    top = value.max(0)
    value -= top
    return np.exp(value, out=value), top


def _largest(claimed: NDArray[np.bool_], value: NDArray[np.float32]) -> NDArray[np.bool_]:
    return claimed & (np.arange(len(value))[:, None] == value.argmax(0))
