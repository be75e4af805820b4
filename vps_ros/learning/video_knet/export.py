"""Export of a Video K-Net, verified: a recurrent model of the ONNX contract, or a model for clips without state."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning.export import onnx_file as common
from vps_ros.learning.network_io import split_frames
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


class OfClips(common.Deployed):
    """The network with the interface of the contract for clips: uint8 [T, H, W, 3] RGB to three tensors."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output = self.model(self.normalised(image))
        final = output.stages[-1]
        return class_logits(final.classes), split_frames(final.masks, self.model.frames), output.embeddings


def export(model: VideoKNet, card: ModelCard, path: str | Path) -> float:
    """As export/onnx_file.py; a card whose things and stuff are not the model's does not fit either."""
    if card.taxonomy.isthing.tolist() != model.isthing.tolist():
        raise InputError(
            f"the classes of {card.taxonomy.name} are not the model's {len(model.isthing)}, things and stuff in order"
        )
    if card.clip is not None:
        return common.export(model, card, path, deployed=OfClips(model, card.input))
    state = dict(zip(STATE_INPUTS, model.empty_state(), strict=True))
    return common.export(model, card, path, deployed=Recurrent(model, card), state=state)
