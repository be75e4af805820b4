"""What a recipe says of a Video K-Net: its sizes, and the weights of its losses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from vps_ros.learning.network_io import InputSizes
from vps_ros.segmenters.model_card import Thresholds


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms; those of the released code. Those of `classes`, `mask` and `dice` weigh the matching too.

    Attributes:
        rank: of the cross entropy between kernels in each pixel, which the released code adds to the paper's terms.
        semantic: of the cross entropy of the semantic kernels (K-Net).
        track, track_aux: of equations 1 and 2.
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
    """Sizes of the network; what differs from the paper's is for CPUs.

    Attributes:
        classes: without void.
        queries: instance kernels; each stuff class has one kernel more.
        channels, depths: of the backbone's stages at strides 4, 8, 16 and 32.
        stages: update heads, one after the other.
        dim: length of a kernel, and channels of the features that it is multiplied with; the paper's is 256.
        embedding_dim: of the association embedding.
        heads: of every attention.
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
    kind: str = "video-knet"


STUFF_PIXELS = 4096
"""Least stuff segment of the released code, on KITTI's images."""
KITTI_PIXELS = 1242 * 375


RULE = Thresholds(thing=0.25, stuff=0.05, overlap=0.6, mask=0.5, mode="pixel_wise")
"""Of the released code: overlap 0.6, masks from 0.5, instances from 0.25 (KITTI-STEP), stuff from 0.05.

Every pixel goes to the largest class score * mask probability, of things and stuff alike (paper, 3.3).
"""


def limits(width: int, height: int) -> Thresholds:
    """RULE with the least area of stuff that suits images of this size."""
    return dataclasses.replace(RULE, stuff_area=round(STUFF_PIXELS * width * height / KITTI_PIXELS))
