"""Losses of kMaX-DeepLab (Yu et al., 2022) with those of MaX-DeepLab (Wang et al., 2021).

The final prediction is matched once (Hungarian, dice times class probability); all layers use this matching. The terms
of each layer have the same weight as the final ones; masks and pixel features are first resized to the final size.
PQ-style terms: the class term of a query is weighted by its dice, the mask term by its class probability.

Means over pixels or queries exclude those whose loss is exactly zero (void).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vps_ros.learning.data.targets import Targets, labelled_share
from vps_ros.learning.kmax.layers import resize, shape_of
from vps_ros.learning.kmax.model import Output, Prediction
from vps_ros.learning.losses import flat_groups, match, overlaps, semantic_cells

REAL = 0.75
"""Weight of matched queries in the class and mask terms; void queries have 1 - REAL in the class term."""
_NEVER = -99999.0


@dataclass(frozen=True)
class KMaxLosses:
    """Weights of the loss terms and pixel sampling; the defaults are those for COCO and ADE20K.

    Attributes:
        void: smallest weight of a query in the class term, and of a segment in the mask term.
        temperature: of the instance discrimination.
        sampled, preference: number of pixels per image for instance discrimination, sampled in proportion to
            (1 / area of the segment) ** preference.
        semantic_sampled, semantic_preference: the same for the semantic term; 0 uses all pixels.
    """

    classes: float = 3.0
    dice: float = 3.0
    mask_id: float = 0.3
    discrimination: float = 1.0
    semantic: float = 1.0
    void: float = 1e-5
    temperature: float = 0.3
    sampled: int = 4096
    preference: float = 1.5
    semantic_sampled: int = 4096
    semantic_preference: float = 2.0


CITYSCAPES_LOSSES = KMaxLosses(preference=0.6, semantic_sampled=0)


class MatchedTargets(NamedTuple):
    """Targets of all layers, from the matching of the final prediction.

    Attributes:
        classes: int64 [B, N], class of each query, C for void.
        class_weight: [B, N].
        matching: int64 [B, M], query of each segment, -1 for rows without one.
        truth: [B, M, h * w], 1 where a cell belongs to a segment that has a query.
        mask_weight: [B, M], 0 for rows without a query.
        segments: int64 [B, h, w], row of each cell, -1 for void.
        rarity: [B, h, w], cells of the image divided by those of the segment of a cell.
    """

    classes: Tensor
    class_weight: Tensor
    matching: Tensor
    truth: Tensor
    mask_weight: Tensor
    segments: Tensor
    rarity: Tensor


@torch.no_grad()
def match_targets(final: Prediction, targets: Targets, void: float) -> MatchedTargets:
    """Matches the final prediction; `targets` are at its mask stride, `void` is the smallest weight."""
    targets = targets.trimmed()
    b, n, h, w = final.masks.shape
    truth = targets.masks().to(final.masks.dtype)
    valid = (targets.segments[:, None] >= 0).to(truth.dtype)
    dice = overlaps(final.masks, truth, valid).dice
    matching = match(dice, final.classes, targets)
    # Segments without a query, if there are more segments than queries, are void.
    truth = truth * (matching >= 0)[:, :, None, None]
    images, row = torch.nonzero(matching >= 0, as_tuple=True)
    query = matching[images, row]
    of_row = targets.classes[images, row]
    count = final.classes.shape[2] - 1
    classes = torch.full((b, n), count, device=query.device)
    classes[images, query] = of_row
    p = final.masks.flatten(2).softmax(1)
    empty = 1 - truth.sum(1).flatten(1)
    class_weight = (p @ empty[:, :, None])[:, :, 0] / (p.sum(2) + 1e-5)
    labelled = labelled_share(p.unflatten(2, (h, w)), targets)
    class_weight = class_weight.clamp(min=void) * (1.0 if labelled is None else labelled)
    class_weight[images, query] = dice[images, query, row].clamp(min=void)
    mask_weight = torch.zeros(matching.shape, device=query.device, dtype=truth.dtype)
    mask_weight[images, row] = final.classes.softmax(2)[images, query, of_row].clamp(min=void).to(truth.dtype)
    segments = torch.where(truth.sum(1) > 0, targets.segments, -1)
    area = torch.einsum("bmhw,bm->bhw", truth, truth.sum((2, 3)))
    return MatchedTargets(
        classes,
        class_weight,
        matching,
        truth.flatten(2),
        mask_weight,
        segments,
        h * w / area.clamp(min=1),
    )


def class_loss(logits: Tensor, matched: MatchedTargets) -> Tensor:
    """Cross entropy of each query, weighted by its dice, or for void by the share of its mask outside segments."""
    void = logits.shape[2] - 1
    loss = F.cross_entropy(logits.transpose(1, 2), matched.classes, reduction="none")
    share = torch.where(matched.classes == void, 1 - REAL, REAL)
    return _mean_of_images(loss * share * matched.class_weight)


def mask_losses(masks: Tensor, matched: MatchedTargets) -> tuple[Tensor, Tensor]:
    """1 - dice, weighted by the class probability; and the cross entropy of each cell with the query of its segment."""
    log_p = masks.flatten(2).log_softmax(1)
    row = matched.segments.flatten(1)
    inside = row >= 0
    query = matched.matching.gather(1, row.clamp(min=0)).clamp(min=0)
    identity = -log_p.gather(1, query[:, None])[:, 0] * inside
    p = log_p.exp() * inside[:, None]
    mine = p.gather(1, matched.matching.clamp(min=0)[:, :, None].expand(-1, -1, p.shape[2]))
    overlap = 2 * (mine * matched.truth).sum(2) + 1
    dice = (1 - overlap / (mine.sum(2) + matched.truth.sum(2) + 1)) * matched.mask_weight
    return (dice.sum(1) * REAL / masks.shape[1]).mean(), _mean_of_images(identity)


def discrimination_loss(
    pixels: Tensor, matched: MatchedTargets, options: KMaxLosses, generator: torch.Generator
) -> Tensor:
    """A drawn pixel's features must be like those of its own segment's, among all that are drawn (MaX-DeepLab, 3.3)."""
    row = matched.segments.flatten(1)
    chosen = draw(matched.rarity.flatten(1), row < 0, options.sampled, options.preference, generator)
    row = row.gather(1, chosen)
    features = pixels.flatten(2).gather(2, chosen[:, None].expand(-1, pixels.shape[1], -1))
    same = ((row[:, :, None] == row[:, None, :]) & (row >= 0)[:, :, None]).to(features.dtype)
    same = same / same.sum(1, keepdim=True).clamp(min=1)
    similarity = features.transpose(1, 2) @ features / options.temperature
    return _mean_of_images(F.cross_entropy(similarity, same, reduction="none"))


def semantic_loss(
    logits: Tensor, targets: Targets, matched: MatchedTargets, options: KMaxLosses, generator: torch.Generator
) -> Tensor:
    """Cross entropy of the auxiliary head's pixels, at its own stride.

    Args:
        logits: [B, C or C + 1, h', w'].
        targets: every so manieth of their cells lies on one of `logits`.
    """
    step = max((targets.semantic.shape[2] - 1) // max(logits.shape[3] - 1, 1), 1)
    group = None if targets.group is None else targets.group[:, ::step, ::step]
    wish = targets.semantic[:, ::step, ::step].flatten(1)
    group, members = flat_groups(targets._replace(group=group))
    logits = logits.flatten(2)
    if options.semantic_sampled:
        segments, rarity = (t[:, ::step, ::step].flatten(1) for t in (matched.segments, matched.rarity))
        chosen = draw(rarity, segments < 0, options.semantic_sampled, options.semantic_preference, generator)
        wish = wish.gather(1, chosen)
        group = None if group is None else group.gather(1, chosen)
        logits = logits.gather(2, chosen[:, None].expand(-1, logits.shape[1], -1))
    return _mean_of_images(semantic_cells(logits, wish, group, members))


def draw(rarity: Tensor, void: Tensor, count: int, preference: float, generator: torch.Generator) -> Tensor:
    """int64 [B, count] pixels, drawn without replacement in proportion to rarity^preference (Gumbel top-k)."""
    score = rarity.log() * preference + void * _NEVER
    noise = torch.rand(score.shape, generator=generator, device=score.device, dtype=score.dtype)
    return (score - torch.log(-torch.log(noise))).topk(min(count, score.shape[1])).indices


def total_loss(
    output: Output, targets: Targets, options: KMaxLosses, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum over the final prediction and all layers, and the unweighted sum of each term, detached.

    Args:
        targets: at the mask stride, sampled from the first pixel on.
    """
    matched = match_targets(output.final, targets, options.void)
    terms: dict[str, list[Tensor]] = {"classes": [], "dice": [], "mask_id": [], "discrimination": []}
    semantic = output.final.classes.sum() * 0
    size = shape_of(output.final.masks)[2:]
    for i, prediction in enumerate([output.final, *output.layers]):
        dice, identity = mask_losses(resize(prediction.masks, size), matched)
        terms["classes"].append(class_loss(prediction.classes, matched))
        terms["dice"].append(dice)
        terms["mask_id"].append(identity)
        terms["discrimination"].append(
            discrimination_loss(resize(prediction.pixels, size), matched, options, generator)
        )
        if i == 0 and output.semantic is not None:
            semantic = semantic_loss(output.semantic, targets, matched, options, generator)
    parts = {name: torch.stack(values).sum() for name, values in terms.items()} | {"semantic": semantic}
    total = sum(getattr(options, name) * value for name, value in parts.items())
    return total, {name: value.detach() for name, value in parts.items()}


def _mean_of_images(loss: Tensor) -> Tensor:
    """Mean over the nonzero values of each image [B, K], then over images."""
    return (loss.sum(1) / (loss != 0).sum(1).clamp(min=1)).mean()
