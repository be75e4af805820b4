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

from vps_ros.learning.layers.backbone import POSITION_CHANNELS, ConvNorm, PixelDecoder, make_backbone, positions
from vps_ros.learning.video_knet.architecture import Architecture

PRIOR = 0.01
"""Initial probability of every class, as in RetinaNet for the focal loss."""


def membership(probability: Tensor) -> Tensor:
    """Membership of each pixel in each mask: 0 for probabilities up to 0.5, then linear up to 1. Without gradient.

    K-Net uses a step at 0.5, at which a rounding error changes the result.
    """
    return (2 * probability.detach() - 1).clamp(min=0)


def masked_mean(members: Tensor, pixels: Tensor, frames: int = 1) -> Tensor:
    """Mean feature of each mask, [B, N, D], with 1 added to the denominator for each frame: an empty mask gives 0.

    K-Net uses the sum. The mean does not depend on the image size and stays in the range of half precision. Copies of
    one frame have the mean of this frame.

    Args:
        members: [B, N, P], 0..1.
        frames: of a clip, whose pixels stand side by side.
    """
    with torch.autocast(pixels.device.type, enabled=False):
        return (members @ pixels.float().transpose(1, 2)) / (members.sum(2, keepdim=True) + float(frames))


class AdaptiveUpdate(nn.Module):
    """Updates kernels with the mean features of their masks (K-Net, equations 4 to 6).

    Both gates depend on the product of linear projections of features and kernels: one gate weights the features, the
    other the previous kernel.
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


class KernelAttention(nn.Module):
    """FFN(MHA(kernels, others, others) + kernels), LayerNorm after each part: equation 3 of Video K-Net.

    With `others` equal to `kernels` this is the kernel interaction of K-Net.
    """

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.heads = a.heads
        self.query, self.value, self.out = (nn.Linear(a.dim, a.dim) for _ in range(3))
        # No bias: it would add the same value to all logits of a query, which the softmax cancels.
        self.key = nn.Linear(a.dim, a.dim, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(a.dim), nn.LayerNorm(a.dim)
        self.ffn = nn.Sequential(nn.Linear(a.dim, 4 * a.dim), nn.ReLU(), nn.Linear(4 * a.dim, a.dim))

    def forward(self, kernels: Tensor, others: Tensor, valid: Tensor | None = None) -> Tensor:
        """`valid` [B, M]: 1 for the kernels of `others` to attend to, else 0; at least one is 1."""
        b, n, dim = kernels.shape

        def split(x: Tensor) -> Tensor:
            return x.reshape(b, -1, self.heads, dim // self.heads).transpose(1, 2)

        q, k, v = split(self.query(kernels)), split(self.key(others)), split(self.value(others))
        weights = q * (dim // self.heads) ** -0.5 @ k.transpose(-2, -1)
        if valid is not None:
            weights = weights - 1e4 * (1 - valid[:, None, None, :])
        mixed = (weights.softmax(-1) @ v).transpose(1, 2).reshape(b, n, dim)
        x = self.norm1(kernels + self.out(mixed))
        return self.norm2(x + self.ffn(x))


class MLPHead(nn.Sequential):
    """Linear, LayerNorm, ReLU, linear: the class and mask branches of K-Net, and the embedding head."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__(nn.Linear(dim, dim, bias=False), nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, out))


def mask_logits(kernels: Tensor, pixels: Tensor) -> Tensor:
    """Mask logits [B, N, P]: products of kernels and pixels, divided by sqrt(D).

    A kernel [D + 1] holds a bias as its last element.
    """
    dim = pixels.shape[1]
    # The argmax over masks needs more precision than bfloat16.
    with torch.autocast(pixels.device.type, enabled=False):
        kernels = kernels.float()
        products = (kernels[..., :dim] * dim**-0.5) @ pixels.float()
        return products + kernels[..., dim:] if kernels.shape[2] > dim else products


class UpdateHead(nn.Module):
    """One stage of K-Net: updates the kernels and predicts their classes and masks."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.update = AdaptiveUpdate(a.dim)
        self.interaction = KernelAttention(a)
        self.class_head = MLPHead(a.dim, a.classes)
        # K-Net has a linear layer on the pixels in each stage. The same layer on the kernels needs a single product.
        self.mask_head = MLPHead(a.dim, a.dim + 1)
        nn.init.constant_(self.class_head[-1].bias, -math.log(1 / PRIOR - 1))

    def forward(self, grouped: Tensor, kernels: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Updated kernels [B, N, D], class logits [B, N, C], mask logits [B, N, P]."""
        kernels = self.update(grouped, kernels)
        kernels = self.interaction(kernels, kernels)
        return kernels, self.class_head(kernels).float(), mask_logits(self.mask_head(kernels), pixels)


class Features(NamedTuple):
    """Feature maps [B, D, h, w] for instance kernels and for semantic kernels."""

    instances: Tensor
    classes: Tensor


class SemanticPyramid(nn.Module):
    """Normalised image [B, 3, H, W] to Features at stride 4; H and W are multiples of 32.

    The pixel decoder is the feature pyramid. The sum of its levels and of a sine position encoding is the input of two
    branches (semantic FPN, Kirillov et al., 2019). Levels are projected before upsampling, which is faster on CPUs.
    """

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.backbone = make_backbone(a.backbone, a.channels, a.depths)
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
