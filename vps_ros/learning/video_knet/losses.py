"""Losses of Video K-Net (paper, 3.2 and 3.3; K-Net, 3.4): matching, class, mask, semantic and tracking terms.

Training uses pairs of frames: the second frame receives the kernels of the first, and both are segmented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from vps_ros.learning.data.targets import Targets, labelled_share
from vps_ros.learning.losses import association_losses, semantic_loss
from vps_ros.learning.video_knet.architecture import LossWeights
from vps_ros.learning.video_knet.model import FrameFeatures, Output, VideoKNet

ALPHA, GAMMA = 0.25, 2.0
"""Parameters of the focal loss (Lin et al., 2017)."""


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth of a batch.

    Attributes:
        targets: without rows that no image uses.
        members: float [B, M, P], 1 where a cell belongs to a segment.
        valid: float [B, 1, P], 0 for void cells.
    """

    targets: Targets
    members: Tensor
    valid: Tensor

    @classmethod
    def of(cls, targets: Targets) -> GroundTruth:
        targets = targets.trimmed()
        return cls(targets, targets.masks().flatten(2), (targets.segments.flatten(1)[:, None] >= 0).float())

    def part(self, which: slice) -> GroundTruth:
        """The ground truth of some images of the batch."""
        targets = self.targets.map(lambda t: t[which])
        return GroundTruth(targets, self.members[which], self.valid[which])


def focal(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The focal loss of each logit for target 1 and for target 0."""
    p = logits.sigmoid()
    return -ALPHA * (1 - p) ** GAMMA * F.logsigmoid(logits), -(1 - ALPHA) * p**GAMMA * F.logsigmoid(-logits)


def dice(masks: Tensor, truth: GroundTruth) -> Tensor:
    """Dice of mask logits [B, N, P] and segments, [B, N, M], with squares in the denominator (V-Net, as in K-Net)."""
    p = masks.sigmoid() * truth.valid
    sizes = p.square().sum(2)[:, :, None] + truth.members.sum(2)[:, None, :]
    return 2 * (p @ truth.members.transpose(1, 2)) / sizes.clamp(min=1e-3)


@torch.no_grad()
def match(masks: Tensor, classes: Tensor | None, truth: GroundTruth, model: VideoKNet, weights: LossWeights) -> Tensor:
    """int64 [B, M]: the index of the kernel matched with each segment, -1 for rows without a segment.

    Each stuff class has its own kernel. Things are matched with instance kernels by Hungarian assignment; the cost is
    the sum of class (focal), pixel accuracy and dice terms.

    Args:
        masks: [B, N, P] logits.
        classes: [B, N, C] logits, or None before the first stage.
    """
    count, wanted = model.architecture.queries, truth.targets.classes
    masks = masks[:, :count]
    p = masks.sigmoid() * truth.valid
    cells = truth.valid.sum(2).clamp(min=1)[:, :, None]
    outside = truth.valid - truth.members
    agreement = (p @ truth.members.transpose(1, 2) + (truth.valid - p) @ outside.transpose(1, 2)) / cells
    cost = -weights.dice * dice(masks, truth) - weights.mask * agreement
    if classes is not None:
        right, wrong = focal(classes[:, :count])
        column = wanted.clamp(min=0)[:, None].expand(-1, count, -1)
        cost = cost + weights.classes * (right - wrong).gather(2, column)
    # A network that diverged is reported by its loss, not here.
    cost = cost.nan_to_num().cpu().numpy()
    columns = wanted.cpu().numpy()
    place = np.full(model.architecture.classes, -1)
    stuff = model.stuff.cpu().numpy()
    place[stuff] = count + np.arange(len(stuff))
    result = np.where(columns >= 0, place[columns], -1)
    for image, row in enumerate(result):
        things = np.flatnonzero((row < 0) & (columns[image] >= 0))
        queries, found = linear_sum_assignment(cost[image][:, things])
        row[things[found]] = queries
    return torch.from_numpy(result).to(wanted.device)


def mask_terms(masks: Tensor, truth: GroundTruth, matching: Tensor) -> dict[str, Tensor]:
    """Binary cross entropy and 1 - dice, averaged over matched segments; cross entropy over kernels in each cell.

    Args:
        masks: [B, N, P] logits.
    """
    images, rows = torch.nonzero(matching >= 0, as_tuple=True)
    chosen, valid = masks[images, matching[images, rows]], truth.valid[images, 0]
    wanted = truth.members[images, rows]
    cells = valid.sum(1).clamp(min=1)
    each = (F.binary_cross_entropy_with_logits(chosen, wanted, reduction="none") * valid).sum(1) / cells
    p = chosen.sigmoid() * valid
    overlap = 2 * (p * wanted).sum(1) / (p.square().sum(1) + wanted.sum(1)).clamp(min=1e-3)
    count = max(len(rows), 1)
    segments = truth.targets.segments.flatten(1)
    owner = matching.gather(1, segments.clamp(min=0)).masked_fill(segments < 0, -1)
    rank = F.cross_entropy(masks, owner, ignore_index=-1, reduction="sum") / (owner >= 0).sum().clamp(min=1)
    return {"mask": each.sum() / count, "dice": (1 - overlap).sum() / count, "rank": rank}


def class_term(
    classes: Tensor, truth: GroundTruth, matching: Tensor, possible: Tensor, labelled: Tensor | None = None
) -> Tensor:
    """Focal loss over all classes that a kernel can have, divided by the number of matched segments.

    Args:
        classes: [B, N, C] logits; possible: bool [N, C].
        labelled: [B, N], weight of unmatched kernels; see `labelled_share`.
    """
    images, rows = torch.nonzero(matching >= 0, as_tuple=True)
    wanted = torch.zeros_like(classes, dtype=torch.bool)
    wanted[images, matching[images, rows], truth.targets.classes[images, rows]] = True
    right, wrong = focal(classes)
    each = torch.where(wanted, right, wrong) * possible
    if labelled is not None:
        weight = labelled.clone()
        weight[images, matching[images, rows]] = 1.0
        each = each * weight[:, :, None]
    return each.sum() / max(len(rows), 1)


class FrameLosses(NamedTuple):
    """Unweighted terms; kernel indices [B, M] and the dice loss of the last stage."""

    terms: dict[str, Tensor]
    matching: Tensor
    final_dice: Tensor


def frame_losses(
    features: FrameFeatures, output: Output, truth: GroundTruth, model: VideoKNet, weights: LossWeights
) -> FrameLosses:
    """The loss terms of some frames, summed over the initial masks and all stages.

    Each prediction has its own matching, as in DETR; the released code uses the matching of the previous stage.
    """
    sums = {"semantic": semantic_loss(features.semantic, truth.targets)}
    for classes, masks in ((None, features.masks), *output.stages):
        flat = masks.flatten(2)
        matching = match(flat, classes, truth, model, weights)
        # Initial masks exist for instance kernels only; stuff starts from the semantic kernels.
        terms = mask_terms(flat, truth, torch.where(matching < flat.shape[1], matching, -1))
        if classes is not None:
            terms["classes"] = class_term(
                classes, truth, matching, model.possible, labelled_share(masks.sigmoid(), truth.targets)
            )
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value
    return FrameLosses(sums, matching, terms["dice"])


def matched_things(matching: Tensor, targets: Targets, kernels: int) -> Tensor:
    """float [B, N]: 1 for each kernel that is matched with a thing, else 0."""
    images, rows = torch.nonzero((matching >= 0) & (targets.tracks > 0), as_tuple=True)
    kept = torch.zeros(len(matching), kernels, device=matching.device)
    kept[images, matching[images, rows]] = 1
    return kept


class PairLoss(NamedTuple):
    """The weighted sum; the unweighted terms, detached, with the final dice loss; the outputs of both frames."""

    total: Tensor
    parts: dict[str, Tensor]
    before: Output
    after: Output


def pair_loss(model: VideoKNet, features: FrameFeatures, targets: Targets, weights: LossWeights) -> PairLoss:
    """The losses of both frames and the tracking losses.

    Linking uses the kernels that are matched with things of the first frame. Gradients flow to the first frame through
    its state. With clips, each clip is segmented without a state, as in a file for clips, and the tracking losses
    compare the kernels of the two clips.

    Args:
        features: from `model.encode`; images (or clips) 2i and 2i + 1 are the first and second of pair i.
        targets: ground truth of the same images.
    """
    truth = GroundTruth.of(targets)
    first, second = slice(0, None, 2), slice(1, None, 2)
    earlier, later = (FrameFeatures(*(t[which] for t in features)) for which in (first, second))
    before = model.decode(earlier)
    one = frame_losses(earlier, before, truth.part(first), model, weights)
    kept = matched_things(one.matching, truth.part(first).targets, before.state.kept.shape[1])
    after = model.decode(later, before.state._replace(kept=kept) if model.frames == 1 else None)
    two = frame_losses(later, after, truth.part(second), model, weights)
    parts = {name: value + two.terms[name] for name, value in one.terms.items()}
    embeddings = torch.stack([before.embeddings, after.embeddings], 1).flatten(0, 1)
    matching = torch.stack([one.matching, two.matching], 1).flatten(0, 1)
    parts["track"], parts["track_aux"] = association_losses(embeddings, matching, truth.targets)
    total = sum(getattr(weights, name) * value for name, value in parts.items())
    parts["final_dice"] = (one.final_dice + two.final_dice) / 2
    return PairLoss(total, {name: value.detach() for name, value in parts.items()}, before, after)
