"""Configuration of a PanopticFCN in a training recipe: architecture, loss weights, post-processing thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vps_ros.errors import InputError
from vps_ros.learning.kmeans import efficientnet
from vps_ros.learning.network_io import InputSizes
from vps_ros.segmenters.model_card import Thresholds

RESNET = "resnet50"
BACKBONES = (RESNET, *efficientnet.SCALING)
NORMS = ("batch", "group", "none")
COORDINATES = ("concatenated", "added")
STUFF = ("kernels", "semantic")
MEAN, STD = (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)
"""Of RGB images with the ResNet. The release subtracts the usual mean in reverse order, which its weights know."""
LEAST_STRIDE, LARGEST_STRIDE = 4, 128


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms.

    Attributes:
        position: of the heat maps of things and of the regions of stuff.
        mask: of the weighted Dice of things and the Dice of stuff; 3 in the release, 4 in HybridTracker.
        semantic: of the cross entropy over all classes, where stuff is `semantic`.
        track, track_aux: of Video K-Net's equations 1 and 2.
    """

    position: float = 1.0
    mask: float = 3.0
    semantic: float = 1.0
    track: float = 0.25
    track_aux: float = 1.0


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network.

    Attributes:
        classes: without void.
        backbone: `resnet50` with the published pyramid, whose weights come from `start` or are random; or a name of
            efficientnet.SCALING, with ImageNet weights, and a small pyramid for CPUs.
        channels: of the small pyramid at strides 4, 8, 16 and 32.
        heads: of its attention at stride 32.
        width: channels of the levels that positions and kernels are predicted on, and of these heads.
        strides: of these levels.
        sizes: least and largest thing of each level in training: square root of the area of its box, in pixels.
        position_convs, kernel_convs, feature_convs: 3x3 convolutions of the heads before their output, and of the
            high-resolution feature.
        deformable: the position head has modulated deformable convolutions.
        feature_deformable: so has the high-resolution feature (PanopticFCN-Star).
        kernel_out: size of the convolution that ends the kernel head.
        feature_channels: of the high-resolution feature, the length of a mask kernel.
        norm: of the heads: `group`, as published, `batch`, with statistics of each level, or `none`.
        coordinates: how the kernel head and the feature get them: `concatenated` as two channels, as published, or
            `added` after a 1x1 convolution, which leaves a number of channels that CPUs are quick with.
        feature_norm: of the convolutions of the feature; `none` as published.
        stuff: `kernels`, as published, or `semantic`: logits of all classes at stride 4, learned by cross entropy.
        gate: with `semantic`, the mask logits of a thing have the log probability of its class added to them, at least
            minus this number; 0 for none.
        positions: positives of a thing in training, those of the highest score.
        things: most things of an image.
        smoothed: heat maps are averaged with the mean of each cell's neighbourhood before peaks are searched, as in the
            release. It lowers the scores of things of few cells.
        centre, similar, mask: least score of a peak, least cosine of two kernels of one thing, least mask probability.
        region: least mean score of a region of stuff.
        embedding_dim: of the association embedding; with 0 it is the mask kernel itself.
    """

    TAG: ClassVar[str] = "kind"
    NAMES: ClassVar[tuple[str, ...]] = ("panoptic-fcn",)
    INPUT_SIZES: ClassVar[InputSizes] = InputSizes(32)
    LOSSES: ClassVar[type] = LossWeights

    classes: int = 19
    backbone: str = RESNET
    channels: tuple[int, int, int, int] = (48, 64, 128, 192)
    heads: int = 8
    width: int = 256
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    sizes: tuple[tuple[float, float], ...] = ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))
    position_convs: int = 3
    kernel_convs: int = 3
    feature_convs: int = 3
    kernel_out: int = 3
    deformable: bool = False
    feature_deformable: bool = False
    feature_channels: int = 64
    norm: str = "group"
    feature_norm: str = "none"
    coordinates: str = "concatenated"
    stuff: str = "kernels"
    gate: float = 0.0
    positions: int = 7
    things: int = 100
    smoothed: bool = True
    centre: float = 0.05
    similar: float = 0.9
    mask: float = 0.4
    region: float = 0.05
    embedding_dim: int = 64
    kind: str = "panoptic-fcn"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("backbone", self.backbone, BACKBONES),
            ("norm", self.norm, NORMS),
            ("feature_norm", self.feature_norm, NORMS),
            ("coordinates", self.coordinates, COORDINATES),
            ("stuff", self.stuff, STUFF),
        ):
            if value not in known:
                raise InputError(f"model.{name}: {value!r}; there are {', '.join(known)}")
        expected = [self.strides[0] * 2**i for i in range(len(self.strides))] if self.strides else []
        if not expected or list(self.strides) != expected or not self._possible():
            raise InputError(
                f"model.strides: {list(self.strides)}; give strides from {LEAST_STRIDE} to {LARGEST_STRIDE}, each "
                "twice the one before"
            )
        if len(self.sizes) != len(self.strides):
            raise InputError(
                f"model.sizes: {len(self.sizes)} ranges for {len(self.strides)} strides; give one for each"
            )
        if min(self.positions, self.things, self.width, self.feature_channels, self.embedding_dim + 1) < 1:
            raise InputError("model: positions, things, width and feature_channels are at least 1, embedding_dim 0")
        if min(self.position_convs, self.kernel_convs, self.feature_convs) < 1:
            raise InputError("model: position_convs, kernel_convs and feature_convs are at least 1")

    def _possible(self) -> bool:
        first, last = self.strides[0], self.strides[-1]
        return first >= LEAST_STRIDE and last <= LARGEST_STRIDE and first & (first - 1) == 0


STUFF_PIXELS, PUBLISHED_PIXELS = 4096, 1333 * 800
"""Least segment of stuff in the release, and the images it is for."""
THING = 0.2
"""Least score of a thing in the release."""


def limits(a: Architecture, width: int, height: int) -> Thresholds:
    """The release's thresholds for images of this size.

    The score of a class must be more than an equal share of all classes and void; that of stuff is up to 1.5 of it.
    """
    share = 1 / (a.classes + 1)
    return Thresholds(
        thing=max(THING, round(2 * share, 3)),
        stuff=0.0,
        overlap=0.5,
        mask=a.mask,
        stuff_area=round(STUFF_PIXELS * width * height / PUBLISHED_PIXELS),
    )
