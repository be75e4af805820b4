"""Layers of Video K-Net: the feature pyramid, and the update of kernels in one stage of K-Net.

A stage groups features by masks, updates each kernel, and applies self-attention between kernels. Kernels are
[B, N, D], pixels [B, D, P] with P = h * w.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.learning.kmeans.backbone import POSITION_CHANNELS, Backbone, ConvNorm, PixelDecoder, positions
from vps_ros.learning.video_knet.architecture import Architecture

PRIOR = 0.01
"""Probability of every class at the start (RetinaNet's, for the focal loss)."""


def membership(probability: Tensor) -> Tensor:
    """How much each pixel belongs to each mask: 0 up to a probability of one half, then rising to 1.

    K-Net counts a pixel above one half whole, which a rounding error can turn on or off. No gradient, as there.
    """
    return (2 * probability.detach() - 1).clamp(min=0)


def group(members: Tensor, pixels: Tensor) -> Tensor:
    """Features of each mask, [B, N, D]: the mean over its pixels, which nearly vanishes with the mask.

    K-Net takes the sum. Of a mean, one set of weights serves several image sizes, and half precision holds it.

    Args:
        members: [B, N, P], 0..1.
    """
    with torch.autocast(pixels.device.type, enabled=False):
        return (members @ pixels.float().transpose(1, 2)) / (members.sum(2, keepdim=True) + 1.0)


class AdaptiveUpdate(nn.Module):
    """Kernels and the features of their masks to kernels that suit the frame (K-Net, equations 4 to 6).

    Both gates are functions of the product of the two, each after a linear layer: one says how much of the features is
    taken, one how much of the kernel stays.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()

        def normed() -> nn.Sequential:
            return nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))

        self.phi1, self.phi2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.psi1, self.psi2, self.psi3, self.psi4 = (normed() for _ in range(4))

    def forward(self, grouped: Tensor, kernels: Tensor) -> Tensor:
        product = self.phi1(grouped) * self.phi2(kernels)
        keep, take = self.psi1(product).sigmoid(), self.psi2(product).sigmoid()
        return take * self.psi3(grouped) + keep * self.psi4(kernels)


class Exchange(nn.Module):
    """FFN(MHA(kernels, others, others) + kernels), LayerNorm after each part: equation 3 of Video K-Net.

    With the same kernels twice this is K-Net's interaction of kernels.
    """

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.heads = a.heads
        self.query, self.value, self.out = (nn.Linear(a.dim, a.dim) for _ in range(3))
        # A bias of the keys would shift all weights of a query alike, which the softmax takes out again.
        self.key = nn.Linear(a.dim, a.dim, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(a.dim), nn.LayerNorm(a.dim)
        self.ffn = nn.Sequential(nn.Linear(a.dim, 4 * a.dim), nn.ReLU(), nn.Linear(4 * a.dim, a.dim))

    def forward(self, kernels: Tensor, others: Tensor, there: Tensor | None = None) -> Tensor:
        """`there` [B, M]: 1 for those of the others that count, 0 for the rest; at least one should."""
        b, n, dim = kernels.shape

        def split(x: Tensor) -> Tensor:
            return x.reshape(b, -1, self.heads, dim // self.heads).transpose(1, 2)

        q, k, v = split(self.query(kernels)), split(self.key(others)), split(self.value(others))
        weights = q * (dim // self.heads) ** -0.5 @ k.transpose(-2, -1)
        if there is not None:
            weights = weights - 1e4 * (1 - there[:, None, None, :])
        mixed = (weights.softmax(-1) @ v).transpose(1, 2).reshape(b, n, dim)
        x = self.norm1(kernels + self.out(mixed))
        return self.norm2(x + self.ffn(x))


class Branch(nn.Sequential):
    """Linear, LayerNorm, ReLU, linear: K-Net's class and mask branches, and the embedding head."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__(nn.Linear(dim, dim, bias=False), nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, out))


def masks_of(kernels: Tensor, pixels: Tensor) -> Tensor:
    """Mask logits [B, N, P]: products over the root of D. A kernel may have one number more, which is added."""
    dim = pixels.shape[1]
    # Comparing masks needs more than bfloat16's eight bits.
    with torch.autocast(pixels.device.type, enabled=False):
        kernels = kernels.float()
        products = (kernels[..., :dim] * dim**-0.5) @ pixels.float()
        return products + kernels[..., dim:] if kernels.shape[2] > dim else products


class UpdateHead(nn.Module):
    """One stage: kernels and the features of their masks to better kernels, their classes and masks."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.update = AdaptiveUpdate(a.dim)
        self.interaction = Exchange(a)
        self.class_head = Branch(a.dim, a.classes)
        # K-Net gives each stage a linear layer on the pixels: with this one on kernels it is a single product.
        self.mask_head = Branch(a.dim, a.dim + 1)
        nn.init.constant_(self.class_head[-1].bias, -math.log(1 / PRIOR - 1))

    def forward(self, grouped: Tensor, kernels: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """New kernels, class logits [B, N, C], mask logits [B, N, P]."""
        kernels = self.update(grouped, kernels)
        kernels = self.interaction(kernels, kernels)
        return kernels, self.class_head(kernels).float(), masks_of(self.mask_head(kernels), pixels)


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
