"""The network's input, from a checkpoint's processor configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vps_ros.errors import InputError
from vps_ros.learning.hf.checkpoint import Checkpoint
from vps_ros.learning.hf.families import Family
from vps_ros.segmenters.model_card import InputSpec

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation where a processor names none; transformers' default for these architectures."""


def input_spec(checkpoint: Checkpoint, family: Family, size: tuple[int, int] | None) -> InputSpec:
    """Size, normalisation and padding of the input.

    Args:
        size: width and height; by default those of the processor, lying where it only bounds the two sides.

    Raises InputError when the network cannot take that size, or the processor says nothing sensible.
    """
    processor = checkpoint.processor
    own, keep_aspect = _own_size(checkpoint, size is not None)
    if family.name == "EoMT":
        own = _only_size(checkpoint)
        if size is not None and size != own:
            raise InputError(
                f"--size {size[0]}x{size[1]}: {checkpoint} has position embeddings for {own[0]}x{own[1]} only"
            )
    width, height = size or tuple(math.ceil(side / family.step) * family.step for side in own)
    if min(width, height) < family.step or width % family.step or height % family.step:
        raise InputError(f"--size {width}x{height}: {family.name} takes multiples of {family.step} for both sides")
    mean, std = _normalisation(checkpoint)
    fill = (0, 0, 0) if family.black_padding and processor.get("do_pad", True) else None
    return InputSpec(height, width, mean, std, keep_aspect, fill=fill)


def _own_size(checkpoint: Checkpoint, given: bool) -> tuple[tuple[int, int], bool]:
    """Width and height, and whether images keep their aspect in it; older files give one number, or a longest side.

    Raises InputError when there is none, unless one is `given`.
    """
    processor = checkpoint.processor
    size = processor.get("size", {"shortest_edge": 800, "longest_edge": 1333})
    if isinstance(size, int):
        size = {"shortest_edge": size}
    try:
        if "height" in size:
            return _sides(size["width"], size["height"]), False
        shortest = size["shortest_edge"]
        longest = size.get("longest_edge") or processor.get("max_size") or processor.get("_max_size") or shortest
        return _sides(longest, shortest), True
    except (KeyError, TypeError, ValueError):
        if given:
            return (0, 0), True
        raise InputError(f"{checkpoint}: its processor gives no input size ({size!r}); give one with --size") from None


def _sides(width: Any, height: Any) -> tuple[int, int]:
    if not (int(width) > 0 and int(height) > 0):
        raise ValueError
    return int(width), int(height)


def _only_size(checkpoint: Checkpoint) -> tuple[int, int]:
    side = checkpoint.config.get("image_size", 640)
    return (int(side), int(side)) if isinstance(side, int) else (int(side[1]), int(side[0]))


def _normalisation(checkpoint: Checkpoint) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the three colours in 0..255."""
    p: Mapping[str, Any] = checkpoint.processor
    scale = 1 / p.get("rescale_factor", 1 / 255) if p.get("do_rescale", True) else 1.0
    mean, std = p.get("image_mean", IMAGENET[0]), p.get("image_std", IMAGENET[1])
    if not p.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    try:
        mean, std = (tuple(float(v) * scale for v in values) for values in (mean, std))
    except (TypeError, ValueError):
        mean = std = ()
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, mean + std)) or 0 in std:
        raise InputError(
            f"{checkpoint}: its processor normalises by mean {p.get('image_mean')!r} and deviation "
            f"{p.get('image_std')!r}; three numbers each are needed"
        )
    return mean, std
