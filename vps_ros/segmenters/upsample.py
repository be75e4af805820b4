"""Which queries claim which camera pixels: bilinear upsampling of mask logits, evaluated only where it can matter.

What is computed is defined densely. Let l_q be the logits of query q upsampled bilinearly (half-pixel centres, as
torch's interpolate with align_corners=False) to camera resolution, without the padding's part, and

    p_q = softmax over all queries of l        (`softmax_claims`, kMaX-DeepLab), or
    p_q = sigmoid(l_q)                         (sigmoid.py, Mask2Former).

Query q claims a pixel where p_q > threshold. With `exclusive`, a pixel goes to one query at most: of softmax masks to
the one with the largest p_q over all queries, if that one claims it; of sigmoid masks to the one with the largest
class score * p_q among those that claim it.

Most pixels need no evaluation. A pixel's logits are a convex combination of those at the four nodes around it, so

- l_q > l_r at the four nodes implies the same at every pixel between them, and so does l_q < l_r;
- log sum_r exp(l_r - l_q) is convex, so that p_q > s at the four nodes implies p_q > s at every pixel between them;
  with s = max(threshold, 1 - threshold) no other query can then claim any of these pixels.

Cells where this decides are certain. Elsewhere few queries matter: two in most cells, where one interpolated
difference decides. What the others may add to the softmax is bounded from above, since log sum exp of interpolated
logits is at most the interpolated log sum exp; pixels at which that bound could change the outcome are evaluated with
every query. The result equals the dense one up to the rounding of float32 (test/test_upsampling.py).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.claims import Claims, ClaimTable, logit, values_at
from vps_ros.segmenters.grid import Grid

_NEGLIGIBLE = 10.0
"""A query that stays this far below the largest logit at every node is left out, and bounded with the rest."""
_LOOSE = 0.06
"""Largest bound on what queries besides the first two add, relative to those two, to treat a cell as theirs alone."""
_NAMED = 4
"""Queries evaluated by name in a cell where two do not suffice; the others are bounded together."""
_CHUNK = 1 << 14
_ROUNDING = 3e-7
"""More than a difference of float32 probabilities can be wrong by."""
_FOUR = np.arange(4)[:, None]


def softmax_claims(
    logits: NDArray[np.float32], candidates: NDArray[np.int64], grid: Grid, threshold: float, exclusive: bool
) -> Claims:
    """Claims of softmax masks.

    Args:
        logits: float32 [N, h, w], finite.
        candidates: int [Q] queries whose claims are wanted; the others take part in the softmax only.
        threshold: least probability.
        exclusive: see the module.
    """
    field_ = _SoftmaxField(logits, candidates)
    bound = threshold if exclusive else max(threshold, 1 - threshold)
    winner = np.where(field_.total * bound < 1, field_.winner, -1)
    around = winner.take(grid.corners)
    certain = (around[0] >= 0) & (around[0] == around[1]) & (around[0] == around[2]) & (around[0] == around[3])
    area = grid.area.ravel()
    queries = len(field_.rows)
    table = ClaimTable(grid, len(candidates))
    cell_entry = np.where(certain, around[0], -1)
    table.add(field_.rows, np.arange(queries), np.bincount(cell_entry + 1, area, queries + 1)[1:])
    open_cells = np.flatnonzero(~certain & (area > 0))
    doubtful: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    if len(open_cells):
        # With at most this slack, none of the others reaches the threshold itself.
        loose = _LOOSE if exclusive else min(_LOOSE, threshold)
        corners = _Corners(field_, grid, open_cells, loose)
        for claim, places in ((_claim_pairs, corners.is_pair), (_claim_groups, ~corners.is_pair)):
            if places.any():
                doubtful.append(claim(table, corners, np.flatnonzero(places), threshold, exclusive))
    rows, columns = (np.concatenate([d[i] for d in doubtful]) if doubtful else np.zeros(0, np.int64) for i in (0, 1))
    alone = np.nonzero(field_.at_pixels(grid, rows, columns, threshold, exclusive))
    first = table.add(*alone, np.ones(len(rows)))
    return table.claims(cell_entry, (rows, columns, first + np.arange(len(rows))))


class _SoftmaxField:
    """Mask logits at the nodes, without the queries that matter at none.

    Logits are kept relative to the largest of their node. That changes no softmax, at pixels neither, and keeps what
    matters small, so that probabilities are right to the last digits of float32.

    Attributes:
        logits: float32 [n, nodes] of the queries that matter.
        rows: int64 [n], candidate of each of them; Q for those that are none.
        winner: int64 [nodes], the query with the largest logit.
        total: float32 [nodes], sum over queries of exp(logit).
        log_sum: float32 [nodes], log sum exp.
        unnamed: at most what the queries left out add to the softmax at any node.
    """

    def __init__(self, logits: NDArray[np.float32], candidates: NDArray[np.int64]) -> None:
        flat = logits.reshape(len(logits), -1)
        self.candidates = len(candidates)
        self._all = self.logits = flat - flat.max(0)
        self._all_rows = self.rows = np.full(len(logits), len(candidates))
        self.rows[candidates] = np.arange(len(candidates))
        nearest = self.logits.max(1)
        alive = nearest > -_NEGLIGIBLE
        if not alive.all():
            self.logits, self.rows = self._all[alive], self._all_rows[alive]
        lost = nearest[~alive]
        self._log_unnamed = float(np.logaddexp.reduce(lost)) if len(lost) else -math.inf
        self.unnamed = math.exp(max(self._log_unnamed, -80))
        # Much faster than argmax over the slow axis; backwards, so that of equals the first stays.
        query, node = np.divmod(np.flatnonzero(self.logits == 0)[::-1], flat.shape[1])
        self.winner = np.empty(flat.shape[1], np.int64)
        self.winner[node] = query
        self.total = np.exp(self.logits).sum(0)
        self.log_sum = np.log(self.total)

    def at_pixels(self, grid: Grid, rows, columns, threshold: float, exclusive: bool) -> NDArray[np.bool_]:
        """bool [Q, P]: claims of the candidates at single pixels, with every query in the softmax."""
        claims = np.zeros((self.candidates + 1, len(rows)), bool)
        pruned = len(self.logits) < len(self._all)
        for start in range(0, len(rows), _CHUNK):
            part = np.arange(start, min(start + _CHUNK, len(rows)))
            value, top = _exp_at(self.logits, grid, rows[part], columns[part])
            total = value.sum(0)
            log_sum = values_at(self.log_sum[None], grid, rows[part], columns[part])[0]
            # Far above the largest logit, any bound says no more than that every query has to be asked.
            extra = np.exp(np.clip(self._log_unnamed + log_sum - top, -100, 80)) if pruned else np.zeros_like(top)
            claimed, at_most = value > threshold * (total + extra), value > threshold * total
            doubt = (claimed != at_most).any(0) | (extra * (1 - threshold) >= threshold * total) | (extra >= 1)
            claims[self.rows[:, None], part] = _largest(claimed, value) if exclusive else claimed
            if pruned and doubt.any():
                part = part[doubt]
                value, _ = _exp_at(self._all, grid, rows[part], columns[part])
                claimed = value > threshold * value.sum(0)
                claims[self._all_rows[:, None], part] = _largest(claimed, value) if exclusive else claimed
        return claims[:-1]


def _exp_at(nodes: NDArray[np.float32], grid: Grid, rows, columns) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[n, P] exponentials of the values at pixels, relative to the largest, and [P] the largest."""
    value = values_at(nodes, grid, rows, columns)
    top = value.max(0)
    value -= top
    return np.exp(value, out=value), top


def _largest(claimed: NDArray[np.bool_], value: NDArray[np.float32]) -> NDArray[np.bool_]:
    return claimed & (np.arange(len(value))[:, None] == value.argmax(0))


class _Corners:
    """Log probabilities at the corners of U cells, and which queries matter in each cell.

    Attributes:
        log_p: float32 [n, 4, U].
        is_pair: bool [U], where two queries outweigh the rest so far that their difference decides.
        pair: int64 [2, U], the two queries with the largest probability at any corner.
        difference: float32 [4, U], log probability of the first minus that of the second.
        slack: float32 [U], what the others add at most, relative to the two.
        rest: float32 [4, U], at least the probability of all the others.
    """

    def __init__(self, field_: _SoftmaxField, grid: Grid, cells: NDArray[np.int64], loose: float) -> None:
        """`loose`: largest slack of a pair."""
        self.field, self.grid, self.cells = field_, grid, cells
        nodes = grid.corners.take(cells, axis=1)
        self.log_p = field_.logits.take(nodes, axis=1)
        self.log_p -= field_.log_sum.take(nodes)
        self._highest = np.ascontiguousarray(self.log_p.max(1).T)
        self.is_pair = np.zeros(len(cells), bool)
        self.rest = np.ones((4, len(cells)), np.float32)
        self.pair = np.zeros((0, len(cells)), np.int64)
        if len(self.log_p) >= 2:
            self._find_pairs(loose)

    def _find_pairs(self, loose: float) -> None:
        """Cells in which two queries outweigh the rest at every pixel.

        With e = exp(log p): the rest is at most exp(interpolated log rest), the two together are at least
        2 sqrt(e_a e_b), so that log(rest / two) is at most an interpolated value, hence at most its largest corner.
        """
        self.pair = np.stack([_next(self._highest), _next(self._highest)])
        first, second = self.of(self.pair, np.arange(len(self.cells)))
        self.rest = 1 - np.exp(first) - np.exp(second)
        np.maximum(self.rest, 0, out=self.rest)
        self.rest += np.float32(self.field.unnamed + _ROUNDING)
        with np.errstate(over="ignore"):
            self.slack = np.exp((np.log(self.rest) - (first + second) / 2).max(0)) / 2
        self.is_pair = self.slack < loose
        self.difference = first - second

    def of(self, queries: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float32]:
        """[k, 4, places] log probabilities of `queries` [k, places]."""
        return self.log_p[queries[:, None], _FOUR, places]

    def named(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """For places where two do not suffice: [k, places] queries to evaluate, ascending, and log rest [4, places]."""
        highest = self._highest.take(places, axis=0)
        more = [_next(highest) for _ in range(min(_NAMED, len(self.log_p)) - len(self.pair))]
        queries = np.concatenate([self.pair.take(places, axis=1), np.array(more, np.int64).reshape(-1, len(places))])
        rest = self.rest.take(places, axis=1)
        left = rest - np.exp(self.of(queries[len(self.pair) :], places)).sum(0)
        np.maximum(left, 0, out=left)
        return np.sort(queries, axis=0), np.log(left + np.float32(self.field.unnamed + _ROUNDING))


def _next(highest: NDArray[np.float32]) -> NDArray[np.int64]:
    """[U] the largest of each row of `highest` [U, n], which is then out of the running."""
    best = highest.argmax(1)
    highest[np.arange(len(highest)), best] = -np.inf
    return best


def _claim_pairs(table: ClaimTable, corners: _Corners, places, threshold: float, exclusive: bool):
    """Cells of two queries: a and b claim where l_a - l_b exceeds a bound; gives the pixels in doubt."""
    first, second = corners.pair.take(places, axis=1)
    local = np.stack([np.minimum(first, second), np.maximum(first, second)])
    difference = corners.difference.take(places, axis=1)
    difference *= np.where(first > second, np.float32(-1), np.float32(1))
    # With p_a = 1 / (1 + exp(-d) + rest / e_a): claimed at most where the rest is nothing, surely where it is `slack`.
    low, high = logit(threshold), _logits(threshold * (1 + corners.slack[places]))
    if exclusive:
        low, high = max(low, 0.0), np.maximum(high, 0)
    block = Blocks(corners.grid, corners.cells[places])
    d = block.interpolate(difference)
    low, high = np.float32(low), high.astype(np.float32)
    # Of equals the first gets the pixel.
    first_low, first_high = (_just_below(low), _just_below(high)) if exclusive else (low, high)
    first, second = d > first_high, d < -high
    doubt = (d > first_low) ^ first
    doubt |= (d < -low) ^ second
    block.claim([first, second], 1 if exclusive else _together(threshold))
    return _settle(table, block, corners.field.rows[local], doubt)


def _claim_groups(table: ClaimTable, corners: _Corners, places, threshold: float, exclusive: bool):
    """Cells of k queries by name and a bound for the rest; gives the pixels in doubt."""
    local, rest = corners.named(places)
    k = len(local)
    block = Blocks(corners.grid, corners.cells[places])
    value = block.interpolate(np.concatenate([corners.of(local, places), rest[None]]))
    np.exp(value, out=value)
    most, bound = value[:k], value[k]
    total = most.sum(0)
    doubt = bound * (1 - threshold) >= threshold * total
    doubt |= total < 1e-30
    largest = most.max(0) if exclusive else None
    if exclusive:
        doubt |= bound >= largest
        taken = np.zeros(doubt.shape, bool)
    at_most = threshold * total
    at_least = threshold * (total + bound)
    claims = []
    for i in range(k):
        claimed = most[i] > at_least
        differs = (most[i] > at_most) ^ claimed
        if exclusive:
            best = (most[i] == largest) & ~taken
            taken |= best
            claimed &= best
            differs &= best
        doubt |= differs
        claims.append(claimed)
    block.claim(claims, 1 if exclusive else _together(threshold))
    return _settle(table, block, corners.field.rows[local], doubt)


def _settle(table: ClaimTable, block: Blocks, local, doubt: NDArray[np.bool_]):
    """Adds the block's entries; pixels in doubt are taken out of them and given back."""
    if not doubt.any():
        table.add_blocks(block, local)
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    block.release(doubt)
    table.add_blocks(block, local)
    return block.pick(doubt)


def _together(threshold: float) -> int:
    """How many probabilities that sum to one can exceed the threshold."""
    return int(1 / threshold) if threshold > 1e-3 else 1000


def _just_below(value):
    return np.nextafter(value, np.float32(-np.inf))


def _logits(p: NDArray) -> NDArray:
    with np.errstate(divide="ignore"):
        p = np.clip(p.astype(np.float64), 0, 1)
        return np.log(p) - np.log1p(-p)
