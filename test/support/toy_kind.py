"""A kind of network small enough to reason about: one convolution says the class of each cell, no batch statistics."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from vps_ros.learning.network_io import LabelGrid, ModelOutputs
from vps_ros.learning.training.optimizer import Optimizers
from vps_ros.segmenters.model_card import InputSpec, Thresholds


class Toy(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, classes, 4, 4)


class ToyKind:
    """See vps_ros.learning.kinds.Kind. `fails` is the error that its loss raises at a step of that number."""

    max_segments, label_grid, random_quarters = 8, LabelGrid(), False
    activation, thresholds, progress_terms = "softmax_queries", Thresholds(), {}
    fails: tuple[int, Exception] | None = None

    def __init__(self, recipe) -> None:
        self._recipe, self._losses = recipe, 0

    def build(self) -> Toy:
        return Toy(self._recipe.model.classes)

    def load_pretrained(self, network) -> None:
        pass

    def input_spec(self, size, keep_aspect) -> InputSpec:
        return InputSpec(size[1], size[0], keep_aspect=keep_aspect)

    def optimizers(self, network) -> Optimizers:
        s = self._recipe.schedule
        return Optimizers.adamw(network, s.learning_rate, s.weight_decay, lambda name: 1.0)

    def forward(self, network, images, choice):
        return network.head(images).float()

    def loss(self, network, output, targets, generator):
        if self.fails and self._losses == self.fails[0]:
            raise self.fails[1]
        self._losses += 1
        # Every image counts the same, however much of it is void.
        each = F.cross_entropy(output, targets.semantic, ignore_index=-1, reduction="none").mean((1, 2))
        # Draws without the generator, as dropout does.
        total = each.mean() * (1 + 0 * torch.rand(()))
        return total, {"semantic": total.detach()}

    def predict(self, network, images) -> ModelOutputs:
        classes = torch.eye(self._recipe.model.classes + 1)[None, :-1].expand(len(images), -1, -1)
        return ModelOutputs(classes, network.head(images), classes)

    def has_class_rows(self, name) -> bool:
        return True


kind = ToyKind
