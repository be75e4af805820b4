"""Which queries claim which camera pixels: bilinear upsampling of mask logits, evaluated only where it can matter.

What is computed is defined densely. Let l_q be the logits of query q upsampled bilinearly (half-pixel centres, as
torch's interpolate with align_corners=False) to camera resolution, without the padding's part, and

    p_q = softmax over all queries of l        (`softmax_claims`, kMaX-DeepLab), or
    p_q = sigmoid(l_q)                         (`sigmoid_claims`, Mask2Former).

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
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vps_ros.segmenters.blocks import Blocks
from vps_ros.segmenters.extent import Extent
from vps_ros.segmenters.grid import Grid

_NEGLIGIBLE = 10.0
"""A query that stays this far below the largest logit at every node is left out, and bounded with the rest."""
_LOOSE = 0.06
"""Largest bound on what queries besides the first two add, relative to those two, to treat a cell as theirs alone."""
_NAMED = 4
"""Queries evaluated by name in a cell where two do not suffice; the others are bounded together."""
_COMPARED = 6
"""Sigmoid masks evaluated by name in one cell; where there are more, each pixel is an entry of its own."""
_CHUNK = 1 << 14


@dataclass
class Claims:
    """Who claims what, as a table of entries: sets of pixels that the same queries claim.

    Attributes:
        member: bool [Q, E], whether candidate q claims the pixels of entry e.
        weight: float64 [E], pixels of each entry.
        mask_area: float64 [Q], pixels that each candidate claims, whoever gets them.
        cell_entry: int64 [cells], entry of a cell's pixels; -1 where they differ.
        blocks: cells whose pixels differ, each group with the number of its first entry.
        pixels: row, column and entry of single pixels.
    """

    grid: Grid
    member: NDArray[np.bool_]
    weight: NDArray[np.float64]
    mask_area: NDArray[np.float64]
    cell_entry: NDArray[np.int64]
    blocks: list[tuple[Blocks, int]]
    pixels: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

    def paint(self, labels: NDArray, count: int) -> tuple[NDArray, NDArray[np.float32]]:
        """The picture, and the boxes of its labels.

        Args:
            labels: unsigned integers [E], label of each entry, 0 being void.
            count: labels go up to this.

        Returns:
            [H, W] of the type of `labels`, and float32 [count, 4] x0 y0 x1 y1, half-open; zeros for a label that
            no pixel has.
        """
        shape = tuple(n + 1 for n in self.grid.nodes)
        # Entry -1 reads the zero that stands last.
        cells = np.append(labels, labels.dtype.type(0)).take(self.cell_entry, mode="wrap").reshape(shape)
        picture = self.grid.expand(cells)
        extent = Extent(self.grid, count)
        extent.add_cells(cells)
        for block, first in self.blocks:
            sets = len(block.subsets)
            entries = slice(first, first + sets * len(block))
            mine = labels[entries].reshape(sets, -1)
            inside = block.paint(picture, mine)
            extent.add_block(block, inside, np.where(self.weight[entries].reshape(mine.shape) > 0, mine, 0))
        rows, columns, entry = self.pixels
        alone = labels.take(entry)
        picture[rows, columns] = alone
        extent.add_pixels(rows, columns, alone)
        return picture, extent.boxes()


@dataclass
class _Table:
    """Entries of Claims while they are collected. `rows`: candidate of a query, or Q for one that is none."""

    candidates: int
    members: list[NDArray[np.bool_]] = field(default_factory=list)
    weights: list[NDArray[np.float64]] = field(default_factory=list)
    blocks: list[tuple[Blocks, int]] = field(default_factory=list)
    size: int = 0

    def add(self, member: NDArray[np.bool_], weight: NDArray[np.float64]) -> int:
        """`member` is [Q, E]; gives the number of the first of these entries."""
        self.members.append(member)
        self.weights.append(weight)
        first, self.size = self.size, self.size + len(weight)
        return first

    def add_blocks(self, block: Blocks, local: NDArray[np.int64], always: NDArray[np.bool_] | None = None) -> None:
        """`local`: int [k, U], candidates of the cell's local queries; `always`: bool [Q, U] that claim every pixel."""
        subsets, cells = block.subsets, np.arange(len(block))
        member = np.zeros((self.candidates + 1, len(subsets), len(block)), bool)
        if always is not None:
            member[:-1] = always[:, None]
        for s, subset in enumerate(subsets):
            for i in subset:
                member[local[i], s, cells] = True
        self.blocks.append(
            (block, self.add(member[:-1].reshape(self.candidates, len(subsets) * len(block)), block.count().ravel()))
        )

    def claims(self, grid: Grid, cell_entry, rows, columns, entry, mask_area=None) -> Claims:
        member = np.concatenate(self.members, axis=1)
        weight = np.concatenate(self.weights)
        area = member @ weight if mask_area is None else mask_area
        return Claims(grid, member, weight, area, cell_entry, self.blocks, (rows, columns, entry))


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
    table = _Table(len(candidates))
    of_winner = np.bincount(around[0, certain], area[certain], queries)
    table.add(field_.rows == np.arange(len(candidates))[:, None], of_winner)
    cell_entry = np.where(certain, around[0], -1)
    open_cells = np.flatnonzero(~certain & (area > 0))
    doubtful: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    if len(open_cells):
        # With at most this slack, none of the others reaches the threshold itself.
        loose = _LOOSE if exclusive else min(_LOOSE, threshold)
        corners = _Corners(field_, grid, open_cells, loose)
        pair = corners.pair()
        if len(pair):
            doubtful.append(_claim_pairs(table, corners, pair, threshold, exclusive))
        others, local = corners.others()
        if len(others):
            doubtful.append(_claim_groups(table, corners, others, local, threshold, exclusive))
    rows, columns = (np.concatenate([d[i] for d in doubtful]) if doubtful else np.zeros(0, np.int64) for i in (0, 1))
    first = table.add(field_.at_pixels(grid, rows, columns, threshold, exclusive), np.ones(len(rows)))
    return table.claims(grid, cell_entry, rows, columns, first + np.arange(len(rows)))


class _SoftmaxField:
    """Mask logits at the nodes, without the queries that matter at none.

    Attributes:
        logits: float32 [n, nodes] of the queries that matter.
        rows: int64 [n], candidate of each of them; Q for those that are none.
        winner: int64 [nodes], the query with the largest logit.
        total: float32 [nodes], sum over queries of exp(logit - largest logit).
        log_sum: float32 [nodes], log sum exp.
        unnamed: at most what the queries left out add to the softmax at any node.
    """

    def __init__(self, logits: NDArray[np.float32], candidates: NDArray[np.int64]) -> None:
        self._all = logits.reshape(len(logits), -1)
        self._all_rows = np.full(len(logits), len(candidates))
        self._all_rows[candidates] = np.arange(len(candidates))
        self.candidates = len(candidates)
        largest = self._all.max(0)
        below = self._all - largest
        nearest = below.max(1)
        alive = nearest > -_NEGLIGIBLE
        self.logits, self.rows = self._all, self._all_rows
        if not alive.all():
            self.logits, self.rows, below = self._all[alive], self._all_rows[alive], below[alive]
        self.unnamed = float(np.exp(nearest[~alive]).sum()) + float(np.finfo(np.float32).tiny)
        # Much faster than argmax over the slow axis; backwards, so that of equals the first stays.
        query, node = np.divmod(np.flatnonzero(below == 0)[::-1], below.shape[1])
        self.winner = np.empty(below.shape[1], np.int64)
        self.winner[node] = query
        self.total = np.exp(below, out=below).sum(0)
        self.log_sum = largest + np.log(self.total)

    def at_pixels(self, grid: Grid, rows, columns, threshold: float, exclusive: bool) -> NDArray[np.bool_]:
        """bool [Q, P]: claims of the candidates at single pixels, with every query in the softmax."""
        claims = np.zeros((self.candidates + 1, len(rows)), bool)
        pruned = len(self.logits) < len(self._all)
        for start in range(0, len(rows), _CHUNK):
            part = np.arange(start, min(start + _CHUNK, len(rows)))
            value, top = _exp_at(self.logits, grid, rows[part], columns[part])
            total = value.sum(0)
            log_sum = _at_pixels(self.log_sum[None], grid, rows[part], columns[part])[0]
            # Far above the largest logit, any bound says no more than that every query has to be asked.
            extra = pruned * self.unnamed * np.exp(np.minimum(log_sum - top, 80))
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
    value = _at_pixels(nodes, grid, rows, columns)
    top = value.max(0)
    value -= top
    return np.exp(value, out=value), top


def _largest(claimed: NDArray[np.bool_], value: NDArray[np.float32]) -> NDArray[np.bool_]:
    return claimed & (np.arange(len(value))[:, None] == value.argmax(0))


def _at_pixels(nodes: NDArray[np.float32], grid: Grid, rows, columns) -> NDArray[np.float32]:
    """[n, P] bilinear values of `nodes` [n, h * w] at pixels."""
    y, x = grid.y.cell[rows], grid.x.cell[columns]
    around = nodes.take(grid.corners.take(y * (grid.nodes[1] + 1) + x, axis=1), axis=1)
    fy, fx = grid.y.at[rows], grid.x.at[columns]
    top = around[:, 0] + fx * (around[:, 1] - around[:, 0])
    bottom = around[:, 2] + fx * (around[:, 3] - around[:, 2])
    return top + fy * (bottom - top)


class _Corners:
    """Log probabilities at the corners of U cells, and which queries matter in each cell.

    Attributes:
        log_p: float32 [n, 4, U].
        order: int64 [k, U], the queries with the largest probability at any corner, descending.
        is_pair: bool [U], where two queries outweigh the rest so far that their difference decides.
        slack: float32 [U], for cells of pairs: what the others add at most, relative to the pair.
    """

    def __init__(self, field_: _SoftmaxField, grid: Grid, cells: NDArray[np.int64], loose: float) -> None:
        """`loose`: largest slack of a pair."""
        self.field, self.grid, self.cells = field_, grid, cells
        nodes = grid.corners.take(cells, axis=1)
        self.log_p = field_.logits.take(nodes, axis=1)
        self.log_p -= field_.log_sum.take(nodes)
        self.p = np.exp(self.log_p)
        self._highest = self.p.max(1)
        self._everyone = np.arange(len(cells))
        queries = len(self.p)
        self.order = np.stack([self._next(self._highest, self._everyone) for _ in range(min(2, queries))])
        self.is_pair = np.zeros(len(cells), bool)
        self.slack = np.zeros(len(cells), np.float32)
        if queries >= 2:
            self._find_pairs(loose)

    @staticmethod
    def _next(highest: NDArray[np.float32], everyone: NDArray[np.int64]) -> NDArray[np.int64]:
        best = highest.argmax(0)
        highest[best, everyone] = -1
        return best

    def _find_pairs(self, loose: float) -> None:
        """Cells in which two queries outweigh the rest at every pixel.

        With e = exp(log p): the rest is at most exp(interpolated log rest), the two together are at least
        2 sqrt(e_a e_b), so that log(rest / two) is at most an interpolated value, hence at most its largest corner.
        """
        first, second = self.order
        a, b = self.log_p[first, :, self._everyone].T, self.log_p[second, :, self._everyone].T
        others = self.p.copy()
        others[first, :, self._everyone] = 0
        others[second, :, self._everyone] = 0
        rest = others.sum(0) + self.field.unnamed
        with np.errstate(over="ignore"):
            self.slack = np.exp((np.log(rest) - (a + b) / 2).max(0)) / 2
        self.is_pair = self.slack < loose
        self.difference = a - b

    def pair(self) -> NDArray[np.int64]:
        """Places in `cells` of those of pairs."""
        return np.flatnonzero(self.is_pair)

    def others(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places in `cells` of the others, and int [k, places] the queries to evaluate there, ascending."""
        left = np.flatnonzero(~self.is_pair)
        k = min(_NAMED, len(self.p))
        highest, among = self._highest[:, left], np.arange(len(left))
        ranks = [order[left] for order in self.order]
        ranks += [self._next(highest, among) for _ in range(k - len(ranks))]
        return left, np.sort(ranks, axis=0)


def _claim_pairs(table: _Table, corners: _Corners, places, threshold: float, exclusive: bool):
    """Cells of two queries: a and b claim where l_a - l_b exceeds a bound; gives the pixels in doubt."""
    local = np.stack([corners.order[i, places] for i in (0, 1)])
    difference = corners.difference[:, places]
    swap = local[0] > local[1]
    local[:, swap] = local[::-1, swap]
    difference = np.where(swap, -difference, difference)
    # With p_a = 1 / (1 + exp(-d) + rest / e_a): claimed at most where the rest is nothing, surely where it is `slack`.
    low, high = _logit(threshold), _logits(threshold * (1 + corners.slack[places]))
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


def _claim_groups(table: _Table, corners: _Corners, places, local, threshold: float, exclusive: bool):
    """Cells of k queries by name and a bound for the rest; gives the pixels in doubt."""
    k = len(local)
    named = corners.log_p[local, :, places].transpose(0, 2, 1)
    others = corners.p[:, :, places]
    others[local, :, np.arange(len(places))] = 0
    rest = np.log(others.sum(0) + corners.field.unnamed)
    block = Blocks(corners.grid, corners.cells[places])
    value = np.exp(block.interpolate(np.concatenate([named, rest[None]])))
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


def _settle(table: _Table, block: Blocks, local, doubt: NDArray[np.bool_]):
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


def _logit(p: float) -> float:
    return -math.inf if p <= 0 else math.inf if p >= 1 else math.log(p / (1 - p))


def _logits(p: NDArray) -> NDArray:
    with np.errstate(divide="ignore"):
        p = np.clip(p.astype(np.float64), 0, 1)
        return np.log(p) - np.log1p(-p)


def sigmoid_claims(
    logits: NDArray[np.float32],
    candidates: NDArray[np.int64],
    grid: Grid,
    threshold: float,
    exclusive: bool,
    scores: NDArray[np.float32],
) -> Claims:
    """Claims of sigmoid masks.

    Args:
        logits: float32 [N, h, w], finite.
        candidates: int [Q] queries whose claims are wanted.
        threshold: least probability.
        exclusive: see the module.
        scores: float32 [Q] class scores, which decide between masks when `exclusive`.
    """
    height, width = grid.nodes
    limit = np.float32(_logit(threshold))
    chosen = logits[candidates]
    above = np.pad(chosen > limit, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = (above[:, :-1, :-1], above[:, :-1, 1:], above[:, 1:, :-1], above[:, 1:, 1:])
    shape = (len(chosen), grid.corners.shape[1])
    everywhere = (around[0] & around[1] & around[2] & around[3]).reshape(shape)
    somewhere = (around[0] | around[1] | around[2] | around[3]).reshape(shape)
    flat = chosen.reshape(len(chosen), height * width)
    area = grid.area.ravel()
    # Where a pixel goes to one of several claimants, all of them must be compared; else only those that are not sure.
    unsure = somewhere & ~everywhere
    evaluated = np.where(somewhere.sum(0) > 1, somewhere, unsure) if exclusive else unsure
    needed = np.where(area > 0, evaluated.sum(0), 0)
    certain = needed == 0
    table = _Table(len(candidates))
    cells = np.flatnonzero(certain)
    cell_entry = np.full(len(area), -1)
    cell_entry[cells] = np.arange(len(cells))
    table.add(everywhere[:, cells], area[cells])
    mask_area = everywhere[:, cells] @ area[cells] if exclusive else None
    for k in np.unique(needed[(needed > 0) & (needed <= _COMPARED)]):
        places = np.flatnonzero(needed == k)
        local = np.nonzero(evaluated[:, places].T)[1].reshape(-1, k).T
        block = Blocks(grid, places)
        around = flat[local[:, None], grid.corners.take(places, axis=1)]
        value = block.interpolate(around)
        claims = value > limit
        if exclusive:
            for i, claimed in enumerate(claims):
                mask_area += np.bincount(local[i], block.count_of(claimed), len(candidates))
            claims = _largest_product(value, claims, scores[local])
        block.claim(claims, 1 if exclusive else k)
        table.add_blocks(block, local, None if exclusive else everywhere[:, places])
    rows, columns = _pixels_of(grid, np.flatnonzero(needed > _COMPARED))
    value = _at_pixels(flat, grid, rows, columns)
    member = value > limit
    if exclusive:
        mask_area += member.sum(1)
        member = _largest_product(value, member, np.broadcast_to(scores[:, None], value.shape))
    first = table.add(member, np.ones(len(rows)))
    return table.claims(grid, cell_entry, rows, columns, first + np.arange(len(rows)), mask_area)


def _largest_product(value, claims, scores) -> NDArray[np.bool_]:
    """Claims, like `claims`, left to the claimant with the largest score * sigmoid(value); of equals to the first."""
    best, winner = np.zeros(value.shape[1:], np.float32), np.full(value.shape[1:], -1, np.int16)
    for i, claimed in enumerate(claims):
        with np.errstate(over="ignore"):
            product = np.where(claimed, scores[i] / (1 + np.exp(-value[i])), 0)
        better = product > best
        np.copyto(best, product, where=better)
        winner[better] = i
    return winner == np.arange(len(claims)).reshape(-1, *[1] * winner.ndim)


def _pixels_of(grid: Grid, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of every pixel of the cells."""
    wanted = np.zeros(grid.area.shape, bool)
    wanted.ravel()[cells] = True
    return np.nonzero(grid.expand(wanted)) if len(cells) else (np.zeros(0, np.int64), np.zeros(0, np.int64))
