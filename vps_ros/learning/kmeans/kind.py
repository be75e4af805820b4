"""The kind `streets` of a recipe: the k-means mask transformer, a small network that is trained on CPUs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning.data.targets import Targets
from vps_ros.learning.export import onnx_file as export
from vps_ros.learning.kmeans import onnx_weights
from vps_ros.learning.kmeans.architecture import MASK_STRIDE, Architecture
from vps_ros.learning.kmeans.export import Deployed, compare
from vps_ros.learning.kmeans.losses import thing_losses, total_loss
from vps_ros.learning.kmeans.model import KMeansMaskTransformer, Output
from vps_ros.learning.layers.backbone import backbone_input, load_imagenet
from vps_ros.learning.network_io import LabelGrid, ModelOutputs, single_images
from vps_ros.learning.recipe import Recipe
from vps_ros.learning.training.optimizer import Optimizers
from vps_ros.learning.training.validation import DENSE_LIMITS, LIMITS
from vps_ros.segmenters.model_card import InputSpec, ModelCard


class KMeansKind:
    """See vps_ros.learning.kinds.Kind."""

    label_grid = LabelGrid(MASK_STRIDE)
    progress_terms = {"dice": "final_dice", "class": "classes"}

    def __init__(self, recipe: Recipe) -> None:
        model = recipe.model
        assert isinstance(model, Architecture)
        self._recipe, self._model = recipe, model
        self.max_segments = model.queries
        self._dense = model.dense_things > 0
        self.takes_clips = not self._dense
        self.activation = "sigmoid" if self._dense else "softmax_queries"
        self.thresholds = DENSE_LIMITS if self._dense else LIMITS
        self.random_quarters = model.detail > 0
        self._isthing = torch.from_numpy(recipe.data.taxonomy.isthing)

    def build(self) -> KMeansMaskTransformer:
        isthing = self._recipe.data.taxonomy.isthing
        network = KMeansMaskTransformer(self._model, isthing).to(memory_format=torch.channels_last)
        network.frames = self._recipe.clip
        return network

    def load_pretrained(self, network: KMeansMaskTransformer) -> None:
        load_imagenet(network.backbone, network.architecture.backbone)

    def input_spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        return backbone_input(self._model.backbone, size, keep_aspect)

    def optimizers(self, network: KMeansMaskTransformer) -> Optimizers:
        s = self._recipe.schedule
        return Optimizers.muon(network, s.learning_rate, s.weight_decay)

    def forward(self, network: KMeansMaskTransformer, images: Tensor, choice: Tensor | None) -> Output:
        return network(images, choice)

    def loss(
        self, network: KMeansMaskTransformer, output: Output, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        isthing = self._isthing.to(targets.classes.device)
        weights = self._recipe.losses
        if network.frames > 1:
            # Offsets are to the centre of an object in its frame, and the rows of the targets are tubes.
            weights = dataclasses.replace(weights, offset=0.0)
        if output.things is None or network.things is None:
            return total_loss(output, targets, isthing, weights, generator)
        # Tracks are made of things from the heat maps, so the queries need no association loss.
        of_queries = dataclasses.replace(weights, track=0.0, track_aux=0.0)
        total, terms = total_loss(output, targets, isthing, of_queries, generator)
        parts = thing_losses(network.things, output.things, output.pixels, targets, isthing)
        total = total + sum(getattr(weights, name) * part for name, part in parts.items())
        return total, terms | {name: part.detach() for name, part in parts.items()}

    def predict(self, network: KMeansMaskTransformer, images: Tensor) -> ModelOutputs:
        with single_images(network):
            found = network.model_outputs(network(images))
        assert isinstance(found, ModelOutputs)
        return found

    def has_class_rows(self, name: str) -> bool:
        return "class_head" in name or name.startswith("semantic_head")

    def export(self, network: KMeansMaskTransformer, card: ModelCard, path: Path, as_kernels: bool = False) -> float:
        if as_kernels and not self._dense:
            raise InputError("--kernels: the masks of this model are those of queries; it needs dense_things")
        return export.export(network, card, path, deployed=Deployed(network, card.input, as_kernels), compare=compare)


kind, from_onnx = KMeansKind, onnx_weights.from_onnx
