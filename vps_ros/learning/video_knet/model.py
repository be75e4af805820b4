"""The Video K-Net network: K-Net whose last stage and whose embeddings use the kernels of the previous frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.video_knet.architecture import RULE, Architecture
from vps_ros.learning.video_knet.layers import (
    AdaptiveUpdate,
    Branch,
    Exchange,
    SemanticPyramid,
    UpdateHead,
    group,
    masks_of,
    membership,
)
from vps_ros.segmenters.model_card import Thresholds


class State(NamedTuple):
    """Of the previous frame; all zeros: there is none.

    Attributes:
        kernels: [B, N, D], of the last stage, to link with.
        inputs: [B, N, D], those that the last stage began with, before fusion, to fuse.
        kept: [B, N], 1 for each kernel that became a thing of the panoptic map.
        seen: [B], 1 where there is a previous frame.
    """

    kernels: Tensor
    inputs: Tensor
    kept: Tensor
    seen: Tensor


NAMES = tuple(f"state_{name}" for name in State._fields)
"""Of the inputs of the ONNX contract, in order; the outputs are `next_` and these."""


def empty(a: Architecture, stuff: int, batch: int = 1) -> State:
    """No previous frame, for a taxonomy with this many classes of stuff."""
    n = a.queries + stuff
    return State(torch.zeros(batch, n, a.dim), torch.zeros(batch, n, a.dim), torch.zeros(batch, n), torch.zeros(batch))


def kept_things(scores: Tensor, masks: Tensor, isthing: Tensor, rule: Thresholds) -> Tensor:
    """float [B, N]: 1 for a thing that gets enough of its mask, in competition with all others.

    Args:
        scores: [B, N], of each kernel's best class.
        masks: [B, N, P] logits.
        isthing: bool [N].
    """
    probability = masks.sigmoid()
    running = scores >= torch.where(isthing, rule.thing, rule.stuff)
    value = probability * torch.where(running, scores, 0.0)[:, :, None]
    numbers = torch.arange(masks.shape[1], device=masks.device)[None, :, None]
    wins, inside = (value.argmax(1, keepdim=True) == numbers), probability > rule.mask
    # Sums of whole numbers are slow where they run.
    won, covered, left = (cells.to(masks.dtype).sum(2) for cells in (wins, inside, wins & inside))
    return ((won > rule.overlap * covered) & (left > 0) & running & isthing).to(masks.dtype)


UNLIKELY = -30.0
"""Logit of a class that a kernel cannot have."""


class Prediction(NamedTuple):
    """Of one stage: class logits [B, N, C], sigmoid, and mask logits [B, N, h, w], sigmoid."""

    classes: Tensor
    masks: Tensor


class Seen(NamedTuple):
    """A frame, before kernels of another one come in.

    Attributes:
        pixels: [B, D, P], P = h * w cells at stride 4.
        kernels: [B, N, D], at the first stage.
        members: [B, N, P], of the first masks.
        masks: [B, I, h, w], logits of the first masks of the instance kernels.
        semantic: [B, C, h, w], logits of the semantic kernels of all classes, softmax.
    """

    pixels: Tensor
    kernels: Tensor
    members: Tensor
    masks: Tensor
    semantic: Tensor


class Output(NamedTuple):
    """What one frame gives.

    Attributes:
        stages: one prediction for each; the last is the final one.
        embeddings: [B, N, E], for association, not normalised; those of stuff mean nothing.
        state: for the next frame.
    """

    stages: list[Prediction]
    embeddings: Tensor
    state: State


def class_logits(classes: Tensor) -> Tensor:
    """Sigmoid logits [B, N, C] as the contract's [B, N, C + 1]: the softmax of the best class is its sigmoid p.

    The others and void share what is left, so that the best class is also the likeliest while p > 1 / (C + 1).
    """
    count = classes.shape[2]
    best, column = classes.max(2, keepdim=True)
    rest = (F.logsigmoid(-best) - math.log(count)).expand(-1, -1, count + 1)
    numbers = torch.arange(count + 1, device=classes.device)
    return torch.where(column == numbers, F.logsigmoid(best), rest)


class VideoKNet(nn.Module):
    """Kernels 0..I-1 are of instances, which may be of any class of things; then one for each class of stuff.

    Args:
        isthing: of each class, in the taxonomy's order.
    """

    def __init__(self, architecture: Architecture, isthing: Sequence[bool]) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.isthing = torch.tensor([bool(t) for t in isthing])
        if len(self.isthing) != a.classes:
            raise ValueError(f"{len(self.isthing)} classes are things or stuff, {a.classes} in the architecture")
        stuff = torch.nonzero(~self.isthing)[:, 0]
        own = torch.arange(a.classes)[None] == stuff[:, None]
        # They follow from the taxonomy: no weights.
        self.register_buffer("stuff", stuff, persistent=False)
        self.register_buffer("kernel_is_thing", torch.arange(a.queries + len(stuff)) < a.queries, persistent=False)
        self.register_buffer("possible", torch.cat([self.isthing.expand(a.queries, -1), own]), persistent=False)
        self.pyramid = SemanticPyramid(a)
        self.queries = nn.Parameter(torch.randn(a.queries, a.dim))
        self.semantic_head = nn.Conv2d(a.dim, a.classes, 1)
        self.stages = nn.ModuleList(UpdateHead(a) for _ in range(a.stages))
        self.fusion_update = AdaptiveUpdate(a.dim)
        self.fusion = Exchange(a)
        self.linking = Exchange(a)
        self.embedding_head = Branch(a.dim, a.embedding_dim)

    def forward(self, image: Tensor, state: State | None = None, rule: Thresholds = RULE) -> Output:
        """Image [B, 3, H, W] in -1..1, sides multiples of 32; `state` of the previous frame, if there is one.

        `rule` is that of post-processing, which says what the next frame may link with.
        """
        return self.decode(self.look(image), state, rule)

    def empty_state(self, batch: int = 1) -> State:
        """What stands for no previous frame."""
        return empty(self.architecture, len(self.stuff), batch)

    def look(self, image: Tensor) -> Seen:
        """First masks and kernels: those of the instances see what their masks show, those of stuff are the rows of
        the semantic classifier (K-Net, 3.3)."""
        features = self.pyramid(image)
        pixels = (features.instances + features.classes).flatten(2)
        masks = masks_of(self.queries[None].expand(len(image), -1, -1), features.instances.flatten(2))
        semantic = self.semantic_head(features.classes).float()
        areas = semantic.softmax(1)[:, self.stuff].flatten(2)
        members = torch.cat([membership(masks.sigmoid()), membership(areas)], 1)
        instances = self.queries + group(members[:, : len(self.queries)], pixels)
        rows = self.semantic_head.weight[self.stuff, :, 0, 0].expand(len(image), -1, -1)
        kernels = torch.cat([instances, rows.to(instances.dtype)], 1)
        return Seen(pixels, kernels, members, masks.unflatten(2, semantic.shape[2:]), semantic)

    def decode(self, seen: Seen, state: State | None = None, rule: Thresholds = RULE) -> Output:
        """All stages, and what is handed on."""
        kernels, members, size = seen.kernels, seen.members, seen.semantic.shape[2:]
        inputs, stages = kernels, []
        for head in self.stages:
            grouped = group(members, seen.pixels)
            if head is self.stages[-1]:
                inputs = kernels
                if state is not None:
                    kernels = self.fuse(kernels, grouped, state)
            kernels, classes, masks = head(grouped, kernels, seen.pixels)
            stages.append(Prediction(classes.masked_fill(~self.possible, UNLIKELY), masks.unflatten(2, size)))
            members = membership(masks.sigmoid())
        linked = kernels if state is None else self.link(kernels, state)
        best = stages[-1].classes.amax(2).sigmoid()
        kept = kept_things(best, masks, self.kernel_is_thing, rule)
        after = State(kernels.float(), inputs.float(), kept, torch.ones_like(kept[:, 0]))
        return Output(stages, self.embedding_head(linked).float(), after)

    def fuse(self, kernels: Tensor, grouped: Tensor, state: State) -> Tensor:
        """Kernel fusion (3.2): what the masks show now updates the previous kernels, which the kernels then attend to.

        Args:
            kernels: [B, N, D], at the beginning of the last stage.
            grouped: as `kernels`.
        """
        previous = self.fusion_update(grouped, state.inputs)
        fused = self.fusion(kernels, previous)
        return torch.where(state.seen[:, None, None] > 0, fused, kernels.to(fused.dtype))

    def link(self, kernels: Tensor, state: State) -> Tensor:
        """Kernel linking (equation 3): final kernels attend to those of the previous frame's things."""
        linked = self.linking(kernels, state.kernels, state.kept)
        return torch.where(state.kept.amax(1)[:, None, None] > 0, linked, kernels.to(linked.dtype))
