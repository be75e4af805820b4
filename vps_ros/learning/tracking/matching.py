"""The differentiable matching layer of HybridTracker (III-B, equations 4 to 6), its fusion, and their training.

A pair of frames has M detections in the older and N in the newer frame; batches are padded. `truth` [B, M, N] is 1 for
two detections of one object; `counted` [B, M, N] excludes padding and pairs without a known object. Only the embedding
head and the fusion are trained, in about a minute; the segmenter does not change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vps_ros.errors import InputError
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.tracking.observations import Observation
from vps_ros.trackers.learned import Fusion, Head

_CERTAIN = 1e-6
"""Smallest distance of a probability from 0 and 1 in the loss, for finite logarithms."""
_MASKED = -1e9


class Matching(NamedTuple):
    """Probabilities of a match [B, M, N].

    `ahead` is that of j given i (equation 4), `behind` that of i given j, `fused` the logit of both matrices together.
    """

    ahead: Tensor
    behind: Tensor
    fused: Tensor


def match_probability(older: Tensor, newer: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 4 in both directions: softmax of the products over the newer and over the older detections.

    Equation 5 is the expectation of j under it. Instances have no order, so that the number j stands for a unit vector,
    whose expectation is the distribution itself.

    Args:
        older: [B, M, D].
        newer: [B, N, D].
        there: bool [B, M, N], False for padding.
    """
    products = (older @ newer.transpose(1, 2)).masked_fill(~there, _MASKED)
    return products.softmax(2) * there, products.softmax(1) * there


def matching_loss(probability: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Equation 6: -(y log p + (1 - y) log(1 - p)), summed over the candidates of i, averaged over i.

    Rows without a counted pair are excluded.
    """
    p = probability.clamp(_CERTAIN, 1 - _CERTAIN)
    each = -(truth * p.log() + (1 - truth) * (1 - p).log()) * counted
    return each.sum() / counted.any(2).sum().clamp(min=1)


class Matcher(nn.Module):
    """The trainable head and fusion, initialised as those of an untrained tracker.

    Args:
        width: length of the segmenter's embeddings.
        hidden: units between the two fully connected layers.
        temperature: of the cosine at the start.
        dropout: of the hidden units in training.
    """

    def __init__(self, width: int, hidden: int, temperature: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.hidden, self.out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.log_scale = nn.Parameter(torch.tensor(math.log(temperature) / -2))
        self.convolution = nn.Conv2d(2, 1, 1)
        start = Fusion()
        with torch.no_grad():
            self.convolution.weight.copy_(torch.tensor([start.pixel, start.instance]).view(1, 2, 1, 1))
            self.convolution.bias.fill_(start.bias)

    def describe(self, embeddings: Tensor) -> Tensor:
        """[..., D] to [..., D]; see trackers/learned.py."""
        unit = F.normalize(embeddings, dim=-1)
        hidden = F.dropout(self.hidden(unit).relu(), self.dropout, self.training)
        return self.log_scale.exp() * (unit + self.out(hidden))

    def forward(self, older: Tensor, newer: Tensor, there: Tensor, dice: Tensor) -> Matching:
        """Embeddings [B, M, D] and [B, N, D], bool [B, M, N], Dice matrix [B, M, N]."""
        ahead, behind = match_probability(self.describe(older), self.describe(newer), there)
        return Matching(ahead, behind, self.convolution(torch.stack([dice, (ahead + behind) / 2], 1))[:, 0])

    def loss(self, matching: Matching, truth: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of the matching layer, in both directions, and of the fusion: equation 6 with a sigmoid."""
        ahead = matching_loss(matching.ahead, truth, counted)
        behind = matching_loss(matching.behind.transpose(1, 2), truth.transpose(1, 2), counted.transpose(1, 2))
        return (ahead + behind) / 2, matching_loss(matching.fused.sigmoid(), truth, counted)

    def parts(self) -> tuple[Head, Fusion]:
        """Copies of the head and the fusion for the tracker."""
        layers = (self.hidden.weight, self.hidden.bias, self.out.weight, self.out.bias)
        head = Head(math.exp(float(self.log_scale.detach())), *(t.detach().numpy().copy() for t in layers))
        pixel, instance = self.convolution.weight.detach().flatten().tolist()
        return head, Fusion(pixel, instance, float(self.convolution.bias.detach()))


_FUSION_RATE = 10.0
"""Factor of the learning rate for the fusion and the scale, whose initial values are far from the final ones."""


@dataclass(frozen=True)
class MatchingSchedule:
    """Training of the head and the fusion; the entry `schedule` of a recipe.

    Attributes:
        hidden: units of the head between its two layers.
        dropout: of the hidden units.
        temperature: initial temperature of the cosine.
        steps, pairs: optimiser steps, and pairs of frames in each.
        learning_rate: falls to 1 % of it along a cosine.
    """

    hidden: int = 64
    dropout: float = 0.7
    temperature: float = 0.1
    steps: int = 1000
    pairs: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.3

    def __post_init__(self) -> None:
        if min(self.hidden, self.steps, self.pairs) < 1 or not self.temperature > 0 or not 0 <= self.dropout < 1:
            raise InputError(
                "schedule: make hidden, steps and pairs at least 1, temperature positive, dropout 0 or more and below 1"
            )


class Pairs(NamedTuple):
    """Pairs of frames, padded to K, the largest number of detections of a frame.

    Attributes:
        embeddings: float32 [F, K, D] of all frames.
        objects: int64 [F, K], object number, unique over all drives; 0 for no known object, -1 for padding.
        older, newer: int64 [P], frames of each pair.
        dice: float32 [P, K, K].
    """

    embeddings: Tensor
    objects: Tensor
    older: Tensor
    newer: Tensor
    dice: Tensor

    def __len__(self) -> int:
        return len(self.older)


class Batch(NamedTuple):
    """Inputs and targets of Matcher for some pairs; see the module."""

    older: Tensor
    newer: Tensor
    there: Tensor
    dice: Tensor
    truth: Tensor
    counted: Tensor


def pairs_of(drives: Sequence[Sequence[Observation]]) -> Pairs:
    """All pairs of frames at a distance of 1 or 2 that both have detections."""
    frames = [one for drive in drives for one in drive]
    most = max((len(one.objects) for one in frames), default=0)
    if not most:
        raise InputError("data: the model detects no thing in any drive; use more drives or a better model")
    width = next(one.embeddings.shape[1] for one in frames if len(one.objects))
    embeddings = np.zeros((len(frames), most, width), np.float32)
    objects = np.full((len(frames), most), -1)
    older, newer, dice, first = [], [], [], 0
    for number, drive in enumerate(drives):
        for i, one in enumerate(drive, first):
            count = len(one.objects)
            embeddings[i, :count] = one.embeddings
            objects[i, :count] = np.where(one.objects > 0, one.objects + (number << 32), 0)
            for steps, matrix in one.dice.items():
                older.append(i - steps)
                newer.append(i)
                padded = np.zeros((most, most), np.float32)
                padded[: matrix.shape[0], : matrix.shape[1]] = matrix
                dice.append(padded)
        first += len(drive)
    dice = np.stack(dice) if dice else np.zeros((0, most, most), np.float32)
    arrays = (embeddings, objects, np.array(older, np.int64), np.array(newer, np.int64), dice)
    return Pairs(*(torch.from_numpy(a) for a in arrays))


def batch_of(pairs: Pairs, which: Tensor) -> Batch:
    """The pairs `which` [B], with the smallest possible padding."""
    older, newer = pairs.older[which], pairs.newer[which]
    a, b = pairs.objects[older], pairs.objects[newer]
    m, n = (max(1, int((objects >= 0).sum(1).max())) for objects in (a, b))
    a, b = a[:, :m, None], b[:, None, :n]
    there = (a >= 0) & (b >= 0)
    truth = ((a == b) & (a > 0)).float()
    # Two detections without a known object may still be one, such as a tree that is detected as a person twice.
    counted = there & ((a > 0) | (b > 0))
    return Batch(
        pairs.embeddings[older, :m], pairs.embeddings[newer, :n], there, pairs.dice[which, :m, :n], truth, counted
    )


def train_matcher(pairs: Pairs, schedule: MatchingSchedule, seed: int = 0, reporter: Reporter = SILENT) -> Matcher:
    """Trains head and fusion; `seed` determines all random numbers."""
    if not len(pairs):
        raise InputError("data: no two consecutive frames have detections; use more drives or a better model")
    torch.manual_seed(seed)
    matcher = Matcher(pairs.embeddings.shape[2], schedule.hidden, schedule.temperature, schedule.dropout)
    layers = [*matcher.hidden.parameters(), *matcher.out.parameters()]
    others = [matcher.log_scale, *matcher.convolution.parameters()]
    groups = [
        {"params": layers, "factor": 1.0, "weight_decay": schedule.weight_decay},
        {"params": others, "factor": _FUSION_RATE, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, schedule.learning_rate)
    for step in reporter.progress(range(schedule.steps), "training", total=schedule.steps):
        part = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * part * group["factor"]
        batch = batch_of(pairs, torch.randint(len(pairs), (schedule.pairs,)))
        loss = sum(matcher.loss(matcher(*batch[:4]), batch.truth, batch.counted))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return matcher.eval()


@torch.no_grad()
def evaluate(matcher: Matcher, pairs: Pairs) -> dict[str, float]:
    """Losses, and for each tracker the share of known objects of the newer frames that are matched correctly."""
    sums: dict[str, float] = {"matching": 0, "fusion": 0, "instance": 0, "hybrid": 0, "pixel": 0}
    count, chunks = 0, torch.arange(len(pairs)).split(256)
    for which in chunks:
        batch = batch_of(pairs, which)
        found = matcher(*batch[:4])
        for name, value in zip(("matching", "fusion"), matcher.loss(found, batch.truth, batch.counted), strict=True):
            sums[name] += float(value) / len(chunks)
        matched = batch.truth.sum(1) > 0
        count += int(matched.sum())
        fused = found.fused.masked_fill(~batch.there, -torch.inf)
        for name, matrix in (("instance", found.ahead + found.behind), ("hybrid", fused), ("pixel", batch.dice)):
            best, index = matrix.max(1, keepdim=True)
            right = batch.truth.gather(1, index) > 0
            if name == "pixel":
                # Where no mask overlaps, all are equal, and none is matched.
                right &= best > 0
            sums[name] += int((right[:, 0] & matched).sum())
    return {name: value / (1 if name in ("matching", "fusion") else max(count, 1)) for name, value in sums.items()}
