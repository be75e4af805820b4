"""Axial attention (Wang et al., Axial-DeepLab, ECCV 2020) and the residual blocks made with it.

A map attends along its columns, then along its rows. Similarities are the sum of three: of query and key, of the query
with a learned vector of the distance, and of the key with one (position-sensitive attention); each has its own batch
normalisation in place of a scale. Values have vectors of the distance, too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.kmax.architecture import SPAN
from vps_ros.learning.kmax.layers import ConvNorm, DropPath, norm1d, norm2d, sizes, truncated_


class AxisAttention(nn.Module):
    """Attention along the last axis of [B, C, L]; gives [B, value, L].

    Args:
        key, value: channels over all heads.
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
        truncated_(self.qkv.weight, channels**-0.5)
        for positions in (self.query_positions, self.key_positions, self.value_positions):
            truncated_(positions, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        b, _, n = sizes(x)
        parts = self.qkv_norm(self.qkv(x)).split(self.sizes, 1)
        q, k, v = (part.reshape(b, self.heads, -1, n).transpose(2, 3) for part in parts)
        # Row: where one looks from; column: where to.
        places = torch.arange(n, device=x.device)
        distance = places[None, :] - places[:, None] + SPAN - 1
        similarity = torch.cat(
            [
                q @ k.transpose(2, 3),
                _by_place(q, self.query_positions[distance].transpose(1, 2)),
                _by_place(k, self.key_positions[distance].permute(1, 2, 0)).transpose(2, 3),
            ],
            1,
        )
        weight = self.similarity_norm(similarity).reshape(b, 3, self.heads, n, n).sum(1).softmax(3)
        retrieved = torch.cat([weight @ v, _by_place(weight, self.value_positions[distance])], 1)
        retrieved = retrieved.transpose(2, 3).reshape(b, -1, n)
        return self.retrieved_norm(retrieved).reshape(b, 2, -1, n).sum(1)


def _by_place(vectors: Tensor, tables: Tensor) -> Tensor:
    """[B, H, L, D] times a matrix of each place, [L, D, E], gives [B, H, L, E]."""
    b, h, n, d = sizes(vectors)
    return (vectors.permute(2, 0, 1, 3).reshape(n, b * h, d) @ tables).reshape(n, b, h, -1).permute(1, 2, 0, 3)


class AxialAttention(nn.Module):
    """Attention along the columns, then along the rows, of [B, C, h, w]; gives [B, value, h, w].

    Args:
        stride: of the result; each axis is thinned out once it has been attended along.
    """

    def __init__(self, channels: int, key: int, value: int, heads: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.height = AxisAttention(channels, key, value, heads)
        self.width = AxisAttention(value, key, value, heads)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = sizes(x)
        columns = self.height(x.permute(0, 3, 1, 2).reshape(b * w, c, h))
        x = columns.reshape(b, w, -1, h)[..., :: self.stride]
        value, h = sizes(x)[2:]
        rows = self.width(x.permute(0, 3, 2, 1).reshape(b * h, value, w))
        return rows.reshape(b, h, value, w)[..., :: self.stride].transpose(1, 2)


class Block(nn.Module):
    """A residual block of the pixel decoder and of Axial-ResNet: the activation comes first, so that sums pass freely.

    Args:
        channels: of the 3x3 convolution; axial attention's keys have as many, its values twice as many. The block gives
            four times as many.
        axial: attention in place of the 3x3 convolution.
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
