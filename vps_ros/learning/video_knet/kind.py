"""The kind `video-knet` of a recipe's model; see vps_ros.learning.models.Kind."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vps_ros.learning.answers import Answers
from vps_ros.learning.optimizer import Optimizers
from vps_ros.learning.recipe import Recipe
from vps_ros.learning.sides import Grid
from vps_ros.learning.targets import Targets
from vps_ros.learning.video_knet.architecture import limits
from vps_ros.learning.video_knet.export import export
from vps_ros.learning.video_knet.losses import pair_loss
from vps_ros.learning.video_knet.model import Seen, VideoKNet, class_logits
from vps_ros.segmenters.model_card import InputSpec, ModelCard


class VideoKNetKind:
    """Learned from pairs of frames, of which validation during training sees single ones."""

    activation = "sigmoid"
    grid = Grid(4)
    quarters = False
    told = {"dice": "final_dice", "class": "classes"}

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._isthing = recipe, recipe.data.taxonomy.isthing
        self.rows = recipe.model.queries + int((~self._isthing).sum())
        self.limits = limits(*recipe.data.size)

    def build(self) -> VideoKNet:
        return VideoKNet(self._recipe.model, self._isthing).to(memory_format=torch.channels_last)

    def pretrain(self, network: nn.Module) -> None:
        pass

    def spec(self, size: tuple[int, int], keep_aspect: bool) -> InputSpec:
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

    def answers(self, network: VideoKNet, images: Tensor) -> Answers:
        output = network(images)
        return Answers(class_logits(output.stages[-1].classes), output.stages[-1].masks, output.embeddings)

    def of_classes(self, name: str) -> bool:
        return "class_head.3" in name or name.startswith("semantic_head")

    def export(self, network: VideoKNet, card: ModelCard, path: Path) -> float:
        return export(network, card, path)


kind = VideoKNetKind
