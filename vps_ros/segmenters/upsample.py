"""Which queries claim which camera pixels: bilinear upsampling of mask logits, evaluated only where it can matter.

What is computed is defined densely. Let l_q be the logits of query q upsampled bilinearly (grid.py says which pixel
lies where) to camera resolution, without the padding's part, and

    p_q = softmax over all queries of l        (`softmax_claims`, kMaX-DeepLab), or
    p_q = sigmoid(l_q)                         (sigmoid.py, winners.py: Mask2Former, EoMT), or
    p_q = sigmoid(l_q) at the nodes, upsampled (winners.py, mode argmax: transformers' Mask2Former and others).

Query q claims a pixel where p_q > threshold. Where masks must not overlap, a pixel goes to one query at most: of
softmax masks to the one with the largest p_q over all queries, if that one claims it; of sigmoid masks to the candidate
with the largest class score * p_q, if that one claims it, and in mode argmax in any case. (In mode argmax, what must
exceed the threshold for a pixel to count as its mask's is the product with the class score.)

Most pixels need no evaluation; for sigmoid masks see winners.py, for softmax masks of which the largest claims its
pixel in any case, largest.py. A pixel's logits are a convex combination of those at the four nodes around it, so

- l_q > l_r at the four nodes implies the same at every pixel between them, and so does l_q < l_r;
- log sum_r exp(l_r - l_q) is convex, so that p_q > s at the four nodes implies p_q > s at every pixel between them;
  with s = max(threshold, 1 - threshold) no other query can then claim any of these pixels.

Cells where this decides are certain. Elsewhere few queries can claim anything, since p_q > threshold implies
l_q - l_r > log(threshold / (1 - threshold)) for every other query r. In most cells two queries outweigh the rest, and
one interpolated difference decides. In the others the queries that can claim are evaluated by name, and what the rest
adds to the softmax is bounded: log sum exp is convex, so it is at most the interpolated log sum exp of the corners,
and at least any tangent, which is linear in the logits and so interpolated exactly. Pixels at which these bounds
leave the outcome open are evaluated with every query. The result equals the dense one up to the rounding of float32
(test/test_upsampling.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.claims import Claims, ClaimTable, logit
from vps_ros.segmenters.grid import Grid
from vps_ros.segmenters.largest import largest_claims
from vps_ros.segmenters.softmax import SoftmaxField

_LOOSE = 0.06
"""Largest bound on what queries besides the first two add, relative to those two, to treat a cell as theirs alone."""
_NAMED = (3, 8)
"""Numbers of queries that are evaluated by name in a cell; the others are bounded together."""
_ROUNDING = 3e-7
"""More than a difference of float32 probabilities can be wrong by."""
_MARGIN = 1e-4
"""Kept from bounds of logits, so that rounding excludes nobody."""
_FIRST = np.float32(1e4)
_NOTHING = -1e3
"""Logarithm of what no query has."""
_FOUR = np.arange(4)[:, None]


def softmax_claims(
    masks: SoftmaxField, candidates: NDArray[np.int64], grid: Grid, threshold: float, exclusive: bool
) -> Claims:
    """Claims of softmax masks.

    Args:
        candidates: int [Q] queries whose claims are wanted; the others take part in the softmax only.
        threshold: least probability.
        exclusive: see the module.
    """
    rows = masks.rows_of(candidates)
    if exclusive and threshold * len(rows) < 1:
        # The largest of so many exceeds the threshold.
        return largest_claims(masks.maps, rows, len(candidates), grid)
    rows = rows.take(masks.queries)
    bound = threshold if exclusive else max(threshold, 1 - threshold)
    winner = np.where(masks.total * bound < 1, masks.winner, -1)
    around = winner.take(grid.corners)
    certain = (around[0] >= 0) & (around[0] == around[1]) & (around[0] == around[2]) & (around[0] == around[3])
    area = grid.area.ravel()
    queries = len(rows)
    table = ClaimTable(grid, len(candidates))
    cell_entry = np.where(certain, around[0], -1)
    table.add(rows, np.arange(queries), np.bincount(cell_entry + 1, area, queries + 1)[1:])
    open_cells = np.flatnonzero(~certain & (area > 0))
    doubtful: list[NDArray[np.int64]] = []
    if len(open_cells):
        corners = _Corners(masks, rows < len(candidates), grid, open_cells, threshold, exclusive)
        if corners.is_pair.any():
            doubtful.append(_claim_pairs(table, corners, rows, threshold, exclusive))
        for group in corners.groups():
            doubtful.append(_claim_group(table, corners, rows, group, threshold, exclusive))
    y, x = np.concatenate([np.zeros((2, 0), np.int64), *doubtful], axis=1)
    query, entry = np.nonzero(masks.at_pixels(grid, y, x, candidates, threshold, exclusive))
    first = table.add(query, entry, np.ones(len(y)))
    return table.claims(cell_entry, (y, x, first + np.arange(len(y))))


class _Corners:
    """Log probabilities at the corners of U cells, and which queries matter in each cell.

    Attributes:
        log_p: float32 [n, 4, U].
        is_pair: bool [U], where two queries outweigh the rest so far that their difference decides.
        pair: int64 [2, U], the two queries with the largest probability at any corner, of those that can claim first.
        difference: float32 [4, U], log probability of the first minus that of the second.
        slack: float32 [U], what the others add at most, relative to the two.
    """

    def __init__(
        self,
        masks: SoftmaxField,
        candidate: NDArray[np.bool_],
        grid: Grid,
        cells: NDArray[np.int64],
        threshold: float,
        exclusive: bool,
    ) -> None:
        """`candidate`: bool [n], whether a query is one."""
        self.masks, self.grid, self.cells = masks, grid, cells
        self._candidate, self._threshold, self._exclusive = candidate, threshold, exclusive
        nodes = grid.corners.take(cells, axis=1)
        self.log_p = masks.logits.take(nodes, axis=1)
        self.log_p -= masks.log_sum.take(nodes)
        self._highest = np.ascontiguousarray(self.log_p.max(1).T)
        self.is_pair = np.zeros(len(cells), bool)
        self.pair = np.zeros((0, len(cells)), np.int64)
        if len(self.log_p) >= 2:
            highest = self._highest.copy()
            self.pair = np.stack([_next(highest), _next(highest)])
        self._can = self._can_claim()
        if len(self.log_p) >= 2:
            if exclusive:
                highest = self._preferred(np.arange(len(cells)))
                self.pair = np.stack([_next(highest), _next(highest)])
            self._find_pairs()

    def _find_pairs(self) -> None:
        """Cells in which two queries outweigh the rest at every pixel, or nobody else can win one.

        With e = exp(log p): the rest is at most exp(interpolated log rest), the two together are at least
        2 sqrt(e_a e_b), so that log(rest / two) is at most an interpolated value, hence at most its largest corner.
        """
        first, second = self.of(self.pair, np.arange(len(self.cells)))
        rest = np.maximum(1 - np.exp(first) - np.exp(second), 0) + np.float32(self.masks.unnamed + _ROUNDING)
        with np.errstate(over="ignore"):
            self.slack = np.exp((np.log(rest) - (first + second) / 2).max(0)) / 2
        self.difference = first - second
        if not self._exclusive:
            # With at most this slack, none of the others reaches the threshold itself.
            self.is_pair = self.slack < min(_LOOSE, self._threshold)
            return
        self.is_pair = self.slack < _LOOSE
        # The larger of two has at least half of what is theirs, which with this slack exceeds the threshold.
        enough = 0.5 / self._threshold - 1 if self._threshold > 0 else np.inf
        self.is_pair |= (self._can.sum(0) == 2) & (self.slack < enough)

    def of(self, queries: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float32]:
        """[k, 4, places] log probabilities of `queries` [k, places]."""
        return self.log_p[queries[:, None], _FOUR, places]

    def groups(self) -> Iterator[_Group]:
        """The cells where two queries do not suffice, by the number of queries to evaluate."""
        places = np.flatnonzero(~self.is_pair)
        if not len(places):
            return
        count = self._can.take(places, axis=1).sum(0)
        sizes = np.unique(np.minimum(_NAMED, len(self.log_p)))
        preferred = self._preferred(places)
        wanted = sizes[np.minimum(np.searchsorted(sizes, count), len(sizes) - 1)]
        for k in sizes.tolist():
            which = np.flatnonzero(wanted == k)
            if len(which):
                ranking = preferred.take(which, axis=0)
                named = np.stack([_next(ranking) for _ in range(k)])
                if self._exclusive:
                    # Of equals the first gets the pixel.
                    named.sort(axis=0)
                there = places.take(which)
                at_most, at_least = self._rest(self.log_p.take(there, axis=2), named)
                # Queries that were left out as negligible at the nodes may still meet between them.
                complete = bool((count.take(which) <= k).all()) and not self.masks.unnamed
                yield _Group(there, named, self.of(named, there), at_most, at_least, complete)

    def _preferred(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """[places, n] largest log probability at any corner, those that can claim before all others."""
        return self._highest.take(places, axis=0) + np.where(self._can.take(places, axis=1).T, _FIRST, np.float32(0))

    def _can_claim(self) -> NDArray[np.bool_]:
        """bool [n, U]: whether a query can claim any pixel of a cell; none is left out that can."""
        least = logit(self._threshold)
        if self._exclusive:
            least = max(least, 0.0)
        everyone = np.arange(len(self.cells))
        can = np.ones((len(self.log_p), len(everyone)), bool)
        for reference in self.pair:
            ahead = (self.log_p - self.log_p[reference, _FOUR, everyone]).max(1) > least - _MARGIN
            ahead[reference, everyone] = True
            can &= ahead
        # Rivals for a pixel matter also where they are no candidates; where masks may overlap, they do not.
        return can if self._exclusive else can & self._candidate[:, None]

    def _rest(self, log_p: NDArray[np.float32], named: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
        """Bounds of the log probability of all queries but the named: [4, places] to be interpolated, each.

        At least: sum l q + entropy(l) for any distribution l over these queries (the tangent of log sum exp where the
        softmax is l); theirs on the average of the corners is a good one.
        """
        p = np.exp(log_p)
        p[named[:, None], _FOUR, np.arange(named.shape[1])] = 0
        rest = p.sum(0)
        weight = p.sum(1)
        weight += np.finfo(np.float32).tiny
        # The named must have none of it, also where the others underflow.
        weight[named, np.arange(named.shape[1])] = 0
        if len(weight) == len(named):
            return np.log(rest + np.float32(self.masks.unnamed)), np.full_like(rest, _NOTHING)
        weight /= weight.sum(0)
        entropy = (weight * np.log(weight, out=np.zeros_like(weight), where=weight > 0)).sum(0)
        with np.errstate(under="ignore"):
            at_least = np.einsum("nu,ncu->cu", weight, log_p) - entropy
        return np.log(rest + np.float32(self.masks.unnamed)), at_least


class _Group(NamedTuple):
    """Cells with the same number k of queries by name.

    Attributes:
        places: int64 [U].
        named: int64 [k, U] queries.
        log_p: float32 [k, 4, U] of these at the corners.
        rest_at_most, rest_at_least: float32 [4, U] bounds of the log probability of all others.
        complete: whether no other query can claim a pixel.
    """

    places: NDArray[np.int64]
    named: NDArray[np.int64]
    log_p: NDArray[np.float32]
    rest_at_most: NDArray[np.float32]
    rest_at_least: NDArray[np.float32]
    complete: bool


def _next(highest: NDArray[np.float32]) -> NDArray[np.int64]:
    """[U] the largest of each row of `highest` [U, n], which is then out of the running."""
    best = highest.argmax(1)
    highest[np.arange(len(highest)), best] = -np.inf
    return best


def _claim_pairs(table: ClaimTable, corners: _Corners, rows, threshold: float, exclusive: bool):
    """Cells of two queries: a and b claim where l_a - l_b exceeds a bound; gives the pixels in doubt."""
    places = np.flatnonzero(corners.is_pair)
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
    claims = np.stack([d > first_high, d < -high])
    doubt = (d > first_low) ^ claims[0]
    doubt |= (d < -low) ^ claims[1]
    return _settle(table, block, rows.take(local), claims, 1 if exclusive else _together(threshold), doubt)


def _claim_group(table: ClaimTable, corners: _Corners, rows, group: _Group, threshold: float, exclusive: bool):
    """Cells of k queries by name and bounds for the rest; gives the pixels in doubt."""
    k = len(group.named)
    block = Blocks(corners.grid, corners.cells[group.places])
    value = block.interpolate(np.concatenate([group.log_p, group.rest_at_most[None], group.rest_at_least[None]]))
    np.exp(value, out=value)
    named, rest, least = value[:k], value[k], value[k + 1]
    total = named.sum(0)
    doubt = total + least < 1e-30
    if exclusive:
        best = named == named.max(0)
        # Of equals the first gets the pixel.
        best[1:] &= ~np.logical_or.accumulate(best, axis=0)[:-1]
    if not group.complete:
        # Another query claims it, or in a row of rivals is ahead of them, only where the rest allows it.
        doubt |= (rest >= named).all(0) if exclusive else rest * (1 - threshold) >= threshold * total
    rest += total
    rest *= threshold
    least += total
    least *= threshold
    claims = named > rest
    differs = (named > least) ^ claims
    if exclusive:
        claims &= best
        differs &= best
    doubt |= np.bitwise_or.reduce(differs, axis=0)
    return _settle(table, block, rows.take(group.named), claims, 1 if exclusive else _together(threshold), doubt)


def _settle(
    table: ClaimTable, block: Blocks, local, claims: NDArray[np.bool_], together: int, doubt: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Adds the block's entries without the pixels in doubt, and gives the rows and columns of these."""
    some = bool(doubt.any())
    block.claim(claims, together, doubt if some else None)
    table.add_blocks(block, local)
    return np.stack(block.pick(doubt)) if some else np.zeros((2, 0), np.int64)


def _together(threshold: float) -> int:
    """How many probabilities that sum to one can exceed the threshold."""
    return int(1 / threshold) if threshold > 1e-3 else 1000


def _just_below(value):
    return np.nextafter(value, np.float32(-np.inf))


def _logits(p: NDArray) -> NDArray:
    with np.errstate(divide="ignore"):
        p = np.clip(p.astype(np.float64), 0, 1)
        return np.log(p) - np.log1p(-p)
