"""Training and export of the model kind `kmax`: kMaX-DeepLab with an additional association embedding."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning.data.targets import Targets
from vps_ros.learning.export.onnx_file import export
from vps_ros.learning.export.published import is_published
from vps_ros.learning.kinds import Weights
from vps_ros.learning.kmax.architecture import BACKBONES, Architecture
from vps_ros.learning.kmax.checkpoint import load
from vps_ros.learning.kmax.export import compare
from vps_ros.learning.kmax.layers import resize, shape_of
from vps_ros.learning.kmax.losses import match_targets, total_loss
from vps_ros.learning.kmax.model import KMaxDeepLab, Prediction
from vps_ros.learning.kmax.model import Output as KMaxOutput
from vps_ros.learning.losses import association_losses
from vps_ros.learning.network_io import LabelGrid, ModelOutputs, join_frames, single_images, split_frames
from vps_ros.learning.recipe import KMaxModel, Recipe
from vps_ros.learning.training import checkpoint
from vps_ros.learning.training.optimizer import Optimizers
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds
from vps_ros.taxonomies import ALL

NAME = "kmax"
PUBLISHED = {19: "cityscapes", 133: "coco-panoptic", 150: "ade20k"}
"""Number of classes -> the taxonomy of published weights."""


class Output(NamedTuple):
    """`final` and `embeddings` are those of an exported model; `found` is the full network output, in float32."""

    final: Prediction
    embeddings: Tensor
    found: KMaxOutput


class KMaxTracked(nn.Module):
    """Image [B, 3, H, W] in -1..1 to an Output; both sides are multiples of 32 plus one."""

    @property
    def frames(self) -> int:
        """See ClipNetwork."""
        return self.segmenter.frames

    @frames.setter
    def frames(self, count: int) -> None:
        self.segmenter.frames = count

    def __init__(self, model: KMaxModel) -> None:
        super().__init__()
        self.architecture = model
        architecture = architecture_of(model)
        self.segmenter = KMaxDeepLab(architecture)
        width = architecture.dim
        self.embedding_head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, model.embedding_dim)
        )

    def forward(self, images: Tensor) -> Output:
        found = _exact(self.segmenter(images))
        return Output(found.final, self.embedding_head(found.embeddings).float(), found)


class KMaxKind:
    """See vps_ros.learning.kinds.Kind."""

    activation = "softmax_queries"
    thresholds = Thresholds(0.5, 0.3, 0.9, 0.4)
    random_quarters = False
    takes_clips = True
    progress_terms = {"dice": "dice", "class": "classes"}

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._model = recipe, _model_of(recipe)
        architecture = architecture_of(self._model)
        self.max_segments = architecture.queries
        self.label_grid = LabelGrid(architecture.mask_stride, aligned=True)

    def build(self) -> KMaxTracked:
        network = KMaxTracked(self._model)
        network.frames = self._recipe.clip
        return network

    def load_pretrained(self, network: nn.Module) -> None:
        pass

    def input_spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        return InputSpec(size[1], size[0], keep_aspect=keep_aspect, align_corners=True)

    def optimizers(self, network: KMaxTracked) -> Optimizers:
        s, slow = self._recipe.schedule, self._model.backbone_rate
        return Optimizers.adamw(
            network,
            s.learning_rate,
            s.weight_decay,
            lambda name: slow if name.startswith("segmenter.backbone.") else 1.0,
        )

    def forward(self, network: KMaxTracked, images: Tensor, choice: Tensor | None) -> Output:
        return network(images)

    def loss(
        self, network: KMaxTracked, output: Output, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        weights = self._recipe.losses
        found = _of_clips(output.found, network.frames) if network.frames > 1 else output.found
        total, parts = total_loss(found, targets, weights, generator)
        matching = match_targets(output.final, targets, weights.void).matching
        track, track_aux = association_losses(output.embeddings, matching, targets.trimmed())
        parts = parts | {"track": track.detach(), "track_aux": track_aux.detach()}
        return total + weights.track * track + weights.track_aux * track_aux, parts

    def predict(self, network: KMaxTracked, images: Tensor) -> ModelOutputs:
        with single_images(network):
            output = network(images)
        return ModelOutputs(output.final.classes, output.final.masks, output.embeddings)

    def has_class_rows(self, name: str) -> bool:
        # The last layers of the auxiliary heads.
        return "class_head" in name or name.startswith(("segmenter.semantic.out.", "segmenter.semantic.2."))

    def export(self, network: KMaxTracked, card: ModelCard, path: Path) -> float:
        return export(network, card, path, compare=compare)


kind = KMaxKind


def architecture_of(model: KMaxModel) -> Architecture:
    """The network architecture of a recipe's model."""
    backbone = BACKBONES[model.backbone] if model.backbone else model.architecture.backbone
    return dataclasses.replace(model.architecture, backbone=backbone, classes=model.classes)


def _model_of(recipe: Recipe) -> KMaxModel:
    assert isinstance(recipe.model, KMaxModel)
    return recipe.model


def complete(recipe: Recipe) -> Recipe:
    """The recipe with the architecture of its start; see vps_ros.learning.kinds.KINDS."""
    model, start = _model_of(recipe), recipe.start
    if model.backbone and model.backbone not in BACKBONES:
        raise InputError(f"model.backbone: {model.backbone!r}; there are {', '.join(BACKBONES)}")
    architecture = architecture_of(model)
    if start.endswith(".onnx"):
        raise InputError(
            f"{start}: kMaX-DeepLab cannot continue from a model file; start from the checkpoint of the run"
        )
    if start:
        given = model
        if is_published(start):
            architecture = load(start).architecture
            # The checkpoint does not contain the drop path probability.
            known = BACKBONES.get(architecture.backbone_name)
            if known:
                architecture = dataclasses.replace(architecture, backbone=known)
        else:
            source = Recipe.from_mapping(checkpoint.load(start)["recipe"], start).model
            if source.kind != NAME:
                raise InputError(f"{start}: holds a model of kind {source.kind}, not {NAME}; make them the same")
            assert isinstance(source, KMaxModel)
            architecture = architecture_of(source)
        if given.backbone and given.backbone != architecture.backbone_name:
            own = architecture.backbone_name
            raise InputError(f"{start}: has the backbone {own}, the recipe's is {given.backbone}")
    architecture = dataclasses.replace(architecture, classes=model.classes)
    return dataclasses.replace(recipe, model=dataclasses.replace(model, backbone="", architecture=architecture))


def foreign(start: str) -> Weights | None:
    """The weights of a published checkpoint; None for a start that `vps-ros` wrote."""
    if not is_published(start):
        return None
    network = load(start)
    count = network.architecture.classes
    names = [c.name for c in ALL[PUBLISHED[count]].classes] if count in PUBLISHED else [""] * count
    return Weights(NAME, {f"segmenter.{n}": v for n, v in network.state_dict().items()}, tuple(names))


def _exact(found: KMaxOutput) -> KMaxOutput:
    """The output in float32 for any precision of the forward pass, because losses sum over many pixels."""

    def exact(prediction: Prediction) -> Prediction:
        return Prediction(*(t.float() for t in prediction))

    semantic = None if found.semantic is None else found.semantic.float()
    return KMaxOutput(exact(found.final), found.embeddings, [exact(p) for p in found.layers], semantic)


def _of_clips(found: KMaxOutput, frames: int) -> KMaxOutput:
    """The output for clips, with all predictions at the final size, since resizing must not mix frames.

    The auxiliary semantic head is left out: its points are on the grid of a single image.
    """
    height, width = shape_of(found.final.masks)[2:]
    size = (height // frames, width)

    def resized(maps: Tensor) -> Tensor:
        return join_frames(resize(split_frames(maps, frames), size), frames)

    layers = [Prediction(p.classes, resized(p.masks), resized(p.pixels)) for p in found.layers]
    return KMaxOutput(found.final, found.embeddings, layers, None)
