"""Features at stride 4 for kernels to be multiplied with: K-Net's semantic FPN on the small backbone."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.backbone import POSITION_CHANNELS, Backbone, ConvNorm, PixelDecoder, positions
from vps_ros.learning.video_knet.architecture import Architecture


class Features(NamedTuple):
    """[B, D, h, w] each: for instance kernels, for semantic kernels."""

    instances: Tensor
    classes: Tensor


class SemanticPyramid(nn.Module):
    """Image [B, 3, H, W] in -1..1 to Features at stride 4; H and W are multiples of 32.

    The pixel decoder is the feature pyramid; the sum of its levels, with sines of the position, feeds two branches
    (semantic FPN, Kirillov et al., 2019). Levels are projected before they are enlarged, which costs a CPU less.
    """

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.backbone = Backbone(a.channels, a.depths)
        self.pixel_decoder = PixelDecoder(a.channels, 2 * a.heads)
        self.levels = nn.ModuleList(ConvNorm(c, a.dim, 1, act=False) for c in reversed(a.channels))
        self.place = nn.Conv2d(POSITION_CHANNELS, a.dim, 1, bias=False)
        self.instances = ConvNorm(a.dim, a.dim, 1)
        self.classes = ConvNorm(a.dim, a.dim, 1)

    def forward(self, image: Tensor) -> Features:
        coarse, *finer = self.pixel_decoder(self.backbone(image))
        x = self.levels[0](coarse)
        for level, feature in zip(self.levels[1:], finer, strict=True):
            x = level(feature) + F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = x + self.place(positions(int(x.shape[-2]), int(x.shape[-1])).to(x.device))
        x = F.relu(x)
        return Features(self.instances(x), self.classes(x))
