"""The kind `streets`: the k-means mask transformer of model.py, which learns from nothing in minutes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vps_ros.learning import efficientnet
from vps_ros.learning.export import export
from vps_ros.learning.losses import total_loss
from vps_ros.learning.model import MASK_STRIDE, RESIDUAL, KMeansMaskTransformer, Output
from vps_ros.learning.models import Answers
from vps_ros.learning.optimizer import Optimizers
from vps_ros.learning.recipe import Recipe
from vps_ros.learning.sides import Grid
from vps_ros.learning.targets import Targets
from vps_ros.learning.validation import LIMITS
from vps_ros.segmenters.contract import InputSpec, ModelCard


class KMeansKind:
    """See vps_ros.learning.models.Kind."""

    activation = "softmax_queries"
    limits = LIMITS
    grid = Grid(MASK_STRIDE)
    told = {"dice": "final_dice", "class": "classes"}

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.rows = recipe.model.queries
        self.quarters = recipe.model.detail > 0
        self._isthing = torch.from_numpy(recipe.data.taxonomy.isthing)

    def build(self) -> KMeansMaskTransformer:
        return KMeansMaskTransformer(self._recipe.model).to(memory_format=torch.channels_last)

    def pretrain(self, network: KMeansMaskTransformer) -> None:
        name = network.architecture.backbone
        if name != RESIDUAL:
            network.backbone.network.load(efficientnet.imagenet_weights(name))

    def spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        if self._recipe.model.backbone == RESIDUAL:
            return InputSpec(size[1], size[0], keep_aspect=keep_aspect)
        return InputSpec(size[1], size[0], efficientnet.MEAN, efficientnet.STD, keep_aspect)

    def optimizers(self, network: KMeansMaskTransformer) -> Optimizers:
        s = self._recipe.schedule
        return Optimizers.muon(network, s.learning_rate, s.weight_decay)

    def forward(self, network: KMeansMaskTransformer, images: Tensor, choice: Tensor | None) -> Output:
        return network(images, choice)

    def loss(
        self, network: KMeansMaskTransformer, output: Output, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        isthing = self._isthing.to(targets.classes.device)
        return total_loss(output, targets, isthing, self._recipe.losses, generator)

    def answers(self, network: KMeansMaskTransformer, images: Tensor) -> Answers:
        output = network(images)
        return Answers(output.final.classes, output.final.masks, output.embeddings)

    def of_classes(self, name: str) -> bool:
        return "class_head" in name or name.startswith("semantic_head")

    def export(self, network: KMeansMaskTransformer, card: ModelCard, path: Path) -> float:
        return export(network, card, path)


kind = KMeansKind
