"""The panoptic architectures of transformers: outputs, input specification and post-processing of each.

Thresholds are the defaults of each one's own `post_process_panoptic_segmentation`. EoMT's follows the original
Mask2Former code; the others use the mode `argmax`, and Mask2Former resizes its masks to 384 x 384 first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning.hf.checkpoint import Checkpoint
from vps_ros.segmenters.model_card import InputSpec, Thresholds

_ARGMAX = Thresholds(thing=0.5, stuff=0.5, overlap=0.8, mask=0.5, mode="argmax")


class Outputs(NamedTuple):
    """Class logits [1, N, C + 1], mask logits [1, N, h, w] and query embeddings [1, N, D]."""

    classes: Tensor
    masks: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class Family:
    """An architecture of transformers.

    Attributes:
        name: for messages.
        model: class of transformers.
        step: width and height of the input must be multiples of it.
        limits: thresholds of its post-processing.
        read: selects the tensors of the contract from the output of the model.
        black_padding: the image is padded before normalisation, with black; otherwise with the mean.
        task: the model has a text input that names the task.
        settings: entries of its configuration that are replaced, because only training needs them.
        decides: the submodule and its method that compute the attention masks of decoder layers; see export.py.
    """

    name: str
    model: str
    step: int
    limits: Thresholds
    read: Callable[[Any], Outputs]
    black_padding: bool = False
    task: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    decides: Callable[[nn.Module], tuple[nn.Module, str]] | None = None


def _mask2former(found: Any) -> Outputs:
    return Outputs(found.class_queries_logits, found.masks_queries_logits, found.transformer_decoder_last_hidden_state)


def _detr(found: Any) -> Outputs:
    return Outputs(found.logits, found.pred_masks, found.last_hidden_state)


def _eomt(found: Any) -> Outputs:
    queries = found.class_queries_logits.shape[1]
    return Outputs(found.class_queries_logits, found.masks_queries_logits, found.last_hidden_state[:, :queries])


def _oneformer(found: Any) -> Outputs:
    return Outputs(found.class_queries_logits, found.masks_queries_logits, found.transformer_decoder_object_queries)


FAMILIES = {
    "mask2former": Family(
        "Mask2Former",
        "Mask2FormerForUniversalSegmentation",
        32,
        replace(_ARGMAX, mask_grid=384),
        _mask2former,
        decides=lambda m: (m.model.transformer_module.decoder.mask_predictor, "forward"),
    ),
    "maskformer": Family(
        "MaskFormer",
        "MaskFormerForInstanceSegmentation",
        32,
        _ARGMAX,
        _mask2former,
        # With an auxiliary loss, the network of transformers fails in eval mode.
        settings={"use_auxiliary_loss": False},
    ),
    "detr": Family("DETR", "DetrForSegmentation", 32, _ARGMAX, _detr),
    "eomt": Family(
        "EoMT",
        "EomtForUniversalSegmentation",
        16,
        replace(_ARGMAX, thing=0.8, stuff=0.8, mode="pixel_wise"),
        _eomt,
        black_padding=True,
    ),
    "oneformer": Family(
        "OneFormer",
        "OneFormerForUniversalSegmentation",
        32,
        _ARGMAX,
        _oneformer,
        task=True,
        settings={"is_training": False, "use_auxiliary_loss": False},
        decides=lambda m: (m.model.transformer_module.decoder, "forward_prediction_heads"),
    ),
}
"""Architectures by the `model_type` of the configuration."""


def family_of(checkpoint: Checkpoint) -> Family:
    """The architecture of a checkpoint; raises InputError when architecture or task are not panoptic."""
    kind = checkpoint.config.get("model_type")
    known = ", ".join(f.name for f in FAMILIES.values())
    if kind not in FAMILIES:
        what = f"a {kind!r} model" if kind else "without model_type in its config.json"
        raise InputError(f"{checkpoint}: {what}; --from hf reads panoptic checkpoints of {known}")
    family = FAMILIES[kind]
    made_for = checkpoint.config.get("architectures") or [family.model]
    if family.model not in made_for:
        raise InputError(
            f"{checkpoint}: holds a {made_for[0]}, which does not segment panoptically; "
            f"{family.name} must be a {family.model}"
        )
    for task in ("semantic", "instance"):
        if task in checkpoint.words and "panoptic" not in checkpoint.words:
            raise InputError(
                f"{checkpoint}: for {task} segmentation, by its name; a panoptic one is needed, which knows things "
                "and stuff (a folder whose name is wrong may be called panoptic)"
            )
    if checkpoint.processor.get("do_split_image"):
        raise InputError(
            f"{checkpoint}: its processor cuts images into parts (do_split_image), as for semantic segmentation; "
            "a panoptic checkpoint is needed"
        )
    return family


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Default mean and standard deviation of transformers for these architectures."""


def input_spec(checkpoint: Checkpoint, family: Family, size: tuple[int, int] | None) -> InputSpec:
    """Size, normalisation and padding of the input.

    Args:
        size: width and height; by default those of the processor, in landscape format if it only limits the sides.

    Raises InputError when the network cannot have that size, or the configuration of the processor is invalid.
    """
    processor = checkpoint.processor
    own, keep_aspect = _own_size(checkpoint, size is not None)
    if family.name == "EoMT":
        own = _fixed_size(checkpoint)
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
    """Width and height, and whether images keep their aspect ratio.

    Older files have one number, or a longest side. Raises InputError when there is no size, unless one is `given`.
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
        raise InputError(f"{checkpoint}: its processor has no input size ({size!r}); give one with --size") from None


def _sides(width: Any, height: Any) -> tuple[int, int]:
    if not (int(width) > 0 and int(height) > 0):
        raise ValueError
    return int(width), int(height)


def _fixed_size(checkpoint: Checkpoint) -> tuple[int, int]:
    side = checkpoint.config.get("image_size", 640)
    return (int(side), int(side)) if isinstance(side, int) else (int(side[1]), int(side[0]))


def _normalisation(checkpoint: Checkpoint) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the three channels in 0..255."""
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
