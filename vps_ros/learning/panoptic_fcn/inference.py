"""Inference: heat maps and kernels to segments, with fixed shapes for ONNX export (Li et al., 2021, 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vps_ros.learning.network_io import KernelOutputs, ModelOutputs, with_masks
from vps_ros.learning.panoptic_fcn.model import Output, PanopticFCN, apply_kernels, gathered, region_kernels

COARSE = 2
"""Number of coarsest levels whose heat maps are smoothed over 5x5 cells instead of 3x3."""
ROUNDING = 1e-5
"""Tolerance for the rounding of probabilities between ONNX Runtime and torch."""
NOTHING = -20.0
"""Class logit of a probability near zero."""


class Peaks(NamedTuple):
    """Peaks, [B, N] each, by descending score: score, thing class, index of the cell over all levels."""

    scores: Tensor
    classes: Tensor
    cells: Tensor


def smoothed(probabilities: Tensor, side: int) -> Tensor:
    """Maps [B, T, h, w], each averaged with its mean over side x side cells."""
    return (probabilities + F.avg_pool2d(probabilities, side, 1, side // 2)) / 2


class Decisions(NamedTuple):
    """Discrete results that rounding can change, int64 [B, N] each.

    Attributes:
        peaks: index of class and cell of each candidate.
        first: the first candidate that is similar to each candidate.
    """

    peaks: Tensor
    first: Tensor


def peaks(centres: list[Tensor], count: int, smooth: bool, given: Tensor | None = None) -> Peaks:
    """The highest peaks of all classes and levels, or the given ones; score 0 if there are fewer.

    Args:
        centres: logits [B, T, h, w] of each level.
    """
    slack = 0.0 if given is None else ROUNDING
    scores = []
    for i, centre in enumerate(centres):
        p = centre.sigmoid()
        if smooth:
            p = smoothed(p, 5 if i >= len(centres) - COARSE else 3)
        scores.append((p * (F.max_pool2d(p, 3, 1, 1) <= p + slack)).flatten(2))
    size = sum(one.shape[2] for one in scores)
    flat = torch.cat(scores, 2).flatten(1)
    if given is None:
        found, index = flat.topk(count, dim=1)
    else:
        found, index = flat.gather(1, given), given
    return Peaks(found, torch.div(index, size, rounding_mode="floor"), index % size)


def fuse(kernels: Tensor, classes: Tensor, usable: Tensor, similar: float) -> Tensor:
    """int64 [B, N]: for each candidate, the first one by score with the same class and a similar kernel; may be itself.

    Args:
        kernels: [B, N, D], by descending score.
        classes: [B, N]; usable: bool [B, N].
    """
    unit = F.normalize(kernels, dim=2, eps=1e-8)
    alike = (unit @ unit.transpose(1, 2) >= similar) & (classes[:, :, None] == classes[:, None, :])
    alike = alike & usable[:, :, None] & usable[:, None, :]
    number = torch.arange(kernels.shape[1], device=kernels.device)
    alike = (alike & (number[:, None] < number[None])) | (number[:, None] == number[None])
    # argmax over values that decrease from row to row finds the first true row.
    return (alike * (len(number) - number)[:, None]).argmax(1)


def averaged(vectors: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Mean vector [B, N, C] of the candidates merged into each candidate, and bool [B, N], which candidates are kept.

    A candidate that was merged into another is not kept, nor are candidates merged into it, as in the released code.
    """
    number = torch.arange(first.shape[1], device=first.device)
    members = (first[:, None, :] == number[None, :, None]).to(vectors.dtype)
    return (members @ vectors) / members.sum(2, keepdim=True).clamp(min=1), first == number


def class_logits(scores: Tensor, columns: Tensor, usable: Tensor, count: int) -> Tensor:
    """Logits [B, N, count + 1]: their softmax is the score for the class, and equal for all other classes and void.

    A class exceeds void if its score is greater than 1 / (count + 1).

    Args:
        scores: [B, N].
        columns: int64 [B, N].
        usable: bool [B, N]; the others are void.
    """
    scores = scores.clamp(1e-6, 1 - 1e-6)[:, :, None]
    mine = torch.arange(count + 1, device=scores.device) == columns[:, :, None]
    logits = torch.where(mine, scores.log(), ((1 - scores) / count).log())
    void = torch.arange(count + 1, device=scores.device) == count
    return torch.where(usable[:, :, None], logits, torch.where(void, 0.0, NOTHING))


def model_outputs(
    model: PanopticFCN, output: Output, given: Decisions | None = None, as_kernels: bool = False
) -> ModelOutputs | KernelOutputs:
    """Segments in the format of the ONNX contract: N slots for things, then one per stuff class.

    The score of a thing is that of its peak times the mean probability in its mask. Stuff scores are below those of all
    things that post-processing keeps, so that things are pasted first. Stuff has zero embeddings.

    Args:
        given: decisions of a model file to use instead.
        as_kernels: masks of things as kernels, each followed by a weight of 1 for the gate of its class, if gated.
    """
    a = model.architecture
    found = peaks(output.centres, a.things, a.smoothed, given and given.peaks)
    vectors = gathered(torch.cat([k.flatten(2) for k in output.kernels], 2), found.cells)
    usable = found.scores > a.centre
    first = given.first if given else fuse(model.thing_kernels(vectors), found.classes, usable, a.similar)
    vectors, kept = averaged(vectors, first)
    kernels, features = model.thing_kernels(vectors), output.feature
    masks = apply_kernels(kernels, features)
    if model.gated:
        gates = model.gates(output.semantic)
        own = F.one_hot(found.classes, gates.shape[1]).to(kernels.dtype)
        kernels, features = torch.cat([kernels, own], 2), torch.cat([features, gates], 1)
        index = found.classes[:, :, None, None].expand(-1, -1, *gates.shape[2:])
        masks = masks + gates.gather(1, index)
    scores = found.scores * mean_inside(masks.sigmoid(), a.mask)
    logits = class_logits(scores, model.things[found.classes], kept & usable, a.classes)
    stuff_classes, stuff_masks = (semantic_stuff if model.stuff_kernels is None else stuff)(model, output)
    embeddings = model.embedded(vectors).float()
    none = embeddings.new_zeros(len(embeddings), stuff_masks.shape[1], embeddings.shape[2])
    classes, embeddings = torch.cat([logits, stuff_classes], 1), torch.cat([embeddings, none], 1)
    if as_kernels:
        return KernelOutputs(classes, *with_masks(kernels, features, stuff_masks), embeddings)
    return ModelOutputs(classes, torch.cat([masks, stuff_masks], 1), embeddings)


def mean_inside(probabilities: Tensor, threshold: float) -> Tensor:
    """[B, N]: mean of the probabilities [B, N, h, w] above the threshold; 0 if there are none."""
    inside = (probabilities > threshold).to(probabilities.dtype)
    return (probabilities * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)


def semantic_stuff(model: PanopticFCN, output: Output) -> tuple[Tensor, Tensor]:
    """Class logits [B, S, C + 1] and mask logits [B, S, h, w] of stuff from semantic logits."""
    semantic = output.semantic
    assert semantic is not None
    masks = margins(semantic)[:, model.stuff]
    probability = (semantic[:, model.stuff] - semantic.logsumexp(1, keepdim=True)).exp()
    inside = (masks > 0).to(masks.dtype)
    area = inside.sum((2, 3))
    return stuff_logits(model, (probability * inside).sum((2, 3)) / area.clamp(min=1), area > 0), masks


def stuff(model: PanopticFCN, output: Output) -> tuple[Tensor, Tensor]:
    """Same as semantic_stuff, from the mean kernel of each region.

    On each level, the region of a class is where its score is the largest, if the mean score there is high enough. Its
    kernel is the sum over the region divided by the size of the map, as in training, averaged over levels.
    """
    assert model.stuff_kernels is not None
    total = score = levels = torch.zeros((), device=output.feature.device)
    for region, kernels in zip(output.regions, output.kernels, strict=True):
        p = region.sigmoid().flatten(2)
        inside = (p == p.amax(1, keepdim=True)).to(p.dtype)
        mean = (p * inside).sum(2) / inside.sum(2).clamp(min=1)
        found = (mean > model.architecture.region).to(p.dtype)
        total = total + found[:, :, None] * model.stuff_kernels(region_kernels(inside, kernels))
        score, levels = score + found * mean, levels + found
    kernels = total / levels.clamp(min=1)[:, :, None]
    masks = apply_kernels(kernels, output.feature).clamp(min=NOTHING)
    masks = margins(torch.where((levels > 0)[:, :, None, None], masks, 2 * NOTHING))[:, 1:]
    return stuff_logits(model, (score / levels.clamp(min=1))[:, 1:], levels[:, 1:] > 0), masks


def margins(logits: Tensor) -> Tensor:
    """Difference of each of the logits [B, N, h, w] from the largest other one: positive where it is the largest."""
    best = logits.amax(1, keepdim=True)
    second = logits.masked_fill(logits == best, float("-inf")).amax(1, keepdim=True)
    return logits - torch.where(logits == best, second, best)


def stuff_logits(model: PanopticFCN, confidence: Tensor, found: Tensor) -> Tensor:
    """Class logits [B, S, C + 1] of stuff with these mean scores [B, S]."""
    count = model.architecture.classes
    return class_logits(stuff_score(confidence, count), model.stuff[None].expand_as(found), found, count)


def stuff_score(confidence: Tensor, classes: int) -> Tensor:
    """Score between 1 and 1.5 times the smallest score that exceeds void."""
    return (1 + confidence / 2) * (1 + 1e-3) / (classes + 1)
