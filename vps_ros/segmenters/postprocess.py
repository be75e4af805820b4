"""Class and mask logits -> Segmentation at camera resolution.

Class scores are the softmax over C + 1 logits; void is dropped before the maximum, and the rest is not normalised
again. A query is a candidate when its best class scores at least the threshold of its kind, and with sigmoid masks more
than void. Candidates are ranked by class score^a * mask score^b, where the mask score is the mean probability over the
nodes of the mask logits at which the mask exceeds the threshold (for pixel_wise softmax masks, and is the largest).
Which pixels a query claims is said in upsample.py.

- mask_wise (kMaX-DeepLab): in the order of rank, a query gets those of its pixels that are still free, if these
  are more than `overlap` of its pixels; otherwise it gets nothing.
- pixel_wise: every pixel goes to one query. Softmax masks get all of these (Video-kMaX). A sigmoid mask gets those that
  it claims, if the pixels that it wins are more than `overlap` of its pixels (Mask2Former's own code, and EoMT).
- argmax (transformers' Mask2Former, MaskFormer, DETR and OneFormer): every pixel goes to the sigmoid mask whose product
  of class score and probability is largest, however small that is; a mask whose pixels are not more than `overlap` of
  those at which its product exceeds the threshold gets nothing.

Queries of the same stuff class become one segment, with the score and embedding of the highest-ranked. Segments smaller
than their kind's area, in pixels of the network's input, are void.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame
from vps_ros.frame import Segmentation
from vps_ros.segmenters.claims import Claims
from vps_ros.segmenters.contract import Thresholds
from vps_ros.segmenters.grid import grid
from vps_ros.segmenters.preprocess import Fit
from vps_ros.segmenters.sigmoid import sigmoid_claims, sigmoid_mask_scores
from vps_ros.segmenters.softmax import SoftmaxField
from vps_ros.segmenters.upsample import softmax_claims
from vps_ros.segmenters.winners import argmax_claims, pixel_wise_claims
from vps_ros.taxonomy import Taxonomy


def from_logits(
    outputs: Mapping[str, NDArray], where: Fit, taxonomy: Taxonomy, limits: Thresholds, activation: str
) -> Segmentation:
    """Segmentation of one frame.

    Args:
        outputs: class_logits [1, N, C + 1], mask_logits [1, N, h, w], query_embeddings [1, N, D].
        where: how the camera image lies in the network's input.
        activation: softmax_queries or sigmoid.

    Raises DroppedFrame when an output holds NaN or infinity.
    """
    class_logits, masks, embeddings = (
        _finite(outputs, name)[0] for name in ("class_logits", "mask_logits", "query_embeddings")
    )
    column, score = classify(class_logits)
    is_thing = taxonomy.isthing[column]
    able = score >= np.where(is_thing, limits.thing, limits.stuff)
    if activation == "sigmoid":
        able &= class_logits[np.arange(len(column)), column] > class_logits[:, -1]
    chosen = np.flatnonzero(able)
    rank = score[chosen].astype(np.float64) ** limits.class_exponent
    exclusive = limits.mode != "mask_wise"
    if not len(chosen):
        return _nothing(where, embeddings.shape[1])
    field = None if activation == "sigmoid" else SoftmaxField(masks)
    if limits.mask_exponent:
        if field is None:
            quality = sigmoid_mask_scores(masks[chosen], limits.mask)
        else:
            quality = field.mask_scores(chosen, limits.mask, exclusive)
        rank = rank * quality**limits.mask_exponent
    order = np.argsort(-rank, kind="stable")
    chosen, rank = chosen[order], rank[order]
    if field is None:
        claims = _claims_of_sigmoids(masks[chosen], score[chosen], where, limits)
    else:
        claims = softmax_claims(field, chosen, grid(where, masks.shape[1:]), limits.mask, exclusive)
    owner = (owners_by_pixel if exclusive else owners_by_rank)(claims, limits.overlap)
    smallest = np.where(is_thing[chosen], limits.thing_area, limits.stuff_area) * where.pixels_per_input_pixel
    label, first = _merge(claims, owner, column[chosen], is_thing[chosen], smallest)
    painted = label[owner].astype(np.uint8 if len(first) < 256 else np.uint16)
    picture, boxes = claims.paint(painted, len(first))
    source = chosen[first]
    return Segmentation(
        picture,
        taxonomy.ids[column[source]],
        is_thing[source],
        rank[first].astype(np.float32),
        np.bincount(painted, claims.weight, len(first) + 1)[1:].astype(np.int64),
        boxes,
        embeddings[source],
    )


def _claims_of_sigmoids(
    masks: NDArray[np.float32], scores: NDArray[np.float32], where: Fit, limits: Thresholds
) -> Claims:
    """Claims of the candidates, whose mask logits are [Q, h, w] and class scores [Q]."""
    if limits.mode == "mask_wise":
        return sigmoid_claims(masks, grid(where, masks.shape[1:]), limits.mask)
    if limits.mode == "pixel_wise":
        return pixel_wise_claims(masks, scores, grid(where, masks.shape[1:]), limits.mask)
    if limits.mask_grid:
        square = (limits.mask_grid, limits.mask_grid)
        masks = np.stack([cv2.resize(mask, square, interpolation=cv2.INTER_LINEAR) for mask in masks])
    with np.errstate(over="ignore"):
        products = scores[:, None, None] / (1 + np.exp(-masks))
    return argmax_claims(products, grid(where, masks.shape[1:]), limits.mask)


def classify(logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Column and score of the best class of each query; `logits` is [N, C + 1], the last being void."""
    power = np.exp(logits - logits.max(1, keepdims=True))
    column = logits[:, :-1].argmax(1)
    return column, power[np.arange(len(power)), column] / power.sum(1)


def owners_by_rank(claims: Claims, overlap: float) -> NDArray[np.int64]:
    """[E] candidate that gets each entry, Q where none does; candidates choose in order (mask_wise)."""
    owner = np.full(len(claims.weight), len(claims.mask_area))
    free = claims.weight.copy()
    for q, (entries, area) in enumerate(zip(claims.of_query, claims.mask_area.tolist(), strict=True)):
        left = free.take(entries)
        if left.sum() > overlap * area:
            mine = entries[left > 0]
            owner[mine] = q
            free[mine] = 0
    return owner


def owners_by_pixel(claims: Claims, overlap: float) -> NDArray[np.int64]:
    """[E] candidate that gets each entry, Q where none does; of claims that exclude each other."""
    owner = np.full(len(claims.weight), len(claims.mask_area))
    query, entry = claims.query, claims.entry
    if claims.won is not None:
        kept = ((claims.won > overlap * claims.mask_area) & (claims.mask_area > 0)).take(query)
        query, entry = query[kept], entry[kept]
    owner[entry] = query
    return owner


def _merge(claims: Claims, owner, column, is_thing, smallest):
    """Label of each candidate (and 0 for none, last), and the candidate that gives each label its facts."""
    queries = len(column)
    area = np.bincount(owner, claims.weight, queries + 1)[:-1]
    leader = np.arange(queries)
    first_of_class: dict[int, int] = {}
    for q in np.flatnonzero(~is_thing & (area > 0)):
        leader[q] = first_of_class.setdefault(int(column[q]), int(q))
    merged = np.bincount(leader, area, queries)
    kept = (merged > 0) & (merged >= smallest)
    number = np.cumsum(kept) * kept
    return np.append(number[leader], 0), np.flatnonzero(kept)


def _finite(outputs: Mapping[str, NDArray], name: str) -> NDArray[np.float32]:
    values = np.asarray(outputs[name], np.float32)
    # The sum of finite numbers is finite mostly, and where anything is not, it is not.
    if not np.isfinite(values.sum()) and not np.isfinite(values).all():
        raise DroppedFrame(f"the network gave NaN or infinity in {name}; the frame is dropped")
    return values


def _nothing(where: Fit, dimensions: int) -> Segmentation:
    return Segmentation(
        np.zeros(where.camera, np.uint8),
        np.zeros(0, np.int32),
        np.zeros(0, bool),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        np.zeros((0, 4), np.float32),
        np.zeros((0, dimensions), np.float32),
    )
