"""What training, validation and export need to know of a network: one interface, one module for each kind.

A kind is made for one recipe and keeps no weights: these are in the network that it builds.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vps_ros.learning.data.targets import Targets
from vps_ros.learning.network_io import LabelGrid, ModelOutputs
from vps_ros.learning.recipe import Recipe
from vps_ros.learning.training.optimizer import Optimizers
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds

KINDS = {
    "streets": "vps_ros.learning.kmeans.kind",
    "mask2former": "vps_ros.learning.mask2former",
    "video-knet": "vps_ros.learning.video_knet.kind",
    "kmax": "vps_ros.learning.kmax.kind",
    "panoptic-fcn": "vps_ros.learning.panoptic_fcn.kind",
}
"""Kind of a recipe's model -> its module, imported when it is needed.

A module has `kind(recipe)`, which makes a Kind. Where weights can come from checkpoints of other programs, it also has
`complete(recipe)`, which fills the model's entries in from `start`, and `foreign(start)`: Weights, or None for what
`vps-ros` wrote.
"""


class Weights(NamedTuple):
    """Weights by the names of a network of this kind, and the names of the classes in the order of its class rows."""

    kind: str
    state: Mapping[str, Tensor]
    classes: tuple[str, ...]


class Kind(Protocol):
    """A kind of network.

    Attributes:
        rows: most segments of an image that it can learn.
        grid, quarters: where it wants labels; see vps_ros.learning.data.batches.BatchSpec.
        activation: of its masks, as in the model card.
        limits: thresholds of post-processing during training, and where a search begins.
        told: label -> loss term, of those that people are told while it learns.
    """

    max_segments: int
    label_grid: LabelGrid
    random_quarters: bool
    activation: str
    thresholds: Thresholds
    progress_terms: Mapping[str, str]

    def build(self) -> nn.Module:
        """A network with random weights, or those its library begins with."""

    def load_pretrained(self, network: nn.Module) -> None:
        """Gives a new network the published weights of its backbone, where its recipe names some.

        Raises InputError when the package that carries them is not installed.
        """

    def input_spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        """The model card's input for images of this width and height."""

    def optimizers(self, network: nn.Module) -> Optimizers: ...

    def forward(self, network: nn.Module, images: Tensor, choice: Tensor | None) -> Any:
        """What `loss` needs; images are normalised, float32 [B, 3, H, W]. Runs in mixed precision.

        `choice` is that of the batch.
        """

    def loss(
        self, network: nn.Module, output: Any, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, and its terms, detached. Images 2i and 2i + 1 of the batch are a pair.

        What targets do not tell must teach nothing: see vps_ros.learning.data.targets.
        """

    def predict(self, network: nn.Module, images: Tensor) -> ModelOutputs:
        """What an exported model would answer; images as in `forward`, the network in eval mode."""

    def has_class_rows(self, name: str) -> bool:
        """Whether a weight has one row for each class, with or without one more for void."""

    # A kind whose network has rows for some of the classes only, as for things, also has
    #     def has_partial_class_rows(self, name: str) -> bool
    # which says which weights these are. They begin anew where the classes of a start are others.

    def export(self, network: nn.Module, card: ModelCard, path: Path) -> float:
        """Writes the network as ONNX, whole or not at all, and gives the largest relative difference from torch.

        Raises InputError when the card does not fit, RuntimeError when ONNX Runtime computes something else.
        """


def kind_for(recipe: Recipe) -> Kind:
    """The kind of the recipe's model; raises InputError when a library that it needs is not installed."""
    return module_of(recipe).kind(recipe)


def module_of(recipe: Recipe) -> ModuleType:
    """See KINDS."""
    return importlib.import_module(KINDS[recipe.model.kind])


def normalised(images: Tensor, spec: InputSpec) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W], channels last in memory."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
    return (images.permute(0, 3, 1, 2).float() - mean) / std
