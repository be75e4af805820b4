"""The transformer decoder: queries become cluster centres of pixels, layer by layer (kMaX-DeepLab, 3.2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.kmax.architecture import Architecture
from vps_ros.learning.kmax.layers import ConvNorm, DropPath, TokenNorm, norm1d, norm2d, sizes, truncated_
from vps_ros.learning.model import assign, one_hot


class Prediction(NamedTuple):
    """Class logits [B, N, C + 1] (last is void), mask logits [B, N, h, w], pixel features [B, D, h, w] of length 1."""

    classes: Tensor
    masks: Tensor
    pixels: Tensor


def void_prior(classes: int) -> float:
    """Added to the void logit: with it and no other evidence, a query is void with probability 0.9."""
    return math.log(classes * 0.9 / 0.1)


class Predictor(nn.Module):
    """Embeddings of queries and a pixel feature to classes and masks."""

    def __init__(self, a: Architecture, channels: int) -> None:
        super().__init__()
        mask_dim = a.dim // 2
        self.pixel_near = ConvNorm(channels, channels, 5, groups=channels)
        self.pixel_mix = ConvNorm(channels, a.dim)
        self.pixel_out = ConvNorm(a.dim, mask_dim, act=None, bias=True)
        self.mask_head = TokenNorm(a.dim, mask_dim, act=None)
        self.class_head = nn.Conv1d(a.dim, a.classes + 1, 1)
        self.mask_norm = norm2d(1, 0.1)
        self.classes, self.prior = a.classes, void_prior(a.classes)
        truncated_(self.pixel_out.conv.weight, 0.01)
        truncated_(self.class_head.weight, 0.01)
        nn.init.zeros_(self.class_head.bias)

    def forward(self, for_masks: Tensor, for_classes: Tensor, feature: Tensor) -> Prediction:
        """Embeddings [B, dim, N] twice, feature [B, C, h, w]."""
        pixels = F.normalize(self.pixel_out(self.pixel_mix(self.pixel_near(feature))), dim=1)
        kernels = self.mask_head(for_masks)
        b, d, h, w = sizes(pixels)
        masks = kernels.transpose(1, 2) @ pixels.reshape(b, d, h * w)
        masks = self.mask_norm(masks[:, None]).reshape(b, -1, h, w)
        known, void = self.class_head(for_classes).transpose(1, 2).split((self.classes, 1), 2)
        return Prediction(torch.cat([known, void + self.prior], 2), masks, pixels)


class SelfAttention(nn.Module):
    """Among queries; batch normalisation of each head's similarities is in place of a scale."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        key, value, self.heads = a.dim // 2, a.dim, a.heads
        self.sizes = (key, key, value)
        self.qkv = TokenNorm(a.dim, 2 * key + value, act=None)
        self.similarity_norm = norm2d(a.heads)
        self.retrieved_norm = norm1d(value)
        self.out = TokenNorm(value, a.dim, act=None, gain=0.0)
        truncated_(self.qkv.conv.weight, a.dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        b, _, n = sizes(x)
        q, k, v = (part.reshape(b, self.heads, -1, n) for part in self.qkv(x).split(self.sizes, 1))
        weight = self.similarity_norm(q.transpose(2, 3) @ k).softmax(3)
        retrieved = (v @ weight.transpose(2, 3)).reshape(b, -1, n)
        return self.out(F.gelu(self.retrieved_norm(retrieved)))


class KMeansLayer(nn.Module):
    """One k-means step (equation 7: every query sums the values of the pixels it is best for), self-attention, FFN.

    Attributes:
        given: int64 [B, 1, h * w], the query of each pixel, in place of the best; see assignments.py.
    """

    def __init__(self, a: Architecture, channels: int) -> None:
        super().__init__()
        self.query_in = TokenNorm(a.dim, a.dim)
        self.pixel_in = ConvNorm(channels, a.dim)
        self.pixel_value = ConvNorm(a.dim, a.dim, act=None)
        self.predictor = Predictor(a, a.dim)
        self.centre_norm = norm1d(a.dim)
        self.centre_out = TokenNorm(a.dim, a.dim, act=None, gain=0.0)
        self.attention = SelfAttention(a)
        self.widen = TokenNorm(a.dim, 8 * a.dim)
        self.narrow = TokenNorm(8 * a.dim, a.dim, act=None, gain=0.0)
        self.drop_path = DropPath(a.drop_path)
        self.given: Tensor | None = None
        truncated_(self.pixel_value.conv.weight, a.dim**-0.5)

    def forward(self, queries: Tensor, feature: Tensor) -> tuple[Tensor, Prediction]:
        """Queries [B, dim, N], feature [B, C, h, w], not activated."""
        pixels = self.pixel_in(F.gelu(feature))
        embedded = self.query_in(queries)
        prediction = self.predictor(embedded, embedded, pixels)
        assignment = assign(prediction.masks.detach()) if self.given is None else one_hot(self.given, queries.shape[2])
        values = self.pixel_value(pixels)
        b, d, h, w = sizes(values)
        values = values.reshape(b, d, h * w)
        # A sum over thousands of pixels needs more than half precision.
        with torch.autocast(values.device.type, enabled=False):
            centres = (assignment.to(values.dtype) @ values.transpose(1, 2)).transpose(1, 2)
        queries = queries + self.drop_path(self.centre_out(self.centre_norm(centres)))
        queries = F.gelu(queries + self.drop_path(self.attention(embedded)))
        queries = F.gelu(queries + self.drop_path(self.narrow(self.widen(queries))))
        return queries, prediction
