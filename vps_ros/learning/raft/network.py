"""RAFT and RAFT-S, networks for optical flow (Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms", ECCV 2020).

Modules have the names of torchvision's checkpoints, so that these load without a table of names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 8
"""Pixels of the image for each cell of the feature map."""
LEVELS = 4
"""Levels of the correlation pyramid; each has half the resolution of the one before."""
SMALLEST_SIDE = STRIDE * 2 ** (LEVELS - 1)
"""Pixels; with smaller images the last level would be empty."""
_MASK_SCALE = 0.25
"""Factor of the weights for upsampling, in the released code; published weights were trained with it."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the layers (paper, appendix A).

    Attributes:
        bottleneck: residual blocks of three convolutions, 1x1, 3x3 and 1x1, instead of two of 3x3.
        features: channels of the first convolution, the three stages, and the output of the feature encoder.
        context: the same for the context encoder; its output is the hidden state and the context.
        context_norm: the context encoder has batch normalisation instead of none.
        radius: of the correlation look-up, in cells of each level.
        correlation, flow: channels of the layers of the motion encoder.
        motion: channels of its output.
        hidden: channels of the hidden state.
        kernels: of the gated recurrent units, which follow each other.
        head: channels of the flow head.
        convex: the flow is upsampled with learned weights, instead of bilinearly.
    """

    bottleneck: bool
    features: tuple[int, ...]
    context: tuple[int, ...]
    context_norm: bool
    radius: int
    correlation: tuple[int, ...]
    flow: tuple[int, int]
    motion: int
    hidden: int
    kernels: tuple[tuple[int, int], ...]
    head: int
    convex: bool


LARGE = Architecture(
    bottleneck=False,
    features=(64, 64, 96, 128, 256),
    context=(64, 64, 96, 128, 256),
    context_norm=True,
    radius=4,
    correlation=(256, 192),
    flow=(128, 64),
    motion=128,
    hidden=128,
    kernels=((1, 5), (5, 1)),
    head=256,
    convex=True,
)
SMALL = Architecture(
    bottleneck=True,
    features=(32, 32, 64, 96, 128),
    context=(32, 32, 64, 96, 160),
    context_norm=False,
    radius=3,
    correlation=(96,),
    flow=(64, 32),
    motion=82,
    hidden=96,
    kernels=((3, 3),),
    head=128,
    convex=False,
)

Norm = Callable[[int], nn.Module] | None


def _conv(inputs: int, outputs: int, side: int, stride: int = 1, norm: Norm = None, relu: bool = True) -> nn.Sequential:
    """Convolution with `side` x `side` weights, normalisation and ReLU; the size is kept, or divided by the stride."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, side, stride, side // 2)]
    if norm is not None:
        layers.append(norm(outputs))
    if relu:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            inner = outputs // 4
            self.convnormrelu1 = _conv(inputs, inner, 1, norm=norm)
            self.convnormrelu2 = _conv(inner, inner, 3, stride, norm)
            self.convnormrelu3 = _conv(inner, outputs, 1, norm=norm)
        else:
            self.convnormrelu1 = _conv(inputs, outputs, 3, stride, norm)
            self.convnormrelu2 = _conv(outputs, outputs, 3, norm=norm)
            self.convnormrelu3 = nn.Identity()
        self.downsample = nn.Identity() if stride == 1 else _conv(inputs, outputs, 1, stride, norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.downsample(x) + self.convnormrelu3(self.convnormrelu2(self.convnormrelu1(x))))


class _Encoder(nn.Module):
    """Image to features, at an eighth of the resolution."""

    def __init__(self, channels: Sequence[int], norm: Norm, bottleneck: bool) -> None:
        super().__init__()
        first, one, two, three, out = channels
        self.convnormrelu = _conv(3, first, 7, 2, norm)

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            first = _Residual(inputs, outputs, stride, norm, bottleneck)
            return nn.Sequential(first, _Residual(outputs, outputs, 1, norm, bottleneck))

        self.layer1, self.layer2, self.layer3 = stage(first, one, 1), stage(one, two, 2), stage(two, three, 2)
        self.conv = nn.Conv2d(three, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.layer3(self.layer2(self.layer1(self.convnormrelu(x)))))


class _MotionEncoder(nn.Module):
    """Correlations and the current flow to motion features, of which the last two are the flow."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.convcorr1 = _conv(LEVELS * (2 * a.radius + 1) ** 2, a.correlation[0], 1)
        self.convcorr2 = _conv(a.correlation[0], a.correlation[1], 3) if len(a.correlation) > 1 else nn.Identity()
        self.convflow1, self.convflow2 = _conv(2, a.flow[0], 7), _conv(*a.flow, 3)
        self.conv = _conv(a.correlation[-1] + a.flow[-1], a.motion - 2, 3)

    def forward(self, flow: Tensor, correlations: Tensor) -> Tensor:
        features = self.convcorr2(self.convcorr1(correlations)), self.convflow2(self.convflow1(flow))
        return torch.cat([self.conv(torch.cat(features, 1)), flow], 1)


class _RecurrentUnit(nn.Module):
    """Convolutional gated recurrent unit (equations 3 to 6)."""

    def __init__(self, inputs: int, hidden: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convz, self.convr, self.convq = (
            nn.Conv2d(hidden + inputs, hidden, kernel, padding=padding) for _ in range(3)
        )

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([hidden, x], 1)
        update, reset = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        new = torch.tanh(self.convq(torch.cat([reset * hidden, x], 1)))
        return (1 - update) * hidden + update * new


class _Recurrent(nn.Module):
    def __init__(self, inputs: int, a: Architecture) -> None:
        super().__init__()
        for number, kernel in enumerate(a.kernels, 1):
            self.add_module(f"convgru{number}", _RecurrentUnit(inputs, a.hidden, kernel))

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        for unit in self.children():
            hidden = unit(hidden, x)
        return hidden


class _FlowHead(nn.Module):
    """Hidden state to the change of the flow."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(hidden, channels, 3, padding=1), nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv2(functional.relu(self.conv1(hidden)))


class _Update(nn.Module):
    """One update of the hidden state and the flow."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.motion_encoder = _MotionEncoder(a)
        self.recurrent_block = _Recurrent(a.motion + a.context[-1] - a.hidden, a)
        self.flow_head = _FlowHead(a.hidden, a.head)

    def forward(self, hidden: Tensor, context: Tensor, correlations: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        motion = self.motion_encoder(flow, correlations)
        hidden = self.recurrent_block(hidden, torch.cat([context, motion], 1))
        return hidden, self.flow_head(hidden)


class _UpsamplingWeights(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.convrelu = _conv(hidden, 256, 3)
        self.conv = nn.Conv2d(256, STRIDE**2 * 9, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return _MASK_SCALE * self.conv(self.convrelu(hidden))


class Raft(nn.Module):
    """Two images to the flow between them.

    Args:
        architecture: LARGE or SMALL.
        updates: how often the flow is updated; each update has the same weights.
    """

    def __init__(self, architecture: Architecture, updates: int = 12) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.updates = updates
        self.feature_encoder = _Encoder(a.features, nn.InstanceNorm2d, a.bottleneck)
        self.context_encoder = _Encoder(a.context, nn.BatchNorm2d if a.context_norm else None, a.bottleneck)
        self.update_block = _Update(a)
        self.mask_predictor = _UpsamplingWeights(a.hidden) if a.convex else None

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Displacement (x, y) of each pixel from `source` to `target`, float32 [N, 2, H, W], in pixels.

        Args:
            source: float32 [N, 3, H, W], RGB in -1..1; any size with both sides of at least SMALLEST_SIDE.
            target: as `source`.
        """
        height, width = source.shape[2:]
        source, target = pad(source), pad(target)
        features = self.feature_encoder(torch.cat([source, target])).chunk(2)
        pyramid = correlation_pyramid(*features)
        hidden, context = self.context_encoder(source).split(
            [self.architecture.hidden, self.architecture.context[-1] - self.architecture.hidden], 1
        )
        hidden, context = torch.tanh(hidden), functional.relu(context)
        cells = cell_coordinates(hidden)
        flow = torch.zeros_like(cells)
        for _ in range(self.updates):
            # Training does not propagate gradients through the places of the look-up (section 3.3).
            flow = flow.detach()
            correlations = look_up(pyramid, cells + flow, self.architecture.radius)
            hidden, change = self.update_block(hidden, context, correlations, flow)
            flow = flow + change
        if self.mask_predictor is None:
            flow = functional.interpolate(STRIDE * flow, scale_factor=STRIDE, mode="bilinear", align_corners=True)
        else:
            flow = convex_upsampling(flow, self.mask_predictor(hidden))
        top, left = ((padded - side) // 2 for padded, side in zip(flow.shape[2:], (height, width), strict=True))
        return flow[:, :, top : top + height, left : left + width]


def pad(image: Tensor) -> Tensor:
    """The image with its border repeated on all sides, so that both sides are multiples of STRIDE.

    Of an odd number of lines, the larger half is at the right and below, as in the released code.
    """
    vertical, horizontal = (-side % STRIDE for side in image.shape[2:])
    sides = (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
    return functional.pad(image, sides, mode="replicate") if any(sides) else image


def cell_coordinates(like: Tensor) -> Tensor:
    """(x, y) of each cell, float32 [N, 2, h, w], for a tensor [N, C, h, w]."""
    count, _, height, width = like.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).to(like).expand(count, 2, height, width)


def correlation_pyramid(source: Tensor, target: Tensor) -> list[Tensor]:
    """Correlation of each cell of `source` with all of `target`, at LEVELS resolutions of `target` (section 3.2).

    Args:
        source: features, float32 [N, C, h, w].
        target: as `source`.

    Returns:
        float32 [N * h * w, 1, h / 2^l, w / 2^l] of each level l.
    """
    count, channels, height, width = source.shape
    volume = source.flatten(2).transpose(1, 2) @ target.flatten(2) / channels**0.5
    pyramid = [volume.reshape(count * height * width, 1, height, width)]
    for _ in range(LEVELS - 1):
        pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
    return pyramid


def look_up(pyramid: Sequence[Tensor], places: Tensor, radius: int) -> Tensor:
    """Correlations in a window around the place that each cell has moved to, at each level.

    Between cells they are interpolated bilinearly; outside of the target they are 0.

    Args:
        pyramid: see `correlation_pyramid`.
        places: (x, y) in cells of the target, float32 [N, 2, h, w].
        radius: the window has 2 * radius + 1 cells on each side, at the resolution of each level.

    Returns:
        float32 [N, levels * (2 * radius + 1)^2, h, w]. Within a level x changes slower than y, the order that published
        weights expect.
    """
    count, _, height, width = places.shape
    steps = torch.arange(-radius, radius + 1).to(places)
    window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)
    centres = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    found = []
    for level, volume in enumerate(pyramid):
        # In grid_sample -1 and 1 are the outer edges of the border cells. Relative to their centres, as in the released
        # code, the result is the same, but not defined for a level with a single row.
        size = torch.tensor(volume.shape[:1:-1]).to(places)
        grid = (2 * (centres / 2**level + window) + 1) / size - 1
        values = functional.grid_sample(volume, grid, align_corners=False)
        found.append(values.reshape(count, height, width, -1))
    return torch.cat(found, -1).permute(0, 3, 1, 2)


def convex_upsampling(flow: Tensor, weights: Tensor) -> Tensor:
    """Flow at STRIDE times the resolution, in pixels: convex combinations of the 3x3 nearest cells (section 3.3).

    Args:
        flow: float32 [N, 2, h, w], in cells. Outside of it the flow is 0.
        weights: float32 [N, 9 * STRIDE^2, h, w], logits: by neighbour in rows, then by pixel inside the cell in rows.
    """
    count, _, height, width = flow.shape
    padded = functional.pad(STRIDE * flow, (1, 1, 1, 1))
    neighbours = torch.stack([padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)], 2)
    shares = weights.reshape(count, 1, 9, STRIDE, STRIDE, height, width).softmax(2)
    upsampled = (shares * neighbours.reshape(count, 2, 9, 1, 1, height, width)).sum(2)
    return upsampled.permute(0, 1, 4, 2, 5, 3).reshape(count, 2, STRIDE * height, STRIDE * width)
