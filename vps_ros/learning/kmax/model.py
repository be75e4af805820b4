"""The kMaX-DeepLab network: pixel decoder, transformer decoder of k-means layers, and the auxiliary semantic heads.

Source: Yu et al., k-means Mask Transformer, ECCV 2022, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.kmax.architecture import Architecture
from vps_ros.learning.kmax.backbones import KINDS
from vps_ros.learning.kmax.layers import (
    Block,
    ChannelLayerNorm,
    ConvNorm,
    DropPath,
    PointwiseConvNorm,
    norm1d,
    norm2d,
    resize,
    shape_of,
    trunc_normal_,
)
from vps_ros.learning.kmeans.model import assign, one_hot
from vps_ros.learning.network_io import join_frames


class LevelFusion(nn.Module):
    """Sum of the coarser feature, resized, and the finer one; each is projected if its channels differ."""

    def __init__(self, low: int, high: int, channels: int) -> None:
        super().__init__()
        self.low = ConvNorm(low, channels, act=None) if low != channels else None
        self.high = ConvNorm(high, channels, act=None) if high != channels else None

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        if self.low is not None:
            low = self.low(F.gelu(low))
        size = shape_of(high)[2:]
        if self.high is not None:
            high = self.high(F.gelu(high))
        return resize(low, size) + high


class PixelDecoder(nn.Module):
    """Features of the backbone, coarsest first, to one feature per stage, not activated.

    Args:
        widths: channels of the backbone features.
    """

    def __init__(self, a: Architecture, widths: Sequence[int]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelLayerNorm(width) for width in widths)
        self.stages, self.fusions = nn.ModuleList(), nn.ModuleList()
        for i, (channels, depth) in enumerate(zip(a.channels, a.blocks, strict=True)):
            if i:
                self.fusions.append(LevelFusion(4 * a.channels[i - 1], widths[i], channels))
            cin = channels if i else widths[0]
            self.stages.append(
                nn.Sequential(
                    *[
                        Block(4 * channels if j else cin, channels, axial=i < a.axial, heads=a.heads)
                        for j in range(depth)
                    ]
                )
            )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        x = self.norms[0](features[0])
        found = []
        for i, stage in enumerate(self.stages):
            if i:
                x = self.fusions[i - 1](x, self.norms[i](features[i]))
            x = stage(x)
            found.append(x)
        return found


class Prediction(NamedTuple):
    """Class logits [B, N, C + 1] (last is void), mask logits [B, N, h, w], pixel features [B, D, h, w] of length 1."""

    classes: Tensor
    masks: Tensor
    pixels: Tensor


def void_prior(classes: int) -> float:
    """Bias of the void logit: with all other logits equal, a query is void with probability 0.9."""
    return math.log(classes * 0.9 / 0.1)


class Predictor(nn.Module):
    """Predicts classes and masks from query embeddings and a pixel feature."""

    def __init__(self, a: Architecture, channels: int) -> None:
        super().__init__()
        mask_dim = a.dim // 2
        self.pixel_near = ConvNorm(channels, channels, 5, groups=channels)
        self.pixel_mix = ConvNorm(channels, a.dim)
        self.pixel_out = ConvNorm(a.dim, mask_dim, act=None, bias=True)
        self.mask_head = PointwiseConvNorm(a.dim, mask_dim, act=None)
        self.class_head = nn.Conv1d(a.dim, a.classes + 1, 1)
        self.mask_norm = norm2d(1, 0.1)
        self.classes, self.prior = a.classes, void_prior(a.classes)
        trunc_normal_(self.pixel_out.conv.weight, 0.01)
        trunc_normal_(self.class_head.weight, 0.01)
        nn.init.zeros_(self.class_head.bias)

    def forward(self, for_masks: Tensor, for_classes: Tensor, feature: Tensor, frames: int = 1) -> Prediction:
        """Query embeddings [B, dim, N] for masks and for classes, feature [B * frames, C, h, w]."""
        pixels = join_frames(F.normalize(self.pixel_out(self.pixel_mix(self.pixel_near(feature))), dim=1), frames)
        kernels = self.mask_head(for_masks)
        b, d, h, w = shape_of(pixels)
        masks = kernels.transpose(1, 2) @ pixels.reshape(b, d, h * w)
        masks = self.mask_norm(masks[:, None]).reshape(b, -1, h, w)
        known, void = self.class_head(for_classes).transpose(1, 2).split((self.classes, 1), 2)
        return Prediction(torch.cat([known, void + self.prior], 2), masks, pixels)


class SelfAttention(nn.Module):
    """Self-attention between queries, with batch normalisation of the similarities instead of a scale."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        key, value, self.heads = a.dim // 2, a.dim, a.heads
        self.sizes = (key, key, value)
        self.qkv = PointwiseConvNorm(a.dim, 2 * key + value, act=None)
        self.similarity_norm = norm2d(a.heads)
        self.retrieved_norm = norm1d(value)
        self.out = PointwiseConvNorm(value, a.dim, act=None, gain=0.0)
        trunc_normal_(self.qkv.conv.weight, a.dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        b, _, n = shape_of(x)
        q, k, v = (part.reshape(b, self.heads, -1, n) for part in self.qkv(x).split(self.sizes, 1))
        weight = self.similarity_norm(q.transpose(2, 3) @ k).softmax(3)
        retrieved = (v @ weight.transpose(2, 3)).reshape(b, -1, n)
        return self.out(F.gelu(self.retrieved_norm(retrieved)))


class KMeansLayer(nn.Module):
    """A k-means step (equation 7: each query sums the values of the pixels assigned to it), self-attention, FFN.

    Attributes:
        fixed_assignment: int64 [B, 1, h * w], query of each pixel, used instead of the argmax to verify exports.
    """

    def __init__(self, a: Architecture, channels: int) -> None:
        super().__init__()
        self.query_in = PointwiseConvNorm(a.dim, a.dim)
        self.pixel_in = ConvNorm(channels, a.dim)
        self.pixel_value = ConvNorm(a.dim, a.dim, act=None)
        self.predictor = Predictor(a, a.dim)
        self.centre_norm = norm1d(a.dim)
        self.centre_out = PointwiseConvNorm(a.dim, a.dim, act=None, gain=0.0)
        self.attention = SelfAttention(a)
        self.widen = PointwiseConvNorm(a.dim, 8 * a.dim)
        self.narrow = PointwiseConvNorm(8 * a.dim, a.dim, act=None, gain=0.0)
        self.drop_path = DropPath(a.drop_path)
        self.fixed_assignment: Tensor | None = None
        trunc_normal_(self.pixel_value.conv.weight, a.dim**-0.5)

    def forward(self, queries: Tensor, feature: Tensor, frames: int = 1) -> tuple[Tensor, Prediction]:
        """Queries [B, dim, N], feature [B * frames, C, h, w], not activated."""
        pixels = self.pixel_in(F.gelu(feature))
        embedded = self.query_in(queries)
        prediction = self.predictor(embedded, embedded, pixels, frames)
        assignment = (
            assign(prediction.masks.detach())
            if self.fixed_assignment is None
            else one_hot(self.fixed_assignment, queries.shape[2])
        )
        values = join_frames(self.pixel_value(pixels), frames)
        b, d, h, w = shape_of(values)
        values = values.reshape(b, d, h * w)
        # A sum over thousands of pixels overflows half precision.
        with torch.autocast(values.device.type, enabled=False):
            centres = (assignment.to(values.dtype) @ values.transpose(1, 2)).transpose(1, 2)
            if frames > 1:
                # The mean of the frames: the normalisation that follows knows sums over one frame.
                centres = centres / frames
        queries = queries + self.drop_path(self.centre_out(self.centre_norm(centres)))
        queries = F.gelu(queries + self.drop_path(self.attention(embedded)))
        queries = F.gelu(queries + self.drop_path(self.narrow(self.widen(queries))))
        return queries, prediction


RATES = (6, 12, 18)


class SemanticHead(nn.Sequential):
    """Auxiliary head: logits [B, C, h, w] at stride 32."""

    def __init__(self, a: Architecture, width: int) -> None:
        super().__init__(ConvNorm(width, width, 5, groups=width), ConvNorm(width, a.dim), _out(a.dim, a.classes))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., 2017)."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([ConvNorm(cin, cout), *[ConvNorm(cin, cout, 3, dilation=rate) for rate in RATES]])
        self.pool = ConvNorm(cin, cout)
        self.mix = ConvNorm(cout * (len(RATES) + 2), cout)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *shape_of(x)[2:])
        return self.dropout(self.mix(torch.cat([*[branch(x) for branch in self.branches], mean], 1)))


class DecoderStage(nn.Module):
    """Upsamples a feature, concatenates a projected finer feature, and fuses them."""

    def __init__(self, dim: int, fine: int, projected: int) -> None:
        super().__init__()
        self.project = ConvNorm(fine, projected)
        self.near = ConvNorm(dim + projected, dim + projected, 5, groups=dim + projected)
        self.mix = ConvNorm(dim + projected, dim)

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        fine = self.project(fine)
        return self.mix(self.near(torch.cat([resize(x, shape_of(fine)[2:]), fine], 1)))


class SemanticDecoder(nn.Module):
    """Auxiliary decoder of Panoptic-DeepLab (Cheng et al., 2020): logits [B, C + 1, h, w] at stride 4."""

    def __init__(self, a: Architecture, widths: tuple[int, int, int]) -> None:
        """`widths`: channels of the features at strides 32, 8 and 4."""
        super().__init__()
        deep, middle, fine = widths
        self.pyramid = ASPP(deep, a.dim)
        self.middle = DecoderStage(a.dim, middle, a.dim // 4)
        self.fine = DecoderStage(a.dim, fine, a.dim // 8)
        self.near = ConvNorm(a.dim, a.dim, 5, groups=a.dim)
        self.mix = ConvNorm(a.dim, a.dim)
        self.out = _out(a.dim, a.classes + 1)

    def forward(self, deep: Tensor, middle: Tensor, fine: Tensor) -> Tensor:
        return self.out(self.mix(self.near(self.fine(self.middle(self.pyramid(deep), middle), fine))))


def _out(cin: int, cout: int) -> nn.Conv2d:
    layer = nn.Conv2d(cin, cout, 1)
    trunc_normal_(layer.weight, 0.01)
    nn.init.zeros_(layer.bias)
    return layer


class Output(NamedTuple):
    """Output of the network.

    Attributes:
        final: prediction at the mask stride: 2 with a stem at stride 2, else 4.
        embeddings: [B, N, dim], projected queries for masks and association, not normalised.
        layers: one prediction per k-means layer, at its own stride.
        semantic: [B, C or C + 1, h, w] logits of the auxiliary head in training, else None.
    """

    final: Prediction
    embeddings: Tensor
    layers: list[Prediction]
    semantic: Tensor | None


class KMaxDeepLab(nn.Module):
    """Image [B, 3, H, W] in -1..1 to an Output; both sides are multiples of 32 plus one.

    Attributes:
        frames: see ClipNetwork.
    """

    frames: int = 1

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        a = self.architecture = architecture or Architecture()
        self.backbone = KINDS[a.backbone.kind](a.backbone)
        widths = self.backbone.widths
        self.levels = [n for n in self.backbone.levels if len(a.blocks) > 4 or n != "stem"]
        self.pixel_decoder = PixelDecoder(a, [widths[n] for n in self.levels])
        self.centres = nn.Parameter(torch.empty(a.dim, a.queries))
        self.strides = [i for i, count in enumerate(a.layers) for _ in range(count)]
        self.layers = nn.ModuleList(KMeansLayer(a, 4 * a.channels[i]) for i in self.strides)
        self.class_projection = PointwiseConvNorm(a.dim, a.dim)
        self.mask_projection = PointwiseConvNorm(a.dim, a.dim)
        self.predictor = Predictor(a, 4 * a.channels[-1])
        self.semantic: nn.Module | None = None
        if a.semantic == "head":
            self.semantic = SemanticHead(a, widths["res5"])
        elif a.semantic == "decoder":
            self.semantic = SemanticDecoder(a, (widths["res5"], widths["res3"], widths["res2"]))
        trunc_normal_(self.centres, 1.0)

    def forward(self, image: Tensor) -> Output:
        features = self.backbone(image)
        pixels = self.pixel_decoder([features[n] for n in self.levels])
        queries = self.centres[None].expand(image.shape[0] // self.frames, -1, -1)
        predictions = []
        for i, layer in zip(self.strides, self.layers, strict=True):
            queries, prediction = layer(queries, pixels[i], self.frames)
            predictions.append(prediction)
        embeddings = self.mask_projection(queries)
        final = self.predictor(embeddings, self.class_projection(queries), pixels[-1], self.frames)
        return Output(final, embeddings.transpose(1, 2), predictions, self._semantic(features))

    def _semantic(self, features: dict[str, Tensor]) -> Tensor | None:
        if not self.training or self.semantic is None:
            return None
        if isinstance(self.semantic, SemanticHead):
            found = self.semantic(features["res5"])
        else:
            found = self.semantic(features["res5"], features["res3"], features["res2"])
        return join_frames(found, self.frames)
