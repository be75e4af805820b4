"""Training on pairs of frames (paper, 3.2): the second sees the first's kernels, and both must segment."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vps_ros.learning.losses import association_losses
from vps_ros.learning.targets import Targets
from vps_ros.learning.video_knet.architecture import LossWeights
from vps_ros.learning.video_knet.losses import Truth, frame_losses
from vps_ros.learning.video_knet.model import Output, Seen, VideoKNet


def matched_things(matching: Tensor, targets: Targets, kernels: int) -> Tensor:
    """float [B, N]: 1 for each kernel that is matched with a thing."""
    images, rows = torch.nonzero((matching >= 0) & (targets.tracks > 0), as_tuple=True)
    kept = torch.zeros(len(matching), kernels, device=matching.device)
    kept[images, matching[images, rows]] = 1
    return kept


class PairLoss(NamedTuple):
    """The weighted sum; each term before weighting, detached, and the last stage's 1 - dice; both frames' outputs."""

    total: Tensor
    parts: dict[str, Tensor]
    before: Output
    after: Output


def pair_loss(model: VideoKNet, seen: Seen, targets: Targets, weights: LossWeights) -> PairLoss:
    """Both frames' losses and the tracking losses.

    Linking sees the kernels that are matched with the first frame's things, and gradients reach the first frame
    through what it hands on.

    Args:
        seen: by `model.look`; images 2i and 2i + 1 are the frames of pair i, the first one first.
        targets: of the same images.
    """
    truth = Truth.of(targets)
    first, second = slice(0, None, 2), slice(1, None, 2)
    earlier, later = (Seen(*(t[which] for t in seen)) for which in (first, second))
    before = model.decode(earlier)
    one = frame_losses(earlier, before, truth.part(first), model, weights)
    kept = matched_things(one.matching, truth.part(first).targets, before.state.kept.shape[1])
    after = model.decode(later, before.state._replace(kept=kept))
    two = frame_losses(later, after, truth.part(second), model, weights)
    parts = {name: value + two.terms[name] for name, value in one.terms.items()}
    embeddings = torch.stack([before.embeddings, after.embeddings], 1).flatten(0, 1)
    matching = torch.stack([one.matching, two.matching], 1).flatten(0, 1)
    parts["track"], parts["track_aux"] = association_losses(embeddings, matching, truth.targets)
    total = sum(getattr(weights, name) * value for name, value in parts.items())
    parts["final_dice"] = (one.final_dice + two.final_dice) / 2
    return PairLoss(total, {name: value.detach() for name, value in parts.items()}, before, after)
