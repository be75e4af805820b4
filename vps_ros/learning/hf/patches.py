"""What torch's tracer cannot follow in transformers' networks, replaced while they are traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def traceable(model: nn.Module) -> Iterator[None]:
    """While the block runs, the network computes the same in a way that can be traced for images of one size.

    Deformable attention (Mask2Former, OneFormer) makes its sampling grid from the sizes of the feature maps. To the
    tracer these are tensors of integers, whose quotients are float64, and so becomes the grid: ONNX Runtime has no
    GridSample for it. As plain numbers they make a constant grid of float32. Nothing is padded inside these networks,
    so the share of each map that is valid is one.
    """
    changed = []
    for module in model.modules():
        if hasattr(module, "get_reference_points"):
            module.get_reference_points = _with_numbers(module.get_reference_points)
            changed.append((module, "get_reference_points"))
        if hasattr(module, "get_valid_ratio"):
            module.get_valid_ratio = _all_valid
            changed.append((module, "get_valid_ratio"))
    try:
        yield
    finally:
        for module, name in changed:
            delattr(module, name)


def _with_numbers(original):
    def get_reference_points(spatial_shapes_list, valid_ratios: Tensor, device) -> Tensor:
        return original([(int(h), int(w)) for h, w in spatial_shapes_list], valid_ratios, device)

    return get_reference_points


def _all_valid(mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(len(mask), 2, dtype=dtype, device=mask.device)
