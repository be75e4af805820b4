"""PanopticFCN as a model file of the ONNX contract: a trained network, or a published checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.export import graphs
from vps_ros.learning.export import onnx_file as common
from vps_ros.learning.export.published import source_json
from vps_ros.learning.export.verify import Difference, differences, open_telling
from vps_ros.learning.network_io import ModelOutputs
from vps_ros.learning.panoptic_fcn.architecture import MEAN, STD, Architecture, limits
from vps_ros.learning.panoptic_fcn.checkpoint import NAME, Published, load
from vps_ros.learning.panoptic_fcn.inference import Decisions, answers
from vps_ros.learning.panoptic_fcn.model import PanopticFCN
from vps_ros.segmenters.model_card import InputSpec, ModelCard


class Deployed(common.Deployed):
    """The network with the search for peaks and the fusion of kernels."""

    def forward(self, image: Tensor, given: Decisions | None = None) -> ModelOutputs:
        return answers(self.model, self.model(self.normalised(image)), given)


def compare(deployed: Deployed, path: Path, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
    """How far a file is from torch that takes over its decisions.

    Two peaks whose scores differ in the last digits may change places; then all that follows is of another thing.
    Scores are compared, so that a wrong peak is still noticed.
    """
    peaks, (index,) = open_telling(path, "TopK", onnx.TensorProto.INT64, 1)
    fused, (first,) = open_telling(path, "ArgMax", onnx.TensorProto.INT64)

    def as_decided(image: Tensor) -> ModelOutputs:
        inputs = {"image": image.numpy()}
        taken = (peaks.run([index], inputs)[0], fused.run([first], inputs)[0])
        return deployed(image, Decisions(*map(torch.from_numpy, taken)))

    return differences(as_decided, path, images, common.OUTPUTS)


def export(model: PanopticFCN, card: ModelCard, path: str | Path) -> float:
    """As export/onnx_file.py; a card whose things and stuff are not the model's does not fit either."""
    if card.taxonomy.isthing.tolist() != model.isthing.tolist():
        raise InputError(
            f"the classes of {card.taxonomy.name} are not the model's {len(model.isthing)}, things and stuff in order"
        )
    return common.export(model, card, path, compare=compare, deployed=Deployed(model, card.input))


LARGEST = 4096
"""Longest side that a graph is traced for."""


class Report(NamedTuple):
    """What was written: its card, and its largest relative difference from torch."""

    card: ModelCard
    difference: float


def import_checkpoint(
    checkpoint: str | Path,
    path: str | Path,
    size: tuple[int, int] | None = None,
    taxonomy: str | None = None,
    reporter: Reporter = SILENT,
) -> Report:
    """Writes a model file of the contract, whole or not at all.

    Args:
        size: width and height of the input; by default those that the data set's models are run with.
        taxonomy: name or file of the checkpoint's classes, where their numbers do not tell.

    Raises InputError when the checkpoint cannot be used, its classes are not known, or it cannot have this size;
    RuntimeError when ONNX Runtime computes something else.
    """
    if size is not None:
        Architecture.INPUT_SIZES.require(size, NAME, LARGEST)
    published, name = load(checkpoint, taxonomy), Path(checkpoint).name
    card = card_of(published, name, size)
    graphs.require_room(published.model, name)
    things = len(published.model.things)
    reporter.note(
        f"{name}: {NAME}, ResNet-50, {things} things and {len(card.taxonomy) - things} stuff classes of "
        f"{card.taxonomy.name}"
    )
    reporter.note(f"tracing it for {card.input.width}x{card.input.height}, and comparing ONNX Runtime with torch")
    return Report(card, export(published.model, card, path))


def card_of(published: Published, checkpoint: str, size: tuple[int, int] | None = None) -> ModelCard:
    """What the model file of a checkpoint says of itself."""
    a, data = published.model.architecture, published.data
    width, height = size or data.size
    thresholds = dataclasses.replace(limits(a, width, height), stuff_area=data.stuff_area)
    source = source_json(
        f"{NAME} (dvlab-research/PanopticFCN)", checkpoint=checkpoint, architecture=dataclasses.asdict(a)
    )
    return ModelCard(
        f"panoptic-fcn-r50-{published.taxonomy.name}",
        published.taxonomy,
        InputSpec(height, width, MEAN, STD, keep_aspect=True),
        "sigmoid",
        thresholds,
        source,
    )
