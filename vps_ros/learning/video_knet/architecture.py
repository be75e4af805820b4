"""Configuration of a Video K-Net in a training recipe: architecture, loss weights, post-processing thresholds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from vps_ros.learning.layers.backbone import RESIDUAL, require_backbone
from vps_ros.learning.network_io import InputSizes
from vps_ros.segmenters.model_card import Thresholds


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms, as in the released code. `classes`, `mask` and `dice` also weight the matching cost.

    Attributes:
        rank: cross entropy over kernels in each pixel, a term of the released code that the paper does not mention.
        semantic: cross entropy of the semantic kernels (K-Net).
        track, track_aux: equations 1 and 2.
    """

    classes: float = 2.0
    mask: float = 1.0
    dice: float = 4.0
    rank: float = 0.1
    semantic: float = 1.0
    track: float = 0.25
    track_aux: float = 1.0


@dataclass(frozen=True)
class Architecture:
    """Architecture of the network; where values differ from the paper, they are chosen for CPUs.

    Attributes:
        classes: number of classes, void excluded.
        queries: number of instance kernels; each stuff class has one additional kernel.
        channels: of the features at strides 4, 8, 16 and 32.
        depths: blocks of the residual backbone's stages.
        stages: number of kernel update heads.
        dim: length of a kernel and number of feature channels; 256 in the paper.
        embedding_dim: length of the association embedding.
        heads: number of heads of every attention layer.
        backbone: a name of layers.backbone.BACKBONES.
    """

    TAG: ClassVar[str] = "kind"
    NAMES: ClassVar[tuple[str, ...]] = ("video-knet",)
    INPUT_SIZES: ClassVar[InputSizes] = InputSizes(32)
    LOSSES: ClassVar[type] = LossWeights

    classes: int = 19
    queries: int = 64
    channels: tuple[int, int, int, int] = (48, 64, 128, 192)
    depths: tuple[int, int, int, int] = (1, 2, 2, 3)
    stages: int = 3
    dim: int = 128
    embedding_dim: int = 64
    heads: int = 4
    backbone: str = RESIDUAL
    kind: str = "video-knet"

    def __post_init__(self) -> None:
        require_backbone(self.backbone)


STUFF_PIXELS = 4096
"""Smallest stuff segment of the released code, for images of KITTI."""
KITTI_PIXELS = 1242 * 375


THRESHOLDS = Thresholds(thing=0.25, stuff=0.05, overlap=0.6, mask=0.5, mode="pixel_wise")
"""Thresholds of the released code for KITTI-STEP.

Each pixel is assigned to the largest class score * mask probability over things and stuff (paper, 3.3).
"""


def default_thresholds(width: int, height: int) -> Thresholds:
    """THRESHOLDS with the smallest stuff area scaled to images of this size."""
    return dataclasses.replace(THRESHOLDS, stuff_area=round(STUFF_PIXELS * width * height / KITTI_PIXELS))
