"""Export of a Video K-Net as a recurrent model of the ONNX contract, verified over several frames."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning.export import onnx_file as common
from vps_ros.learning.video_knet.model import STATE_INPUTS, State, VideoKNet, class_logits
from vps_ros.segmenters.model_card import ModelCard


class Recurrent(common.Deployed):
    """The network with the interface of the contract: uint8 [1, H, W, 3] RGB and State to three tensors and State."""

    def __init__(self, model: VideoKNet, card: ModelCard) -> None:
        super().__init__(model, card.input)
        self.thresholds = card.thresholds

    def forward(self, image: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        output = self.model(self.normalised(image), State(*state), self.thresholds)
        final = output.stages[-1]
        return class_logits(final.classes), final.masks, output.embeddings, *output.state


def export(model: VideoKNet, card: ModelCard, path: str | Path) -> float:
    """As export/onnx_file.py; a card whose things and stuff are not the model's does not fit either."""
    if card.taxonomy.isthing.tolist() != model.isthing.tolist():
        raise InputError(
            f"the classes of {card.taxonomy.name} are not the model's {len(model.isthing)}, things and stuff in order"
        )
    state = dict(zip(STATE_INPUTS, model.empty_state(), strict=True))
    return common.export(model, card, path, deployed=Recurrent(model, card), state=state)
