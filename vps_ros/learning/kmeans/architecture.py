"""Sizes of the k-means mask transformer, and the weights of its losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vps_ros.errors import InputError
from vps_ros.learning.layers.backbone import RESIDUAL, require_backbone
from vps_ros.learning.network_io import InputSizes

MASK_STRIDE = 4
SIZE_MULTIPLE = 32


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms.

    `layer_classes` is the factor of the classes that each k-means layer predicts, relative to those of the last one.
    `void` is the weight of an unmatched query in the class term. `classes_only` is for cells with a class or a group of
    classes, but without a segment. `centre` and `thing_mask` are for the heat maps, as in PanopticFCN.
    """

    classes: float = 3.0
    dice: float = 3.0
    mask_id: float = 0.3
    void: float = 1e-5
    semantic: float = 1.0
    classes_only: float = 1.0
    discrimination: float = 1.0
    offset: float = 1.0
    track: float = 0.25
    track_aux: float = 1.0
    centre: float = 1.0
    thing_mask: float = 3.0
    layer_classes: float = 0.3


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network.

    Attributes:
        classes: without void.
        backbone: a name of layers.backbone.BACKBONES.
        channels: of the features at strides 4, 8, 16 and 32.
        depths: blocks of the residual backbone's stages.
        dense_things: largest number of things from heat maps (dense_things.py); with 0, things come from queries.
        dense_width: channels of their heads.
        layers: number of k-means layers at strides 32, 16 and 8.
        detail: channels of the branch for final masks at stride 2; with 0, they have stride 4.
    """

    TAG: ClassVar[str] = "kind"
    NAMES: ClassVar[tuple[str, ...]] = ("streets",)
    INPUT_SIZES: ClassVar[InputSizes] = InputSizes(SIZE_MULTIPLE)
    LOSSES: ClassVar[type] = LossWeights

    classes: int = 19
    queries: int = 64
    channels: tuple[int, int, int, int] = (48, 64, 128, 192)
    depths: tuple[int, int, int, int] = (1, 2, 2, 3)
    layers: tuple[int, int, int] = (1, 1, 2)
    query_dim: int = 128
    mask_dim: int = 64
    embedding_dim: int = 64
    heads: int = 4
    detail: int = 0
    backbone: str = RESIDUAL
    dense_things: int = 0
    dense_width: int = 64
    kind: str = "streets"

    def __post_init__(self) -> None:
        require_backbone(self.backbone)
        if self.detail and self.dense_things:
            raise InputError("model: heat maps (dense_things) have masks at stride 4 only; remove `detail`")
