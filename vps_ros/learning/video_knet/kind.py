"""The kind `video-knet` of a recipe's model; see vps_ros.learning.kinds.Kind."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vps_ros.learning.data.targets import Targets
from vps_ros.learning.network_io import LabelGrid, ModelOutputs
from vps_ros.learning.recipe import Recipe
from vps_ros.learning.training.optimizer import Optimizers
from vps_ros.learning.video_knet.architecture import limits
from vps_ros.learning.video_knet.export import export
from vps_ros.learning.video_knet.losses import pair_loss
from vps_ros.learning.video_knet.model import Seen, VideoKNet, class_logits
from vps_ros.segmenters.model_card import InputSpec, ModelCard


class VideoKNetKind:
    """Learned from pairs of frames, of which validation during training sees single ones."""

    activation = "sigmoid"
    label_grid = LabelGrid(4)
    random_quarters = False
    progress_terms = {"dice": "final_dice", "class": "classes"}

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._isthing = recipe, recipe.data.taxonomy.isthing
        self.max_segments = recipe.model.queries + int((~self._isthing).sum())
        self.thresholds = limits(*recipe.data.size)

    def build(self) -> VideoKNet:
        return VideoKNet(self._recipe.model, self._isthing).to(memory_format=torch.channels_last)

    def load_pretrained(self, network: nn.Module) -> None:
        pass

    def input_spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
        return InputSpec(size[1], size[0], keep_aspect=keep_aspect)

    def optimizers(self, network: VideoKNet) -> Optimizers:
        s = self._recipe.schedule
        return Optimizers.muon(network, s.learning_rate, s.weight_decay)

    def forward(self, network: VideoKNet, images: Tensor, choice: Tensor | None) -> Seen:
        # The stages, which are little work, wait for what the first frame's segments are: they run in `loss`.
        return network.look(images)

    def loss(
        self, network: VideoKNet, output: Seen, targets: Targets, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        found = pair_loss(network, output, targets, self._recipe.losses)
        return found.total, found.parts

    def predict(self, network: VideoKNet, images: Tensor) -> ModelOutputs:
        output = network(images)
        return ModelOutputs(class_logits(output.stages[-1].classes), output.stages[-1].masks, output.embeddings)

    def has_class_rows(self, name: str) -> bool:
        return "class_head.3" in name or name.startswith("semantic_head")

    def export(self, network: VideoKNet, card: ModelCard, path: Path) -> float:
        return export(network, card, path)


kind = VideoKNetKind
