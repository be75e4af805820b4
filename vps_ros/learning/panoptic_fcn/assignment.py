"""Label assignment: which cells of which pyramid level learn a segment (Li et al., 2021, 3.4, and the released code).

A thing is assigned to all levels whose size range contains it; the ranges overlap. Its target in the heat map of its
class is a Gaussian around its centre of mass.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vps_ros.learning.data.targets import Targets, known_things

STRIDE = 4
"""Stride of the labels."""
LEAST_OVERLAP = 0.7
"""Smallest IoU of a box with the same box whose corners are moved by the radius of the Gaussian (CornerNet)."""
SIGMAS = 3
"""Diameter of a Gaussian in standard deviations."""
INSIDE = 0.1
"""A cell can be a positive of a thing that covers more than this fraction of the cell."""


class Truth(NamedTuple):
    """Ground truth of a batch, without the rows that no image uses.

    Attributes:
        targets: with M rows.
        members: float [B, M, h, w], 1 where a cell belongs to a segment.
        valid: float [B, 1, h, w], 0 for cells that may contain an unlabelled thing, as void and crowds.
        things: bool [B, M].
        centres: [B, M, 2], row and column of the centre of mass, in cells of the labels.
        boxes: [B, M, 2], height and width, in pixels.
    """

    targets: Targets
    members: Tensor
    valid: Tensor
    things: Tensor
    centres: Tensor
    boxes: Tensor


def truth_of(targets: Targets, isthing: Tensor) -> Truth:
    """The ground truth of a batch of targets.

    Args:
        isthing: bool [C].
    """
    targets = targets.trimmed()
    members = targets.masks()
    valid = known_things(targets, isthing)[:, None].float()
    things = isthing[targets.classes.clamp(min=0)] & (targets.classes >= 0)
    lines, columns = members.sum(3), members.sum(2)
    area = lines.sum(2).clamp(min=1)
    centres = [(counts @ _numbers(counts)) / area for counts in (lines, columns)]
    sides = [STRIDE * _extent(counts > 0) for counts in (lines, columns)]
    return Truth(targets, members, valid, things, torch.stack(centres, 2), torch.stack(sides, 2))


def _numbers(counts: Tensor) -> Tensor:
    return torch.arange(counts.shape[-1], device=counts.device, dtype=counts.dtype)


def _extent(occupied: Tensor) -> Tensor:
    """[...]: length from the first to the last occupied cell, inclusive, of bool [..., n]."""
    numbers = _numbers(occupied.float())
    last = torch.where(occupied, numbers, -1.0).amax(-1)
    first = torch.where(occupied, numbers, float(occupied.shape[-1])).amin(-1)
    return (last - first + 1).clamp(min=0)


def levels_of(truth: Truth, sizes: tuple[tuple[float, float], ...]) -> list[Tensor]:
    """bool [B, M] for each level: the things that are assigned to it."""
    size = truth.boxes.prod(2).sqrt()
    return [truth.things & (size >= least) & (size <= largest) for least, largest in sizes]


def radius(height: Tensor, width: Tensor) -> Tensor:
    """Radius, an integer, for boxes in cells: the smallest of the three radii of CornerNet's released code.

    It is the one for a box inside the other; the other two are at least half of height plus width.
    """
    sides = height + width
    root = (4 * LEAST_OVERLAP**2 * sides**2 + 16 * LEAST_OVERLAP * (1 - LEAST_OVERLAP) * height * width).sqrt()
    return ((root - 2 * LEAST_OVERLAP * sides) / 2).floor()


def heat_maps(truth: Truth, chosen: Tensor, classes: Tensor, count: int, size: tuple[int, int]) -> Tensor:
    """[B, count, h, w], 0 to 1: the largest Gaussian of the chosen things of each class, on a level of this size.

    Args:
        chosen: bool [B, M].
        classes: int64 [B, M], among the classes of things.
    """
    b, (height, width) = len(chosen), size
    maps = torch.zeros(b * count, height * width, device=chosen.device)
    images, rows = torch.nonzero(chosen, as_tuple=True)
    scale = torch.tensor([height, width], device=maps.device) / torch.tensor(
        truth.members.shape[2:], device=maps.device
    )
    centre = (truth.centres[images, rows] * scale).floor()
    box = truth.boxes[images, rows] * scale / STRIDE
    reach = radius(box[:, 0], box[:, 1])[:, None]
    sigma = (2 * reach + 1) / SIGMAS
    parts = []
    for axis, n in enumerate(size):
        away = torch.arange(n, device=maps.device) - centre[:, axis : axis + 1]
        parts.append(torch.where(away.abs() <= reach, torch.exp(-away.square() / (2 * sigma.square())), 0.0))
    gaussians = parts[0][:, :, None] * parts[1][:, None, :]
    channel = images * count + classes[images, rows]
    flat = gaussians.flatten(1)
    maps.scatter_reduce_(0, channel[:, None].expand_as(flat), flat, "amax")
    return maps.view(b, count, height, width)


class Positives(NamedTuple):
    """Positives of each segment on a level: K cells [B, M, K] and their weights, which sum to 1 or are all 0."""

    cells: Tensor
    weights: Tensor


@torch.no_grad()
def positives(scores: Tensor, truth: Truth, classes: Tensor, count: int) -> Positives:
    """The `count` cells of each thing with the highest score of its class, weighted by it.

    Args:
        scores: [B, T, h, w], probabilities.
        classes: int64 [B, M], among the classes of things.
    """
    size = scores.shape[2:]
    inside = F.interpolate(truth.members, size=size, mode="area") > INSIDE
    own = scores.gather(1, classes[:, :, None, None].expand(-1, -1, *size))
    values, cells = (own * inside).flatten(2).topk(min(count, math.prod(size)), dim=2)
    # A small level may have fewer cells than `count`; the padding has weight 0.
    missing = (0, count - cells.shape[2])
    values, cells = F.pad(values, missing), F.pad(cells, missing)
    return Positives(cells, values / values.sum(2, keepdim=True).clamp(min=1e-8))
