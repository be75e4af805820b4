"""Image to levels for the heads and the high-resolution feature: as published, and a small pyramid for CPUs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.backbone import ConvNorm, PixelDecoder, Projected
from vps_ros.learning.efficientnet import EfficientNetLite
from vps_ros.learning.panoptic_fcn.architecture import RESNET, Architecture
from vps_ros.learning.panoptic_fcn.heads import Layer
from vps_ros.learning.panoptic_fcn.resnet import ResNet

STRIDES = (4, 8, 16, 32)
"""Of a backbone's features."""


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
        self.taken = [STRIDES.index(s) for s in a.strides if s in STRIDES]
        self.levels = nn.ModuleList(ConvNorm(a.channels[i], a.width, 1) for i in self.taken)
        self.coarser = nn.ModuleList(ConvNorm(a.width, a.width, 3, 2) for _ in a.strides[len(self.taken) :])
        self.fine = nn.ModuleList(ConvNorm(c, a.feature_channels, 1, act=False) for c in a.channels)
        self.fine_channels = a.feature_channels

    def forward(self, features: list[Tensor]) -> Features:
        decoded = self.pixel_decoder(features)[::-1]
        levels = [layer(decoded[i]) for i, layer in zip(self.taken, self.levels, strict=True)]
        for layer in self.coarser:
            levels.append(layer(levels[-1]))
        x = self.fine[3](decoded[3])
        for i in (2, 1, 0):
            x = self.fine[i](decoded[i]) + F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return Features(levels, F.relu(x))


class PublishedPyramid(nn.Module):
    """Feature pyramid network (Lin et al., 2017) to stride 128, and semantic FPN (Kirillov et al., 2019)."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        width = a.width
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in ResNet.channels)
        self.outputs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in ResNet.channels)
        self.taken = [STRIDES.index(s) for s in a.strides if s in STRIDES]
        self.coarser = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in a.strides[len(self.taken) :])
        self.fine = nn.ModuleList(
            nn.ModuleList(Layer(width, width, a.norm) for _ in range(max(1, level))) for level in range(len(STRIDES))
        )
        self.fine_channels = width

    def forward(self, features: list[Tensor]) -> Features:
        x, outputs = None, []
        for i in (3, 2, 1, 0):
            lateral = self.laterals[i](features[i])
            x = lateral if x is None else lateral + F.interpolate(x, scale_factor=2.0, mode="nearest")
            outputs.insert(0, self.outputs[i](x))
        levels = [outputs[i] for i in self.taken]
        for i, layer in enumerate(self.coarser):
            levels.append(layer(F.relu(levels[-1]) if i else levels[-1]))
        return Features(levels, sum(self._enlarged(i, outputs[i]) for i in range(len(outputs))))

    def _enlarged(self, level: int, x: Tensor) -> Tensor:
        for layer in self.fine[level]:
            x = layer(x)
            if level:
                x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return x


class Bare(nn.Module):
    """A backbone whose features are taken as they are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.network(image)


def backbone_and_pyramid(a: Architecture) -> tuple[nn.Module, nn.Module]:
    """Image to features at strides 4, 8, 16 and 32, and these to Features."""
    if a.backbone == RESNET:
        return Bare(ResNet()), PublishedPyramid(a)
    return Projected(EfficientNetLite(a.backbone), a.channels), SmallPyramid(a)
