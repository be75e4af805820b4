"""The architectures of transformers: outputs, input specification and post-processing of each.

Thresholds for panoptic checkpoints are the defaults of each one's own `post_process_panoptic_segmentation`. EoMT's
follows the original Mask2Former code; the others use the mode `argmax`, and Mask2Former resizes its masks to 384 x 384
first. Thresholds for checkpoints of instance segmentation are those of `post_process_instance_segmentation`, which
compares class score times mask score; overlapping masks are resolved as in Panoptic FPN (Kirillov et al., 2019).
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

TASKS = ("panoptic", "semantic", "instance")
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
        limits: thresholds of its panoptic post-processing.
        read: selects the tensors of the contract from the output of the model.
        tasks: those that checkpoints of it are trained for, of TASKS; the first one is the default.
        logits: for networks without queries: module and normalised image -> class logits [1, C, h, w].
        black_padding: the image is padded before normalisation, with black; otherwise with the mean.
        task: the model has a text input that names the task.
        settings: entries of its configuration that are replaced, because only training needs them.
        decides: the submodule and its method that compute the attention masks of decoder layers; see export.py.
    """

    name: str
    model: str
    step: int
    limits: Thresholds = _ARGMAX
    read: Callable[[Any], Outputs] | None = None
    tasks: tuple[str, ...] = ("panoptic",)
    logits: Callable[[nn.Module, Tensor], Tensor] | None = None
    black_padding: bool = False
    task: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    decides: Callable[[nn.Module], tuple[nn.Module, str]] | None = None

    @property
    def instance_limits(self) -> Thresholds:
        """Thresholds of its post-processing for instance segmentation."""
        return replace(
            self.limits,
            overlap=0.5,
            mode="mask_wise",
            mask_grid=0,
            mask_exponent=1.0,
            rank_threshold=True,
            things_first=True,
            drop_void=False,
        )


def _upernet(model: nn.Module, pixels: Tensor) -> Tensor:
    # The network enlarges its logits to the input, which post-processing does faster.
    return model.decode_head(model.backbone.forward_with_filtered_kwargs(pixels).feature_maps)


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
        TASKS,
        decides=lambda m: (m.model.transformer_module.decoder.mask_predictor, "forward"),
    ),
    "maskformer": Family(
        "MaskFormer",
        "MaskFormerForInstanceSegmentation",
        32,
        _ARGMAX,
        _mask2former,
        TASKS,
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
        TASKS,
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
    "segformer": Family(
        "SegFormer",
        "SegformerForSemanticSegmentation",
        32,
        tasks=("semantic",),
        logits=lambda model, pixels: model(pixels).logits,
    ),
    "upernet": Family(
        "UPerNet",
        "UperNetForSemanticSegmentation",
        32,
        tasks=("semantic",),
        logits=_upernet,
        # Only training needs its second head.
        settings={"use_auxiliary_head": False},
    ),
}
"""Architectures by the `model_type` of the configuration."""


def family_of(checkpoint: Checkpoint) -> Family:
    """The architecture of a checkpoint; raises InputError when it is not one of FAMILIES."""
    kind = checkpoint.config.get("model_type")
    known = ", ".join(f.name for f in FAMILIES.values())
    if kind not in FAMILIES:
        what = f"a {kind!r} model" if kind else "without model_type in its config.json"
        raise InputError(
            f"{checkpoint}: {what}; --from hf reads checkpoints of {known}. Another semantic network: export it to "
            "ONNX, then use --from semantic"
        )
    family = FAMILIES[kind]
    made_for = checkpoint.config.get("architectures") or [family.model]
    if family.model not in made_for:
        raise InputError(
            f"{checkpoint}: holds a {made_for[0]}, which does not segment images; {family.name} must be a "
            f"{family.model}"
        )
    return family


def task_of(checkpoint: Checkpoint, family: Family, choice: str | None = None) -> str:
    """The task of a checkpoint, one of TASKS: the user's choice, or by its name and processor.

    Raises InputError when the architecture has no such task.
    """
    if choice is not None:
        if choice not in family.tasks:
            raise InputError(
                f"--task {choice}: {family.name} is imported for {' and '.join(family.tasks)} segmentation"
            )
        return choice
    found = next((task for task in TASKS if task in checkpoint.words), None)
    if found is None and checkpoint.processor.get("do_split_image"):
        found = "semantic"
    if found not in (None, *family.tasks):
        raise InputError(
            f"{checkpoint}: for {found} segmentation, by its name or its processor; {family.name} is imported for "
            f"{' and '.join(family.tasks)} segmentation; if this is what it was trained for, add --task "
            f"{family.tasks[0]}"
        )
    return found or family.tasks[0]


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Default mean and standard deviation of transformers for these architectures."""


def input_spec(
    checkpoint: Checkpoint, family: Family, size: tuple[int, int] | None, task: str = "panoptic"
) -> InputSpec:
    """Size, normalisation and padding of the input.

    Args:
        size: width and height; by default those of the processor, in landscape format if it only limits the sides.
        task: one of TASKS.

    Raises InputError when the network cannot have that size, or the configuration of the processor is invalid.
    """
    processor = checkpoint.processor
    square = family.logits is not None and isinstance(processor.get("size"), int)
    own, keep_aspect = _own_size(checkpoint, size is not None)
    if square:
        own, keep_aspect = (processor["size"],) * 2, False
    if family.name == "EoMT":
        own = _fixed_size(checkpoint)
        split = task == "semantic" and bool(processor.get("do_split_image"))
        keep_aspect = keep_aspect and not split
        if split and size is None:
            own = (2 * own[0], own[1])
        if size is not None and (min(size) != own[0] if split else size != own):
            side = f"a shorter side of {own[0]}" if split else f"{own[0]}x{own[1]} only"
            raise InputError(f"--size {size[0]}x{size[1]}: {checkpoint} has position embeddings for {side}")
    width, height = size or tuple(math.ceil(side / family.step) * family.step for side in own)
    if min(width, height) < family.step or width % family.step or height % family.step:
        raise InputError(f"--size {width}x{height}: {family.name} takes multiples of {family.step} for both sides")
    mean, std = _normalisation(checkpoint)
    fill = (0, 0, 0) if family.black_padding and keep_aspect and processor.get("do_pad", True) else None
    return InputSpec(height, width, mean, std, keep_aspect, fill=fill)


def windows(spec: InputSpec, side: int) -> list[int]:
    """Starts of the square windows of a wide or high input, in pixels along its longer side, evenly spaced.

    EoMT for semantic segmentation sees such windows (`do_split_image` of its processor).
    """
    longer = max(spec.width, spec.height)
    count = math.ceil(longer / side)
    return [i * (longer - side) // max(count - 1, 1) for i in range(count)]


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
