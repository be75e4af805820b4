"""Heat maps and kernels to segments, with shapes that are fixed, so that a graph can hold it (Li et al., 2021, 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vps_ros.learning.network_io import ModelOutputs
from vps_ros.learning.panoptic_fcn.model import Output, PanopticFCN, apply_kernels, region_kernels

COARSE = 2
"""Levels, the last ones, whose heat maps are smoothed over 5x5 cells, those of the others over 3x3."""
ROUNDING = 1e-5
"""Of probabilities, between ONNX Runtime and torch."""
NOTHING = -20.0
"""Class logit that means a probability of zero."""


class Peaks(NamedTuple):
    """Of an image, [B, N] each, by descending score: score, class of things, cell in all levels together."""

    scores: Tensor
    classes: Tensor
    cells: Tensor


def smoothed(probabilities: Tensor, side: int) -> Tensor:
    """Maps [B, T, h, w], each averaged with its mean over side x side cells."""
    return (probabilities + F.avg_pool2d(probabilities, side, 1, side // 2)) / 2


class Decisions(NamedTuple):
    """What rounding can change: the peaks, as numbers of class and cell together, and which candidates are one thing.

    int64 [B, N] each; for each candidate, the first one that it is similar to.
    """

    peaks: Tensor
    first: Tensor


def peaks(centres: list[Tensor], count: int, smooth: bool, given: Tensor | None = None) -> Peaks:
    """The highest peaks of all classes and levels, or those given; score 0 where there are fewer.

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
    """int64 [B, N]: the first candidate of its class, by score, whose kernel is similar to that of each; maybe itself.

    Args:
        kernels: [B, N, D], by descending score.
        classes: [B, N]; usable: bool [B, N].
    """
    unit = F.normalize(kernels, dim=2, eps=1e-8)
    alike = (unit @ unit.transpose(1, 2) >= similar) & (classes[:, :, None] == classes[:, None, :])
    alike = alike & usable[:, :, None] & usable[:, None, :]
    number = torch.arange(kernels.shape[1], device=kernels.device)
    alike = (alike & (number[:, None] < number[None])) | (number[:, None] == number[None])
    # The first of a column, as the largest of numbers that fall from row to row.
    return (alike * (len(number) - number)[:, None]).argmax(1)


def averaged(vectors: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the vectors [B, N, C] that belong to each candidate, and bool [B, N], which candidates are kept.

    A candidate that is not the first of its like is not kept, nor what belongs to it, as in the released code.
    """
    number = torch.arange(first.shape[1], device=first.device)
    members = (first[:, None, :] == number[None, :, None]).to(vectors.dtype)
    return (members @ vectors) / members.sum(2, keepdim=True).clamp(min=1), first == number


def class_logits(scores: Tensor, columns: Tensor, usable: Tensor, count: int) -> Tensor:
    """[B, N, count + 1], whose softmax is the score for the class, and an equal share for each other and void.

    So a class wins against void when its score is more than 1 / (count + 1).

    Args:
        scores: [B, N]; columns: int64 [B, N]; usable: bool [B, N], the others are void.
    """
    scores = scores.clamp(1e-6, 1 - 1e-6)[:, :, None]
    mine = torch.arange(count + 1, device=scores.device) == columns[:, :, None]
    logits = torch.where(mine, scores.log(), ((1 - scores) / count).log())
    void = torch.arange(count + 1, device=scores.device) == count
    return torch.where(usable[:, :, None], logits, torch.where(void, 0.0, NOTHING))


def answers(model: PanopticFCN, output: Output, given: Decisions | None = None) -> ModelOutputs:
    """Segments as the ONNX contract wants them: N slots for things, then one for each class of stuff.

    A thing's score is that of its peak times the mean probability in its mask. Stuff has scores below those of all
    things that post-processing keeps, so that things are pasted first; it has no embedding.

    Args:
        given: decisions to take over.
    """
    a = model.architecture
    found = peaks(output.centres, a.things, a.smoothed, given and given.peaks)
    kernels = torch.cat([k.flatten(2) for k in output.kernels], 2)
    vectors = kernels.gather(2, found.cells[:, None].expand(-1, kernels.shape[1], -1)).transpose(1, 2)
    usable = found.scores > a.centre
    first = given.first if given else fuse(model.thing_kernels(vectors), found.classes, usable, a.similar)
    vectors, kept = averaged(vectors, first)
    masks = apply_kernels(model.thing_kernels(vectors), output.feature)
    if model.gated:
        gates = model.gates(output.semantic)
        index = found.classes[:, :, None, None].expand(-1, -1, *gates.shape[2:])
        masks = masks + gates.gather(1, index)
    scores = found.scores * mean_inside(masks.sigmoid(), a.mask)
    logits = class_logits(scores, model.things[found.classes], kept & usable, a.classes)
    stuff_classes, stuff_masks = (semantic_stuff if model.stuff_kernels is None else stuff)(model, output)
    embeddings = model.embedded(vectors).float()
    none = embeddings.new_zeros(len(embeddings), stuff_masks.shape[1], embeddings.shape[2])
    return ModelOutputs(
        torch.cat([logits, stuff_classes], 1), torch.cat([masks, stuff_masks], 1), torch.cat([embeddings, none], 1)
    )


def mean_inside(probabilities: Tensor, threshold: float) -> Tensor:
    """[B, N]: mean of probabilities [B, N, h, w] above the threshold; 0 where there are none."""
    inside = (probabilities > threshold).to(probabilities.dtype)
    return (probabilities * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)


def semantic_stuff(model: PanopticFCN, output: Output) -> tuple[Tensor, Tensor]:
    """Class logits [B, S, C + 1] and mask logits [B, S, h, w] of stuff: pixels go to the likeliest class."""
    semantic = output.semantic
    masks = margins(semantic)[:, model.stuff]
    probability = (semantic[:, model.stuff] - semantic.logsumexp(1, keepdim=True)).exp()
    inside = (masks > 0).to(masks.dtype)
    area = inside.sum((2, 3))
    return stuff_logits(model, (probability * inside).sum((2, 3)) / area.clamp(min=1), area > 0), masks


def stuff(model: PanopticFCN, output: Output) -> tuple[Tensor, Tensor]:
    """As semantic_stuff, from the mean kernel of each region.

    On each level, a class has the cells where its score is the largest, if their mean score is enough. Its kernel is
    the sum of theirs over the size of the map, in training as here; that of the levels is averaged.
    """
    total, score, levels = 0.0, 0.0, 0.0
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
    """Each of the logits [B, N, h, w] minus the largest of the others: positive exactly where it is the largest."""
    best = logits.amax(1, keepdim=True)
    second = logits.masked_fill(logits == best, float("-inf")).amax(1, keepdim=True)
    return logits - torch.where(logits == best, second, best)


def stuff_logits(model: PanopticFCN, confidence: Tensor, found: Tensor) -> Tensor:
    """Class logits [B, S, C + 1] of stuff with these mean scores, each [B, S]."""
    count = model.architecture.classes
    return class_logits(stuff_score(confidence, count), model.stuff[None].expand_as(found), found, count)


def stuff_score(confidence: Tensor, classes: int) -> Tensor:
    """From the least score that wins against void to one and a half of it."""
    return (1 + confidence / 2) * (1 + 1e-3) / (classes + 1)
