"""Checkpoints to ONNX files of the contract (vps_ros/segmenters/model_card.py), checked before they are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vps_ros import __version__
from vps_ros.clips import ClipSpec
from vps_ros.errors import InputError
from vps_ros.files import atomic_write
from vps_ros.learning.export import graphs, verify
from vps_ros.learning.kinds import Kind
from vps_ros.learning.network_io import split_frames
from vps_ros.learning.recipe import Recipe
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds

OUTPUTS = ("class_logits", "mask_logits", "query_embeddings")
KERNEL_OUTPUTS = ("class_logits", "mask_kernels", "mask_features", "query_embeddings")


class Deployed(nn.Module):
    """The network with the input and outputs of the contract: uint8 [1, H, W, 3] RGB to the tensors `outputs`.

    A network for clips of T frames: [T, H, W, 3], and masks [T, N, h, w].

    Args:
        as_kernels: KERNEL_OUTPUTS instead of OUTPUTS, for networks that have them.
    """

    outputs: tuple[str, ...] = OUTPUTS

    def __init__(self, model: nn.Module, spec: InputSpec, as_kernels: bool = False) -> None:
        super().__init__()
        self.as_kernels = as_kernels
        if as_kernels:
            self.outputs = KERNEL_OUTPUTS
        self.model = model
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(spec.std).view(1, 3, 1, 1))

    def normalised(self, image: Tensor) -> Tensor:
        """The normalised image, float32 [1, 3, H, W]."""
        return (image.permute(0, 3, 1, 2).to(torch.float32) - self.mean) * self.scale

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        output = self.model(self.normalised(image))
        masks = split_frames(output.final.masks, getattr(self.model, "frames", 1))
        return output.final.classes, masks, output.embeddings


def export(
    model: nn.Module,
    card: ModelCard,
    path: str | Path,
    write: Callable[[Deployed, Tensor, Path], None] | None = None,
    compare: Callable[[Deployed, Path, Sequence[NDArray[np.uint8]]], Sequence[verify.Difference]] | None = None,
    deployed: Deployed | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> float:
    """Writes the model atomically and returns the largest relative difference from torch.

    Args:
        model: its `architecture` has INPUT_SIZES and `classes`; unless `deployed` reads its output, that has `final`, a
            MaskOutput, and `embeddings`. A card with `clip` needs a ClipNetwork with this number of frames.
        write: writes the graph, instead of `graphs.trace`.
        compare: computes the differences on some images, instead of `verify.differences`, for networks with discrete
            choices such as TopK.
        deployed: the traced module, instead of Deployed.
        state: of a recurrent network, at a first frame; see `graphs.trace`.

    Raises InputError when the card does not fit the model; RuntimeError when the outputs of ONNX Runtime differ.
    """
    spec = card.input
    sides = model.architecture.INPUT_SIZES
    if not sides.accepts((spec.width, spec.height)):
        raise InputError(f"input {spec.width}x{spec.height}: both sides must be {sides}")
    if len(card.taxonomy) != model.architecture.classes:
        raise InputError(f"{len(card.taxonomy)} classes in the card, {model.architecture.classes} in the model")
    frames = 1 if card.clip is None else card.clip.length
    if frames != getattr(model, "frames", 1):
        model.frames = frames
    deployed = (deployed or Deployed(model, spec)).eval()
    images = verify.probes(spec.height, spec.width, frames)
    if state:
        # The state is meant for consecutive frames, so a frame similar to the last one is added.
        images.append(np.roll(images[-1], 4, axis=2))
    with atomic_write(path) as draft:
        (write or partial(graphs.trace, outputs=deployed.outputs, state=state))(
            deployed, torch.from_numpy(images[0]), draft
        )
        graphs.save(onnx.load(str(draft)), card, draft)
        found = (compare or partial(verify.differences, names=deployed.outputs, state=state))(deployed, draft, images)
        verify.require_close(found, str(path))
    return max(one.largest for one in found)


def model_card(
    kind: Kind,
    recipe: Recipe,
    step: int,
    size: tuple[int, int] | None = None,
    limits: Thresholds | None = None,
    clip: ClipSpec | None = None,
) -> ModelCard:
    """The card of a model of this recipe; `size` is width and height, by default that of the data."""
    source = {"trained_by": f"vps-ros {__version__}", "step": step, "terms": "; ".join(recipe.terms)}
    source["recipe"] = recipe.to_mapping()
    spec = kind.input_spec(size or recipe.data.size, recipe.data.keep_aspect)
    limits = limits or kind.thresholds
    return ModelCard(recipe.name, recipe.data.taxonomy, spec, kind.activation, limits, json.dumps(source), clip=clip)
