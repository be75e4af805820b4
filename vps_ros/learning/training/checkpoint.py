"""Checkpoints of training runs: writing, reading, and the averaged model in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vps_ros.errors import InputError
from vps_ros.files import atomic_write
from vps_ros.learning.kinds import kind_for
from vps_ros.learning.recipe import Recipe

FORMAT = 1
FILE = "checkpoint.pt"
PARTS = ("format", "recipe", "step", "model", "ema", "optimizer", "log")


def save(path: Path, **parts: Any) -> None:
    """Writes a checkpoint atomically."""
    with atomic_write(path) as draft:
        torch.save({"format": FORMAT, **parts}, draft)


def reading_failure(error: Exception) -> str:
    """Why torch or pickle could not read a file, in one line."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    # torch goes on with advice to switch its protection off.
    if line.startswith("Weights only load failed"):
        return "no file of torch, or one with code in it, which is never executed"
    return line[:120]


def load(path: str | Path) -> dict[str, Any]:
    """The parts of a checkpoint. Raises InputError when it is missing, damaged, of another program or format."""
    path = Path(path)
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give the folder of a run of `vps-ros train`, or its {FILE}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the type depends on the damage
        raise InputError(
            f"{path}: not a readable checkpoint ({reading_failure(error)}); give the folder of a run of `vps-ros "
            f"train`, its {FILE}, or a model of `vps-ros export`; --from names other origins"
        ) from None
    if not isinstance(content, dict) or any(part not in content for part in PARTS):
        raise InputError(f"{path}: not a checkpoint of `vps-ros train`; `--from` says which program wrote it")
    if content["format"] != FORMAT:
        raise InputError(f"{path}: format {content['format']!r}, this release reads {FORMAT}; train again")
    return content


def is_ours(path: Path) -> bool:
    """Whether a file is probably a checkpoint of `vps-ros train`."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # damaged, or of an old format: load() reports it
        return path.name == FILE
    return isinstance(content, dict) and "recipe" in content


def restore(path: str | Path) -> tuple[nn.Module, Recipe, int]:
    """The averaged model of a checkpoint, its recipe, and its training step."""
    content = load(path)
    recipe = Recipe.from_mapping(content["recipe"], str(path))
    model = kind_for(recipe).build()
    try:
        model.load_state_dict(content["ema"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: weights do not fit its recipe ({str(error).splitlines()[0][:120]})") from None
    return model.eval(), recipe, int(content["step"])
