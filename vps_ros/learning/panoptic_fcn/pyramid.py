"""Image to levels for the heads and the high-resolution feature: a small pyramid for CPUs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.backbone import ConvNorm, PixelDecoder, Projected
from vps_ros.learning.efficientnet import EfficientNetLite
from vps_ros.learning.panoptic_fcn.architecture import Architecture


class Features(NamedTuple):
    """Levels [B, width, h, w] at the strides of the architecture, and the feature [B, C, h, w] at stride 4."""

    levels: list[Tensor]
    fine: Tensor


class SmallPyramid(nn.Module):
    """The pixel decoder of the k-means mask transformer in place of the FPN.

    Attention at stride 32 sees the whole image, so that the heads need few convolutions. The high-resolution feature is
    the sum of all levels, projected before they are enlarged (semantic FPN, Kirillov et al., 2019).
    """

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(a.channels, a.heads)
        strides = (4, 8, 16, 32)
        self.taken = [strides.index(s) for s in a.strides if s in strides]
        self.levels = nn.ModuleList(ConvNorm(a.channels[i], a.width, 1) for i in self.taken)
        self.coarser = nn.ModuleList(ConvNorm(a.width, a.width, 3, 2) for _ in a.strides[len(self.taken) :])
        self.fine = nn.ModuleList(ConvNorm(c, a.feature_channels, 1, act=False) for c in a.channels)

    def forward(self, features: list[Tensor]) -> Features:
        decoded = self.pixel_decoder(features)[::-1]
        levels = [layer(decoded[i]) for i, layer in zip(self.taken, self.levels, strict=True)]
        for layer in self.coarser:
            levels.append(layer(levels[-1]))
        x = self.fine[3](decoded[3])
        for i in (2, 1, 0):
            x = self.fine[i](decoded[i]) + F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return Features(levels, F.relu(x))


def small_backbone(a: Architecture) -> Projected:
    """Image to features of `channels` at strides 4, 8, 16 and 32."""
    return Projected(EfficientNetLite(a.backbone), a.channels)
