"""What a recipe says of a model whose network comes from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from vps_ros.learning.kmax.architecture import Architecture
from vps_ros.learning.kmax.losses import KMaxLosses
from vps_ros.learning.sides import Sides

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and deviation of RGB, 0..255, with which most public weights were trained."""


@dataclass(frozen=True)
class PairWeights:
    """Factors of the association terms (Video K-Net, equations 1 and 2) beside a network's own losses."""

    track: float = 0.25
    track_aux: float = 1.0


@dataclass(frozen=True)
class Mask2FormerModel:
    """Mask2Former (Cheng et al., CVPR 2022) as transformers has it, with an association embedding.

    Attributes:
        classes: without void.
        config: entries of transformers' Mask2FormerConfig, losses included; what is not said is as in `start`, or,
            without one, as in transformers.
        embedding_dim: of the association embedding.
        backbone_rate: learning rate of the backbone, over that of the rest.
        mean, std: of the images' normalisation, 0..255; those of `start` where it says them.
    """

    TAG: ClassVar[str] = "kind"
    NAMES: ClassVar[tuple[str, ...]] = ("mask2former",)
    SIDES: ClassVar[Sides] = Sides(32)
    LOSSES: ClassVar[type] = PairWeights

    classes: int = 19
    config: dict = field(default_factory=dict)
    embedding_dim: int = 64
    backbone_rate: float = 0.1
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    kind: str = "mask2former"


@dataclass(frozen=True)
class KMaxWeights(KMaxLosses):
    """Those of kMaX-DeepLab, and of the association terms."""

    track: float = 0.25
    track_aux: float = 1.0


@dataclass(frozen=True)
class KMaxModel:
    """kMaX-DeepLab (Yu et al., ECCV 2022), with an association embedding.

    Attributes:
        classes: without void.
        backbone: name of one of vps_ros.learning.kmax.architecture.BACKBONES; empty, it is as in `architecture`.
        architecture: sizes of the network, those for COCO where nothing is said; with a `start`, that of the start.
        embedding_dim: of the association embedding.
        backbone_rate: learning rate of the backbone, over that of the rest.
    """

    TAG: ClassVar[str] = "kind"
    NAMES: ClassVar[tuple[str, ...]] = ("kmax",)
    SIDES: ClassVar[Sides] = Sides(32, 1)
    LOSSES: ClassVar[type] = KMaxWeights

    classes: int = 19
    backbone: str = ""
    architecture: Architecture = Architecture()
    embedding_dim: int = 64
    backbone_rate: float = 0.1
    kind: str = "kmax"
