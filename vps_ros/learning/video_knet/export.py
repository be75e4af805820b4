"""A Video K-Net to a recurrent model of the ONNX contract, checked over several frames before it is written."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning.export import onnx_file as common
from vps_ros.learning.video_knet.model import NAMES, State, VideoKNet, class_logits
from vps_ros.segmenters.model_card import ModelCard


class Recurrent(common.Deployed):
    """The network as the contract wants it: uint8 [1, H, W, 3] RGB and a State in; three tensors and the next out."""

    def __init__(self, model: VideoKNet, card: ModelCard) -> None:
        super().__init__(model, card.input)
        self.rule = card.thresholds

    def forward(self, image: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        output = self.model(self.normalised(image), State(*state), self.rule)
        final = output.stages[-1]
        return class_logits(final.classes), final.masks, output.embeddings, *output.state


def export(model: VideoKNet, card: ModelCard, path: str | Path) -> float:
    """As export/onnx_file.py; a card whose things and stuff are not the model's does not fit either."""
    if card.taxonomy.isthing.tolist() != model.isthing.tolist():
        raise InputError(
            f"the classes of {card.taxonomy.name} are not the model's {len(model.isthing)}, things and stuff in order"
        )
    state = dict(zip(NAMES, model.empty_state(), strict=True))
    return common.export(model, card, path, deployed=Recurrent(model, card), state=state)
