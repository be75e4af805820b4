"""Training and export of the model kind `video-knet`; see vps_ros.learning.kinds.Kind."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning.data.targets import Targets
from vps_ros.learning.layers.backbone import backbone_input, load_imagenet
from vps_ros.learning.network_io import LabelGrid, ModelOutputs, single_images
from vps_ros.learning.recipe import Recipe
from vps_ros.learning.training.optimizer import Optimizers
from vps_ros.learning.video_knet.architecture import Architecture, default_thresholds
from vps_ros.learning.video_knet.export import export
from vps_ros.learning.video_knet.losses import pair_loss
from vps_ros.learning.video_knet.model import FrameFeatures, VideoKNet, class_logits
from vps_ros.segmenters.model_card import InputSpec, ModelCard


class VideoKNetKind:
    """Trained on pairs of frames or of clips; validation during training uses single frames."""

    activation = "sigmoid"
    label_grid = LabelGrid(4)
    random_quarters = False
    takes_clips = True
    progress_terms = {"dice": "final_dice", "class": "classes"}
    shared_layers = {"streets": {part: f"pyramid.{part}" for part in ("backbone.", "pixel_decoder.")}}

    def __init__(self, recipe: Recipe) -> None:
        assert isinstance(recipe.model, Architecture)
        self._recipe, self._model, self._isthing = recipe, recipe.model, recipe.data.taxonomy.isthing
        self.max_segments = self._model.queries + int((~self._isthing).sum())
        self.thresholds = default_thresholds(*recipe.data.size)

    def build(self) -> VideoKNet:
        network = VideoKNet(self._model, self._isthing).to(memory_format=torch.channels_last)
        network.frames = self._recipe.clip
        return network

    def load_pretrained(self, network: VideoKNet) -> None:
        load_imagenet(network.pyramid.backbone, self._model.backbone)

    def input_spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        return backbone_input(self._model.backbone, size, keep_aspect)

    def optimizers(self, network: VideoKNet) -> Optimizers:
        s = self._recipe.schedule
        return Optimizers.muon(network, s.learning_rate, s.weight_decay)

    def forward(self, network: VideoKNet, images: Tensor, choice: Tensor | None) -> FrameFeatures:
        # The stages of the second frame depend on the matching of the first frame: they run in `loss`.
        return network.encode(images)

    def loss(
        self, network: VideoKNet, output: FrameFeatures, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        found = pair_loss(network, output, targets, self._recipe.losses)
        return found.total, found.parts

    def predict(self, network: VideoKNet, images: Tensor) -> ModelOutputs:
        with single_images(network):
            output = network(images)
        return ModelOutputs(class_logits(output.stages[-1].classes), output.stages[-1].masks, output.embeddings)

    def has_class_rows(self, name: str) -> bool:
        return "class_head.3" in name or name.startswith("semantic_head")

    def export(self, network: VideoKNet, card: ModelCard, path: Path) -> float:
        if self._recipe.clip > 1 and card.clip is None:
            raise InputError(
                f"--clip 1: {self._recipe.name} was trained on clips, without state; a model for images needs a run "
                "with clip: 1"
            )
        return export(network, card, path)


kind = VideoKNetKind
