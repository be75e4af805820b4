"""Training of the match scorer of the hierarchical tracker: the log-odds that a detection belongs to a track.

Examples come from generated drives. A tracker with the true identities runs on them, and the features of all pairs of
tracks and detections are recorded with their true assignment.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vps_ros import __version__
from vps_ros.ablation import sources
from vps_ros.ablation.sources import CLASSES, DriveFrame
from vps_ros.errors import InputError
from vps_ros.evaluation.overlaps import Overlaps
from vps_ros.files import refuse_existing
from vps_ros.frame import AssociatedBy
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.entries import HELD_OUT_SEED
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.hierarchical import Hierarchical
from vps_ros.trackers.hierarchical.compare import COLUMNS, compare
from vps_ros.trackers.match_scorer import (
    CONTEXT_FEATURES,
    CONTEXT_SCALE,
    FORMAT,
    MAX_LOG_ODDS,
    MatchScorer,
    write,
)
from vps_ros.trackers.tracker import Matches, matched

UNKNOWN = -1
"""Object of a detection without a known object, or with only a part of one."""
_LEAST_SHARE = 0.25
LEAST_DEVIATION = 1e-6
"""Smallest standard deviation of a feature that is used."""


class FrameExample(NamedTuple):
    """The pairs of one frame and their true assignment.

    Attributes:
        columns: float32 [P, F], features of each pair (trackers/hierarchical/compare.py).
        same: bool [P].
        m, k: int64 [P], track and detection.
        objects, things: bool [M], [K], whether the object of a track or detection is known.
    """

    columns: NDArray[np.float32]
    same: NDArray[np.bool_]
    m: NDArray[np.int64]
    k: NDArray[np.int64]
    objects: NDArray[np.bool_]
    things: NDArray[np.bool_]


class GroundTruthTracker(Hierarchical):
    """Records the pairs of each frame and matches them by their true objects.

    Attributes:
        objects: int64 [S], true object of each segment of the current frame.
        known: true object of each track.
        examples: of the frames so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.objects = np.empty(0, np.int64)
        self.known: dict[int, int] = {}
        self.examples: list[FrameExample] = []

    def associate(self, detections: Detections, stamp: int) -> Matches:
        pairs = compare(self.memory, self._masks, detections, stamp)
        objects = np.array([self.known[track] for track in self.memory.rows["id"].tolist()], np.int64)
        seen = self.objects[detections.index]
        same = (objects[pairs.m] == seen[pairs.k]) & (objects[pairs.m] != UNKNOWN)
        if len(pairs.m):
            self.examples.append(
                FrameExample(pairs.features, same, pairs.m, pairs.k, objects != UNKNOWN, seen != UNKNOWN)
            )
        places = {name: place for place, name in enumerate(objects.tolist()) if name != UNKNOWN}
        found = [(places[name], k) for k, name in enumerate(seen.tolist()) if name in places]
        if not found:
            return Matches()
        m, k = np.array(found).T
        return matched(m, k, np.ones(len(m)), AssociatedBy.MEMORY)


def frame_examples(shots: Iterable[DriveFrame]) -> list[FrameExample]:
    """The examples of the frames of one drive."""
    tracker = GroundTruthTracker()
    for shot in shots:
        tracker.objects = true_objects(shot.table, len(shot.segmentation))
        for track in tracker.step(shot.frame, shot.segmentation):
            if track.index >= 0:
                tracker.known.setdefault(track.track_id, int(tracker.objects[track.index]))
    return tracker.examples


def true_objects(table: Overlaps, count: int) -> NDArray[np.int64]:
    """int64 [count], code of the true object of each segment.

    UNKNOWN for stuff, for all but the largest part of an object, and if an object covers less than a quarter of it.
    """
    number = table.pred & 0xFFFFFFFF
    is_thing = CLASSES.is_thing[table.pred_class]
    area = np.bincount(number[is_thing], table.count[is_thing], count + 1)
    true = is_thing & CLASSES.is_thing[table.gt_class] & (table.gt_instance > 0)
    found, taken = np.full(count + 1, UNKNOWN), set()
    rows = zip(table.count[true].tolist(), table.gt[true].tolist(), number[true].tolist(), strict=True)
    for pixels, code, segment in sorted(rows, key=lambda row: (-row[0], *row[1:])):
        if found[segment] == UNKNOWN and code not in taken and pixels > _LEAST_SHARE * area[segment]:
            found[segment] = code
            taken.add(code)
    return found[1:]


_FIRST_PASS_WEIGHT = 0.3
"""Weight of the loss of the first pass, whose scores of competing pairs are features of the second pass."""


@dataclass(frozen=True)
class MatchScorerRecipe:
    """Training of the match scorer.

    Attributes:
        kind: "match-scorer", which distinguishes this recipe from others.
        model: whose masks are used, in addition to true and degraded ones.
        scenarios, masks: used with equal shares.
        seed: of the first drive of each scenario, and of the initial weights.
        drives: number for each scenario; the last `validation_drives` of them are for validation.
        hidden: hidden units of each pass.
        steps, frames_a_step: optimiser steps, and frames in each.
        learning_rate: maximum of a cycle that ends near 0.
        folder: of rendered drives.
    """

    kind: str
    model: str
    scenarios: tuple[str, ...]
    masks: tuple[str, ...] = tuple(sources.MASKS)
    seed: int = 700_000
    drives: int = 8
    validation_drives: int = 1
    frames: int = 100
    size: tuple[int, int] = (640, 192)
    hidden: int = 24
    steps: int = 3000
    frames_a_step: int = 48
    learning_rate: float = 0.01
    weight_decay: float = 1e-3
    folder: str = ".drives/ablation"
    processes: int = 2

    columns: ClassVar[tuple[str, ...]] = COLUMNS
    """Names of the features."""
    weights: ClassVar[str] = "hierarchical.npz"
    """Name of the file that is written."""

    def examples(self, frames: Sequence[DriveFrame], masks: str) -> list[FrameExample]:
        """The examples of one drive."""
        return frame_examples(frames)

    def __post_init__(self) -> None:
        if not 0 < self.validation_drives < self.drives:
            raise InputError(f"drives: {self.drives} with {self.validation_drives} for validation; use more drives")
        if self.seed + self.drives > HELD_OUT_SEED:
            raise InputError(f"seed: {self.seed} and the drives after it reach {HELD_OUT_SEED}; those are held out")
        if not set(self.masks) <= set(sources.MASKS):
            raise InputError(f"masks: {', '.join(self.masks)}; choose of {', '.join(sources.MASKS)}")


class Batch(NamedTuple):
    """Pairs of several frames, concatenated, with consecutive numbers of tracks and detections.

    Attributes:
        columns: float32 [P, F]. same: bool [P]. m, k: int64 [P].
        objects, things: float32 [M], [K], 1 if the true object of a track or detection is known, else 0.
    """

    columns: Tensor
    same: Tensor
    m: Tensor
    k: Tensor
    objects: Tensor
    things: Tensor

    @classmethod
    def of(cls, frames: Sequence[FrameExample]) -> Batch:
        m0 = np.cumsum([0, *(len(one.objects) for one in frames)])
        k0 = np.cumsum([0, *(len(one.things) for one in frames)])
        columns, same, objects, things = (
            torch.from_numpy(np.concatenate([getattr(one, name) for one in frames]))
            for name in ("columns", "same", "objects", "things")
        )
        m = torch.from_numpy(np.concatenate([one.m + first for one, first in zip(frames, m0, strict=False)]))
        k = torch.from_numpy(np.concatenate([one.k + first for one, first in zip(frames, k0, strict=False)]))
        return cls(columns, same, m, k, objects.float(), things.float())


class MatchScorerNetwork(nn.Module):
    """MatchScorer (trackers/match_scorer.py) in torch.

    Args:
        mean: float32 [F], subtracted from the features, which then have mean 0.
        scale: float32 [F], multiplied by the difference, which then has variance 1.
        hidden: hidden units of each pass.
    """

    def __init__(self, mean: np.ndarray, scale: np.ndarray, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("scale", torch.from_numpy(scale))
        self.hidden, self.out = nn.Linear(len(mean), hidden), nn.Linear(hidden, 1)
        self.second, self.second_out = nn.Linear(len(mean) + CONTEXT_FEATURES, hidden), nn.Linear(hidden, 1)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-odds [P] of the first and of the second pass."""
        x = (batch.columns - self.mean) * self.scale
        first = self.out(self.hidden(x).relu())[:, 0].clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)
        context = (
            first,
            _competitors(first, batch.m, len(batch.objects)),
            _competitors(first, batch.k, len(batch.things)),
        )
        second = torch.cat([x, torch.stack(context, 1) * CONTEXT_SCALE], 1)
        return first, first + self.second_out(self.second(second).relu())[:, 0]

    def scorer(self, about: dict) -> MatchScorer:
        """A copy for the tracker."""
        first = (self.hidden.weight, self.hidden.bias, self.out.weight[0], self.out.bias[0])
        second = (self.second.weight, self.second.bias, self.second_out.weight[0], self.second_out.bias[0])
        names = [field.name for field in dataclasses.fields(MatchScorer) if field.name != "about"]
        tensors = (self.mean, self.scale, *first, *second)
        arrays: dict[str, Any] = {n: t.detach().numpy().copy() for n, t in zip(names, tensors, strict=True)}
        return MatchScorer(**arrays, about=about)


def assignment_loss(odds: Tensor, batch: Batch) -> Tensor:
    """Cross entropy of each detection over its tracks and "new", plus that of each track over its detections and
    "occluded"; each is the mean over those with a known object.
    """
    return _choice_loss(odds, batch.same, batch.m, batch.objects) + _choice_loss(
        odds, batch.same, batch.k, batch.things
    )


def _choice_loss(odds: Tensor, same: Tensor, group: Tensor, known: Tensor) -> Tensor:
    odds = odds.clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)
    nothing = torch.zeros(len(known))
    each = torch.log1p(nothing.index_add(0, group, odds.exp())) - nothing.index_add(0, group[same], odds[same])
    return (each * known).sum() / known.sum().clamp(min=1)


def _competitors(odds: Tensor, group: Tensor, count: int) -> Tensor:
    powers = odds.exp()
    return torch.log1p((torch.zeros(count).index_add(0, group, powers)[group] - powers).clamp(min=0))


def train_match_scorer(recipe: MatchScorerRecipe, folder: str | Path, reporter: Reporter = SILENT) -> Path:
    """Trains, writes the weights into the folder, and returns the file.

    Raises InputError when the folder exists, or model or drives cannot be used.
    """
    folder = refuse_existing(folder, force=False)
    torch.set_num_threads(1)
    training, validation = collect(recipe, reporter)
    network = fit([one for masks in training.values() for one in masks], recipe, reporter)
    losses = {masks: validation_loss(network, seen) for masks, seen in validation.items()}
    reporter.note("loss on validation drives: " + ", ".join(f"{n} {v:.3f}" for n, v in losses.items()))
    facts = json.loads(json.dumps(dataclasses.asdict(recipe)))
    about = {"format": FORMAT, "columns": recipe.columns, "recipe": facts, "losses": losses, "version": __version__}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / recipe.weights
    write(path, network.scorer(about))
    return path


def fit(examples: Sequence[FrameExample], recipe: MatchScorerRecipe, reporter: Reporter = SILENT) -> MatchScorerNetwork:
    """A network that is trained on the examples, `frames_a_step` of them in each step."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    every = np.concatenate([one.columns for one in examples])
    deviation = every.std(axis=0)
    # Nothing can be learned from a feature that is always the same; another value of it must not have an effect later.
    scale = np.where(deviation > LEAST_DEVIATION, 1 / (deviation + LEAST_DEVIATION), 0).astype(np.float32)
    network = MatchScorerNetwork(every.mean(axis=0), scale, recipe.hidden)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    for _ in reporter.progress(range(recipe.steps), "training", recipe.steps):
        batch = Batch.of([examples[i] for i in rng.integers(0, len(examples), recipe.frames_a_step)])
        first, second = network(batch)
        loss = assignment_loss(second, batch) + _FIRST_PASS_WEIGHT * assignment_loss(first, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
    return network


@torch.no_grad()
def validation_loss(network: MatchScorerNetwork, frames: Sequence[FrameExample]) -> float:
    """The loss of the second pass."""
    batch = Batch.of(frames)
    return round(float(assignment_loss(network(batch)[1], batch)), 4)


def collect(
    recipe: MatchScorerRecipe, reporter: Reporter = SILENT
) -> tuple[dict[str, list[FrameExample]], dict[str, list[FrameExample]]]:
    """Examples for training and for validation, by masks."""
    if "model" in recipe.masks:
        sources.check_model(recipe.model)
    drives = range(recipe.seed, recipe.seed + recipe.drives)
    jobs = [(recipe, scenario, seed) for seed in drives for scenario in recipe.scenarios]
    training: dict[str, list[FrameExample]] = {name: [] for name in recipe.masks}
    validation: dict[str, list[FrameExample]] = {name: [] for name in recipe.masks}
    # Spawned: a process forked after torch has started threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(recipe.processes, mp_context=context) as pool:
        results = pool.map(_drive_examples, jobs)
        for (_, _, seed), by_masks in zip(jobs, reporter.progress(results, "drives", len(jobs)), strict=True):
            for masks, frames in by_masks.items():
                (validation if seed >= drives[-recipe.validation_drives] else training)[masks] += frames
    return training, validation


def _drive_examples(job: tuple[MatchScorerRecipe, str, int]) -> dict[str, list[FrameExample]]:
    recipe, scenario, seed = job
    cv2.setNumThreads(1)
    drive = sources.Drive(scenario, seed, recipe.frames, recipe.size)
    by_masks = {masks: sources.Source(recipe.folder, drive, masks, recipe.model) for masks in recipe.masks}
    return {masks: recipe.examples(source.frames(), masks) for masks, source in by_masks.items()}
