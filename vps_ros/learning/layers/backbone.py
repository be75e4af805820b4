"""A small residual backbone, and the pixel decoder: features at stride 4 with the context of the image.

kMaX-DeepLab (Yu et al., 2022) has axial attention at strides 32 and 16. At 640x192 the stride-32 map has 120 cells, for
which full attention costs less than axial attention, so one such layer is used here. All other layers are dense 3x3
convolutions: on CPUs, depthwise ones are limited by memory bandwidth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.errors import InputError
from vps_ros.learning.layers import efficientnet
from vps_ros.learning.layers.efficientnet import EfficientNetLite
from vps_ros.segmenters.model_card import InputSpec

RESIDUAL = "residual"
BACKBONES = (RESIDUAL, *efficientnet.SCALING)
"""The residual backbone, with random initial weights, and the EfficientNet-Lites, with ImageNet weights."""

FREQUENCIES = (1.0, 2.0, 4.0, 8.0, 16.0)
POSITION_CHANNELS = 4 * len(FREQUENCIES)


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation, and ReLU unless `act` is off. Both linear parts are one layer after export."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, stride: int = 1, act: bool = True) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(cout, eps=1e-3),
        ]
        if act:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class Residual(nn.Module):
    """x + ConvNorm(x): one 3x3 convolution for each block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def positions(height: int, width: int) -> Tensor:
    """float32 [1, POSITION_CHANNELS, height, width]: sines and cosines of the cell centres, both axes in 0..1."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    angles = torch.stack([math.pi * f * axis for axis in (rows, columns) for f in FREQUENCIES])
    return torch.cat([angles.sin(), angles.cos()])[None]


class Attention(nn.Module):
    """Multi-head self-attention and a feed-forward part over tokens [B, L, D], each after a LayerNorm."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        b, length, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # A fused kernel is not faster at these lengths, and is exported as the same nodes.
        weights = (q * (dim // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, length, dim))
        return x + self.ffn(self.norm2(x))


class Backbone(nn.Module):
    """Image [B, 3, H, W] in -1..1 to features at strides 4, 8, 16 and 32; H and W are multiples of 32."""

    def __init__(self, channels: tuple[int, int, int, int], depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        # One strided 7x7 convolution avoids the memory traffic of maps at stride 2.
        self.stem = ConvNorm(3, channels[0], 7, 4)
        self.stages = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(channels, depths, strict=True)):
            down = [ConvNorm(channels[i - 1], width, 3, 2)] if i else []
            self.stages.append(nn.Sequential(*down, *(Residual(width) for _ in range(depth))))

    def forward(self, image: Tensor) -> list[Tensor]:
        features, x = [], self.stem(image)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Projected(nn.Module):
    """A pretrained backbone with 1x1 convolutions to other numbers of channels."""

    def __init__(self, network: EfficientNetLite, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.network = network
        self.projections = nn.ModuleList(
            ConvNorm(a, b, 1, act=False) for a, b in zip(network.channels, channels, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        return [project(x) for project, x in zip(self.projections, self.network(image), strict=True)]


def require_backbone(name: str) -> None:
    """Raises InputError when this is not a name of BACKBONES."""
    if name not in BACKBONES:
        raise InputError(f"model: unknown backbone {name!r}; there are {', '.join(BACKBONES)}")


def make_backbone(
    name: str, channels: tuple[int, int, int, int], depths: tuple[int, int, int, int]
) -> Backbone | Projected:
    """A backbone of BACKBONES with random weights, with these channels at strides 4, 8, 16 and 32.

    Args:
        depths: blocks of the residual backbone's stages.
    """
    return Backbone(channels, depths) if name == RESIDUAL else Projected(EfficientNetLite(name), channels)


def load_imagenet(backbone: nn.Module, name: str) -> None:
    """Loads the ImageNet weights of a backbone of this name; the residual one has none.

    Raises InputError that names the package with the weights when it is not installed.
    """
    if isinstance(backbone, Projected):
        backbone.network.load(efficientnet.imagenet_weights(name))


def backbone_input(name: str, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
    """The model card's input, with the normalisation of the backbone; `size` is width and height."""
    width, height = size
    if name == RESIDUAL:
        return InputSpec(height, width, keep_aspect=keep_aspect)
    return InputSpec(height, width, efficientnet.MEAN, efficientnet.STD, keep_aspect)


class PixelDecoder(nn.Module):
    """Features at strides 4..32 to features of the same sizes with the context of the image."""

    def __init__(self, channels: tuple[int, int, int, int], heads: int) -> None:
        super().__init__()
        c4, c8, c16, c32 = channels
        self.place = nn.ModuleList(nn.Conv2d(POSITION_CHANNELS, c, 1, bias=False) for c in (c32, c16, c8))
        self.context = Attention(c32, heads, 2 * c32)
        self.ups = nn.ModuleList(ConvNorm(a, b, 1, act=False) for a, b in ((c32, c16), (c16, c8), (c8, c4)))
        self.laterals = nn.ModuleList(ConvNorm(c, c, 1, act=False) for c in (c16, c8, c4))
        self.blocks = nn.ModuleList(Residual(c) for c in (c16, c8, c4))

    def _placed(self, x: Tensor, level: int) -> Tensor:
        return x + self.place[level](positions(int(x.shape[-2]), int(x.shape[-1])).to(x.device))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """[stride 32, 16, 8, 4], coarse first."""
        f4, f8, f16, f32 = features
        b, c, h, w = f32.shape
        tokens = self._placed(f32, 0).flatten(2).transpose(1, 2)
        x = self.context(tokens).transpose(1, 2).reshape(b, c, h, w)
        outputs = [x]
        for i, fine in enumerate((f16, f8, f4)):
            up = F.interpolate(self.ups[i](x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = F.relu(self.laterals[i](fine) + up)
            if i < 2:
                x = self._placed(x, i + 1)
            x = self.blocks[i](x)
            outputs.append(x)
        return outputs
