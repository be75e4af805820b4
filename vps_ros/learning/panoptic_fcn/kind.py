"""Training and export of the model kind `panoptic-fcn`; see vps_ros.learning.kinds.Kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from vps_ros.learning.data.targets import Targets
from vps_ros.learning.export.published import is_published
from vps_ros.learning.kinds import Weights
from vps_ros.learning.layers import efficientnet
from vps_ros.learning.network_io import LabelGrid, ModelOutputs
from vps_ros.learning.panoptic_fcn.architecture import MEAN, RESNET, STD, Architecture, default_thresholds
from vps_ros.learning.panoptic_fcn.checkpoint import load
from vps_ros.learning.panoptic_fcn.export import export
from vps_ros.learning.panoptic_fcn.inference import model_outputs
from vps_ros.learning.panoptic_fcn.losses import total_loss
from vps_ros.learning.panoptic_fcn.model import Output, PanopticFCN
from vps_ros.learning.recipe import Recipe
from vps_ros.learning.training.optimizer import Optimizers
from vps_ros.segmenters.model_card import InputSpec, ModelCard

NAME = "panoptic-fcn"
PUBLISHED_SIZES = (
    *("backbone", "width", "position_convs", "kernel_convs", "feature_convs", "deformable", "feature_deformable"),
    "feature_channels",
)
"""Entries of the architecture that a checkpoint determines."""


class PanopticFCNKind:
    """Trained on pairs of frames, which the association embedding needs."""

    activation = "sigmoid"
    label_grid = LabelGrid(4)
    random_quarters = False

    def __init__(self, recipe: Recipe) -> None:
        assert isinstance(recipe.model, Architecture)
        self._recipe, self._model, self._isthing = recipe, recipe.model, recipe.data.taxonomy.isthing
        self.max_segments = self._model.things + int((~self._isthing).sum())
        self.progress_terms = {
            name: name for name in ("position", "mask", "stuff_mask" if self._model.stuff == "kernels" else "semantic")
        }
        self.thresholds = default_thresholds(self._model, *recipe.data.size)

    def build(self) -> PanopticFCN:
        return PanopticFCN(self._model, self._isthing).to(memory_format=torch.channels_last)

    def load_pretrained(self, network: PanopticFCN) -> None:
        name = network.architecture.backbone
        if name != RESNET:
            network.backbone.network.load(efficientnet.imagenet_weights(name))

    def input_spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        mean, std = (MEAN, STD) if self._model.backbone == RESNET else (efficientnet.MEAN, efficientnet.STD)
        return InputSpec(size[1], size[0], mean, std, keep_aspect)

    def optimizers(self, network: PanopticFCN) -> Optimizers:
        s = self._recipe.schedule
        return Optimizers.muon(network, s.learning_rate, s.weight_decay)

    def forward(self, network: PanopticFCN, images: Tensor, choice: Tensor | None) -> Output:
        return network(images)

    def loss(
        self, network: PanopticFCN, output: Output, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return total_loss(network, output, targets, self._recipe.losses)

    def predict(self, network: PanopticFCN, images: Tensor) -> ModelOutputs:
        found = model_outputs(network, network(images))
        assert isinstance(found, ModelOutputs)
        return found

    def has_class_rows(self, name: str) -> bool:
        return name.startswith("semantic_head")

    def has_partial_class_rows(self, name: str) -> bool:
        return "class_head" in name

    def export(self, network: PanopticFCN, card: ModelCard, path: Path, as_kernels: bool = False) -> float:
        return export(network, card, path, as_kernels)


kind = PanopticFCNKind


def complete(recipe: Recipe) -> Recipe:
    """The recipe with the architecture of a published start; see vps_ros.learning.kinds.KINDS."""
    if not recipe.start or not is_published(recipe.start):
        return recipe
    known = load(recipe.start).model.architecture
    sizes = {name: getattr(known, name) for name in PUBLISHED_SIZES}
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **sizes))


def foreign(start: str) -> Weights | None:
    """The weights of a published checkpoint; None for a start that `vps-ros` wrote."""
    if not is_published(start):
        return None
    network, taxonomy, _ = load(start)
    return Weights(NAME, network.state_dict(), tuple(c.name for c in taxonomy.classes))
