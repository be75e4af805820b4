"""Configuration of a PanopticFCN in a training recipe: architecture, loss weights, post-processing thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vps_ros.errors import InputError
from vps_ros.learning.layers import efficientnet
from vps_ros.learning.network_io import InputSizes
from vps_ros.segmenters.model_card import Thresholds

RESNET = "resnet50"
BACKBONES = (RESNET, *efficientnet.SCALING)
NORMS = ("batch", "group", "none")
COORDINATES = ("concatenated", "added")
STUFF = ("kernels", "semantic")
MEAN, STD = (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)
"""Normalisation of RGB images for the ResNet. The release was trained with the mean in reverse channel order."""
LEAST_STRIDE, LARGEST_STRIDE = 4, 128


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms.

    Attributes:
        position: heat maps of things and regions of stuff.
        mask: weighted Dice of things and Dice of stuff; 3 in the release, 4 in HybridTracker.
        semantic: cross entropy over all classes, if `stuff` is `semantic`.
        track, track_aux: equations 1 and 2 of Video K-Net.
    """

    position: float = 1.0
    mask: float = 3.0
    semantic: float = 1.0
    track: float = 0.25
    track_aux: float = 1.0


@dataclass(frozen=True)
class Architecture:
    """Architecture of the network.

    Attributes:
        classes: number of classes, void excluded.
        backbone: `resnet50` with the published pyramid and weights from `start` or random ones; or a name of
            efficientnet.SCALING with ImageNet weights and a small pyramid for CPUs.
        channels: of the small pyramid at strides 4, 8, 16 and 32.
        heads: attention heads of the small pyramid at stride 32.
        width: channels of the pyramid levels and of the position and kernel heads.
        strides: of the pyramid levels.
        sizes: smallest and largest thing of each level in training: square root of its box area, in pixels.
        position_convs, kernel_convs, feature_convs: number of 3x3 convolutions of the heads before their output, and of
            the high-resolution feature.
        deformable: the position head has modulated deformable convolutions.
        feature_deformable: the high-resolution feature has them, too (PanopticFCN-Star).
        kernel_out: kernel size of the last convolution of the kernel head.
        feature_channels: of the high-resolution feature; also the length of a mask kernel.
        norm: normalisation of the heads: `group`, as published, `batch`, with statistics per level, or `none`.
        coordinates: how coordinates enter the kernel head and the feature: `concatenated` as two channels, as
            published, or `added` after a 1x1 convolution, which is faster on CPUs.
        feature_norm: normalisation of the high-resolution feature; `none` as published.
        stuff: `kernels`, as published, or `semantic`: logits of all classes at stride 4, trained with cross entropy.
        gate: with `semantic`, the log probability of its class is added to the mask logits of a thing, clamped to at
            least -gate; 0 disables it.
        positions: number of positives of a thing in training, those with the highest score.
        things: largest number of things in an image.
        smoothed: heat maps are averaged with the mean of each cell's neighbourhood before the search for peaks, as in
            the release. This lowers the scores of small things.
        centre, similar, mask: smallest score of a peak, smallest cosine of two kernels of one thing, smallest mask
            probability.
        region: smallest mean score of a stuff region.
        embedding_dim: length of the association embedding; with 0, the mask kernel is used.
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
"""Smallest stuff segment of the release, and the image area it refers to."""
THING = 0.2
"""Smallest score of a thing in the release."""


def default_thresholds(a: Architecture, width: int, height: int) -> Thresholds:
    """The thresholds of the release for images of this size.

    The score of a thing must exceed 1 / (classes + 1), an equal share of classes and void; stuff scores are at most 1.5
    times this share.
    """
    share = 1 / (a.classes + 1)
    return Thresholds(
        thing=max(THING, round(2 * share, 3)),
        stuff=0.0,
        overlap=0.5,
        mask=a.mask,
        stuff_area=round(STUFF_PIXELS * width * height / PUBLISHED_PIXELS),
    )
