"""PanopticFCN as a model file of the ONNX contract: a trained network, or a published checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.export import graphs
from vps_ros.learning.export import onnx_file as common
from vps_ros.learning.export.published import source_json
from vps_ros.learning.export.verify import Difference, differences, node_outputs
from vps_ros.learning.network_io import KernelOutputs, ModelOutputs
from vps_ros.learning.panoptic_fcn.architecture import MEAN, STD, Architecture, default_thresholds
from vps_ros.learning.panoptic_fcn.checkpoint import NAME, Published, load
from vps_ros.learning.panoptic_fcn.inference import Decisions, model_outputs
from vps_ros.learning.panoptic_fcn.model import PanopticFCN
from vps_ros.segmenters.model_card import InputSpec, ModelCard


class Deployed(common.Deployed):
    """The network with the interface of the contract, including peak detection and kernel fusion."""

    def forward(self, image: Tensor, given: Decisions | None = None) -> ModelOutputs | KernelOutputs:
        return model_outputs(self.model, self.model(self.normalised(image)), given, self.as_kernels)


def compare(deployed: Deployed, path: Path, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
    """The differences of a model file from torch, which uses the peaks and the kernel fusion of the file.

    Two peaks whose scores differ by rounding may change places, and later values then belong to different things.
    Scores are compared, so that a wrong peak is still detected.
    """
    peaks = node_outputs(path, "TopK", onnx.TensorProto.INT64, 1)
    first = node_outputs(path, "ArgMax", onnx.TensorProto.INT64)

    def with_decisions(image: Tensor) -> ModelOutputs | KernelOutputs:
        return deployed(image, Decisions(*peaks(image), *first(image)))

    return differences(with_decisions, path, images, deployed.outputs)


def export(model: PanopticFCN, card: ModelCard, path: str | Path, as_kernels: bool = False) -> float:
    """As export/onnx_file.py; a card whose things and stuff are not the model's does not fit either.

    Args:
        as_kernels: with kernels instead of masks, which can be fused over clips.
    """
    if card.taxonomy.isthing.tolist() != model.isthing.tolist():
        raise InputError(
            f"the classes of {card.taxonomy.name} are not the model's {len(model.isthing)}, things and stuff in order"
        )
    return common.export(model, card, path, compare=compare, deployed=Deployed(model, card.input, as_kernels))


LARGEST = 4096
"""Longest side of the input."""


class Report(NamedTuple):
    """The result of an import: the model card, and the largest relative difference from torch."""

    card: ModelCard
    difference: float


def import_checkpoint(
    checkpoint: str | Path,
    path: str | Path,
    size: tuple[int, int] | None = None,
    taxonomy: str | None = None,
    reporter: Reporter = SILENT,
    as_kernels: bool = False,
) -> Report:
    """Writes a verified model file of the contract.

    Args:
        as_kernels: with kernels instead of masks, which can be fused over clips.
        size: width and height of the input; by default that of the published models of the data set.
        taxonomy: name or file of the taxonomy; by default determined by the numbers of classes.

    Raises InputError when the checkpoint cannot be used, its classes are unknown, or the size is not possible;
    RuntimeError when the outputs of ONNX Runtime differ from torch.
    """
    if size is not None:
        Architecture.INPUT_SIZES.require(size, NAME, LARGEST)
    published, name = load(checkpoint, taxonomy), Path(checkpoint).name
    card = card_of(published, name, size)
    graphs.require_size(published.model, name)
    things = len(published.model.things)
    reporter.note(
        f"{name}: {NAME}, ResNet-50, {things} things and {len(card.taxonomy) - things} stuff classes of "
        f"{card.taxonomy.name}"
    )
    reporter.note(f"tracing it for {card.input.width}x{card.input.height}, and comparing ONNX Runtime with torch")
    return Report(card, export(published.model, card, path, as_kernels))


def card_of(published: Published, checkpoint: str, size: tuple[int, int] | None = None) -> ModelCard:
    """The model card of a checkpoint."""
    a, data = published.model.architecture, published.data
    width, height = size or data.size
    thresholds = dataclasses.replace(default_thresholds(a, width, height), stuff_area=data.stuff_area)
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
