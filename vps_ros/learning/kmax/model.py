"""The whole network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vps_ros.learning.kmax.architecture import Architecture
from vps_ros.learning.kmax.backbones import KINDS
from vps_ros.learning.kmax.decoder import KMeansLayer, Prediction, Predictor
from vps_ros.learning.kmax.layers import TokenNorm, truncated_
from vps_ros.learning.kmax.pixel_decoder import PixelDecoder
from vps_ros.learning.kmax.semantic import SemanticDecoder, SemanticHead


class Output(NamedTuple):
    """What one forward pass gives.

    Attributes:
        final: at the mask stride: 2 with a stem at stride 2, else 4.
        embeddings: [B, N, dim], the projected queries that masks are made from; for association, not normalised.
        layers: one prediction of each k-means layer, at its own stride.
        semantic: [B, C or C + 1, h, w] logits of the auxiliary head while training.
    """

    final: Prediction
    embeddings: Tensor
    layers: list[Prediction]
    semantic: Tensor | None


class KMaxDeepLab(nn.Module):
    """Image [B, 3, H, W] in -1..1 to an Output; both sides are multiples of 32 plus one."""

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        a = self.architecture = architecture or Architecture()
        self.backbone = KINDS[a.backbone.kind](a.backbone)
        widths = self.backbone.widths
        self.levels = [n for n in self.backbone.levels if len(a.blocks) > 4 or n != "stem"]
        self.pixel_decoder = PixelDecoder(a, [widths[n] for n in self.levels])
        self.centres = nn.Parameter(torch.empty(a.dim, a.queries))
        self.strides = [i for i, count in enumerate(a.layers) for _ in range(count)]
        self.layers = nn.ModuleList(KMeansLayer(a, 4 * a.channels[i]) for i in self.strides)
        self.class_projection = TokenNorm(a.dim, a.dim)
        self.mask_projection = TokenNorm(a.dim, a.dim)
        self.predictor = Predictor(a, 4 * a.channels[-1])
        self.semantic: nn.Module | None = None
        if a.semantic == "head":
            self.semantic = SemanticHead(a, widths["res5"])
        elif a.semantic == "decoder":
            self.semantic = SemanticDecoder(a, (widths["res5"], widths["res3"], widths["res2"]))
        truncated_(self.centres, 1.0)

    def forward(self, image: Tensor) -> Output:
        features = self.backbone(image)
        pixels = self.pixel_decoder([features[n] for n in self.levels])
        queries = self.centres[None].expand(image.shape[0], -1, -1)
        predictions = []
        for i, layer in zip(self.strides, self.layers, strict=True):
            queries, prediction = layer(queries, pixels[i])
            predictions.append(prediction)
        embeddings = self.mask_projection(queries)
        final = self.predictor(embeddings, self.class_projection(queries), pixels[-1])
        return Output(final, embeddings.transpose(1, 2), predictions, self._semantic(features))

    def _semantic(self, features: dict[str, Tensor]) -> Tensor | None:
        if not self.training or self.semantic is None:
            return None
        if isinstance(self.semantic, SemanticHead):
            return self.semantic(features["res5"])
        return self.semantic(features["res5"], features["res3"], features["res2"])
