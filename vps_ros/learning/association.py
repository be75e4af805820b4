"""What the instance and hybrid trackers learn for one model: an embedding head and the fusion of both matrices.

The segmenter stays as it is. Pairs of frames that it has seen teach the differentiable matching layer and the fusion
together, in about a minute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vps_ros.errors import InputError
from vps_ros.learning.matching import Matcher
from vps_ros.learning.sightings import Sighting
from vps_ros.learning.voice import SILENT, Voice

_FUSION_PACE = 10.0
"""Learning rate of the five numbers of the fusion and the scale, over that of the head: they have far to go."""


@dataclass(frozen=True)
class Lessons:
    """How the head and the fusion are learned.

    Attributes:
        hidden: units of the head between its two layers.
        dropout: share of them that is left out in each step.
        temperature: of the cosine at the start.
        steps, pairs: of the optimiser; pairs of frames in each step.
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
                "lessons: make hidden, steps and pairs at least 1, temperature positive, dropout 0 or more and below 1"
            )


class Pairs(NamedTuple):
    """Pairs of frames, padded: K is the most things of any frame.

    Attributes:
        embeddings: float32 [F, K, D] of all frames.
        who: int64 [F, K], an object's number, different in every drive; 0 for a thing that is no known object, -1 for
            padding.
        older, newer: int64 [P], frames of each pair.
        dice: float32 [P, K, K].
    """

    embeddings: Tensor
    who: Tensor
    older: Tensor
    newer: Tensor
    dice: Tensor

    def __len__(self) -> int:
        return len(self.older)


class Batch(NamedTuple):
    """What Matcher takes of some pairs, and what it should say: see matching.py."""

    older: Tensor
    newer: Tensor
    there: Tensor
    dice: Tensor
    truth: Tensor
    counted: Tensor


def pairs_of(drives: Sequence[Sequence[Sighting]]) -> Pairs:
    """Every pair of frames that lie one or two apart and both show something."""
    frames = [one for drive in drives for one in drive]
    most = max((len(one.who) for one in frames), default=0)
    if not most:
        raise InputError("data: the model sees no thing in any drive; give more drives, or a better model")
    width = next(one.embeddings.shape[1] for one in frames if len(one.who))
    embeddings = np.zeros((len(frames), most, width), np.float32)
    who = np.full((len(frames), most), -1)
    older, newer, dice, first = [], [], [], 0
    for number, drive in enumerate(drives):
        for i, one in enumerate(drive, first):
            count = len(one.who)
            embeddings[i, :count] = one.embeddings
            who[i, :count] = np.where(one.who > 0, one.who + (number << 32), 0)
            for steps, matrix in one.dice.items():
                older.append(i - steps)
                newer.append(i)
                padded = np.zeros((most, most), np.float32)
                padded[: matrix.shape[0], : matrix.shape[1]] = matrix
                dice.append(padded)
        first += len(drive)
    dice = np.stack(dice) if dice else np.zeros((0, most, most), np.float32)
    arrays = (embeddings, who, np.array(older, np.int64), np.array(newer, np.int64), dice)
    return Pairs(*(torch.from_numpy(a) for a in arrays))


def batch_of(pairs: Pairs, which: Tensor) -> Batch:
    """The pairs `which` [B], with no more padding than they need."""
    older, newer = pairs.older[which], pairs.newer[which]
    a, b = pairs.who[older], pairs.who[newer]
    m, n = (max(1, int((who >= 0).sum(1).max())) for who in (a, b))
    a, b = a[:, :m, None], b[:, None, :n]
    there = (a >= 0) & (b >= 0)
    truth = ((a == b) & (a > 0)).float()
    # Two things that are no known object may be one all the same, as a trunk that is taken for a person twice.
    counted = there & ((a > 0) | (b > 0))
    return Batch(
        pairs.embeddings[older, :m], pairs.embeddings[newer, :n], there, pairs.dice[which, :m, :n], truth, counted
    )


def learn(pairs: Pairs, lessons: Lessons, seed: int = 0, voice: Voice = SILENT) -> Matcher:
    """The trained head and fusion; `seed` decides everything that is drawn."""
    if not len(pairs):
        raise InputError("data: no two frames that follow each other show things; give more drives, or a better model")
    torch.manual_seed(seed)
    matcher = Matcher(pairs.embeddings.shape[2], lessons.hidden, lessons.temperature, lessons.dropout)
    layers = [*matcher.hidden.parameters(), *matcher.out.parameters()]
    others = [matcher.log_scale, *matcher.convolution.parameters()]
    groups = [
        {"params": layers, "pace": 1.0, "weight_decay": lessons.weight_decay},
        {"params": others, "pace": _FUSION_PACE, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lessons.learning_rate)
    for step in voice.progress(range(lessons.steps), "training", total=lessons.steps):
        part = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / lessons.steps))
        for group in optimizer.param_groups:
            group["lr"] = lessons.learning_rate * part * group["pace"]
        batch = batch_of(pairs, torch.randint(len(pairs), (lessons.pairs,)))
        loss = sum(matcher.loss(matcher(*batch[:4]), batch.truth, batch.counted))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return matcher.eval()


@torch.no_grad()
def judge(matcher: Matcher, pairs: Pairs) -> dict[str, float]:
    """Losses, and the shares of known objects of the newer frames that are given to themselves in the older ones."""
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
            right = batch.truth.gather(1, matrix.argmax(1, keepdim=True))[:, 0] > 0
            sums[name] += int((right & matched).sum())
    return {name: value / (1 if name in ("matching", "fusion") else max(count, 1)) for name, value in sums.items()}
