"""Loss terms that several networks use, one function each.

Sources: kMaX-DeepLab (Yu et al., 2022) for matching, mask and class terms; MaX-DeepLab (Wang et al., 2021), 3.3, for
instance discrimination; Video K-Net (Li et al., 2022), equations 1 and 2, for association.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from vps_ros.learning.data.targets import Targets

TEMPERATURE = 0.3
SAMPLED_PIXELS = 1024
OFFSET_UNIT = 16.0
_SMALL = 1e-6


class Overlaps(NamedTuple):
    """For every query and segment: `dice` [B, N, M], and `log_likelihood` [B, N, M] summed over cells."""

    dice: Tensor
    log_likelihood: Tensor


def overlaps(masks: Tensor, truth: Tensor, valid: Tensor) -> Overlaps:
    """Dice of the masks (softmax over queries) and the log likelihood of each segment's cells under each query.

    Args:
        masks: [B, N, h, w] logits.
        truth: [B, M, h, w], share of each cell in each segment.
        valid: [B, 1, h, w], share of each cell that is not void.
    """
    log_p = masks.flatten(2).log_softmax(1)
    p = log_p.exp() * valid.flatten(2)
    cells = truth.flatten(2).transpose(1, 2)
    sizes = p.sum(2)[:, :, None] + cells.sum(1)[:, None, :]
    return Overlaps(2 * (p @ cells) / sizes.clamp(min=1e-3), log_p @ cells)


def match(dice: Tensor, classes: Tensor, targets: Targets) -> Tensor:
    """int64 [B, M]: the query of each segment, -1 for rows without one; dice times class probability is maximal.

    Args:
        dice: [B, N, M].
        classes: [B, N, C + 1] logits.
    """
    probability = classes.softmax(2)
    wanted = targets.classes.clamp(min=0)[:, None, :].expand(-1, classes.shape[1], -1)
    # NaN outputs of a diverged network are reported by the loss; the matching must not fail.
    value = (dice * probability.gather(2, wanted)).detach().nan_to_num().cpu().numpy()
    result = np.full(targets.classes.shape, -1, np.int64)
    for b, count in enumerate((targets.classes >= 0).sum(1).tolist()):
        queries, rows = linear_sum_assignment(value[b, :, :count], maximize=True)
        result[b, rows] = queries
    return torch.from_numpy(result).to(classes.device)


def class_loss(
    classes: Tensor, matching: Tensor, targets: Targets, void: float, labelled: Tensor | None = None
) -> Tensor:
    """Cross entropy of every query with its segment's class, or with void at weight `void`; a weighted mean.

    Args:
        labelled: [B, N], factor of the weight of an unmatched query: see `labelled_share`.
    """
    count = classes.shape[2] - 1
    wanted = torch.full(classes.shape[:2], count, device=classes.device)
    weights = torch.full(classes.shape[:2], void, device=classes.device)
    if labelled is not None:
        weights = weights * labelled
    images, rows = torch.nonzero(matching >= 0, as_tuple=True)
    queries = matching[images, rows]
    wanted[images, queries] = targets.classes[images, rows]
    weights[images, queries] = 1.0
    each = F.cross_entropy(classes.flatten(0, 1), wanted.flatten(), reduction="none")
    return (each * weights.flatten()).sum() / weights.sum().clamp(min=1e-6)


def semantic_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Mean cross entropy of the cells with a class or a group of classes; 0 if there are none.

    Args:
        logits: [B, C, h, w].
    """
    each = semantic_cells(logits.flatten(2), targets.semantic.flatten(1), *flat_groups(targets))
    return each.sum() / labelled_cells(targets)


def semantic_cells(logits: Tensor, semantic: Tensor, group: Tensor | None, members: Tensor | None) -> Tensor:
    """[B, P]: -log of the probability of a cell's class, or of the sum over its group's classes; 0 without a label.

    Args:
        logits: [B, K, P], of C classes or more.
        semantic: int64 [B, P], -1 for none.
        group: int64 [B, P] or None, members: bool [B, G, C + 1] or None, as in Targets.
    """
    each = F.cross_entropy(logits, semantic, ignore_index=-1, reduction="none")
    if group is None or members is None or not (group >= 0).any():
        return each
    images, cells = torch.nonzero(group >= 0, as_tuple=True)
    chosen = logits[images, :, cells]
    allowed = members[images, group[images, cells], :-1]
    allowed = F.pad(allowed, (0, chosen.shape[1] - allowed.shape[1]))
    inside = chosen.masked_fill(~allowed, float("-inf")).logsumexp(1)
    return each.index_put((images, cells), chosen.logsumexp(1) - inside)


def flat_groups(targets: Targets) -> tuple[Tensor | None, Tensor | None]:
    """`group` as [B, P], and `members`."""
    return None if targets.group is None else targets.group.flatten(1), targets.members


def labelled_cells(targets: Targets) -> Tensor:
    """Number of cells of the batch with a class or a group of classes, at least 1."""
    labelled = targets.semantic >= 0
    if targets.group is not None:
        labelled = labelled | (targets.group >= 0)
    return labelled.sum().clamp(min=1)


def classes_only_loss(classes: Tensor, masks: Tensor, targets: Targets) -> Tensor:
    """Class loss of the queries for cells with a class or a group, but without a segment.

    The probability of class c in a cell is the sum over queries of mask times class probability (MaskFormer's semantic
    inference, Cheng et al., 2021). The loss is -log of its sum over the cell's classes, over all labelled cells.

    Args:
        classes: [B, N, C + 1] logits; the last is void, which groups may hold.
        masks: [B, N, h, w] logits, softmax over queries.
    """
    if targets.unlabelled is None or not targets.unlabelled.any():
        return classes.sum() * 0.0
    b, _, count = classes.shape
    members = torch.eye(count - 1, count, dtype=torch.bool, device=classes.device).expand(b, -1, -1)
    label = targets.semantic.flatten(1)
    group, groups = flat_groups(targets)
    if group is not None:
        members = torch.cat([members, groups], 1)
        label = torch.where(group >= 0, group + count - 1, label)
    alone = (label >= 0) & (targets.segments.flatten(1) < 0)
    of_query = classes.softmax(2) @ members.to(classes.dtype).transpose(1, 2)
    of_cell = of_query.transpose(1, 2) @ masks.flatten(2).softmax(1)
    p = of_cell.gather(1, label.clamp(min=0)[:, None])[:, 0]
    return -((p + _SMALL).log() * alone).sum() / labelled_cells(targets)


def mask_losses(found: Overlaps, matching: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (1 - dice) of the matched segments, and their mask-id cross entropy divided by `cells`."""
    images, rows = torch.nonzero(matching >= 0, as_tuple=True)
    queries = matching[images, rows]
    dice = 1 - found.dice[images, queries, rows]
    identity = -found.log_likelihood[images, queries, rows].sum() / cells.clamp(min=1)
    return dice.sum() / max(len(rows), 1), identity


def discrimination_loss(pixels: Tensor, truth: Tensor, targets: Targets, generator: torch.Generator) -> Tensor:
    """Contrastive loss of sampled pixel features with the mean features of all segments (MaX-DeepLab, 3.3).

    The sampling weight of a pixel is one over the square root of the area of its segment, for small segments.

    Args:
        pixels: [B, D, h, w] of unit length.
        truth: [B, M, h, w].
    """
    flat, members = pixels.flatten(2), truth.flatten(2)
    centres = F.normalize(members @ flat.transpose(1, 2), dim=2, eps=1e-4)
    row = targets.segments.flatten(1)
    areas = members.sum(2)
    weight = torch.where(row >= 0, areas.gather(1, row.clamp(min=0)).clamp(min=1).rsqrt(), 0.0)
    some = weight.sum(1) > 0
    if not some.any():
        return pixels.sum() * 0.0
    flat, centres, row, weight = flat[some], centres[some], row[some], weight[some]
    sample = torch.multinomial(weight, SAMPLED_PIXELS, replacement=True, generator=generator)
    drawn = flat.gather(2, sample[:, None].expand(-1, flat.shape[1], -1))
    similarity = (centres @ drawn) / TEMPERATURE
    similarity = similarity.masked_fill((targets.classes[some] < 0)[:, :, None], -1e4)
    return F.cross_entropy(similarity, row.gather(1, sample))


def offset_loss(offsets: Tensor, truth: Tensor, targets: Targets, isthing: Tensor) -> Tensor:
    """L1 error of the predicted offset from each pixel of a thing to its centre, averaged over pixels, then things.

    As in Panoptic-DeepLab (Cheng et al., 2020); here an auxiliary loss in training only.

    Args:
        offsets: [B, 2, h, w], x and y, in units of OFFSET_UNIT cells.
        truth: [B, M, h, w].
        isthing: bool [C].
    """
    h, w = offsets.shape[2:]
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([x.flatten(), y.flatten()], 1).to(offsets) / OFFSET_UNIT
    members = truth.flatten(2)
    areas = members.sum(2)
    centres = (members @ places) / areas.clamp(min=1)[:, :, None]
    row = targets.segments.flatten(1).clamp(min=0)
    wanted = centres.gather(1, row[:, :, None].expand(-1, -1, 2)) - places
    distance = (offsets.flatten(2).transpose(1, 2) - wanted).abs().sum(2)
    things = isthing[targets.classes.clamp(min=0)] & (targets.classes >= 0)
    each = (members @ distance[:, :, None])[:, :, 0] / areas.clamp(min=1)
    return (each * things).sum() / things.sum().clamp(min=1)


def association_losses(embeddings: Tensor, matching: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Video K-Net's equations 1 and 2 on a batch of pairs: images 2i and 2i + 1 are two frames of one video.

    Only queries matched to things are used. The negatives of a query are all other objects of the other frames in the
    batch; in the paper only those of its reference frame, which are too few in a small batch. The loss is the mean of
    both directions.

    Args:
        embeddings: [B, N, D].
        matching: [B, M].
    """
    images, rows = torch.nonzero((matching >= 0) & (targets.tracks > 0), as_tuple=True)
    chosen = embeddings[images, matching[images, rows]]
    # In some data sets instance ids are unique within a class only.
    identity = torch.stack([images // 2, targets.classes[images, rows], targets.tracks[images, rows]], 1)
    is_key = images % 2 == 0
    keys, references = chosen[is_key], chosen[~is_key]
    positive = (identity[is_key][:, None] == identity[~is_key][None]).all(2)
    if not positive.any():
        zero = embeddings.sum() * 0.0
        return zero, zero
    products = keys @ references.T
    track = (_contrast(products, positive) + _contrast(products.T, positive.T)) / 2
    cosine = F.normalize(keys, dim=1, eps=1e-4) @ F.normalize(references, dim=1, eps=1e-4).T
    # A mean of its own: there are far more negatives, and most have a small loss.
    apart = cosine[~positive].square().mean() if (~positive).any() else 0.0
    return track, (1 - cosine[positive]).square().mean() + apart


def _contrast(products: Tensor, positive: Tensor) -> Tensor:
    has = positive.any(1)
    own = products.masked_fill(~positive, float("-inf"))[has]
    return (products[has].logsumexp(1) - own.logsumexp(1)).mean()
