"""Class and mask logits -> Segmentation at camera resolution.

Class scores are the softmax over C + 1 logits; void is dropped before the maximum, and the rest is not normalised
again. A query is a candidate when its best class scores at least the threshold of its kind, and with sigmoid masks more
than void. Candidates are ranked by class score^a * mask score^b, where the mask score is the mean probability over the
nodes of the mask logits at which the mask exceeds the threshold (for pixel_wise softmax masks, and is the largest).
With `things_first` all things come before stuff (Panoptic FPN).

Mask logits are upsampled bilinearly to the network's input (upsampling.py), and each pixel of it goes to one candidate:

- mask_wise (kMaX-DeepLab): in the order of rank, a candidate gets those pixels of its mask that are still free, if
  these are more than `overlap` of its pixels; otherwise it gets nothing. A mask is where the probability exceeds
  `mask`.
- pixel_wise: every pixel goes to the query with the largest probability (softmax; Video-kMaX) or product of class score
  and probability (sigmoid; Mask2Former's own code, and EoMT), if that is a candidate and its probability exceeds
  `mask`. A sigmoid mask is kept if the pixels that it wins are more than `overlap` of its pixels.
- argmax (transformers' Mask2Former, MaskFormer, DETR and OneFormer): every pixel goes to the sigmoid mask whose product
  of class score and probability is largest, however small that is; here the product is upsampled, not the logit. A mask
  whose pixels are not more than `overlap` of those at which its product exceeds `mask` gets nothing.

Candidates of the same stuff class become one segment, with the score and embedding of the highest-ranked. Segments
smaller than their kind's area, in pixels of the network's input, are void. The camera's pixels take the label of the
nearest input pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame
from vps_ros.frame import Segmentation
from vps_ros.segmenters.model_card import Thresholds
from vps_ros.segmenters.preprocess import Fit
from vps_ros.segmenters.upsampling import Upsampling, bounding_slices, describe
from vps_ros.taxonomy import Taxonomy

_NEGLIGIBLE = 10.0
"""A softmax mask this far below the largest logit of a node has less than 5e-5 of the probability there."""
_BEATEN = 4.0
"""A mask this far below the largest logit at four nodes wins none of the pixels between them, but in rare cases."""


class Candidates(NamedTuple):
    """Queries that may become segments, highest rank first.

    Attributes:
        query: int64 [Q], place in the network's outputs.
        column: int64 [Q], place of the class in the taxonomy.
        score, rank: [Q], class score, and what orders the candidates.
    """

    query: NDArray[np.int64]
    column: NDArray[np.int64]
    score: NDArray[np.float32]
    rank: NDArray[np.float64]


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
    if activation != "sigmoid":
        flat = masks.reshape(len(masks), -1)
        # Relative to the largest of each node, which changes no softmax, it shows which queries matter.
        masks = np.subtract(flat, flat.max(0)).reshape(masks.shape)
    found = _candidates(class_logits, masks, taxonomy, limits, activation)
    upsampling = Upsampling.of(where, masks.shape[1:])
    owner = np.full(upsampling.size, len(found.query), np.uint16)
    if len(found.query):
        if activation == "sigmoid":
            _assign_sigmoid(owner, masks[found.query], found.score, upsampling, limits)
        else:
            _assign_softmax(owner, masks, found.query, upsampling, limits)
    area = np.bincount(owner.ravel(), minlength=len(found.query) + 1)[:-1]
    is_thing = taxonomy.isthing[found.column]
    label, first = _merge(area, found.column, is_thing, np.where(is_thing, limits.thing_area, limits.stuff_area))
    if limits.things_first:
        # Segments are listed by rank, whatever was pasted first.
        order = np.argsort(-found.rank[first], kind="stable")
        place = np.append(0, np.argsort(order) + 1).astype(label.dtype)
        label, first = place.take(label), first[order]
    picture, areas, boxes = describe(label.take(owner), where, len(first))
    seen = areas > 0
    if not seen.all():
        # A camera with fewer pixels than the input takes none of some small segments.
        picture = np.append(0, np.cumsum(seen) * seen).astype(picture.dtype).take(picture)
        first, areas, boxes = first[seen], areas[seen], boxes[seen]
    source = found.query[first]
    return Segmentation(
        picture,
        taxonomy.ids[found.column[first]],
        is_thing[first],
        found.rank[first].astype(np.float32),
        areas,
        boxes,
        embeddings[source],
    )


def classify(logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Column and score of the best class of each query; `logits` is [N, C + 1], the last being void."""
    power = np.exp(logits - logits.max(1, keepdims=True))
    column = logits[:, :-1].argmax(1)
    return column, power[np.arange(len(power)), column] / power.sum(1)


def _candidates(
    class_logits: NDArray, masks: NDArray, taxonomy: Taxonomy, limits: Thresholds, activation: str
) -> Candidates:
    column, score = classify(class_logits)
    able = score >= np.where(taxonomy.isthing[column], limits.thing, limits.stuff)
    if activation == "sigmoid":
        able &= class_logits[np.arange(len(column)), column] > class_logits[:, -1]
    query = np.flatnonzero(able)
    rank = score[query].astype(np.float64) ** limits.class_exponent
    if limits.mask_exponent and len(query):
        rank = rank * mask_scores(masks, query, limits, activation) ** limits.mask_exponent
    order = np.argsort(-rank, kind="stable")
    if limits.things_first:
        order = np.lexsort((-rank, ~taxonomy.isthing[column[query]]))
    query = query[order]
    return Candidates(query, column[query], score[query], rank[order])


def mask_scores(masks: NDArray, query: NDArray, limits: Thresholds, activation: str) -> NDArray[np.float64]:
    """[Q] mean probability of each mask over its nodes; 0 where it has none."""
    flat = masks.reshape(len(masks), -1)
    if activation == "sigmoid":
        with np.errstate(over="ignore"):
            p = 1 / (1 + np.exp(-flat[query]))
    else:
        alive = np.flatnonzero(flat.max(1) > -_NEGLIGIBLE)
        total = np.exp(flat[alive]).sum(0)
        if limits.mode != "mask_wise":
            # Over the nodes that a query wins: others may own the rest, and its score would fall with its area.
            winner, node = np.nonzero(flat[alive] == 0)
            p = 1 / total[node]
            inside = p > limits.mask
            size = np.bincount(alive[winner], inside, len(flat))
            return (np.bincount(alive[winner], p * inside, len(flat)) / np.maximum(size, 1))[query]
        p = np.exp(flat[query]) / total
    inside = (p > limits.mask).astype(np.float32)
    return np.einsum("qn,qn->q", p, inside) / np.maximum(inside.sum(1), 1)


def _assign_softmax(
    owner: NDArray[np.uint16], masks: NDArray, query: NDArray, upsampling: Upsampling, limits: Thresholds
) -> None:
    """Writes the candidate of each pixel, masks being the softmax over all queries.

    Args:
        owner: [H, W], filled with the number of candidates.
        masks: [N, h, w] logits relative to the largest of each node.
        query: int64 [Q], the candidates.
    """
    exclusive = limits.mode != "mask_wise"
    # The largest of so many exceeds the threshold.
    largest_only = exclusive and limits.mask * len(masks) < 1
    place = np.full(len(masks), len(query), np.uint16)
    place[query] = np.arange(len(query))
    # A threshold near zero lets the faintest mask claim pixels.
    margin = _BEATEN if largest_only else _NEGLIGIBLE if limits.mask > 0.01 else math.inf
    regions = bounding_slices(masks > -margin, upsampling)
    values = {q: upsampling(masks[q], region) for q, region in regions}
    best = np.full(owner.shape, -np.inf, np.float32)
    for q, region in regions:
        here, value = best[region.pixels], values[q]
        if exclusive:
            better = value > here
            np.copyto(owner[region.pixels], place[q], where=better)
            np.copyto(here, value, where=better)
        else:
            np.maximum(here, value, out=here)
    if largest_only:
        return
    total = np.zeros(owner.shape, np.float32)
    for q, region in regions:
        values[q] = np.exp(values[q] - best[region.pixels])
        total[region.pixels] += values[q]
    if exclusive:
        owner[limits.mask * total >= 1] = len(query)
        return
    total *= limits.mask
    places = {q: region.pixels for q, region in regions}
    claims = ((place[q], places[q], values[q] > total[places[q]]) for q in query.tolist() if q in places)
    _paste(owner, claims, limits.overlap)


def _assign_sigmoid(
    owner: NDArray[np.uint16], masks: NDArray, score: NDArray, upsampling: Upsampling, limits: Thresholds
) -> None:
    """Writes the candidate of each pixel, masks being sigmoids.

    Args:
        owner: [H, W], filled with the number of candidates.
        masks: [Q, h, w] logits of the candidates.
        score: [Q] class scores.
    """
    limit = np.float32(logit(limits.mask))
    if limits.mode == "mask_wise":
        regions = bounding_slices(masks > limit, upsampling)
        claims = ((q, region.pixels, upsampling(masks[q], region) > limit) for q, region in regions)
        _paste(owner, claims, limits.overlap)
        return
    if limits.mode == "argmax":
        if limits.mask_grid:
            square = (limits.mask_grid, limits.mask_grid)
            masks = np.stack([cv2.resize(mask, square, interpolation=cv2.INTER_LINEAR) for mask in masks])
            upsampling = upsampling.with_nodes(masks.shape[1:])
        masks = _product(masks, score[:, None, None])
        limit = np.float32(limits.mask)
    queries = len(masks)
    best = np.full(owner.shape, -np.inf, np.float32)
    inside = np.zeros(owner.shape, bool)
    area = np.zeros(queries)
    for q in range(queries):
        value = upsampling(masks[q])
        above = value > limit
        area[q] = np.count_nonzero(above)
        rating = value if limits.mode == "argmax" else _product(value, score[q])
        better = rating > best
        np.copyto(best, rating, where=better)
        np.copyto(owner, np.uint16(q), where=better)
        np.copyto(inside, above, where=better)
    won = np.bincount(owner.ravel(), minlength=queries + 1)[:queries]
    kept = np.append((won > limits.overlap * area) & (area > 0), False)
    lost = ~kept.take(owner)
    if limits.mode == "pixel_wise":
        lost |= ~inside
    owner[lost] = queries


def _paste(
    owner: NDArray[np.uint16], claims: Iterator[tuple[int, tuple[slice, slice], NDArray[np.bool_]]], overlap: float
) -> None:
    """Gives candidates, in order, what is free of their masks: (candidate, place, mask)."""
    nobody = owner[0, 0]
    for q, place, mask in claims:
        free = mask & (owner[place] == nobody)
        left, area = np.count_nonzero(free), np.count_nonzero(mask)
        if left and left > overlap * area:
            owner[place][free] = q


def _merge(
    area: NDArray, column: NDArray, is_thing: NDArray[np.bool_], smallest: NDArray
) -> tuple[NDArray, NDArray[np.int64]]:
    """Label of each candidate (and 0 for none, last), and the candidate that gives each label its facts."""
    leader = np.arange(len(area))
    first_of_class: dict[int, int] = {}
    for q in np.flatnonzero(~is_thing & (area > 0)):
        leader[q] = first_of_class.setdefault(int(column[q]), int(q))
    merged = np.bincount(leader, area, len(area))
    kept = (merged > 0) & (merged >= smallest)
    label = np.append((np.cumsum(kept) * kept)[leader], 0)
    return label.astype(np.uint8 if label.max() < 256 else np.uint16), np.flatnonzero(kept)


def _product(logits: NDArray[np.float32], score: NDArray | float) -> NDArray[np.float32]:
    """Class score times mask probability."""
    with np.errstate(over="ignore"):
        return score / (1 + np.exp(-logits))


def logit(p: float) -> float:
    if p <= 0:
        return -math.inf
    return math.inf if p >= 1 else math.log(p / (1 - p))


def _finite(outputs: Mapping[str, NDArray], name: str) -> NDArray[np.float32]:
    values = np.asarray(outputs[name], np.float32)
    # Their sum shows NaN and infinity at a tenth of the cost; it can overflow without either.
    if not np.isfinite(values.sum()) and not np.isfinite(values).all():
        raise DroppedFrame(f"the network gave NaN or infinity in {name}; the frame is dropped")
    return values
