"""The kind `mask2former` of a recipe: Mask2Former of transformers with its loss, and an association embedding."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from vps_ros.errors import InputError
from vps_ros.learning.data.targets import Targets, labelled_share
from vps_ros.learning.export.graphs import fold, trace
from vps_ros.learning.export.onnx_file import OUTPUTS, Deployed, export
from vps_ros.learning.export.verify import Difference
from vps_ros.learning.hf.checkpoint import open_checkpoint
from vps_ros.learning.hf.export import WithFixedAttention, traceable
from vps_ros.learning.hf.families import FAMILIES, input_spec
from vps_ros.learning.kinds import Weights
from vps_ros.learning.kmeans.model import MaskOutput
from vps_ros.learning.losses import association_losses
from vps_ros.learning.network_io import LabelGrid, ModelOutputs
from vps_ros.learning.recipe import Mask2FormerModel, Recipe
from vps_ros.learning.training import checkpoint
from vps_ros.learning.training.optimizer import Optimizers
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds

NAME = "mask2former"
CERTAIN = -20.0
"""Mask logit of cells outside of a mask."""
MASKS, CLASSES = "masks_queries_logits", "class_queries_logits"
_NOT_OF_NETWORK = ("id2label", "label2id", "num_labels", "architectures", "transformers_version", "dtype", "model_type")


class Output(NamedTuple):
    """Final prediction and those of the layers before, at stride 4, masks as sigmoid logits; embeddings [B, N, D]."""

    final: MaskOutput
    embeddings: Tensor
    layers: list[dict[str, Tensor]]


class Mask2Former(nn.Module):
    """Image [B, 3, H, W], normalised, to an Output."""

    def __init__(self, architecture: Mask2FormerModel) -> None:
        super().__init__()
        self.architecture = architecture
        config = _config(architecture.config, architecture.classes)
        self.segmenter = Mask2FormerForUniversalSegmentation(config)
        weights = self.segmenter.criterion.empty_weight
        # It is determined by the configuration, so it is not saved in the state dict.
        del self.segmenter.criterion.empty_weight
        self.segmenter.criterion.register_buffer("empty_weight", weights, persistent=False)
        width = config.hidden_dim
        self.embedding_head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, architecture.embedding_dim)
        )

    def forward(self, images: Tensor) -> Output:
        found = self.segmenter(images.contiguous(), output_auxiliary_logits=True)
        final = MaskOutput(found.class_queries_logits.float(), found.masks_queries_logits.float())
        embeddings = self.embedding_head(found.transformer_decoder_last_hidden_state).float()
        return Output(final, embeddings, found.auxiliary_logits)


class Mask2FormerKind:
    """See vps_ros.learning.kinds.Kind."""

    activation = "sigmoid"
    thresholds = Thresholds(thing=0.5, stuff=0.5, overlap=0.8, mask=0.5, mode="pixel_wise")
    label_grid = LabelGrid(2)
    random_quarters = False
    progress_terms = {"dice": "loss_dice", "class": "loss_cross_entropy"}

    def __init__(self, recipe: Recipe) -> None:
        model = recipe.model
        assert isinstance(model, Mask2FormerModel)
        self._recipe, self._model = recipe, model
        self.max_segments = _config(model.config, model.classes).num_queries

    def build(self) -> Mask2Former:
        try:
            return Mask2Former(self._model)
        except ValueError as error:
            raise InputError(f"model.config: {' '.join(str(error).split())[:200]}") from None

    def load_pretrained(self, network: nn.Module) -> None:
        pass

    def input_spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        return InputSpec(size[1], size[0], self._model.mean, self._model.std, keep_aspect)

    def optimizers(self, network: Mask2Former) -> Optimizers:
        s, backbone = self._recipe.schedule, "segmenter.model.pixel_level_module.encoder."
        slow = self._model.backbone_rate
        return Optimizers.adamw(
            network, s.learning_rate, s.weight_decay, lambda name: slow if name.startswith(backbone) else 1.0
        )

    def forward(self, network: Mask2Former, images: Tensor, choice: Tensor | None) -> Output:
        return network(images)

    def loss(
        self, network: Mask2Former, output: Output, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask2FormerLoss of all layers, and the association losses of the last one; void cells are in no mask."""
        counts = (targets.classes >= 0).sum(1).tolist()
        rows = torch.arange(max(counts, default=0), device=targets.classes.device)[:, None, None]
        labels = [(segments[None] == rows[:n]).float() for segments, n in zip(targets.segments, counts, strict=True)]
        classes = [c[:n] for c, n in zip(targets.classes, counts, strict=True)]
        factor = targets.segments.shape[1] // output.final.masks.shape[2]
        void = F.max_pool2d((targets.segments[:, None] >= 0).float(), factor) == 0

        def without_void(masks: Tensor) -> Tensor:
            # Void cells are outside of every mask, as in the truth, so that they have no loss and no gradient.
            return masks.float().masked_fill(void, CERTAIN)

        def weighted(classes: Tensor, masks: Tensor) -> Tensor:
            # The same values; the gradient of a query is multiplied by the share of its mask in labelled cells.
            share = labelled_share(F.interpolate(masks.float().sigmoid(), targets.segments.shape[1:]), targets)
            classes = classes.float()
            return classes if share is None else classes.detach().lerp(classes, share[:, :, None])

        segmenter = network.segmenter
        final = MaskOutput(weighted(output.final.classes, output.final.masks), without_void(output.final.masks))
        auxiliary = [{MASKS: without_void(o[MASKS]), CLASSES: weighted(o[CLASSES], o[MASKS])} for o in output.layers]
        terms = segmenter.get_loss_dict(final.masks, final.classes, labels, classes, auxiliary)
        pairs = segmenter.criterion.matcher(final.masks, final.classes, labels, classes)
        matching = torch.full_like(targets.classes, -1)
        for b, (queries, segments) in enumerate(pairs):
            matching[b, segments.to(matching.device)] = queries.to(matching.device)
        track, track_aux = association_losses(output.embeddings, matching, targets)
        weights = self._recipe.losses
        total = segmenter.get_loss(terms) + weights.track * track + weights.track_aux * track_aux
        parts = {n: v for n, v in terms.items() if not n[-1].isdigit()}
        parts |= {"layers": sum(v for n, v in terms.items() if n[-1].isdigit()), "track": track, "track_aux": track_aux}
        return total, {name: torch.as_tensor(value).detach() for name, value in parts.items()}

    def predict(self, network: Mask2Former, images: Tensor) -> ModelOutputs:
        output = network(images)
        return ModelOutputs(output.final.classes, output.final.masks, output.embeddings)

    def has_class_rows(self, name: str) -> bool:
        return "class_predictor" in name

    def export(self, network: Mask2Former, card: ModelCard, path: Path) -> float:
        def write(deployed: Deployed, image: Tensor, draft: Path) -> None:
            with traceable(network):
                trace(deployed, image, draft, OUTPUTS)
            onnx.save(fold(draft), str(draft))

        def compare(deployed: Deployed, draft: Path, images: Sequence[NDArray[np.uint8]]) -> Sequence[Difference]:
            decides = FAMILIES[NAME].decides
            assert decides is not None
            return WithFixedAttention(deployed, draft, *decides(network.segmenter)).differences(images)

        return export(network, card, path, write, compare)


kind = Mask2FormerKind


def complete(recipe: Recipe) -> Recipe:
    """The recipe with the configuration and the normalisation of `start`; see kinds.KINDS."""
    model, start = recipe.model, recipe.start
    assert isinstance(model, Mask2FormerModel)
    config: dict[str, Any] = {}
    found: dict[str, Any] = {}
    if start and _is_foreign(start):
        there = open_checkpoint(start)
        if there.config.get("model_type") != NAME:
            raise InputError(f"{start}: holds a {there.config.get('model_type')!r} model, and the recipe's is {NAME}")
        config, spec = there.config, input_spec(there, FAMILIES[NAME], recipe.data.size)
        found = {"mean": spec.mean, "std": spec.std}
    elif start.endswith(".onnx"):
        raise InputError(f"{start}: a Mask2Former cannot start from a model file; use the run's checkpoint")
    elif start:
        source = Recipe.from_mapping(checkpoint.load(start)["recipe"], start).model
        if not isinstance(source, Mask2FormerModel):
            raise InputError(f"{start}: holds a model of kind {source.kind}, not {NAME}; make them the same")
        config, found = source.config, {"mean": source.mean, "std": source.std}
    if (model.mean, model.std) != (Mask2FormerModel.mean, Mask2FormerModel.std):
        found = {}
    _refuse_unknown(model.config)
    entries = _config({**config, **model.config}, model.classes).to_diff_dict()
    # With the types of YAML and JSON.
    config = json.loads(json.dumps({name: value for name, value in entries.items() if name not in _NOT_OF_NETWORK}))
    return dataclasses.replace(recipe, model=dataclasses.replace(model, config=config, **found))


def foreign(start: str) -> Weights | None:
    """The weights of a folder of transformers, or of its hub; None for files of `vps-ros`."""
    if not _is_foreign(start):
        return None
    model = open_checkpoint(start).load(Mask2FormerForUniversalSegmentation.__name__, {})
    names = model.config.id2label
    state = {f"segmenter.{name}": value for name, value in model.state_dict().items()}
    return Weights(NAME, state, tuple(str(names[i]) for i in sorted(names)))


def _config(entries: Mapping[str, Any], classes: int) -> Mask2FormerConfig:
    entries = {name: value for name, value in entries.items() if name not in ("id2label", "label2id")}
    try:
        return Mask2FormerConfig.from_dict({**entries, "num_labels": classes})
    except Exception as error:  # the type depends on the check in transformers
        raise InputError(f"model.config: {' '.join(str(error).split())[:200]}") from None


def _refuse_unknown(entries: Mapping[str, Any]) -> None:
    known = Mask2FormerConfig().to_dict()
    for name in entries:
        if name not in known:
            raise InputError(f"model.config: {name!r} is no entry of transformers' Mask2FormerConfig; remove it")


def _is_foreign(start: str) -> bool:
    """Whether `start` may be a folder of transformers, or a name on its hub."""
    path = Path(start)
    return not path.is_file() and not (path / checkpoint.FILE).is_file() and path.suffix != ".onnx"
