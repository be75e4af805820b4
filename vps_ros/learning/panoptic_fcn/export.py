"""A PanopticFCN to a model of the ONNX contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning import export as common
from vps_ros.learning.answers import Answers
from vps_ros.learning.panoptic_fcn.inference import Decisions, answers
from vps_ros.learning.panoptic_fcn.model import PanopticFCN
from vps_ros.learning.verify import Difference, differences, open_telling
from vps_ros.segmenters.model_card import ModelCard


class Deployed(common.Deployed):
    """The network with the search for peaks and the fusion of kernels."""

    def forward(self, image: Tensor, given: Decisions | None = None) -> Answers:
        return answers(self.model, self.model(self.normalised(image)), given)


def compare(deployed: Deployed, path: Path, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
    """How far a file is from torch that takes over its decisions.

    Two peaks whose scores differ in the last digits may change places; then all that follows is of another thing.
    Scores are compared, so that a wrong peak is still noticed.
    """
    peaks, (index,) = open_telling(path, "TopK", onnx.TensorProto.INT64, 1)
    fused, (first,) = open_telling(path, "ArgMax", onnx.TensorProto.INT64)

    def as_decided(image: Tensor) -> Answers:
        inputs = {"image": image.numpy()}
        taken = (peaks.run([index], inputs)[0], fused.run([first], inputs)[0])
        return deployed(image, Decisions(*map(torch.from_numpy, taken)))

    return differences(as_decided, path, images, common.OUTPUTS)


def export(model: PanopticFCN, card: ModelCard, path: str | Path) -> float:
    """As vps_ros.learning.export.export; a card whose things and stuff are not the model's does not fit either."""
    if card.taxonomy.isthing.tolist() != model.isthing.tolist():
        raise InputError(
            f"the classes of {card.taxonomy.name} are not the model's {len(model.isthing)}, things and stuff in order"
        )
    return common.export(model, card, path, compare=compare, deployed=Deployed(model, card.input))
