"""Layers that all parts of kMaX-DeepLab share: normalised convolutions, and axial attention (Wang et al., ECCV 2020).

Axial attention attends along the columns of a feature map, then along its rows. A similarity is the sum of three terms:
query and key, query and a learned embedding of the relative position, key and a learned embedding of the relative
position (position-sensitive attention). Each term has its own batch normalisation instead of a scale. Values have
embeddings of the relative position, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.kmax.architecture import SPAN

EPS = 1e-3
"""Epsilon of batch normalisation; MOMENTUM is that of its running statistics."""
MOMENTUM = 0.01


def norm1d(channels: int, gain: float = 1.0) -> nn.BatchNorm1d:
    return _with_gain(nn.BatchNorm1d(channels, EPS, MOMENTUM), gain)


def norm2d(channels: int, gain: float = 1.0) -> nn.BatchNorm2d:
    return _with_gain(nn.BatchNorm2d(channels, EPS, MOMENTUM), gain)


def _with_gain(norm, gain: float):
    nn.init.constant_(norm.weight, gain)
    return norm


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and an optional activation.

    Args:
        gain: initial weight of the normalisation; with 0, a residual branch is initially zero.
        bias: whether the convolution has a bias; it has no effect, but one published layer has it.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        act: Callable[[Tensor], Tensor] | None = F.gelu,
        gain: float = 1.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding, dilation, groups, bias)
        self.norm = norm2d(cout, gain)
        self.act = act
        trunc_normal_(self.conv.weight, math.sqrt(2.0 / self.conv.weight[0].numel()))
        if bias:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if self.act is None else self.act(x)


class PointwiseConvNorm(nn.Module):
    """Pointwise convolution over tokens [B, C, N], batch normalisation and an optional activation."""

    def __init__(
        self, cin: int, cout: int, *, act: Callable[[Tensor], Tensor] | None = F.gelu, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(cin, cout, 1, bias=False)
        self.norm = norm1d(cout, gain)
        self.act = act
        trunc_normal_(self.conv.weight, math.sqrt(2.0 / cin))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if self.act is None else self.act(x)


class ChannelLayerNorm(nn.Module):
    """Layer normalisation over the channels of [B, C, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return last.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Stochastic depth: in training, drops the branch of a sample with this probability, and rescales the others."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or not self.probability:
            return branch
        keep = 1 - self.probability
        shape = (branch.shape[0], *[1] * (branch.ndim - 1))
        return branch * torch.empty(shape, device=branch.device, dtype=branch.dtype).bernoulli_(keep).div_(keep)


def shape_of(x: Tensor) -> tuple[int, ...]:
    """The shape as Python integers, also during tracing: an exported graph has a fixed size."""
    return tuple(int(n) for n in x.shape)


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear; the outer pixels' centres stay where they are, as maps of 2^n k + 1 pixels matched it."""
    if shape_of(x)[2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def trunc_normal_(weight: Tensor, std: float) -> None:
    """Initialises from a normal distribution truncated at two standard deviations; `std` is that before truncation."""
    with torch.no_grad():
        nn.init.trunc_normal_(weight, 0.0, 1.0, -2.0, 2.0)
        weight.mul_(std)


class AxisAttention(nn.Module):
    """Attention along the last axis of [B, C, L]; gives [B, value, L].

    Args:
        key: channels over all heads.
        value: as `key`.
    """

    def __init__(self, channels: int, key: int, value: int, heads: int) -> None:
        super().__init__()
        self.sizes, self.heads = (key, key, value), heads
        self.qkv = nn.Conv1d(channels, 2 * key + value, 1, bias=False)
        self.qkv_norm = norm1d(2 * key + value)
        self.query_positions = nn.Parameter(torch.empty(2 * SPAN - 1, key // heads))
        self.key_positions = nn.Parameter(torch.empty(2 * SPAN - 1, key // heads))
        self.value_positions = nn.Parameter(torch.empty(2 * SPAN - 1, value // heads))
        self.similarity_norm = norm2d(3 * heads)
        self.retrieved_norm = norm1d(2 * value)
        trunc_normal_(self.qkv.weight, channels**-0.5)
        for positions in (self.query_positions, self.key_positions, self.value_positions):
            trunc_normal_(positions, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        b, _, n = shape_of(x)
        parts = self.qkv_norm(self.qkv(x)).split(self.sizes, 1)
        q, k, v = (part.reshape(b, self.heads, -1, n).transpose(2, 3) for part in parts)
        # Row: position of the query; column: position of the key.
        places = torch.arange(n, device=x.device)
        distance = places[None, :] - places[:, None] + SPAN - 1
        similarity = torch.cat(
            [
                q @ k.transpose(2, 3),
                _per_position(q, self.query_positions[distance].transpose(1, 2)),
                _per_position(k, self.key_positions[distance].permute(1, 2, 0)).transpose(2, 3),
            ],
            1,
        )
        weight = self.similarity_norm(similarity).reshape(b, 3, self.heads, n, n).sum(1).softmax(3)
        retrieved = torch.cat([weight @ v, _per_position(weight, self.value_positions[distance])], 1)
        retrieved = retrieved.transpose(2, 3).reshape(b, -1, n)
        return self.retrieved_norm(retrieved).reshape(b, 2, -1, n).sum(1)


def _per_position(vectors: Tensor, tables: Tensor) -> Tensor:
    """Product of [B, H, L, D] with one matrix per position, [L, D, E]; returns [B, H, L, E]."""
    b, h, n, d = shape_of(vectors)
    return (vectors.permute(2, 0, 1, 3).reshape(n, b * h, d) @ tables).reshape(n, b, h, -1).permute(1, 2, 0, 3)


class AxialAttention(nn.Module):
    """Attention along the columns, then along the rows, of [B, C, h, w]; returns [B, value, h, w].

    Args:
        stride: of the result; each axis is subsampled after the attention along it.
    """

    def __init__(self, channels: int, key: int, value: int, heads: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.height = AxisAttention(channels, key, value, heads)
        self.width = AxisAttention(value, key, value, heads)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = shape_of(x)
        columns = self.height(x.permute(0, 3, 1, 2).reshape(b * w, c, h))
        x = columns.reshape(b, w, -1, h)[..., :: self.stride]
        value, h = shape_of(x)[2:]
        rows = self.width(x.permute(0, 3, 2, 1).reshape(b * h, value, w))
        return rows.reshape(b, h, value, w)[..., :: self.stride].transpose(1, 2)


class Block(nn.Module):
    """Pre-activation residual block of the pixel decoder and of Axial-ResNet.

    Args:
        channels: of the 3x3 convolution. Axial attention has as many for keys and twice as many for values; the output
            has four times as many.
        axial: axial attention instead of the 3x3 convolution.
    """

    def __init__(
        self,
        cin: int,
        channels: int,
        *,
        axial: bool,
        heads: int = 8,
        stride: int = 1,
        drop_path: float = 0.0,
        act: Callable[[Tensor], Tensor] = F.gelu,
    ) -> None:
        super().__init__()
        inside = 2 * channels if axial else channels
        self.act = act
        self.reduce = ConvNorm(cin, inside, act=act)
        if axial:
            self.attention = AxialAttention(inside, channels, inside, heads, stride)
        else:
            self.spatial = ConvNorm(inside, inside, 3, stride, act=act)
        self.expand = ConvNorm(inside, 4 * channels, act=None, gain=0.0)
        self.shortcut = ConvNorm(cin, 4 * channels, 1, stride, act=None) if cin != 4 * channels else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(x)
        branch = self.reduce(x)
        branch = self.act(self.attention(branch)) if hasattr(self, "attention") else self.spatial(branch)
        return self.drop_path(self.expand(branch)) + (x if self.shortcut is None else self.shortcut(x))
