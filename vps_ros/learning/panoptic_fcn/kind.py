"""The kind `panoptic-fcn` of a recipe's model; see vps_ros.learning.models.Kind."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vps_ros.learning import efficientnet
from vps_ros.learning.answers import Answers
from vps_ros.learning.optimizer import Optimizers
from vps_ros.learning.panoptic_fcn.export import export
from vps_ros.learning.panoptic_fcn.inference import answers
from vps_ros.learning.panoptic_fcn.losses import total_loss
from vps_ros.learning.panoptic_fcn.model import Output, PanopticFCN
from vps_ros.learning.panoptic_fcn.panoptic import limits
from vps_ros.learning.recipe import Recipe
from vps_ros.learning.sides import Grid
from vps_ros.learning.targets import Targets
from vps_ros.segmenters.contract import InputSpec, ModelCard


class PanopticFCNKind:
    """Learned from pairs of frames, which tell the association embedding what lasts."""

    activation = "sigmoid"
    grid = Grid(4)
    quarters = False
    told = {"position": "position", "mask": "mask", "semantic": "semantic"}

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._isthing = recipe, recipe.data.taxonomy.isthing
        self.rows = recipe.model.things + int((~self._isthing).sum())
        self.limits = limits(recipe.model, *recipe.data.size)

    def build(self) -> PanopticFCN:
        return PanopticFCN(self._recipe.model, self._isthing).to(memory_format=torch.channels_last)

    def pretrain(self, network: PanopticFCN) -> None:
        network.backbone.network.load(efficientnet.imagenet_weights(network.architecture.backbone))

    def spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        return InputSpec(size[1], size[0], efficientnet.MEAN, efficientnet.STD, keep_aspect)

    def optimizers(self, network: PanopticFCN) -> Optimizers:
        s = self._recipe.schedule
        return Optimizers.muon(network, s.learning_rate, s.weight_decay)

    def forward(self, network: PanopticFCN, images: Tensor, choice: Tensor | None) -> Output:
        return network(images)

    def loss(
        self, network: PanopticFCN, output: Output, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return total_loss(network, output, targets, self._recipe.losses)

    def answers(self, network: PanopticFCN, images: Tensor) -> Answers:
        return answers(network, network(images))

    def of_classes(self, name: str) -> bool:
        return name.startswith("semantic_head")

    def export(self, network: PanopticFCN, card: ModelCard, path: Path) -> float:
        return export(network, card, path)


kind = PanopticFCNKind
