"""Candidates and their order in the ONNX graph: classes, class scores and mask scores of the queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vps_ros.learning.in_graph.nodes import FLOAT, INT32, Value
from vps_ros.segmenters.model_card import Thresholds
from vps_ros.segmenters.postprocess import logit
from vps_ros.taxonomy import Taxonomy


@dataclass(frozen=True)
class Ranking:
    """Queries in order of rank, candidates first; all [N].

    Attributes:
        order: int32, the query of each rank.
        position: int32, the rank of each query.
        able: bool, whether the query of each rank is a candidate.
        column: int32, its class.
        thing: bool, whether that is a thing.
        class_score: float32, of the class alone; 0 for one that is no candidate.
        score: float32, by which they are ranked.
    """

    order: Value
    position: Value
    able: Value
    column: Value
    thing: Value
    class_score: Value
    score: Value


def rank(
    classes: Value, masks: Value, shape: tuple[int, int, int], taxonomy: Taxonomy, limits: Thresholds, sigmoid: bool
) -> Ranking:
    """Ranking of class logits [1, N, C + 1] and mask logits [1, N, h, w], whose (N, h, w) is `shape`."""
    queries, count = shape[0], len(taxonomy)
    logits = classes.reshape(queries, count + 1)
    known = logits.part([0], [count], [1])
    column = known.argmax(1).reshape(queries)
    class_score = logits.apply("Softmax", axis=1).part([0], [count], [1]).max(1)
    thing = logits.nodes.value(taxonomy.isthing).take(column)
    able = class_score >= thing.choose(_at_least(limits.thing), _at_least(limits.stuff))
    if sigmoid:
        able &= known.max(1) > logits.part([count], [count + 1], [1]).reshape(queries)
    score = class_score if limits.class_exponent == 1 else class_score**limits.class_exponent
    if limits.mask_exponent:
        flat = masks.reshape(queries, shape[1] * shape[2])
        score = score * _mask_scores(flat, queries, limits, sigmoid) ** limits.mask_exponent
    index = np.arange(queries, dtype=np.int32)
    # Ties are in the order of the queries.
    before = _is_before(able.choose(score, np.float32(-1)), logits.nodes.value(index < index[:, None]))
    if limits.things_first:
        # Not 2 + score: its rounding makes small scores equal.
        before = _is_before((able & thing).cast(INT32), before)
    position = before.cast(INT32).sum(1)
    there = position.reshape(1, queries).equals(logits.nodes.value(index[:, None]))
    order = there.choose(index, np.int32(0)).sum(1)
    able = able.take(order)
    return Ranking(
        order,
        position,
        able,
        column.take(order),
        thing.take(order),
        able.choose(class_score.take(order), np.float32(0)),
        score.take(order),
    )


def _is_before(key: Value, tied: Value) -> Value:
    """[N, N], whether the key [N] of a column is larger than that of the row; `tied` [N, N] is for equal keys."""
    of_row, of_column = key.reshape(-1, 1), key.reshape(1, -1)
    return (of_column > of_row) | (of_column.equals(of_row) & tied)


def _mask_scores(masks: Value, queries: int, limits: Thresholds, sigmoid: bool) -> Value:
    """[N] mean probability of masks [N, nodes] above the threshold; if masks do not overlap, where it is largest."""
    if sigmoid:
        p = masks.sigmoid()
        inside = masks > np.float32(logit(limits.mask))
    else:
        p = masks.apply("Softmax", axis=0)
        inside = p > limits.mask
        if limits.mode != "mask_wise":
            inside &= masks.argmax(0).equals(masks.nodes.value(np.arange(queries, dtype=np.int32)[:, None]))
    inside = inside.cast(FLOAT)
    return (p * inside).sum(1) / inside.sum(1).larger(1)


def _at_least(threshold: float) -> np.float32:
    """The smallest float32 that is not below the threshold."""
    rounded = np.float32(threshold)
    return rounded if rounded >= threshold else np.nextafter(rounded, np.float32(2))
