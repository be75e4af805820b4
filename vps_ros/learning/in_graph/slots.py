"""From owned pixels to numbered slots inside the graph: stuff merged, small segments dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vps_ros.learning.in_graph.claims import Claims, add_up
from vps_ros.learning.in_graph.nodes import INT32, UINT8, Value
from vps_ros.learning.in_graph.ranking import Ranking
from vps_ros.segmenters.model_card import Thresholds
from vps_ros.segmenters.preprocess import Fit

VOID = 255
"""Value of segment_map where there is no slot; there are no more slots than this."""


@dataclass(frozen=True)
class Slots:
    """Segments in order of rank.

    Attributes:
        map: uint8 [1, height, width] of slots, VOID for none.
        column: int32 [1, N] class of each slot, -1 where it is not used.
        score: float32 [1, N].
        query: int32 [N], the query that each slot's appearance is that of.
    """

    map: Value
    column: Value
    score: Value
    query: Value


def slots(claims: Claims, ranking: Ranking, queries: int, where: Fit, limits: Thresholds) -> Slots:
    """The segments of what each rank owns."""
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
