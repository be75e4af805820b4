"""Backbones: image [B, 3, H, W] to features by name, `stem` and `res2` to `res5` (strides 4, 8, 16, 32).

`levels` names the features in the order in which the pixel decoder uses them, `widths` their channels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.kmax.architecture import BackboneSpec
from vps_ros.learning.kmax.layers import Block, ChannelLayerNorm, ConvNorm, DropPath, trunc_normal_

STAGES = ("res2", "res3", "res4", "res5")


class Bottleneck(nn.Module):
    """Residual block of He et al., 2016, with the stride in the 3x3 convolution."""

    def __init__(self, cin: int, cout: int, stride: int, drop_path: float) -> None:
        super().__init__()
        self.reduce = ConvNorm(cin, cout // 4, act=F.relu)
        self.spatial = ConvNorm(cout // 4, cout // 4, 3, stride, act=F.relu)
        self.expand = ConvNorm(cout // 4, cout, act=None)
        self.shortcut = ConvNorm(cin, cout, 1, stride, act=None) if cin != cout else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.drop_path(self.expand(self.spatial(self.reduce(x))))
        return F.relu(branch + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    """ResNet. The stem ends with max pooling, so that `stem` has stride 4 like `res2`; it is used before `res2`."""

    levels = ("res5", "res4", "res3", "stem", "res2")

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        cin = spec.widths[0] // 4
        self.widths = {"stem": cin, **dict(zip(STAGES, spec.widths, strict=True))}
        self.stem = ConvNorm(3, cin, 7, 2, act=F.relu)
        drop = iter(_rates(spec))
        for i, (name, depth, width) in enumerate(zip(STAGES, spec.depths, spec.widths, strict=True)):
            blocks = []
            for j in range(depth):
                blocks.append(Bottleneck(cin, width, 2 if i and not j else 1, next(drop)))
                cin = width
            setattr(self, name, nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        features = {"stem": x}
        for name in STAGES:
            x = features[name] = getattr(self, name)(x)
        return features


class ConvNeXtBlock(nn.Module):
    """Block of ConvNeXt (Liu et al., A ConvNet for the 2020s, 2022)."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        branch = self.scale * self.narrow(F.gelu(self.widen(branch)))
        return x + self.drop_path(branch.permute(0, 3, 1, 2))


class ConvNeXt(nn.Module):
    """ConvNeXt, padded so that a side of 2^n k + 1 becomes 2^(n-1) k + 1. `stem` has stride 4."""

    levels = ("res5", "res4", "res3", "res2", "stem")

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        w = spec.widths
        self.widths = {"stem": w[0], **dict(zip(STAGES, w, strict=True))}
        self.stem = nn.Sequential(nn.Conv2d(3, w[0], 4, 4), ChannelLayerNorm(w[0]))
        self.shrink = nn.ModuleList(nn.Sequential(ChannelLayerNorm(a), nn.Conv2d(a, b, 2, 2)) for a, b in pairwise(w))
        drop = iter(_rates(spec))
        self.stages = nn.ModuleList(
            nn.Sequential(*[ConvNeXtBlock(width, next(drop)) for _ in range(depth)])
            for width, depth in zip(w, spec.depths, strict=True)
        )
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                trunc_normal_(layer.weight, 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(F.pad(x, (1, 2, 1, 2)))
        features = {"stem": x}
        for i, name in enumerate(STAGES):
            if i:
                x = self.shrink[i - 1](F.pad(x, (0, 1, 0, 1)))
            x = features[name] = self.stages[i](x)
        return features


class AxialResNet(nn.Module):
    """Axial-ResNet as in deeplab2: three convolutions as stem (`stem` has stride 2), pre-activation blocks.

    `res5` and all blocks of `res4` but the first use axial attention. Features are not activated.
    """

    levels = ("res5", "res4", "res3", "res2", "stem")

    def __init__(self, spec: BackboneSpec, heads: int = 8) -> None:
        super().__init__()
        small = spec.widths[0] // 4
        self.widths = {"stem": 2 * small, **dict(zip(STAGES, spec.widths, strict=True))}
        self.stem = nn.Sequential(
            ConvNorm(3, small, 3, 2), ConvNorm(small, small, 3), ConvNorm(small, 2 * small, 3, act=None)
        )
        cin = 2 * small
        for i, (name, depth, width) in enumerate(zip(STAGES, spec.depths, spec.widths, strict=True)):
            blocks = []
            for j in range(depth):
                # The input of the block has stride 2^(deep + 1).
                deep = i + (j > 0)
                axial = deep >= 3
                drop = spec.drop_path * deep / 4 if axial else 0.0
                blocks.append(Block(cin, width // 4, axial=axial, heads=heads, stride=1 if j else 2, drop_path=drop))
                cin = width
            setattr(self, name, nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        features = {"stem": x}
        for name in STAGES:
            x = features[name] = getattr(self, name)(x)
        return features


KINDS: dict[str, type[ResNet] | type[ConvNeXt] | type[AxialResNet]] = {
    "resnet": ResNet,
    "convnext": ConvNeXt,
    "axial_resnet": AxialResNet,
}


def _rates(spec: BackboneSpec) -> list[float]:
    return torch.linspace(0, spec.drop_path, sum(spec.depths), device="cpu").tolist()
