"""Backbone and feature pyramid of PanopticFCN: ResNet-50 with FPN as published, and a small pyramid for CPUs.

The ResNet is detectron2's variant (He et al., 2016): the stride is in the first 1x1 convolution of a stage. Batch
normalisation is folded into the convolutions, because detectron2 trains with frozen statistics and weights.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.layers.backbone import ConvNorm, PixelDecoder, Projected
from vps_ros.learning.layers.efficientnet import EfficientNetLite
from vps_ros.learning.panoptic_fcn.architecture import RESNET, Architecture
from vps_ros.learning.panoptic_fcn.layers import Layer

DEPTHS = (3, 4, 6, 3)
STEM = 64
CHANNELS = (256, 512, 1024, 2048)
"""Channels of the features at strides 4, 8, 16 and 32; the inner convolutions have a quarter."""
FROZEN_STAGES = 1
"""Number of frozen stages besides the stem; as FREEZE_AT = 2 in detectron2."""


def _convolution(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(cin, cout, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        middle = cout // 4
        self.conv1 = _convolution(cin, middle, 1, stride)
        self.conv2 = _convolution(middle, middle, 3)
        self.conv3 = _convolution(middle, cout, 1)
        self.shortcut = _convolution(cin, cout, 1, stride) if cin != cout else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    """Normalised image [B, 3, H, W] to features of CHANNELS at strides 4, 8, 16 and 32."""

    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, STEM, 7, 2)
        self.stages = nn.ModuleList()
        cin = STEM
        for i, (depth, cout) in enumerate(zip(DEPTHS, CHANNELS, strict=True)):
            blocks = []
            for j in range(depth):
                blocks.append(Bottleneck(cin, cout, 2 if i and not j else 1))
                cin = cout
            self.stages.append(nn.Sequential(*blocks))
        for module in (self.stem, *self.stages[:FROZEN_STAGES]):
            module.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.stem(image)), 3, 2, 1)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


STRIDES = (4, 8, 16, 32)
"""Strides of the backbone features."""


class Features(NamedTuple):
    """Levels [B, width, h, w] at the strides of the architecture, and the feature [B, C, h, w] at stride 4."""

    levels: list[Tensor]
    fine: Tensor


class SmallPyramid(nn.Module):
    """The pixel decoder of the k-means mask transformer instead of the FPN.

    Attention at stride 32 has a global receptive field, so that the heads need few convolutions. The high-resolution
    feature is the sum of all levels, projected before upsampling (semantic FPN, Kirillov et al., 2019).
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
        x: Tensor | None = None
        outputs: list[Tensor] = []
        for i in (3, 2, 1, 0):
            lateral = self.laterals[i](features[i])
            x = lateral if x is None else lateral + F.interpolate(x, scale_factor=2.0, mode="nearest")
            outputs.insert(0, self.outputs[i](x))
        levels = [outputs[i] for i in self.taken]
        for i, layer in enumerate(self.coarser):
            levels.append(layer(F.relu(levels[-1]) if i else levels[-1]))
        return Features(levels, sum(self._upsampled(i, outputs[i]) for i in range(len(outputs))))

    def _upsampled(self, level: int, x: Tensor) -> Tensor:
        for layer in self.fine[level]:
            x = layer(x)
            if level:
                x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return x


class UnprojectedBackbone(nn.Module):
    """A backbone without projection of its features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.network(image)


def backbone_and_pyramid(a: Architecture) -> tuple[nn.Module, nn.Module]:
    """The backbone (image to features at strides 4, 8, 16 and 32) and the pyramid (these to Features)."""
    if a.backbone == RESNET:
        return UnprojectedBackbone(ResNet()), PublishedPyramid(a)
    return Projected(EfficientNetLite(a.backbone), a.channels), SmallPyramid(a)
