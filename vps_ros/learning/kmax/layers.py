"""The small parts that all of kMaX-DeepLab is made of."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-3
"""Of batch normalisation; its running statistics move by MOMENTUM a step."""
MOMENTUM = 0.01


def norm1d(channels: int, gain: float = 1.0) -> nn.BatchNorm1d:
    return _with_gain(nn.BatchNorm1d(channels, EPS, MOMENTUM), gain)


def norm2d(channels: int, gain: float = 1.0) -> nn.BatchNorm2d:
    return _with_gain(nn.BatchNorm2d(channels, EPS, MOMENTUM), gain)


def _with_gain(norm, gain: float):
    nn.init.constant_(norm.weight, gain)
    return norm


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and an activation, if one is given.

    Args:
        act: function of a tensor.
        gain: of the normalisation at the start; 0 makes a residual branch begin as nothing.
        bias: of the convolution, which normalisation makes idle: one published layer has it.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        act: Callable[[Tensor], Tensor] | None = F.gelu,
        gain: float = 1.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding, dilation, groups, bias)
        self.norm = norm2d(cout, gain)
        self.act = act
        truncated_(self.conv.weight, math.sqrt(2.0 / self.conv.weight[0].numel()))
        if bias:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if self.act is None else self.act(x)


class TokenNorm(nn.Module):
    """The same over tokens [B, C, N], pointwise."""

    def __init__(
        self, cin: int, cout: int, *, act: Callable[[Tensor], Tensor] | None = F.gelu, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(cin, cout, 1, bias=False)
        self.norm = norm1d(cout, gain)
        self.act = act
        truncated_(self.conv.weight, math.sqrt(2.0 / cin))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if self.act is None else self.act(x)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of [B, C, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return last.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Leaves out a residual branch of a sample with this probability while training, and scales up what stays."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or not self.probability:
            return branch
        keep = 1 - self.probability
        shape = (branch.shape[0], *[1] * (branch.ndim - 1))
        return branch * torch.empty(shape, device=branch.device, dtype=branch.dtype).bernoulli_(keep).div_(keep)


def sizes(x: Tensor) -> tuple[int, ...]:
    """The shape as plain numbers, also while the network is traced for export: its graph has one size."""
    return tuple(int(n) for n in x.shape)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear; the outer pixels' centres stay where they are, as maps of 2^n k + 1 pixels want it."""
    if sizes(x)[2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def truncated_(weight: Tensor, std: float) -> None:
    """Normal values within two standard deviations, with `std` before they are cut off."""
    with torch.no_grad():
        nn.init.trunc_normal_(weight, 0.0, 1.0, -2.0, 2.0)
        weight.mul_(std)
