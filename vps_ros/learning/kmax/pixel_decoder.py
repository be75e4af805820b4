"""The pixel decoder: features of the backbone to those that queries read, from stride 32 to the mask stride."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.kmax.architecture import Architecture
from vps_ros.learning.kmax.axial import Block
from vps_ros.learning.kmax.layers import ChannelNorm, ConvNorm, resize, sizes


class Fusion(nn.Module):
    """The coarser feature, brought to the finer one's size, plus the finer one; each projected unless it fits."""

    def __init__(self, low: int, high: int, channels: int) -> None:
        super().__init__()
        self.low = ConvNorm(low, channels, act=None) if low != channels else None
        self.high = ConvNorm(high, channels, act=None) if high != channels else None

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        if self.low is not None:
            low = self.low(F.gelu(low))
        size = sizes(high)[2:]
        if self.high is not None:
            high = self.high(F.gelu(high))
        return resize(low, size) + high


class PixelDecoder(nn.Module):
    """Features of the backbone, coarsest first, to one feature of each stage, not activated.

    Args:
        widths: channels of the features.
    """

    def __init__(self, a: Architecture, widths: Sequence[int]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(width) for width in widths)
        self.stages, self.fusions = nn.ModuleList(), nn.ModuleList()
        for i, (channels, depth) in enumerate(zip(a.channels, a.blocks, strict=True)):
            if i:
                self.fusions.append(Fusion(4 * a.channels[i - 1], widths[i], channels))
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
