"""Losses of PanopticFCN (Li et al., 2021, 3.4; weights and sums as in the released code)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vps_ros.learning.data.targets import Targets
from vps_ros.learning.losses import association_losses, semantic_loss
from vps_ros.learning.panoptic_fcn.architecture import LossWeights
from vps_ros.learning.panoptic_fcn.assignment import Positives, Truth, heat_maps, levels_of, positives, truth_of
from vps_ros.learning.panoptic_fcn.model import Output, PanopticFCN, apply_kernels, gathered, region_kernels

ALPHA, GAMMA = 0.25, 2
"""Parameters of the focal loss (Lin et al., 2017)."""
LEAST_SHARE = 0.5
"""Smallest fraction of a cell that belongs to a region."""
WEIGHTS = {"region": "position", "stuff_mask": "mask"}
"""Terms of stuff -> the terms of things that have the same weight."""


def focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Focal loss of each element for soft targets in 0..1."""
    p = logits.sigmoid()
    # 1 - p_t, with p_t interpolated linearly between targets 0 and 1.
    wrong = p + wanted - 2 * p * wanted
    alpha = 1 - ALPHA + (2 * ALPHA - 1) * wanted
    return alpha * wrong.square() * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def dice(probability: Tensor, wanted: Tensor) -> Tensor:
    """1 - Dice with squares in the denominator, [N, K], of masks [N, K, P] and their truth [N, P] of 0 and 1."""
    both = (probability @ wanted[:, :, None])[:, :, 0]
    sizes = probability.square().sum(2) + wanted.sum(1)[:, None]
    return 1 - 2 * both / sizes.clamp(min=1e-8)


def total_loss(
    model: PanopticFCN, output: Output, targets: Targets, weights: LossWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum, and each term before weighting, detached."""
    a = model.architecture
    truth = truth_of(targets, model.is_thing)
    classes = model.thing_number[truth.targets.classes.clamp(min=0)]
    chosen = levels_of(truth, a.sizes)
    count = torch.stack([c.sum() for c in chosen]).sum().clamp(min=1)
    position, found = 0.0, []
    for centre, level in zip(output.centres, chosen, strict=True):
        size = centre.shape[2:]
        wanted = heat_maps(truth, level, classes, centre.shape[1], size)
        # Cells that may contain an unlabelled thing, as crowds, have no loss.
        known = F.interpolate(truth.valid, size=size, mode="area")
        position = position + (focal(centre, wanted) * known).sum()
        found.append(positives(centre.sigmoid(), truth, classes, a.positions))
    picked = [
        gathered(k.flatten(2), p.cells.flatten(1)).unflatten(1, p.cells.shape[1:])
        for k, p in zip(output.kernels, found, strict=True)
    ]
    parts = {
        "position": position / count,
        "mask": _thing_masks(model, output, truth, classes, chosen, found, picked) / count,
    }
    if output.semantic is None:
        parts["region"], parts["stuff_mask"] = _stuff_terms(model, output, targets.semantic)
    else:
        parts["semantic"] = semantic_loss(output.semantic, targets)
    vectors, learned = _means(chosen, found, picked)
    matching = torch.arange(learned.shape[1], device=learned.device).expand_as(learned).masked_fill(~learned, -1)
    parts["track"], parts["track_aux"] = association_losses(model.embedded(vectors), matching, truth.targets)
    total = sum(getattr(weights, WEIGHTS.get(name, name)) * value for name, value in parts.items())
    return total, {name: value.detach() for name, value in parts.items()}


def _thing_masks(
    model: PanopticFCN,
    output: Output,
    truth: Truth,
    classes: Tensor,
    chosen: list[Tensor],
    found: list[Positives],
    picked: list[Tensor],
) -> Tensor:
    """Sum of the weighted Dice losses of all things on their levels."""
    gates = model.gates(output.semantic.detach()) if model.gated and output.semantic is not None else None
    # Every parameter gets a gradient even without things: distributed training requires it.
    total = sum(p.sum() for p in model.thing_kernels.parameters()) * 0.0 + output.feature.sum() * 0.0
    for image, valid in enumerate(truth.valid.flatten(2)[:, 0] > 0):
        rows = [torch.nonzero(level[image])[:, 0] for level in chosen]
        if not sum(map(len, rows)):
            continue
        kernels = torch.cat([p[image, r] for p, r in zip(picked, rows, strict=True)])
        weights = torch.cat([f.weights[image, r] for f, r in zip(found, rows, strict=True)])
        row = torch.cat(rows)
        # Void cells are excluded from prediction and target.
        feature = output.feature[image].flatten(1)[:, valid]
        masks = model.thing_kernels(kernels) @ feature
        if gates is not None:
            masks = masks + gates[image].flatten(1)[:, valid][classes[image, row]][:, None]
        wanted = truth.members[image].flatten(1)[:, valid][row]
        total = total + (dice(masks.sigmoid(), wanted) * weights).sum()
    return total


def _stuff_terms(model: PanopticFCN, output: Output, semantic: Tensor) -> tuple[Tensor, Tensor]:
    """Focal loss of the regions (mean over cells and images, sum over classes and levels), and the mean Dice loss."""
    known = (semantic >= 0)[:, None].float()
    column = model.region_number[semantic.clamp(min=0)]
    numbers = torch.arange(output.regions[0].shape[1], device=semantic.device)
    members = (column[:, None] == numbers[:, None, None]).float() * known
    assert model.stuff_kernels is not None
    position = masks = count = torch.zeros((), device=semantic.device)
    for region, kernels in zip(output.regions, output.kernels, strict=True):
        share = F.interpolate(members, size=region.shape[2:], mode="area")
        wanted = torch.where(share < LEAST_SHARE, 0.0, share)
        position = position + focal(region, wanted).mean((2, 3)).sum()
        inside = (wanted > 0).float().flatten(2)
        present = inside.sum(2) > 0
        logits = apply_kernels(model.stuff_kernels(region_kernels(inside, kernels)), output.feature)
        probability = (logits.sigmoid() * known).flatten(2)
        found = dice(probability[present][:, None], members.flatten(2)[present])
        masks, count = masks + found.sum(), count + present.sum()
    return position / len(semantic), masks / count.clamp(min=1)


def _means(chosen: list[Tensor], found: list[Positives], picked: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Weighted mean kernel of each segment [B, M, C] over its levels, and bool [B, M], which segments have one."""
    total = count = torch.zeros((), device=chosen[0].device)
    for level, one, kernels in zip(chosen, found, picked, strict=True):
        has = (level & (one.weights.sum(2) > 0)).float()[:, :, None]
        total = total + has * (one.weights[..., None] * kernels).sum(2)
        count = count + has
    return total / count.clamp(min=1), count[:, :, 0] > 0
