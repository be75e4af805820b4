"""The k-means mask transformer: queries are cluster centres of pixels, and each query is one segment.

A small kMaX-DeepLab (Yu et al., 2022) with the embedding head of Video K-Net (Li et al., 2022, 3.2). Differences from
kMaX: centroids are means instead of sums (for several image sizes with one set of weights), queries are normalised by
LayerNorm, and mask logits have no batch normalisation (its small initial gain needs long schedules).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.kmeans.architecture import Architecture
from vps_ros.learning.kmeans.dense_things import DenseThings, ThingOutput, placed, stuff_slots, thing_slots
from vps_ros.learning.layers.backbone import Attention, ConvNorm, PixelDecoder, make_backbone
from vps_ros.learning.network_io import KernelOutputs, ModelOutputs, join_frames, split_frames, with_masks
from vps_ros.taxonomy import CITYSCAPES


class MaskOutput(NamedTuple):
    """One prediction: class logits [B, N, C + 1] (last is void) and mask logits [B, N, h, w]."""

    classes: Tensor
    masks: Tensor


class Output(NamedTuple):
    """The result of a forward pass; `things` is None without heat maps.

    `final` is at stride 4, or at stride 2 if the model has a detail branch and `choice` was None. `layers`
    holds one prediction for each k-means layer, at its own stride. `embeddings`
    [B, N, D] are for association across frames, not normalised. `pixels` [B, mask_dim, h, w] have unit length.
    `semantic` [B, C, h, w] and `offsets` [B, 2, h, w] (x, y, in mask cells over 16, to the object's centre)
    are of the auxiliary heads. The exported graph has no auxiliary heads.
    """

    final: MaskOutput
    embeddings: Tensor
    layers: list[MaskOutput]
    pixels: Tensor
    semantic: Tensor
    offsets: Tensor
    things: ThingOutput | None = None


def unit(pixels: Tensor) -> Tensor:
    """Pixel features [B, D, h, w] at unit length."""
    return F.normalize(pixels.float(), dim=1, eps=1e-4).float()


class Predictor(nn.Module):
    """Queries and pixel features to classes and masks: dot products with pixel features of unit length."""

    def __init__(self, a: Architecture, channels: int) -> None:
        super().__init__()
        self.pixel_head = nn.Conv2d(channels, a.mask_dim, 1)
        self.norm = nn.LayerNorm(a.query_dim)
        self.kernel_head = nn.Sequential(
            nn.Linear(a.query_dim, a.query_dim), nn.ReLU(), nn.Linear(a.query_dim, a.mask_dim)
        )
        self.class_head = nn.Linear(a.query_dim, a.classes + 1)
        with torch.no_grad():
            self.class_head.bias.zero_()
            # The initial probability of void is 0.9 (kMaX).
            self.class_head.bias[-1] = math.log(a.classes * 0.9 / 0.1)

    def pixels(self, feature: Tensor) -> Tensor:
        return unit(self.pixel_head(feature))

    def masks(self, queries: Tensor, pixels: Tensor) -> Tensor:
        b, _, h, w = pixels.shape
        kernels = self.kernel_head(self.norm(queries)).float()
        # The argmax and the softmax over queries need more precision than bfloat16.
        with torch.autocast(pixels.device.type, enabled=False):
            return (kernels @ pixels.flatten(2)).reshape(b, -1, h, w)

    def classes(self, queries: Tensor) -> Tensor:
        return self.class_head(self.norm(queries)).float()


class Detail(nn.Module):
    """Pixel features at stride 2: those of stride 4, with a correction from the image for each quarter of a cell.

    A mask at stride 2 costs four times as much in every loss. So training uses one random quarter of each cell
    (`choice`), at the cost of stride 4.
    """

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.image = ConvNorm(3, a.detail, 5, 2, act=False)
        self.context = ConvNorm(a.channels[0], 4 * a.detail, 1, act=False)
        self.out = nn.Conv2d(a.detail, a.mask_dim, 1, bias=False)
        # The initial correction is small, so that the coarse masks are learned first.
        nn.init.normal_(self.out.weight, std=1e-3)

    def forward(self, image: Tensor, feature: Tensor, coarse: Tensor, choice: Tensor | None) -> Tensor:
        """Features before normalisation: [B, D, 2h, 2w], or with `choice` (int64 [B, h, w], 0..3) [B, D, h, w].

        Args:
            image: [B, 3, 4h, 4w].
            feature: [B, C, h, w].
            coarse: [B, D, h, w].
        """
        quarters = F.relu(F.pixel_unshuffle(self.image(image), 2) + self.context(feature))
        if choice is None:
            return self.out(F.pixel_shuffle(quarters, 2)) + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        quarters = quarters.unflatten(1, (-1, 4))
        index = choice[:, None, None].expand(-1, quarters.shape[1], -1, -1, -1)
        return self.out(quarters.gather(2, index)[:, :, 0]) + coarse


class KMeansLayer(nn.Module):
    """One k-means step and an exchange among the queries (kMaX-DeepLab, equations 7 and 8)."""

    def __init__(self, a: Architecture, channels: int) -> None:
        super().__init__()
        self.predictor = Predictor(a, channels)
        self.values = ConvNorm(channels, a.query_dim, 1)
        self.norm = nn.LayerNorm(a.query_dim)
        self.update = nn.Linear(a.query_dim, a.query_dim)
        self.exchange = Attention(a.query_dim, a.heads, 4 * a.query_dim)

    def forward(self, queries: Tensor, feature: Tensor, frames: int = 1) -> tuple[Tensor, MaskOutput]:
        """Queries [B, N, D], feature [B * frames, C, h, w]; masks [B, N, frames * h, w]."""
        masks = self.predictor.masks(queries, join_frames(self.predictor.pixels(feature), frames))
        assignment = assign(masks.detach())
        values = join_frames(self.values(feature), frames).flatten(2).transpose(1, 2).float()
        # The constant grows with the clip, so that copies of one frame have the centroids of this frame.
        centroids = (assignment @ values) / (assignment.sum(2, keepdim=True) + float(frames))
        updated = self.exchange(queries + self.update(self.norm(centroids)))
        return updated, MaskOutput(self.predictor.classes(updated), masks)


def assign(masks: Tensor) -> Tensor:
    """Mask logits [B, N, h, w] to a one-hot assignment [B, N, h * w] of each pixel to its best query."""
    flat = masks.flatten(2)
    return one_hot(flat.argmax(1, keepdim=True), flat.shape[1]).to(flat.dtype)


def one_hot(chosen: Tensor, queries: int) -> Tensor:
    """bool [B, queries, h * w] of the query of each pixel, int64 [B, 1, h * w]."""
    return chosen == torch.arange(queries, device=chosen.device)[None, :, None]


class KMeansMaskTransformer(nn.Module):
    """Normalised image [B, 3, H, W] (H, W multiples of 32) to an Output.

    Attributes:
        frames: see ClipNetwork; 1 with heat maps, whose things have no tubes.
    """

    frames: int = 1

    def __init__(
        self, architecture: Architecture | None = None, isthing: NDArray[np.bool_] = CITYSCAPES.isthing
    ) -> None:
        super().__init__()
        a = self.architecture = architecture or Architecture()
        self.register_buffer("thing_columns", torch.from_numpy(np.flatnonzero(isthing)), persistent=False)
        self.backbone = make_backbone(a.backbone, a.channels, a.depths)
        self.pixel_decoder = PixelDecoder(a.channels, 2 * a.heads)
        self.queries = nn.Parameter(torch.randn(a.queries, a.query_dim))
        levels = [level for level, count in enumerate(a.layers) for _ in range(count)]
        self.levels = levels
        self.layers = nn.ModuleList(KMeansLayer(a, a.channels[3 - level]) for level in levels)
        self.predictor = Predictor(a, a.channels[0])
        self.embedding_head = nn.Sequential(
            nn.LayerNorm(a.query_dim),
            nn.Linear(a.query_dim, a.query_dim),
            nn.ReLU(),
            nn.Linear(a.query_dim, a.embedding_dim),
        )
        self.semantic_head = nn.Conv2d(a.channels[0], a.classes, 1)
        self.offset_head = nn.Conv2d(a.channels[0], 2, 1)
        self.detail = Detail(a) if a.detail else None
        self.things = None
        if a.dense_things:
            count = int(np.sum(isthing))
            self.things = DenseThings(a.channels[0], a.dense_width, count, a.mask_dim, a.embedding_dim)

    def forward(self, image: Tensor, choice: Tensor | None = None) -> Output:
        """`choice` (int64 [B, H / 4, W / 4], 0..3: row * 2 + column): see Detail."""
        frames = self.frames
        features = self.pixel_decoder(self.backbone(image))
        queries = self.queries[None].expand(image.shape[0] // frames, -1, -1)
        predictions = []
        for level, layer in zip(self.levels, self.layers, strict=True):
            queries, prediction = layer(queries, features[level], frames)
            predictions.append(prediction)
        if self.detail is None:
            pixels = self.predictor.pixels(features[3])
        else:
            pixels = unit(self.detail(image, features[3], self.predictor.pixel_head(features[3]), choice))
        pixels = join_frames(pixels, frames)
        final = MaskOutput(self.predictor.classes(queries), self.predictor.masks(queries, pixels))
        semantic = join_frames(self.semantic_head(features[3]).float(), frames)
        offsets = join_frames(self.offset_head(features[3]).float(), frames)
        things = self.things(features[3]) if self.things else None
        return Output(final, self.embedding_head(queries).float(), predictions, pixels, semantic, offsets, things)

    def model_outputs(
        self, output: Output, peaks: Tensor | None = None, as_kernels: bool = False
    ) -> ModelOutputs | KernelOutputs:
        """The outputs of an exported model.

        Args:
            peaks: of the heat maps (dense_things.thing_slots).
            as_kernels: with dense things: their masks as kernels.
        """
        final = output.final
        if output.things is None or self.things is None:
            return ModelOutputs(final.classes, split_frames(final.masks, self.frames), output.embeddings)
        a = self.architecture
        slots = thing_slots(
            self.things, output.things, output.pixels, self.thing_columns, a.classes, a.dense_things, peaks
        )
        stuff = stuff_slots(final.classes, final.masks, self.thing_columns)
        if as_kernels:
            classes = torch.cat([slots.classes, stuff[0]], 1)
            masks = with_masks(slots.kernels, placed(output.pixels), stuff[1])
            return KernelOutputs(classes, *masks, torch.cat([slots.embeddings, output.embeddings], 1))
        parts = zip((*stuff, output.embeddings), slots[:3], strict=True)
        return ModelOutputs(*(torch.cat(both, 1) for both in parts))
