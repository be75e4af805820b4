"""The architectures of transformers that segment panoptically, and how each of them is run.

Thresholds are the defaults of each one's own `post_process_panoptic_segmentation`. EoMT's follows Mask2Former's own
code; the others' is the mode `argmax`, and Mask2Former's brings its masks to 384 x 384 first, whatever their size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning.hf.checkpoint import Checkpoint
from vps_ros.segmenters.model_card import Thresholds

_ARGMAX = Thresholds(thing=0.5, stuff=0.5, overlap=0.8, mask=0.5, mode="argmax")


class Outputs(NamedTuple):
    """Class logits [1, N, C + 1], mask logits [1, N, h, w] and query embeddings [1, N, D]."""

    classes: Tensor
    masks: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        name: for people.
        model: class of transformers.
        step: width and height of the input must be multiples of it.
        limits: its own post-processing.
        read: picks the tensors of the contract from what the model returns.
        black_padding: whether the image is padded before it is normalised, so with black; otherwise with the mean.
        task: whether it must be told, in words, what to do.
        settings: entries of its configuration to be replaced: what only training needs.
        decides: the part of the network, and its method, that decides where decoder layers attend (decisions.py).
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
        # With it, transformers' network fails outside of training.
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
"""By the `model_type` of a checkpoint's configuration."""


def family_of(checkpoint: Checkpoint) -> Family:
    """Raises InputError when the checkpoint is of an architecture, or for a task, that is not panoptic."""
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
