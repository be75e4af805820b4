"""ResNet-50 as detectron2 has it (He et al., 2016): strides in the first 1x1 convolution of a stage.

Batch normalisation is folded into the convolutions: detectron2 trains with its statistics and weights frozen.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS = (3, 4, 6, 3)
STEM = 64
CHANNELS = (256, 512, 1024, 2048)
"""Of the features at strides 4, 8, 16 and 32; the convolutions between have a quarter."""
FROZEN_STAGES = 1
"""Beside the stem; as detectron2's FREEZE_AT = 2."""


def _convolution(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(cin, cout, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

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
