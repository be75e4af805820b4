"""The interface of a kind of network for training, validation and export; each kind has one module.

A Kind is created for one recipe and has no weights: these are in the network that it builds.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vps_ros.errors import InputError
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
"""Kind of a recipe's model -> its module, imported when it is used.

A module has `kind(recipe)`, which returns a Kind. If it can load checkpoints of other programs, it also has
`complete(recipe)`, which sets entries of the model from `start`, and `foreign(start)`, which returns Weights, or None
for files of `vps-ros`. If it can read the weights in an exported file, it also has `from_onnx(file)`, which returns a
network with a method `training_state(images)`: its weights for training.
"""


class Weights(NamedTuple):
    """A state dict of a network of this kind, and the class names in the order of its class rows."""

    kind: str
    state: Mapping[str, Tensor]
    classes: tuple[str, ...]


class Kind(Protocol):
    """A kind of network.

    Attributes:
        max_segments: largest number of segments of an image in training.
        label_grid, random_quarters: where labels are sampled; see data/batches.py, BatchSpec.
        activation: activation of the masks, as in the model card.
        thresholds: of post-processing during training, and the initial values of their search.
        progress_terms: label -> loss term, for the progress lines of training.
    """

    max_segments: int
    label_grid: LabelGrid
    random_quarters: bool
    activation: str
    thresholds: Thresholds
    progress_terms: Mapping[str, str]

    def build(self) -> nn.Module:
        """A network with the initial weights of its library."""

    def load_pretrained(self, network: nn.Module) -> None:
        """Loads the published weights of the backbone, if the recipe names one.

        Raises InputError when the package with these weights is not installed.
        """

    def input_spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        """The model card's input for images of this width and height."""

    def optimizers(self, network: nn.Module) -> Optimizers: ...

    def forward(self, network: nn.Module, images: Tensor, choice: Tensor | None) -> Any:
        """The input of `loss`, computed in mixed precision.

        Args:
            images: normalised, float32 [B, 3, H, W].
            choice: as in Batch.
        """

    def loss(
        self, network: nn.Module, output: Any, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss, and its terms, detached. Images 2i and 2i + 1 of the batch are a pair.

        Unlabelled cells must cause no loss: see data/targets.py.
        """

    def predict(self, network: nn.Module, images: Tensor) -> ModelOutputs:
        """The outputs of an exported model; images as in `forward`, network in eval mode."""

    def has_class_rows(self, name: str) -> bool:
        """Whether a parameter has one row for each class, with or without one more for void."""

    # A kind whose network is a ClipNetwork also has
    #     takes_clips: bool

    # A kind whose network has rows for some of the classes only, such as things, also has
    #     def has_partial_class_rows(self, name: str) -> bool
    # for these parameters. They are initialised randomly if the start has other classes.

    # A kind that shares layers with other kinds also has the prefixes of their names: kind -> prefix there -> here
    #     shared_layers: Mapping[str, Mapping[str, str]]
    # A start of one of these kinds gives these layers.

    # A kind whose masks are products of kernels and features also has
    #     def export(self, network, card, path, as_kernels: bool = False) -> float

    def export(self, network: nn.Module, card: ModelCard, path: Path) -> float:
        """Writes an ONNX file atomically and returns the largest relative difference from torch.

        Raises InputError when the card does not fit, RuntimeError when the outputs of ONNX Runtime differ.
        """


def kind_for(recipe: Recipe) -> Kind:
    """The kind of the recipe's model; raises InputError when a library that it needs is not installed."""
    return module_of(recipe).kind(recipe)


def module_of(recipe: Recipe) -> ModuleType:
    """The module of the recipe's kind; see KINDS."""
    return importlib.import_module(KINDS[recipe.model.kind])


def require_clips(kind: Kind, recipe: Recipe) -> None:
    """Raises InputError when the networks of this kind cannot take clips."""
    if not getattr(kind, "takes_clips", False):
        if getattr(recipe.model, "dense_things", 0) or recipe.model.kind == "panoptic-fcn":
            heat_maps = " with heat maps (dense_things)" if recipe.model.kind != "panoptic-fcn" else ""
            raise InputError(
                f"clip: a model of kind {recipe.model.kind}{heat_maps} cannot take clips, since it finds the things of "
                "each frame anew; export it with --kernels instead, and run it with --clip-length T, which fuses "
                "kernels over clips"
            )
        raise InputError(
            f"clip: a model of kind {recipe.model.kind} cannot take clips; the kinds kmax, video-knet, and streets "
            "without dense_things, can"
        )


def normalised(images: Tensor, spec: InputSpec) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W], channels last in memory."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
    return (images.permute(0, 3, 1, 2).float() - mean) / std
