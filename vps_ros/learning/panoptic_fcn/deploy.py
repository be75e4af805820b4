"""From a published PanopticFCN checkpoint to a model file that is verified."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

from vps_ros import __version__
from vps_ros.errors import InputError
from vps_ros.learning import graphs
from vps_ros.learning.panoptic_fcn.architecture import MEAN, STD, Architecture
from vps_ros.learning.panoptic_fcn.checkpoint import NAME, Published, load
from vps_ros.learning.panoptic_fcn.export import export
from vps_ros.learning.panoptic_fcn.panoptic import limits
from vps_ros.learning.voice import SILENT, Voice
from vps_ros.segmenters.model_card import InputSpec, ModelCard

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
    voice: Voice = SILENT,
) -> Report:
    """Writes a model file of the contract, whole or not at all.

    Args:
        size: width and height of the input; by default those that the data set's models are run with.
        taxonomy: name or file of the checkpoint's classes, where their numbers do not tell.

    Raises InputError when the checkpoint cannot be used, its classes are not known, or it cannot have this size;
    RuntimeError when ONNX Runtime computes something else.
    """
    if size is not None and not (Architecture.SIDES.take(size) and max(size) <= LARGEST):
        near = [min(max(round(side / 32) * 32, 32), LARGEST) for side in size]
        raise InputError(
            "--size {}x{}: sides of {} are {}, up to {}; try {}x{}".format(
                *size, NAME, Architecture.SIDES, LARGEST, *near
            )
        )
    published, name = load(checkpoint, taxonomy), Path(checkpoint).name
    card = card_of(published, name, size)
    graphs.require_room(published.model, name)
    things = len(published.model.things)
    voice.note(
        f"{name}: {NAME}, ResNet-50, {things} things and {len(card.taxonomy) - things} stuff classes of "
        f"{card.taxonomy.name}"
    )
    voice.note(f"tracing it for {card.input.width}x{card.input.height}, and comparing ONNX Runtime with torch")
    return Report(card, export(published.model, card, path))


def card_of(published: Published, checkpoint: str, size: tuple[int, int] | None = None) -> ModelCard:
    """What the model file of a checkpoint says of itself."""
    a, data = published.model.architecture, published.data
    width, height = size or data.size
    thresholds = dataclasses.replace(limits(a, width, height), stuff_area=data.stuff_area)
    source = {
        "imported_by": f"vps-ros {__version__}",
        "from": "PanopticFCN (dvlab-research/PanopticFCN)",
        "checkpoint": checkpoint,
        "architecture": dataclasses.asdict(a),
    }
    return ModelCard(
        f"panoptic-fcn-r50-{published.taxonomy.name}",
        published.taxonomy,
        InputSpec(height, width, MEAN, STD, keep_aspect=True),
        "sigmoid",
        thresholds,
        json.dumps(source),
    )
