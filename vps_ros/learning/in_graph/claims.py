"""Assignment of pixels to queries in the ONNX graph: the rules of postprocess.py without data-dependent shapes.

In the mode mask_wise, a query gets the pixels of its mask that are still free if they are enough, which depends on all
queries before it. If a pixel is in at most two masks (softmax masks with a threshold above one third), no loop over the
queries is needed: with A_q the area of a mask and I_qr its intersection with mask r, the decisions are the solution of

    a_q = [ A_q - sum over r before q of I_qr a_r > overlap A_q ],

which is triangular: iterated from any start, after k steps the first k decisions are exact, and so is every decision
that depends on a chain of fewer than k others. In all other cases the queries are pasted one after the other in a loop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vps_ros.learning.in_graph.nodes import FLOAT, INT32, INT64, UINT8, Nodes, Value
from vps_ros.learning.in_graph.ranking import Ranking
from vps_ros.learning.in_graph.upsampling import Field
from vps_ros.segmenters.model_card import Thresholds
from vps_ros.segmenters.postprocess import logit
from vps_ros.segmenters.preprocess import Fit

DEPTH = 32
"""Steps of the iteration: decisions are exact unless one depends on a chain of this many others."""
PAIRS_FROM = 0.34
"""Threshold of softmax masks above which no pixel can be in three masks, also with rounding."""


@dataclass(frozen=True)
class Claims:
    """The entry of every pixel, and the rank that each entry is assigned to.

    Attributes:
        entry: int32 [height, width] in 0..E-1.
        owner: int32 [E] rank, or N for none.
        weight: int64 [E] pixels.
    """

    entry: Value
    owner: Value
    weight: Value


def softmax_pixel_wise(field: Field, ranking: Ranking, limits: Thresholds) -> Claims:
    """Each pixel is assigned to its most probable query; `field` has the mask logits in the order of the network."""
    queries, camera = field.shape[0], field.where.camera
    every = limits.mask * queries < 1
    winner, _, total = _softmax(field, with_total=not every)
    if not every:
        # The largest probability of a pixel is 1 / total.
        assert total is not None
        winner = (total * limits.mask < 1).choose(winner, np.int32(queries))
    entry = winner.reshape(*camera)
    owner = ranking.able.take(ranking.position).choose(ranking.position, np.int32(queries))
    return Claims(entry, owner.followed_by(np.array([queries], np.int32)), count(entry, camera, queries + 1))


def sigmoid_pixel_wise(field: Field, ranking: Ranking, limits: Thresholds) -> Claims:
    """Each pixel is assigned to the largest product of class score and probability; logits are in order of rank."""
    score = ranking.class_score.reshape(1, field.shape[0], 1, 1)
    # Negated before they are upsampled, while they are small.
    turned = dataclasses.replace(field, maps=field.maps.apply("Neg"))
    limit = -logit(limits.mask)

    def product(which: slice, logits: Value) -> tuple[Value, Value]:
        mine = score.part([which.start], [which.stop], [1])
        return logits < limit, mine / (logits.apply("Exp") + 1)

    winner, top, area = _largest(turned, product)
    claimed: Value | None = None
    if limits.mask > 0:
        claimed = top > ranking.class_score.take(winner) * limits.mask
    return _with_enough_pixels(field, ranking, limits, winner, claimed, area)


def argmax(field: Field, ranking: Ranking, limits: Thresholds) -> Claims:
    """As sigmoid_pixel_wise, for a `field` of the products, without a threshold for the largest."""
    winner, _, area = _largest(field, lambda which, products: (products > limits.mask, products))
    return _with_enough_pixels(field, ranking, limits, winner, None, area)


def mask_wise(field: Field, ranking: Ranking, limits: Thresholds, sigmoid: bool) -> Claims:
    """The queries are pasted in order of rank; `field` has the mask logits in this order."""
    if sigmoid:
        limit = np.float32(logit(limits.mask))
        return _paste_in_order(field, ranking, limits, lambda body, logits: logits > limit)
    _, top, total = _softmax(field, with_total=True)
    assert total is not None
    least = total * limits.mask
    if limits.mask >= PAIRS_FROM:
        return _pairs(field, ranking, limits, top + least.apply("Log"))
    return _paste_in_order(
        field, ranking, limits, lambda body, logits: (logits - body.value(top)).apply("Exp") > body.value(least)
    )


def count(entry: Value, camera: tuple[int, int], entries: int) -> Value:
    """int64 [entries]: number of pixels of each entry in [height, width]."""
    nodes, (height, width) = entry.nodes, camera
    ones, rows = nodes.full((height, width), np.float32(1)), nodes.full((height, entries), np.float32(0))
    # One sum for each row, so that the additions run in parallel. Integers below 2^24 are exact in float32.
    return nodes.op("ScatterElements", rows, entry, ones, type=FLOAT, axis=1, reduction="add").sum(0).cast(INT64)


def add_up(weight: Value, which: Value, entries: int) -> Value:
    """int64 [entries]: sums of the weights [E] by the entry `which`, int32 [E]."""
    zeros = weight.nodes.full((entries,), np.float32(0))
    sums = weight.nodes.op("ScatterElements", zeros, which, weight.cast(FLOAT), type=FLOAT, axis=0, reduction="add")
    return sums.cast(INT64)


def _more(left: Value, area: Value, overlap: float) -> Value:
    """bool: left > overlap * area, int64; in integers, since in float32 ties would depend on rounding."""
    share = _fraction(overlap)
    return left * share.denominator > area * share.numerator


def _fraction(overlap: float) -> Fraction:
    return Fraction(overlap).limit_denominator(10**6)


def _softmax(field: Field, with_total: bool) -> tuple[Value, Value, Value | None]:
    """[1, 1, height, width] each: the query with the largest logit, that logit, and sum over all of exp(logit - it)."""
    best: tuple[Value, Value] | None = None
    total: Value | None = None
    for which, logits in field.parts():
        before, best = best, _best(best, logits, which.start)
        if with_total:
            power = (logits - best[1]).apply("Exp").sum(1, keep=True)
            total = power if total is None or before is None else total * (before[1] - best[1]).apply("Exp") + power
    assert best is not None
    return *best, total


def _best(before: tuple[Value, Value] | None, maps: Value, start: int) -> tuple[Value, Value]:
    """Index and value of the largest of maps [1, n, height, width], whose first has index `start`, and those before."""
    index, value = maps.argmax(1) + start, maps.max(1, keep=True)
    if before is None:
        return index, value
    return (value > before[1]).choose(index, before[0]), value.larger(before[1])


def _largest(field: Field, product: Callable[[slice, Value], tuple[Value, Value]]) -> tuple[Value, Value, Value]:
    """The rank with the largest product and that product, [1, 1, height, width]; the area of each mask, int64 [N].

    `product` returns, for a slice of ranks and their upsampled maps, the masks and the products.
    """
    best: tuple[Value, Value] | None = None
    areas = []
    for which, values in field.parts():
        inside, products = product(which, values)
        areas.append(inside.cast(FLOAT).sum(0, 2, 3))
        best = _best(best, products, which.start)
    assert best is not None
    area = areas[0].followed_by(*areas[1:]) if len(areas) > 1 else areas[0]
    return *best, area.cast(INT64)


def _with_enough_pixels(
    field: Field, ranking: Ranking, limits: Thresholds, winner: Value, claimed: Value | None, area: Value
) -> Claims:
    """Pixels below the mask threshold count for the area of their query, but become void."""
    queries, camera = field.shape[0], field.where.camera
    entries = queries if claimed is None else 2 * queries
    entry = winner if claimed is None else claimed.choose(winner, winner + queries)
    entry = entry.reshape(*camera)
    weight = count(entry, camera, entries)
    won = weight if claimed is None else weight.reshape(2, queries).sum(0)
    kept = ranking.able & (area > 0) & _more(won, area, limits.overlap)
    owner = kept.choose(np.arange(queries, dtype=np.int32), np.int32(queries))
    if claimed is not None:
        owner = owner.followed_by(np.full(queries, queries, np.int32))
    return Claims(entry, owner, weight)


def _pairs(field: Field, ranking: Ranking, limits: Thresholds, least: Value) -> Claims:
    """For masks of which at most two share a pixel: one entry for each pair of the first and the last query."""
    queries, camera = field.shape[0], field.where.camera
    index, one_more = np.arange(queries), queries + 1
    by_query = [
        ranking.able.choose(index.astype(np.float32), np.float32(none)).reshape(1, queries, 1, 1)
        for none in (queries, -1)
    ]
    first: Value | None = None
    last: Value | None = None
    for which, logits in field.parts():
        claim = logits > least
        low, high = (of.part([which.start], [which.stop], [1]) for of in by_query)
        low = claim.choose(low, np.float32(queries)).min(1)
        high = claim.choose(high, np.float32(-1)).max(1)
        first = low if first is None else first.nodes.op("Min", first, low, type=FLOAT)
        last = high if last is None else last.larger(high)
    assert first is not None and last is not None
    entry = ((last.cast(INT32) + 1) * one_more + first.cast(INT32)).reshape(*camera)
    flat = entry.reshape(camera[0] * camera[1])
    ones = flat.nodes.full((camera[0] * camera[1],), np.float32(1))
    weight = add_up(ones, flat, one_more**2)
    # Row g + 1, column f: number of pixels that are in the masks f and g, f <= g.
    shared = weight.reshape(one_more, one_more).part([1, 0], [one_more, queries], [0, 1])
    diagonal, before = np.eye(queries, dtype=bool), index[:, None] > index
    zero = np.int64(0)
    alone = shared.nodes.value(diagonal).choose(shared, zero).sum(1)
    area = shared.sum(1) + shared.sum(0) - alone
    # A - covered > overlap * A, in integers.
    share = _fraction(limits.overlap)
    most = area * (share.denominator - share.numerator)
    overlaps = shared.nodes.value(before).choose(shared, zero) * share.denominator
    pasted = area > 0
    for _ in range(min(queries, DEPTH)):
        pasted = (overlaps * pasted.cast(INT64).reshape(1, queries)).sum(1) < most
    pasted = pasted.cast(INT32)
    no_query = np.zeros(1, np.int32)
    ranks = np.arange(-1, one_more, dtype=np.int32)
    of_first = pasted.followed_by(no_query).reshape(1, one_more) > 0
    of_last = pasted.nodes.value(no_query).followed_by(pasted).reshape(one_more, 1) > 0
    owner = of_first.choose(ranks[None, 1:], of_last.choose(ranks[:-1, None], np.int32(queries)))
    return Claims(entry, owner.reshape(one_more**2), weight)


def _paste_in_order(
    field: Field, ranking: Ranking, limits: Thresholds, mask_of: Callable[[Nodes, Value], Value]
) -> Claims:
    """For masks of which any number share a pixel.

    `mask_of` returns the mask of a query from its upsampled logits, as nodes of the loop body.
    """
    queries, camera = field.shape[0], field.where.camera

    def paste(body: Nodes, number: Value, owner: Value) -> Value:
        one = body.value(field.maps).take(number.reshape(1), axis=1)
        mask = mask_of(body, field.upsample(one)).reshape(*camera)
        free = mask & owner.equals(queries)
        area, left = (pixels.cast(FLOAT).sum(0, 1).cast(INT64) for pixels in (mask, free))
        return (free & _more(left, area, limits.overlap)).choose(number.cast(INT32), owner)

    nodes = field.maps.nodes
    empty = nodes.full(camera, np.int32(queries))
    entry = nodes.loop(ranking.able.cast(INT64).sum(0), empty, camera, paste)
    owner = nodes.value(np.arange(queries + 1, dtype=np.int32))
    return Claims(entry, owner, count(entry, camera, queries + 1))


VOID = 255
"""Value of segment_map for void; also the largest number of slots."""


@dataclass(frozen=True)
class Slots:
    """Segments in order of rank.

    Attributes:
        map: uint8 [1, height, width], slot of each pixel, or VOID.
        column: int32 [1, N], class of each slot, -1 if it is unused.
        score: float32 [1, N].
        query: int32 [N], the query whose embedding each slot has.
    """

    map: Value
    column: Value
    score: Value
    query: Value


def slots(claims: Claims, ranking: Ranking, queries: int, where: Fit, limits: Thresholds) -> Slots:
    """Segments from the assigned pixels: stuff of one class is merged, small segments are dropped."""
    index = np.arange(queries, dtype=np.int32)
    won = add_up(claims.weight, claims.owner, queries + 1).part([0], [queries], [0])
    seen, stuff = won > 0, ~ranking.thing
    same = ranking.column.reshape(queries, 1).equals(ranking.column.reshape(1, queries))
    same &= (seen & stuff).reshape(1, queries)
    leader = (seen & stuff).choose(same.choose(index, np.int32(queries)).min(1), index)
    follows = leader.reshape(1, queries).equals(won.nodes.value(index[:, None]))
    merged = follows.choose(won.reshape(1, queries), np.int64(0)).sum(1)
    smallest = [
        np.int64(max(1, math.ceil(area * where.pixels_per_input_pixel)))
        for area in (limits.thing_area, limits.stuff_area)
    ]
    kept = merged >= ranking.thing.choose(*smallest)
    number = (kept.cast(INT32).reshape(1, queries) * won.nodes.value((index < index[:, None]).astype(np.int32))).sum(1)
    kept &= number < VOID
    label = kept.choose(number, np.int32(VOID)).take(leader).followed_by(np.array([VOID], np.int32))
    painted = label.take(claims.owner).take(claims.entry).cast(UINT8).reshape(1, *where.camera)
    there = number.reshape(1, queries).equals(won.nodes.value(index[:, None])) & kept.reshape(1, queries)
    used, source = there.cast(INT32).sum(1) > 0, there.choose(index, np.int32(0)).sum(1)
    return Slots(
        painted,
        used.choose(ranking.column.take(source), np.int32(-1)).reshape(1, queries),
        used.choose(ranking.score.take(source), np.float32(0)).reshape(1, queries),
        ranking.order.take(source),
    )
