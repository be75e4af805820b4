"""Convolutions and heads of PanopticFCN (Li et al., 2021, 3.1 and 3.2): positions, kernels, high-resolution feature."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.panoptic_fcn.architecture import Architecture

TAPS = 9


class DeformableConv(nn.Module):
    """3x3 modulated deformable convolution (Zhu et al., CVPR 2019) from operators that torch and ONNX have.

    The first 18 channels of `offsets` are row and column offset of each of the nine samples, the last nine the logits
    of their weights. Samples outside the map are zero.
    """

    def __init__(self, cin: int, cout: int, bias: bool) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(cin, 3 * TAPS, 3, padding=1)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)
        plain = nn.Conv2d(cin, cout, 3, bias=bias)
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = (int(n) for n in x.shape)
        predicted = self.offsets(x).float()
        moved = predicted[:, : 2 * TAPS].unflatten(1, (TAPS, 2))
        rows = torch.arange(h, device=x.device, dtype=moved.dtype)[:, None]
        columns = torch.arange(w, device=x.device, dtype=moved.dtype)
        taps = torch.arange(TAPS, device=x.device)
        y = moved[:, :, 0] + rows + (torch.div(taps, 3, rounding_mode="floor") - 1)[:, None, None]
        x_ = moved[:, :, 1] + columns + (taps % 3 - 1)[:, None, None]
        # Coordinates of grid_sample: -1 and 1 are the outer borders of the first and last cell.
        grid = torch.stack([(2 * x_ + 1) / w - 1, (2 * y + 1) / h - 1], -1).reshape(b, TAPS * h, w, 2)
        samples = F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        samples = samples.reshape(b, c, TAPS, h * w) * predicted[:, 2 * TAPS :].sigmoid().reshape(b, 1, TAPS, h * w)
        y = self.weight.flatten(1) @ samples.reshape(b, c * TAPS, h * w)
        y = y.reshape(b, -1, h, w)
        return y if self.bias is None else y + self.bias[:, None, None]


BIAS = -2.19
"""Initial bias of the heat maps: a probability of 0.1."""
STD = 0.01
GROUPS = 32


def coordinates(like: Tensor) -> Tensor:
    """[B, 2, h, w]: row and column of each cell, -1 to 1 from the first to the last, for a map [B, C, h, w]."""
    b, _, h, w = (int(n) for n in like.shape)
    axes = (torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in (h, w))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].expand(b, -1, -1, -1)


class Layer(nn.Module):
    """3x3 convolution, optionally deformable, normalisation and ReLU, shared by all levels.

    Each level has its own batch normalisation, because the statistics differ; group normalisation is shared.
    """

    def __init__(self, cin: int, cout: int, norm: str, levels: int = 1, deformable: bool = False) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv = DeformableConv(cin, cout, bias) if deformable else nn.Conv2d(cin, cout, 3, padding=1, bias=bias)
        self.norms = nn.ModuleList()
        if norm == "batch":
            self.norms.extend(nn.BatchNorm2d(cout, eps=1e-3) for _ in range(levels))
        elif norm == "group":
            self.norms.append(nn.GroupNorm(math.gcd(GROUPS, cout), cout))

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        x = self.conv(x)
        if self.norms:
            x = self.norms[level % len(self.norms)](x)
        return F.relu(x, inplace=True)


class Tower(nn.Module):
    """A sequence of `count` layers; `coordinates` as in Architecture, or empty for none."""

    def __init__(
        self,
        cin: int,
        cout: int,
        count: int,
        norm: str,
        levels: int = 1,
        coordinates: str = "",
        deformable: bool = False,
    ) -> None:
        super().__init__()
        self.concatenated = coordinates == "concatenated"
        self.place = nn.Conv2d(2, cin, 1, bias=False) if coordinates == "added" else None
        first = cin + 2 * self.concatenated
        self.layers = nn.ModuleList(Layer(cout if i else first, cout, norm, levels, deformable) for i in range(count))

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        if self.concatenated:
            x = torch.cat([x, coordinates(x)], 1)
        if self.place is not None:
            x = x + self.place(coordinates(x[:1]))
        for layer in self.layers:
            x = layer(x, level)
        return x


class PositionHead(nn.Module):
    """Predicts logits of thing centres [B, T, h, w] and, with `regions`, of stuff regions [B, R, h, w]."""

    def __init__(self, a: Architecture, things: int, regions: int) -> None:
        super().__init__()
        self.tower = Tower(a.width, a.width, a.position_convs, a.norm, len(a.strides), deformable=a.deformable)
        self.class_head = _out(a.width, things, BIAS)
        self.region_class_head = _out(a.width, regions, BIAS) if regions else None

    def forward(self, x: Tensor, level: int) -> tuple[Tensor, Tensor | None]:
        x = self.tower(x, level)
        return self.class_head(x).float(), None if self.region_class_head is None else self.region_class_head(x).float()


class KernelHead(nn.Module):
    """Predicts a kernel for each cell of a level, [B, width, h, w]."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.tower = Tower(a.width, a.width, a.kernel_convs, a.norm, len(a.strides), a.coordinates)
        self.out = _out(a.width, a.width, 0.0, a.kernel_out)

    def forward(self, x: Tensor, level: int) -> Tensor:
        return self.out(self.tower(x, level)).float()


def _out(cin: int, cout: int, bias: float, size: int = 3) -> nn.Conv2d:
    layer = nn.Conv2d(cin, cout, size, padding=size // 2)
    nn.init.normal_(layer.weight, std=STD)
    nn.init.constant_(layer.bias, bias)
    return layer
