"""Class and mask logits -> Segmentation at camera resolution.

Class scores are the softmax over C + 1 logits; the maximum is taken over the C classes without void, and scores are not
normalised again. A query is a candidate when its best class has at least the score threshold for things or stuff, and
with sigmoid masks a larger logit than void. Candidates are ranked by class score^a * mask score^b. The mask score is
the mean probability over the nodes (elements of the mask logits) at which the mask exceeds the mask threshold; for
pixel_wise softmax masks, only over nodes at which it is also the largest mask. With `things_first` all things are
ranked before stuff (Panoptic FPN).

Mask logits are upsampled bilinearly to the network's input (upsampling.py), and each pixel is assigned to at most one
candidate:

- mask_wise (kMaX-DeepLab): a mask is where the probability exceeds `mask`. In the order of rank, a candidate gets the
  free pixels of its mask, if these are more than `overlap` of the mask; otherwise it gets none.
- pixel_wise: each pixel belongs to the query with the largest probability (softmax; Video-kMaX) or product of class
  score and probability (sigmoid; the published code of Mask2Former, and EoMT), if that query is a candidate and its
  probability exceeds `mask`. A sigmoid mask is kept if it gets more than `overlap` of its pixels.
- argmax (Mask2Former, MaskFormer, DETR and OneFormer in transformers): each pixel belongs to the sigmoid mask with the
  largest product of class score and probability, however small; the product is upsampled, not the logit. A mask that
  gets no more than `overlap` of the pixels at which its product exceeds `mask` is dropped.

Outside of its query_boxes, if the network gives them, a sigmoid mask is empty.

Candidates of the same stuff class become one segment, with the score and embedding of the highest-ranked. Segments
with fewer pixels of the network's input than `thing_area` or `stuff_area` become void. Each camera pixel takes the
label of the nearest pixel of the network's input.

A model with post-processing inside its graph returns a segment_map instead of logits (segment_map.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame
from vps_ros.frame import Segmentation
from vps_ros.label_maps import look_up, pixel_counts
from vps_ros.segmenters.model_card import Thresholds
from vps_ros.segmenters.preprocess import Fit
from vps_ros.segmenters.upsampling import Upsampling, labels_at_camera, regions_of
from vps_ros.taxonomy import Taxonomy

_NEGLIGIBLE = 10.0
"""A softmax mask whose logit is lower by this than the largest logit of a node has probability below 5e-5 there."""
_CANNOT_WIN = 4.0
"""A mask whose logit is lower by this than the largest at four nodes is the largest at no pixel between them, except in
rare cases."""


class Candidates(NamedTuple):
    """Queries that may become segments, highest rank first.

    Attributes:
        query: int64 [Q], index in the network's outputs.
        column: int64 [Q], index of the class in the taxonomy.
        score: [Q], class score.
        rank: [Q], class score^a * mask score^b.
    """

    query: NDArray[np.int64]
    column: NDArray[np.int64]
    score: NDArray[np.float32]
    rank: NDArray[np.float64]


def from_logits(
    outputs: Mapping[str, NDArray],
    where: Fit,
    taxonomy: Taxonomy,
    limits: Thresholds,
    activation: str,
    tubes: bool = False,
) -> Segmentation:
    """Segmentation of one frame.

    Args:
        outputs: class_logits [1, N, C + 1]; mask_logits [1, N, h, w], or mask_kernels [1, N, D] and mask_features
            [1, D, h, w]; optionally query_embeddings [1, N, E], and for sigmoid masks query_boxes [1, N, 4].
        where: position of the camera image in the network's input.
        activation: softmax_queries or sigmoid.
        tubes: set the tube of each segment to its query.

    Raises DroppedFrame when an output holds NaN or infinity.
    """
    embeddings = embeddings_of(outputs)
    found, masks, row = _select_candidates(outputs, taxonomy, limits, activation)
    upsampling = Upsampling.of(where, masks.shape[1:])
    owner = np.zeros(upsampling.size, _label_type(len(found.query)))
    overlap = np.where(limits.stuff_overlap | taxonomy.isthing[found.column], limits.overlap, 0.0)
    if len(found.query):
        if activation == "sigmoid":
            boxes = finite(outputs, "query_boxes")[0][found.query] if "query_boxes" in outputs else None
            _assign_sigmoid(owner, masks, row, boxes, found.score, upsampling, limits, overlap)
        else:
            _assign_softmax(owner, masks, row, upsampling, limits, overlap)
    area = pixel_counts(owner, len(found.query) + 1)[1:]
    is_thing = taxonomy.isthing[found.column]
    label, first = _merge_stuff(area, found.column, is_thing, np.where(is_thing, limits.thing_area, limits.stuff_area))
    if limits.things_first:
        # Segments are listed by rank, in whatever order they were assigned.
        order = np.argsort(-found.rank[first], kind="stable")
        position = np.append(0, np.argsort(order) + 1).astype(label.dtype)
        label, first = position.take(label), first[order]
    labels, areas, boxes = labels_at_camera(look_up(owner, label), where, len(first))
    seen = areas > 0
    if not seen.all():
        # A small segment can have no pixel in a camera image that is smaller than the network's input.
        labels = look_up(labels, np.append(0, np.cumsum(seen) * seen).astype(labels.dtype))
        first, areas, boxes = first[seen], areas[seen], boxes[seen]
    source = found.query[first]
    return Segmentation(
        labels,
        taxonomy.ids[found.column[first]],
        is_thing[first],
        found.rank[first].astype(np.float32),
        areas,
        boxes,
        None if embeddings is None else embeddings[source],
        source if tubes else None,
    )


def classify(logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Column and score of the best class of each query; `logits` is [N, C + 1], the last being void."""
    power = np.exp(logits - logits.max(1, keepdims=True))
    column = logits[:, :-1].argmax(1)
    return column, power[np.arange(len(power)), column] / power.sum(1)


def _select_candidates(
    outputs: Mapping[str, NDArray], taxonomy: Taxonomy, limits: Thresholds, activation: str
) -> tuple[Candidates, NDArray[np.float32], NDArray[np.int64]]:
    """The candidates; mask logits [R, h, w], relative to the largest unless sigmoid; and the row of each candidate."""
    class_logits = finite(outputs, "class_logits")[0]
    column, score = classify(class_logits)
    enough = score >= np.where(taxonomy.isthing[column], limits.thing, limits.stuff)
    if activation == "sigmoid" and limits.drop_void:
        enough &= class_logits[np.arange(len(column)), column] > class_logits[:, -1]
    query = np.flatnonzero(enough)
    masks, row = mask_logits(outputs, query, every=activation != "sigmoid")
    if activation != "sigmoid":
        flat = masks.reshape(len(masks), -1)
        # The softmax does not change, and logits far below 0 can then be ignored.
        masks = (flat - flat.max(0)).reshape(masks.shape)
    rank = score[query].astype(np.float64) ** limits.class_exponent
    if limits.mask_exponent and len(query):
        rank = rank * mask_scores(masks, row, limits, activation) ** limits.mask_exponent
    if limits.rank_threshold:
        enough = rank >= np.where(taxonomy.isthing[column[query]], limits.thing, limits.stuff)
        query, rank, row = query[enough], rank[enough], row[enough]
    order = np.argsort(-rank, kind="stable")
    if limits.things_first:
        order = np.lexsort((-rank, ~taxonomy.isthing[column[query]]))
    query = query[order]
    found = Candidates(query, column[query], score[query], rank[order])
    return found, masks, row[order]


def mask_logits(
    outputs: Mapping[str, NDArray], query: NDArray[np.int64], every: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """[R, h, w] of at least the queries [Q], and the row of each: the output mask_logits, or the products of
    mask_kernels and mask_features, which are computed of these queries only unless `every`.
    """
    if "mask_logits" in outputs:
        return finite(outputs, "mask_logits")[0], query
    kernels, features = (finite(outputs, name)[0] for name in ("mask_kernels", "mask_features"))
    kernels, row = (kernels, query) if every else (kernels[query], np.arange(len(query)))
    return (kernels @ features.reshape(len(features), -1)).reshape(-1, *features.shape[1:]), row


def _above(masks: NDArray[np.float32], row: NDArray[np.int64], limit: float) -> NDArray[np.bool_]:
    """bool [Q, h, w], where the masks of those rows exceed a limit; they are not copied first."""
    above = np.empty((len(row), *masks.shape[1:]), bool)
    for line, r in zip(above, row.tolist(), strict=True):
        np.greater(masks[r], np.float32(limit), out=line)
    return above


def mask_scores(masks: NDArray, query: NDArray, limits: Thresholds, activation: str) -> NDArray[np.float64]:
    """[Q] mean probability of masks over the nodes at which they exceed the threshold; 0 where there are none.

    Args:
        masks: [R, h, w].
        query: int64 [Q], rows of `masks`.
    """
    flat = masks.reshape(len(masks), -1)
    if activation == "sigmoid":
        # The exponential takes longer than everything else, and a mask covers few of the nodes.
        q, node = np.divmod(np.flatnonzero(_above(flat, query, logit(limits.mask))), flat.shape[1])
        p = 1 / (1 + np.exp(-flat[query[q], node].astype(np.float64)))
        return np.bincount(q, p, len(query)) / np.maximum(np.bincount(q, minlength=len(query)), 1)
    alive = np.flatnonzero(flat.max(1) > -_NEGLIGIBLE)
    total = np.exp(flat[alive]).sum(0)
    if limits.mode != "mask_wise":
        # Only over nodes where the query is the largest: other queries may own the rest of its mask.
        winner, node = np.nonzero(flat[alive] == 0)
        p = 1 / total[node]
        inside = p > limits.mask
        size = np.bincount(alive[winner], inside, len(flat))
        return (np.bincount(alive[winner], p * inside, len(flat)) / np.maximum(size, 1))[query]
    p = np.exp(flat[query]) / total
    inside = (p > limits.mask).astype(np.float32)
    return np.einsum("qn,qn->q", p, inside) / np.maximum(inside.sum(1), 1)


def _assign_softmax(
    owner: NDArray[np.unsignedinteger],
    masks: NDArray,
    query: NDArray,
    upsampling: Upsampling,
    limits: Thresholds,
    overlap: NDArray[np.float64],
) -> None:
    """Writes 1 + the index of each pixel's candidate into `owner`, for masks by softmax over all queries.

    Args:
        owner: [H, W], initially 0, which means none.
        masks: [N, h, w] logits relative to the largest of each node.
        query: int64 [Q], the candidates.
        overlap: [Q], share of each mask that must stay visible, in mode mask_wise.
    """
    exclusive = limits.mode != "mask_wise"
    # The largest probability is at least 1 / N, which here exceeds the threshold.
    largest_only = exclusive and limits.mask * len(masks) < 1
    candidate = np.zeros(len(masks), owner.dtype)
    candidate[query] = np.arange(1, len(query) + 1)
    # With a threshold near zero, masks of the smallest probability count too.
    margin = _CANNOT_WIN if largest_only else _NEGLIGIBLE if limits.mask > 0.01 else math.inf
    regions = regions_of(masks > -margin, upsampling)
    values = {q: upsampling(masks[q], region) for q, region in regions}
    best = np.full(owner.shape, -np.inf, np.float32)
    for q, region in regions:
        here, value = best[region.pixels], values[q]
        if exclusive:
            better = value > here
            np.copyto(owner[region.pixels], candidate[q], where=better)
            np.copyto(here, value, where=better)
        else:
            np.maximum(here, value, out=here)
    if largest_only:
        return
    total = np.zeros(owner.shape, np.float32)
    for q, region in regions:
        value = values[q]
        value -= best[region.pixels]
        total[region.pixels] += np.exp(value, out=value)
    if exclusive:
        owner[limits.mask * total >= 1] = 0
        return
    total *= limits.mask
    pixels = {q: region.pixels for q, region in regions}
    claims = ((i, pixels[q], values[q] > total[pixels[q]]) for i, q in enumerate(query.tolist()) if q in pixels)
    _paste(owner, claims, overlap)


def _assign_sigmoid(
    owner: NDArray[np.unsignedinteger],
    masks: NDArray,
    row: NDArray,
    boxes: NDArray | None,
    score: NDArray,
    upsampling: Upsampling,
    limits: Thresholds,
    overlap: NDArray[np.float64],
) -> None:
    """Writes 1 + the index of each pixel's candidate into `owner`, for sigmoid masks.

    Args:
        owner, overlap: as in `_assign_softmax`.
        masks: [R, h, w] logits.
        row: int64 [Q], that of each candidate in `masks`.
        boxes: [Q, 4] x0 y0 x1 y1 in pixels of the network's input, outside of which a mask is empty.
        score: [Q] class scores.
    """
    limit = np.float32(logit(limits.mask))
    if limits.mode == "mask_wise":
        regions = regions_of(_above(masks, row, limit), upsampling, boxes)
        claims = ((q, region.pixels, upsampling(masks[row[q]], region) > limit) for q, region in regions)
        _paste(owner, claims, overlap)
        return
    masks = masks[row]
    if limits.mode == "argmax":
        if limits.mask_grid:
            square = (limits.mask_grid, limits.mask_grid)
            masks = np.stack([cv2.resize(mask, square, interpolation=cv2.INTER_LINEAR) for mask in masks])
            upsampling = replace(upsampling, nodes=masks.shape[1:])
        masks = _product(masks, score[:, None, None])
        limit = np.float32(limits.mask)
    queries = len(masks)
    relevant = np.ones(masks.shape, bool)
    if boxes is None and upsampling.stride:
        ratings = masks if limits.mode == "argmax" else _product(masks, score[:, None, None])
        relevant = _may_win(ratings) | (masks > limit)
    best = np.full(owner.shape, -np.inf, np.float32)
    inside = np.zeros(owner.shape, bool)
    area = np.zeros(queries)
    for q, region in regions_of(relevant, upsampling, boxes):
        value, here = upsampling(masks[q], region), best[region.pixels]
        above = value > limit
        area[q] = np.count_nonzero(above)
        rating = value if limits.mode == "argmax" else _product(value, score[q])
        better = rating > here
        np.copyto(here, rating, where=better)
        np.copyto(owner[region.pixels], owner.dtype.type(q + 1), where=better)
        np.copyto(inside[region.pixels], above, where=better)
    won = pixel_counts(owner, queries + 1)[1:]
    lost = look_up(owner, np.append(True, (won <= limits.overlap * area) | (area == 0)))
    if limits.mode == "pixel_wise":
        lost |= ~inside
    owner[lost] = 0


def _may_win(ratings: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where masks [Q, h, w] can be the largest at a pixel beside a node.

    Between four nodes a mask is nowhere larger than at one of these nodes, and the largest mask nowhere smaller than
    the best of the smallest values at these nodes.
    """
    padded = np.pad(ratings, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-1], padded[:, 1:]
    high, low = np.maximum(*rows), np.minimum(*rows)
    high, low = np.maximum(high[..., :-1], high[..., 1:]), np.minimum(low[..., :-1], low[..., 1:])
    # Interpolation may exceed the values at the nodes by rounding.
    wins = high * np.float32(1 + 1e-5) >= low.max(axis=0, initial=0)
    wins = wins[:, :-1] | wins[:, 1:]
    return wins[..., :-1] | wins[..., 1:]


def _paste(
    owner: NDArray[np.unsignedinteger],
    claims: Iterator[tuple[int, tuple[slice, slice], NDArray[np.bool_]]],
    overlap: NDArray[np.float64],
) -> None:
    """Assigns, in order, the free pixels of masks: (candidate, pixels, mask at these pixels)."""
    for q, pixels, mask in claims:
        owners = owner[pixels]
        # One comparison for a pixel of the mask that has no owner.
        free = mask.view(np.uint8) > owners
        left, area = np.count_nonzero(free), np.count_nonzero(mask)
        if left and left > overlap[q] * area:
            # Three times as fast as an assignment with a mask.
            owners |= free.view(np.uint8) * owner.dtype.type(q + 1)


def _merge_stuff(
    area: NDArray, column: NDArray, is_thing: NDArray[np.bool_], smallest: NDArray
) -> tuple[NDArray, NDArray[np.int64]]:
    """Merges candidates of one stuff class, and drops small segments.

    Returns the label of each candidate (a first element 0 is for no candidate), and the candidate whose class, score
    and embedding each label takes.
    """
    leader = np.arange(len(area))
    first_of_class: dict[int, int] = {}
    for q in np.flatnonzero(~is_thing & (area > 0)):
        leader[q] = first_of_class.setdefault(int(column[q]), int(q))
    merged = np.bincount(leader, area, len(area))
    kept = (merged > 0) & (merged >= smallest)
    label = np.append(0, (np.cumsum(kept) * kept)[leader])
    return label.astype(_label_type(label.max())), np.flatnonzero(kept)


def split_components(segmentation: Segmentation, least_area: float) -> Segmentation:
    """Each connected component (8 neighbours) of a thing segment becomes an object of its own.

    Args:
        least_area: smallest component in camera pixels; the pixels of smaller ones become void.
    """
    s = segmentation
    picture = np.where(np.append(False, s.is_thing).take(s.map), 0, s.map).astype(np.uint16)
    source = np.arange(len(s.class_ids))
    rows = list(source[~s.is_thing])
    boxes, areas = list(s.boxes[rows]), list(s.areas[rows])
    table = np.zeros(len(source) + 1, np.uint16)
    table[np.array(rows, int) + 1] = np.arange(1, len(rows) + 1)
    picture = table.take(picture)
    for row in source[s.is_thing].tolist():
        x0, y0, x1, y1 = (int(v) for v in s.boxes[row])
        place = np.s_[y0:y1, x0:x1]
        mask = (s.map[place] == row + 1).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        for label, (left, top, width, height, area) in enumerate(stats.tolist()):
            if label and area >= max(least_area, 1):
                rows.append(row)
                picture[place][labels == label] = len(rows)
                boxes.append(np.array([x0 + left, y0 + top, x0 + left + width, y0 + top + height], s.boxes.dtype))
                areas.append(area)
    kept = np.array(rows, np.int64)
    return Segmentation(
        picture.astype(_label_type(len(kept)), copy=False),
        s.class_ids[kept],
        s.is_thing[kept],
        s.scores[kept],
        np.array(areas, s.areas.dtype),
        np.array(boxes, s.boxes.dtype).reshape(-1, 4),
        None if s.embeddings is None else s.embeddings[kept],
    )


def _product(logits: NDArray[np.float32], score: NDArray | float) -> NDArray[np.float32]:
    """Class score times mask probability."""
    product = np.negative(logits)
    with np.errstate(over="ignore"):
        np.exp(product, out=product)
    product += 1
    return np.divide(score, product, out=product)


def _label_type(largest: int) -> type[np.unsignedinteger]:
    """The smallest type of a label map; look-up and counting are several times as fast with 8 bits."""
    return np.uint8 if largest < 256 else np.uint16


def logit(p: float) -> float:
    if p <= 0:
        return -math.inf
    return math.inf if p >= 1 else math.log(p / (1 - p))


def embeddings_of(outputs: Mapping[str, NDArray]) -> NDArray[np.float32] | None:
    """[N, E] of the queries, if the network gives them."""
    return finite(outputs, "query_embeddings")[0] if "query_embeddings" in outputs else None


def finite(outputs: Mapping[str, NDArray], name: str) -> NDArray[np.float32]:
    """An output of the network; raises DroppedFrame when it holds NaN or infinity."""
    values = np.asarray(outputs[name], np.float32)
    # A finite sum of squares proves that all values are finite, at less cost; that of finite values can overflow.
    if not math.isfinite(np.vdot(values, values)) and not np.isfinite(values).all():
        raise DroppedFrame(f"the network gave NaN or infinity in {name}; the frame is dropped")
    return values
