"""The shipped model with masks as products of kernels and features, which can be fused over clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vps_ros.files import model_path
from vps_ros.segmenters.model_card import ModelCard, describe_model
from vps_ros.trackers.learned import copy_learned

MODEL, SIMILARITY = "streets-s-float", 0.95


def export_kernels(folder: Path) -> Path:
    """Exports MODEL with kernels, and the learned weights of its tracker; raises ModuleNotFoundError without torch."""
    from vps_ros.learning.kinds import kind_for
    from vps_ros.learning.training.initial_weights import trained

    path, source = folder / "kernels.onnx", model_path(MODEL)
    network, recipe, *_ = trained(source)
    card = describe_model(str(source)).card
    assert isinstance(card, ModelCard)
    kind: Any = kind_for(recipe)
    kind.export(network, card, path, as_kernels=True)
    copy_learned(source, path)
    return path


def needs_training(error: ModuleNotFoundError) -> dict[str, str]:
    """The figures of a benchmark that cannot be run, since a package is missing."""
    return {"skipped": f"{error.name} is missing; run `pip install .[train]`"}
