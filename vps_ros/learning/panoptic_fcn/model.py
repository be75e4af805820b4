"""The PanopticFCN network: image to heat maps, kernels, and the high-resolution feature."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vps_ros.learning.panoptic_fcn.architecture import Architecture
from vps_ros.learning.panoptic_fcn.layers import STD, KernelHead, PositionHead, Tower
from vps_ros.learning.panoptic_fcn.pyramid import backbone_and_pyramid


class Output(NamedTuple):
    """Output of the network; lists have one entry per level.

    Attributes:
        centres: logits [B, T, h, w] of the T classes of things.
        regions: logits [B, R, h, w] of all things together, then the stuff classes; empty if `stuff` is `semantic`.
        kernels: [B, width, h, w].
        feature: [B, D, H / 4, W / 4].
        semantic: logits [B, C, H / 4, W / 4]; None if `stuff` is `kernels`.
    """

    centres: list[Tensor]
    regions: list[Tensor]
    kernels: list[Tensor]
    feature: Tensor
    semantic: Tensor | None


class PanopticFCN(nn.Module):
    """Normalised image [B, 3, H, W] to an Output; H and W are multiples of 32.

    Args:
        isthing: bool [C], which classes are things.
    """

    def __init__(self, architecture: Architecture, isthing: NDArray[np.bool_]) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.isthing = np.asarray(isthing, bool)
        for name, table in self.tables(self.isthing).items():
            self.register_buffer(name, table, persistent=False)
        self.backbone, self.pyramid = backbone_and_pyramid(a)
        semantic, d = a.stuff == "semantic", a.feature_channels
        self.position_head = PositionHead(a, len(self.things), 0 if semantic else len(self.stuff) + 1)
        self.kernel_head = KernelHead(a)
        self.feature_encoder = Tower(
            self.pyramid.fine_channels,
            d,
            a.feature_convs,
            a.feature_norm,
            coordinates=a.coordinates,
            deformable=a.feature_deformable,
        )
        self.thing_kernels = _linear(a.width, d)
        self.stuff_kernels = None if semantic else _linear(a.width, d)
        self.semantic_head = nn.Conv2d(d, a.classes, 1) if semantic else None
        self.embedding_head = None
        if a.embedding_dim:
            self.embedding_head = nn.Sequential(
                nn.LayerNorm(a.width), nn.Linear(a.width, a.width), nn.ReLU(), nn.Linear(a.width, a.embedding_dim)
            )

    @staticmethod
    def tables(isthing: NDArray[np.bool_]) -> dict[str, Tensor]:
        """Thing flags; thing and stuff classes; index of each class among things, and among regions (0: all things)."""
        tables = {
            "is_thing": isthing,
            "things": np.flatnonzero(isthing),
            "stuff": np.flatnonzero(~isthing),
            "thing_number": np.where(isthing, np.cumsum(isthing) - 1, 0),
            "region_number": np.where(isthing, 0, np.cumsum(~isthing)),
        }
        return {name: torch.from_numpy(np.array(table)) for name, table in tables.items()}

    def embedded(self, vectors: Tensor) -> Tensor:
        """Association embeddings of kernels [..., width]."""
        return (self.thing_kernels if self.embedding_head is None else self.embedding_head)(vectors)

    def forward(self, image: Tensor) -> Output:
        features = self.pyramid(self.backbone(image))
        positions = [self.position_head(x, i) for i, x in enumerate(features.levels)]
        kernels = [self.kernel_head(x, i) for i, x in enumerate(features.levels)]
        feature = self.feature_encoder(features.fine)
        semantic = None if self.semantic_head is None else self.semantic_head(feature).float()
        regions = [region for _, region in positions if region is not None]
        return Output([centre for centre, _ in positions], regions, kernels, feature.float(), semantic)

    def gates(self, semantic: Tensor) -> Tensor:
        """[B, T, h, w]: values added to the mask logits of a thing of each class; see Architecture.gate."""
        # Not log_softmax, so that an exported graph computes logsumexp once.
        log_p = semantic[:, self.things] - semantic.logsumexp(1, keepdim=True)
        return log_p.clamp(min=-self.architecture.gate)

    @property
    def gated(self) -> bool:
        return self.semantic_head is not None and self.architecture.gate > 0


def _linear(cin: int, cout: int) -> nn.Linear:
    layer = nn.Linear(cin, cout)
    nn.init.normal_(layer.weight, std=STD)
    nn.init.zeros_(layer.bias)
    return layer


def apply_kernels(kernels: Tensor, feature: Tensor) -> Tensor:
    """Mask logits [B, N, h, w] of kernels [B, N, D] and a feature [B, D, h, w]."""
    b, _, h, w = feature.shape
    return (kernels @ feature.flatten(2)).reshape(b, -1, h, w)


def gathered(maps: Tensor, cells: Tensor) -> Tensor:
    """[B, N, C] of a map [B, C, h * w] at cells [B, N]."""
    return maps.gather(2, cells[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)


def region_kernels(inside: Tensor, kernels: Tensor) -> Tensor:
    """[B, R, C]: sum of the kernels [B, C, h, w] over each region [B, R, h * w], divided by the size of the map."""
    return inside @ kernels.flatten(2).transpose(1, 2) / inside.shape[2]
