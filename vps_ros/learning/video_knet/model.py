"""The Video K-Net network: K-Net whose last stage and whose embeddings use the kernels of the previous frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.network_io import join_frames
from vps_ros.learning.video_knet.architecture import THRESHOLDS, Architecture
from vps_ros.learning.video_knet.layers import (
    AdaptiveUpdate,
    Features,
    KernelAttention,
    MLPHead,
    SemanticPyramid,
    UpdateHead,
    mask_logits,
    masked_mean,
    membership,
)
from vps_ros.segmenters.model_card import Thresholds


class State(NamedTuple):
    """State of the previous frame; all zeros when there is none.

    Attributes:
        kernels: [B, N, D], output of the last stage, for linking.
        inputs: [B, N, D], input of the last stage before fusion, for fusion.
        kept: [B, N], 1 for each kernel that became a thing of the panoptic map.
        seen: [B], 1 where a previous frame exists.
    """

    kernels: Tensor
    inputs: Tensor
    kept: Tensor
    seen: Tensor


STATE_INPUTS = tuple(f"state_{name}" for name in State._fields)
"""Names of the state inputs of the ONNX contract, in order; the outputs have the prefix `next_`."""


def empty_state(a: Architecture, stuff: int, batch: int = 1) -> State:
    """The state before the first frame, for a taxonomy with this many stuff classes."""
    n = a.queries + stuff
    return State(torch.zeros(batch, n, a.dim), torch.zeros(batch, n, a.dim), torch.zeros(batch, n), torch.zeros(batch))


def kept_things(scores: Tensor, masks: Tensor, isthing: Tensor, thresholds: Thresholds) -> Tensor:
    """float [B, N]: 1 for each thing that keeps enough of its mask in the panoptic map.

    Same rule as segmenters/postprocess.py in mode `pixel_wise`, applied to the cells of the masks. Linking uses these
    kernels only (paper, 3.2).

    Args:
        scores: [B, N], score of each kernel's best class.
        masks: [B, N, P] logits.
        isthing: bool [N].
    """
    probability = masks.sigmoid()
    running = scores >= torch.where(isthing, thresholds.thing, thresholds.stuff)
    value = probability * torch.where(running, scores, 0.0)[:, :, None]
    numbers = torch.arange(masks.shape[1], device=masks.device)[None, :, None]
    wins, inside = (value.argmax(1, keepdim=True) == numbers), probability > thresholds.mask
    # Integer sums are slow in ONNX Runtime.
    won, covered, left = (cells.to(masks.dtype).sum(2) for cells in (wins, inside, wins & inside))
    return ((won > thresholds.overlap * covered) & (left > 0) & running & isthing).to(masks.dtype)


IMPOSSIBLE_LOGIT = -30.0
"""Logit of a class that a kernel cannot have."""


class Prediction(NamedTuple):
    """Prediction of one stage: class logits [B, N, C] and mask logits [B, N, h, w], both for a sigmoid."""

    classes: Tensor
    masks: Tensor


class FrameFeatures(NamedTuple):
    """Features and initial kernels of a frame or clip, independent of others; h counts the rows of all its frames.

    Attributes:
        pixels: [B, D, P], P = h * w cells at stride 4.
        kernels: [B, N, D], input of the first stage.
        members: [B, N, P], membership of the pixels in the initial masks.
        masks: [B, I, h, w], logits of the initial masks of the instance kernels.
        semantic: [B, C, h, w], logits of all classes for a softmax.
    """

    pixels: Tensor
    kernels: Tensor
    members: Tensor
    masks: Tensor
    semantic: Tensor


class Output(NamedTuple):
    """Output for one frame.

    Attributes:
        stages: one prediction per stage, the final one last.
        embeddings: [B, N, E], for association, not normalised; undefined for stuff.
        state: input for the next frame.
    """

    stages: list[Prediction]
    embeddings: Tensor
    state: State


def class_logits(classes: Tensor) -> Tensor:
    """Converts sigmoid logits [B, N, C] to logits [B, N, C + 1] of the ONNX contract.

    The softmax of the best class is its sigmoid p. The other classes and void share 1 - p equally, so that the best
    class has the largest probability if p > 1 / (C + 1).
    """
    count = classes.shape[2]
    best, column = classes.max(2, keepdim=True)
    rest = (F.logsigmoid(-best) - math.log(count)).expand(-1, -1, count + 1)
    numbers = torch.arange(count + 1, device=classes.device)
    return torch.where(column == numbers, F.logsigmoid(best), rest)


class VideoKNet(nn.Module):
    """Video K-Net. Kernels 0..I-1 are instance kernels of any thing class, followed by one kernel per stuff class.

    With clips of T frames, kernels are of the clip: they are updated with the features of all T frames, and one kernel
    gives the masks of one object in all of them (a tube).

    Args:
        isthing: [C], in the order of the taxonomy.

    Attributes:
        frames: see ClipNetwork.
    """

    frames: int = 1

    def __init__(self, architecture: Architecture, isthing: Sequence[bool]) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.isthing = torch.tensor([bool(t) for t in isthing])
        if len(self.isthing) != a.classes:
            raise ValueError(f"{len(self.isthing)} classes are things or stuff, {a.classes} in the architecture")
        stuff = torch.nonzero(~self.isthing)[:, 0]
        own = torch.arange(a.classes)[None] == stuff[:, None]
        # Not persistent: they follow from the taxonomy.
        self.register_buffer("stuff", stuff, persistent=False)
        self.register_buffer("kernel_is_thing", torch.arange(a.queries + len(stuff)) < a.queries, persistent=False)
        self.register_buffer("possible", torch.cat([self.isthing.expand(a.queries, -1), own]), persistent=False)
        self.pyramid = SemanticPyramid(a)
        self.queries = nn.Parameter(torch.randn(a.queries, a.dim))
        self.semantic_head = nn.Conv2d(a.dim, a.classes, 1)
        self.stages = nn.ModuleList(UpdateHead(a) for _ in range(a.stages))
        self.fusion_update = AdaptiveUpdate(a.dim)
        self.fusion = KernelAttention(a)
        self.linking = KernelAttention(a)
        self.embedding_head = MLPHead(a.dim, a.embedding_dim)

    def forward(self, image: Tensor, state: State | None = None, thresholds: Thresholds = THRESHOLDS) -> Output:
        """Normalised image [B * frames, 3, H, W], sides multiples of 32; `state` of the previous frame, or None.

        `thresholds` of post-processing determine which kernels the next frame can link with.
        """
        return self.decode(self.encode(image), state, thresholds)

    def empty_state(self, batch: int = 1) -> State:
        """The state before the first frame."""
        return empty_state(self.architecture, len(self.stuff), batch)

    def encode(self, image: Tensor) -> FrameFeatures:
        """Features, initial masks and initial kernels (K-Net, 3.3).

        Instance kernels are updated with the mean features of their initial masks; stuff kernels are the rows of the
        semantic classifier.
        """
        features = Features(*(join_frames(maps, self.frames) for maps in self.pyramid(image)))
        count = len(features.classes)
        pixels = (features.instances + features.classes).flatten(2)
        masks = mask_logits(self.queries[None].expand(count, -1, -1), features.instances.flatten(2))
        semantic = self.semantic_head(features.classes).float()
        areas = semantic.softmax(1)[:, self.stuff].flatten(2)
        members = torch.cat([membership(masks.sigmoid()), membership(areas)], 1)
        instances = self.queries + masked_mean(members[:, : len(self.queries)], pixels, self.frames)
        rows = self.semantic_head.weight[self.stuff, :, 0, 0].expand(count, -1, -1)
        kernels = torch.cat([instances, rows.to(instances.dtype)], 1)
        return FrameFeatures(pixels, kernels, members, masks.unflatten(2, semantic.shape[2:]), semantic)

    def decode(
        self, features: FrameFeatures, state: State | None = None, thresholds: Thresholds = THRESHOLDS
    ) -> Output:
        """Runs all stages; `state` is that of the previous frame."""
        kernels, members, size = features.kernels, features.members, features.semantic.shape[2:]
        inputs, stages = kernels, []
        for head in self.stages:
            grouped = masked_mean(members, features.pixels, self.frames)
            if head is self.stages[-1]:
                inputs = kernels
                if state is not None:
                    kernels = self.fuse(kernels, grouped, state)
            kernels, classes, masks = head(grouped, kernels, features.pixels)
            stages.append(Prediction(classes.masked_fill(~self.possible, IMPOSSIBLE_LOGIT), masks.unflatten(2, size)))
            members = membership(masks.sigmoid())
        linked = kernels if state is None else self.link(kernels, state)
        best = stages[-1].classes.amax(2).sigmoid()
        kept = kept_things(best, masks, self.kernel_is_thing, thresholds)
        after = State(kernels.float(), inputs.float(), kept, torch.ones_like(kept[:, 0]))
        return Output(stages, self.embedding_head(linked).float(), after)

    def fuse(self, kernels: Tensor, grouped: Tensor, state: State) -> Tensor:
        """Kernel fusion (3.2): kernels attend to the previous kernels, updated with the current mask features.

        Args:
            kernels: [B, N, D], at the beginning of the last stage.
            grouped: as `kernels`.
        """
        previous = self.fusion_update(grouped, state.inputs)
        fused = self.fusion(kernels, previous)
        return torch.where(state.seen[:, None, None] > 0, fused, kernels.to(fused.dtype))

    def link(self, kernels: Tensor, state: State) -> Tensor:
        """Kernel linking (equation 3): final kernels attend to the kernels of things in the previous frame."""
        linked = self.linking(kernels, state.kernels, state.kept)
        return torch.where(state.kept.amax(1)[:, None, None] > 0, linked, kernels.to(linked.dtype))
