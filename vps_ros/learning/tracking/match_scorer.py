"""What the hierarchical tracker learns: how much each kind of evidence says, and what rivals take away from it."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vps_ros import __version__
from vps_ros.ablation import sources
from vps_ros.ablation.sources import CLASSES, SegmentedFrame
from vps_ros.errors import InputError
from vps_ros.evaluation.overlaps import Overlaps
from vps_ros.files import refuse_existing
from vps_ros.frame import AssociatedBy
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.entries import HELD_OUT_SEED
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.hierarchical import Hierarchical
from vps_ros.trackers.hierarchical.assign import (
    CONTEXT_FEATURES,
    CONTEXT_SCALE,
    FORMAT,
    MAX_LOG_ODDS,
    MatchScorer,
    write,
)
from vps_ros.trackers.hierarchical.compare import COLUMNS, compare
from vps_ros.trackers.tracker import Matches, matched

STRANGER = -1
"""Name of a thing that is no known object, or only a part of one."""
_LEAST_SHARE = 0.25


class Lesson(NamedTuple):
    """The pairs of one frame, and what they are.

    Attributes:
        columns: float32 [P, F], features of each pair (trackers/hierarchical/compare.py).
        same: bool [P].
        m, k: int64 [P], object and thing.
        objects, things: bool [M], [K]: which of them are known, so that a pair, or none, is right for them.
    """

    columns: NDArray[np.float32]
    same: NDArray[np.bool_]
    m: NDArray[np.int64]
    k: NDArray[np.int64]
    objects: NDArray[np.bool_]
    things: NDArray[np.bool_]


class Teacher(Hierarchical):
    """Writes down the pairs of each frame, and then matches the true ones.

    Attributes:
        names: int64 [S], true name of each segment of the current frame.
        known: name of each track.
        lessons: of the frames so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names = np.empty(0, np.int64)
        self.known: dict[int, int] = {}
        self.lessons: list[Lesson] = []

    def associate(self, detections: Detections, stamp: int) -> Matches:
        pairs = compare(self.memory, self._masks, detections, stamp)
        objects = np.array([self.known[track] for track in self.memory.rows["id"].tolist()], np.int64)
        seen = self.names[detections.index]
        same = (objects[pairs.m] == seen[pairs.k]) & (objects[pairs.m] != STRANGER)
        if len(pairs.m):
            self.lessons.append(Lesson(pairs.features, same, pairs.m, pairs.k, objects != STRANGER, seen != STRANGER))
        places = {name: place for place, name in enumerate(objects.tolist()) if name != STRANGER}
        found = [(places[name], k) for k, name in enumerate(seen.tolist()) if name in places]
        if not found:
            return Matches()
        m, k = np.array(found).T
        return matched(m, k, np.ones(len(m)), AssociatedBy.MEMORY)


def lessons(shots: Iterable[SegmentedFrame]) -> list[Lesson]:
    """Of the frames of one drive."""
    teacher = Teacher()
    for shot in shots:
        teacher.names = who(shot.table, len(shot.segmentation))
        for track in teacher.step(shot.frame, shot.segmentation):
            if track.index >= 0:
                teacher.known.setdefault(track.track_id, int(teacher.names[track.index]))
    return teacher.lessons


def who(table: Overlaps, count: int) -> NDArray[np.int64]:
    """int64 [count], code of the true thing that each segment is.

    STRANGER for stuff, for all but the largest part of a thing, and where a thing covers less than a quarter of it.
    """
    number = table.pred & 0xFFFFFFFF
    is_thing = CLASSES.is_thing[table.pred_class]
    area = np.bincount(number[is_thing], table.count[is_thing], count + 1)
    true = is_thing & CLASSES.is_thing[table.gt_class] & (table.gt_instance > 0)
    found, taken = np.full(count + 1, STRANGER), set()
    rows = zip(table.count[true].tolist(), table.gt[true].tolist(), number[true].tolist(), strict=True)
    for pixels, code, segment in sorted(rows, key=lambda row: (-row[0], *row[1:])):
        if found[segment] == STRANGER and code not in taken and pixels > _LEAST_SHARE * area[segment]:
            found[segment] = code
            taken.add(code)
    return found[1:]


WEIGHTS = "hierarchical.npz"
_FIRST_LOOK = 0.3
"""Weight of the first look's own loss: it is to be a judge too, or the rivals it tells of are none."""


@dataclass(frozen=True)
class JudgeRecipe:
    """Everything that decides what is learned.

    Attributes:
        kind: "judge", by which this recipe is told from others.
        model: whose masks are learned from, beside true and degraded ones.
        scenarios, masks: learned from alike.
        seed: of the first drive of each scenario, and of the weights at the start.
        drives: of each scenario; the last `validation_drives` of them are kept to look at.
        hidden: units of each look.
        steps, frames_a_step: of the optimiser.
        learning_rate: peak of a cycle that ends near 0.
        folder: where rendered drives are kept.
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

    def __post_init__(self) -> None:
        if not 0 < self.validation_drives < self.drives:
            raise InputError(f"drives: {self.drives} with {self.validation_drives} to look at; give more")
        if self.seed + self.drives > HELD_OUT_SEED:
            raise InputError(f"seed: {self.seed} and the drives after it reach {HELD_OUT_SEED}; those are held out")
        if not set(self.masks) <= set(sources.MASKS):
            raise InputError(f"masks: {', '.join(self.masks)}; choose of {', '.join(sources.MASKS)}")


class Batch(NamedTuple):
    """Pairs of several frames end to end; objects and things numbered through.

    Attributes:
        columns: float32 [P, F]. same: bool [P]. m, k: int64 [P].
        objects, things: float32 [M], [K], 1 where a verdict is right or wrong, 0 where nobody knows.
    """

    columns: Tensor
    same: Tensor
    m: Tensor
    k: Tensor
    objects: Tensor
    things: Tensor

    @classmethod
    def of(cls, frames: Sequence[Lesson]) -> Batch:
        m0 = np.cumsum([0, *(len(one.objects) for one in frames)])
        k0 = np.cumsum([0, *(len(one.things) for one in frames)])
        columns, same, objects, things = (
            torch.from_numpy(np.concatenate([getattr(one, name) for one in frames]))
            for name in ("columns", "same", "objects", "things")
        )
        m = torch.from_numpy(np.concatenate([one.m + first for one, first in zip(frames, m0, strict=False)]))
        k = torch.from_numpy(np.concatenate([one.k + first for one, first in zip(frames, k0, strict=False)]))
        return cls(columns, same, m, k, objects.float(), things.float())


class JudgeNetwork(nn.Module):
    """MatchScorer (trackers/hierarchical/assign.py) as it is trained.

    Args:
        mean: float32 [F], subtracted from the features, which then have mean 0.
        scale: float32 [F], multiplied by the difference, which then has variance 1.
        hidden: units of each look.
    """

    def __init__(self, mean: np.ndarray, scale: np.ndarray, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("scale", torch.from_numpy(scale))
        self.hidden, self.out = nn.Linear(len(mean), hidden), nn.Linear(hidden, 1)
        self.again, self.again_out = nn.Linear(len(mean) + CONTEXT_FEATURES, hidden), nn.Linear(hidden, 1)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-odds [P] of the first look and of the second."""
        x = (batch.columns - self.mean) * self.scale
        first = self.out(self.hidden(x).relu())[:, 0].clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)
        seen = (first, _rivals(first, batch.m, len(batch.objects)), _rivals(first, batch.k, len(batch.things)))
        again = torch.cat([x, torch.stack(seen, 1) * CONTEXT_SCALE], 1)
        return first, first + self.again_out(self.again(again).relu())[:, 0]

    def scorer(self, about: dict) -> MatchScorer:
        """A copy for the tracker."""
        first = (self.hidden.weight, self.hidden.bias, self.out.weight[0], self.out.bias[0])
        second = (self.again.weight, self.again.bias, self.again_out.weight[0], self.again_out.bias[0])
        return MatchScorer(*(t.detach().numpy().copy() for t in (self.mean, self.scale, *first, *second)), about)


def judging_loss(odds: Tensor, batch: Batch) -> Tensor:
    """Cross entropy of each thing's choice among its objects and being new, and of each object's among its things and
    being hidden; the mean over those of which the choice is known, both added.
    """
    return _choices(odds, batch.same, batch.m, batch.objects) + _choices(odds, batch.same, batch.k, batch.things)


def _choices(odds: Tensor, same: Tensor, group: Tensor, known: Tensor) -> Tensor:
    odds = odds.clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)
    nothing = torch.zeros(len(known))
    each = torch.log1p(nothing.index_add(0, group, odds.exp())) - nothing.index_add(0, group[same], odds[same])
    return (each * known).sum() / known.sum().clamp(min=1)


def _rivals(odds: Tensor, group: Tensor, count: int) -> Tensor:
    powers = odds.exp()
    return torch.log1p((torch.zeros(count).index_add(0, group, powers)[group] - powers).clamp(min=0))


def train_judge(recipe: JudgeRecipe, folder: str | Path, reporter: Reporter = SILENT) -> Path:
    """Learns, and writes hierarchical.npz into the folder; gives the file.

    Raises InputError when the folder is there already, or the model or the drives are no use.
    """
    folder = refuse_existing(folder, force=False)
    torch.set_num_threads(1)
    learned, looked_at = collect(recipe, reporter)
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    every = np.concatenate([one.columns for frames in learned.values() for one in frames])
    network = JudgeNetwork(every.mean(axis=0), 1 / (every.std(axis=0) + 1e-6), recipe.hidden)
    frames = [one for masks in learned.values() for one in masks]
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    for _ in reporter.progress(range(recipe.steps), "learning", recipe.steps):
        batch = Batch.of([frames[i] for i in rng.integers(0, len(frames), recipe.frames_a_step)])
        first, second = network(batch)
        loss = judging_loss(second, batch) + _FIRST_LOOK * judging_loss(first, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
    losses = {masks: examine(network, seen) for masks, seen in looked_at.items()}
    reporter.note("loss on drives not learned from: " + ", ".join(f"{n} {v:.3f}" for n, v in losses.items()))
    facts = json.loads(json.dumps(dataclasses.asdict(recipe)))
    about = {"format": FORMAT, "columns": COLUMNS, "recipe": facts, "losses": losses, "version": __version__}
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / WEIGHTS, network.scorer(about))
    return folder / WEIGHTS


@torch.no_grad()
def examine(network: JudgeNetwork, frames: Sequence[Lesson]) -> float:
    """The loss of the second look."""
    batch = Batch.of(frames)
    return round(float(judging_loss(network(batch)[1], batch)), 4)


def collect(
    recipe: JudgeRecipe, reporter: Reporter = SILENT
) -> tuple[dict[str, list[Lesson]], dict[str, list[Lesson]]]:
    """Lessons by masks: those to learn from, and those to look at."""
    if "model" in recipe.masks:
        sources.check_model(recipe.model)
    drives = range(recipe.seed, recipe.seed + recipe.drives)
    jobs = [(recipe, scenario, seed) for seed in drives for scenario in recipe.scenarios]
    learned: dict[str, list[Lesson]] = {name: [] for name in recipe.masks}
    looked_at: dict[str, list[Lesson]] = {name: [] for name in recipe.masks}
    # Spawned: a forked copy of a process with torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(recipe.processes, mp_context=context) as pool:
        results = pool.map(_lessons, jobs)
        for (_, _, seed), by_masks in zip(jobs, reporter.progress(results, "drives", len(jobs)), strict=True):
            for masks, frames in by_masks.items():
                (looked_at if seed >= drives[-recipe.validation_drives] else learned)[masks] += frames
    return learned, looked_at


def _lessons(job: tuple[JudgeRecipe, str, int]) -> dict[str, list[Lesson]]:
    recipe, scenario, seed = job
    cv2.setNumThreads(1)
    drive = sources.Drive(scenario, seed, recipe.frames, recipe.size)
    cache = sources.ArrayCache(recipe.folder)
    return {masks: lessons(sources.load(cache, drive, masks, recipe.model)) for masks in recipe.masks}
