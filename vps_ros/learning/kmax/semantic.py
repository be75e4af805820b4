"""Auxiliary semantic segmentation, which training looks at and export leaves out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vps_ros.learning.kmax.architecture import Architecture
from vps_ros.learning.kmax.layers import ConvNorm, resize, sizes, truncated_

RATES = (6, 12, 18)


class SemanticHead(nn.Sequential):
    """Stride 32 to logits [B, C, h, w] at stride 32."""

    def __init__(self, a: Architecture, width: int) -> None:
        super().__init__(ConvNorm(width, width, 5, groups=width), ConvNorm(width, a.dim), _out(a.dim, a.classes))


class Pyramid(nn.Module):
    """Convolutions of several dilations, and the mean of the map (ASPP, Chen et al., 2017)."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([ConvNorm(cin, cout), *[ConvNorm(cin, cout, 3, dilation=rate) for rate in RATES]])
        self.pool = ConvNorm(cin, cout)
        self.mix = ConvNorm(cout * (len(RATES) + 2), cout)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *sizes(x)[2:])
        return self.dropout(self.mix(torch.cat([*[branch(x) for branch in self.branches], mean], 1)))


class Join(nn.Module):
    """The feature so far beside a projected finer one, mixed at the finer one's size."""

    def __init__(self, dim: int, fine: int, projected: int) -> None:
        super().__init__()
        self.project = ConvNorm(fine, projected)
        self.near = ConvNorm(dim + projected, dim + projected, 5, groups=dim + projected)
        self.mix = ConvNorm(dim + projected, dim)

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        fine = self.project(fine)
        return self.mix(self.near(torch.cat([resize(x, sizes(fine)[2:]), fine], 1)))


class SemanticDecoder(nn.Module):
    """Panoptic-DeepLab's decoder (Cheng et al., 2020), to logits [B, C + 1, h, w] at stride 4."""

    def __init__(self, a: Architecture, widths: tuple[int, int, int]) -> None:
        """`widths`: channels of the features at strides 32, 8 and 4."""
        super().__init__()
        deep, middle, fine = widths
        self.pyramid = Pyramid(deep, a.dim)
        self.middle = Join(a.dim, middle, a.dim // 4)
        self.fine = Join(a.dim, fine, a.dim // 8)
        self.near = ConvNorm(a.dim, a.dim, 5, groups=a.dim)
        self.mix = ConvNorm(a.dim, a.dim)
        self.out = _out(a.dim, a.classes + 1)

    def forward(self, deep: Tensor, middle: Tensor, fine: Tensor) -> Tensor:
        return self.out(self.mix(self.near(self.fine(self.middle(self.pyramid(deep), middle), fine))))


def _out(cin: int, cout: int) -> nn.Conv2d:
    layer = nn.Conv2d(cin, cout, 1)
    truncated_(layer.weight, 0.01)
    nn.init.zeros_(layer.bias)
    return layer
