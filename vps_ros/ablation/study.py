"""The comparison: all trackers on all segmentations, on several processes; the figures are one document."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory
from typing import Any

import cv2
from threadpoolctl import threadpool_limits

from vps_ros.ablation import trial
from vps_ros.ablation.degrade import DEGRADED, SMALLEST
from vps_ros.ablation.sources import MASKS, Drive, Source, check_model
from vps_ros.ablation.sweeps import SWEEPS
from vps_ros.ablation.trial import Trial
from vps_ros.config import TRACKERS, Config
from vps_ros.datasets.streets import HELD_OUT, SCENARIOS
from vps_ros.errors import InputError
from vps_ros.evaluation.identity import Identity
from vps_ros.reading import check_limits
from vps_ros.segmenters import SegmenterParameters
from vps_ros.trackers import make_tracker

FORMAT = 1
"""Version of the document."""
TRUTH = "true identity"
SIZE = (640, 192)
SWEPT_METRICS = ("CLEAR", "Identity")

Progress = Callable[[Iterable[Any], str, int], Iterator[Any]]


@dataclass(frozen=True)
class Plan:
    """What to measure; raises InputError for unknown names and impossible numbers.

    Attributes:
        trackers, scenarios, masks: names.
        seed: drive k of each scenario has seed + k.
        drives: number for each scenario.
        frames: number for each drive.
        model, clip_model: of the masks `model` and `clips`.
        sweeps: also vary the parameters of the papers' tables, on the first drive of each scenario.
        jobs: processes; only the times depend on it.
        cache: folder of drives and segmentations; None: a temporary one.
    """

    trackers: tuple[str, ...] = tuple(TRACKERS)
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    masks: tuple[str, ...] = ("true", "degraded", "model")
    seed: int = 910_000
    drives: int = 2
    frames: int = 60
    size: tuple[int, int] = SIZE
    model: str = SegmenterParameters.model
    clip_model: str = ""
    sweeps: bool = False
    jobs: int = 1
    cache: str | None = None

    def __post_init__(self) -> None:
        for what, known in (("trackers", TRACKERS), ("scenarios", SCENARIOS), ("masks", MASKS)):
            names = getattr(self, what)
            if not names or len(set(names)) < len(names):
                raise InputError(f"{what}: {', '.join(names) or 'none'}; give at least one, and each only once")
            check_limits(names, what, choices=known)
        for what, least in (("drives", 1), ("frames", 2), ("jobs", 1), ("seed", 0)):
            check_limits(getattr(self, what), what, low=least)
        if ("clips" in self.masks) != bool(self.clip_model):
            raise InputError("masks: clips and --clip-model go together: the model for clips makes these masks")
        if self.seed < HELD_OUT.stop and self.seed + self.drives > HELD_OUT.start:
            raise InputError(
                f"seed: {self.seed} .. {self.seed + self.drives - 1} overlaps {HELD_OUT.start} .. {HELD_OUT.stop - 1}, "
                "the drives on which the shipped model is evaluated; choose others"
            )

    def source(self, cache: str, drive: Drive, masks: str) -> Source:
        return Source(cache, drive, masks, self.clip_model if masks == "clips" else self.model)

    @property
    def each_drive(self) -> list[Drive]:
        seeds = range(self.seed, self.seed + self.drives)
        return [Drive(scenario, seed, self.frames, self.size) for scenario in self.scenarios for seed in seeds]


@dataclass(frozen=True)
class _Task:
    """Trackers, by the name of their row, to run on the segmentations of one drive; `truth`: also the upper bound."""

    source: Source
    configs: dict[str, Config]
    metrics: Sequence[str]
    truth: bool


def study(plan: Plan, progress: Progress) -> dict:
    """The figures; docs/ablation.md describes the document.

    Raises InputError for a model that does not exist or has other classes than the streets, for a tracker that cannot
    use the model, and where TrackEval is not installed.
    """
    _check(plan)
    folder = TemporaryDirectory(prefix="vps-ros-ablate-") if plan.cache is None else nullcontext(plan.cache)
    with folder as cache, _workers(plan.jobs) as run:
        drives = [[plan.source(cache, drive, masks) for masks in plan.masks] for drive in plan.each_drive]
        for _ in progress(run(_prepare, drives), "drives", len(drives)):
            pass
        cells = _cells(plan, progress, run, cache)
        sweeps = _sweeps(plan, progress, run, cache) if plan.sweeps else []
        by_features = _features(plan, progress, run, cache) if plan.sweeps else []
    rows = list(dict.fromkeys(c["tracker"] for c in cells))
    means = [
        {"masks": kind, "tracker": row, **trial.mean([c for c in cells if (c["masks"], c["tracker"]) == (kind, row)])}
        for kind in plan.masks
        for row in rows
    ]
    facts = {**asdict(plan), "smallest": SMALLEST, "degradation": asdict(DEGRADED)}
    del facts["cache"]
    return {
        "format": FORMAT,
        "plan": facts,
        "cells": cells,
        "means": means,
        "sweeps": sweeps,
        "features": by_features,
    }


def _check(plan: Plan) -> None:
    Identity(trial.CLASSES)
    if "model" in plan.masks:
        check_model(plan.model)
    if "clips" in plan.masks:
        check_model(plan.clip_model, clips=True)
    for masks in plan.masks:
        for tracker in plan.trackers:
            make_tracker(_config(plan, masks, tracker=tracker))


def _config(plan: Plan, masks: str, **values: Any) -> Config:
    # Weights that were learned for the embeddings of a model do not apply to colour histograms.
    config = Config(model=plan.model, **values)
    return config if masks == "model" else config.for_other_segmentations()


def _cells(plan: Plan, progress: Progress, run: Callable, cache: str) -> list[dict]:
    """One entry for each kind of masks, scenario and tracker."""
    rows: dict[str, dict] = {tracker: {"tracker": tracker} for tracker in plan.trackers}
    tasks = _tasks(plan, cache, rows, plan.each_drive, ("HOTA", *SWEPT_METRICS), True)
    return [
        {"masks": masks, "scenario": scenario, "tracker": row, **found}
        for (masks, scenario, row), found in _gathered(tasks, progress, run, "trackers")
    ]


def _sweeps(plan: Plan, progress: Progress, run: Callable, cache: str) -> list[dict]:
    """One entry for each kind of masks, sweep, tracker and setting: means over the scenarios."""
    runs = {
        f"{sweep.name} {tracker} {number}": (sweep, tracker, symbols, values)
        for sweep in SWEEPS
        for tracker in sweep.trackers
        if tracker in plan.trackers
        for number, (symbols, values) in enumerate(sweep.settings(tracker))
    }
    rows = {row: {"tracker": tracker, **values} for row, (_, tracker, _, values) in runs.items()}
    drives = [drive for drive in plan.each_drive if drive.seed == plan.seed and runs]
    found: dict[tuple[str, str], list[dict]] = {}
    for (masks, _, row), cell in _gathered(_tasks(plan, cache, rows, drives, SWEPT_METRICS), progress, run, "sweeps"):
        found.setdefault((masks, row), []).append(cell)
    entries = []
    for (masks, row), cells in found.items():
        sweep, tracker, symbols, values = runs[row]
        mean = trial.mean(cells)
        kept = {name: mean[name] for name in ("AQ", "STQ", "IDF1", "IDSW", "candidates", "candidates_max")}
        about = {"sweep": sweep.name, "source": sweep.source, "masks": masks, "tracker": tracker}
        entries.append({**about, "setting": symbols, "parameters": values, **kept})
    return entries


def _features(plan: Plan, progress: Progress, run: Callable, cache: str) -> list[dict]:
    """One entry for each kind of masks and row of FEATURES: means over the scenarios."""
    sources = [plan.source(cache, drive, m) for m in plan.masks for drive in plan.each_drive if drive.seed == plan.seed]
    found: dict[tuple[str, str], list[dict]] = {}
    for source, trials in zip(
        sources, progress(run(_measure_features, sources), "features", len(sources)), strict=True
    ):
        for name, one in trials.items():
            found.setdefault((source.masks, name), []).append(trial.figures([one]))
    return [
        {"masks": masks, "features": name, **{n: trial.mean(cells)[n] for n in ("AQ", "STQ", "IDF1", "IDSW")}}
        for (masks, name), cells in found.items()
    ]


def _measure_features(source: Source) -> dict[str, Trial]:
    return trial.run_features(source.frames())


def _tasks(
    plan: Plan, cache: str, rows: dict[str, dict], drives: Sequence[Drive], metrics: Sequence[str], truth: bool = False
) -> list[_Task]:
    """A task for each kind of masks and drive; `rows`: parameters of Config by the name of the row."""
    configs = {masks: {name: _config(plan, masks, **row) for name, row in rows.items()} for masks in plan.masks}
    pairs = [(masks, drive) for masks in plan.masks for drive in drives]
    return [_Task(plan.source(cache, drive, masks), configs[masks], metrics, truth) for masks, drive in pairs]


def _gathered(
    tasks: Sequence[_Task], progress: Progress, run: Callable, label: str
) -> Iterator[tuple[tuple[str, str, str], dict]]:
    """((masks, scenario, row), figures over the drives), in the order of the tasks."""
    trials: dict[tuple[str, str, str], list[Trial]] = {}
    for task, done in zip(tasks, progress(run(_measure, tasks), label, len(tasks)), strict=True):
        for row, one in done.items():
            trials.setdefault((task.source.masks, task.source.drive.scenario, row), []).append(one)
    for key, parts in trials.items():
        yield key, trial.figures(parts)


def _prepare(sources: Sequence[Source]) -> None:
    for source in sources:
        source.prepare()


def _measure(task: _Task) -> dict[str, Trial]:
    frames = task.source.frames()
    done = {row: trial.run(make_tracker(config), frames, task.metrics) for row, config in task.configs.items()}
    return done | ({TRUTH: trial.run_truth(frames)} if task.truth else {})


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[[Callable, Sequence], Iterator]]:
    """`map` in this process, or over several processes; results are in the order of the items."""
    if jobs == 1:
        _one_thread()
        yield map
        return
    # A forked process would inherit locked mutexes of the threads of a network.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _one_thread)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """The figures must not depend on the number of cores."""
    cv2.setNumThreads(1)
    threadpool_limits(limits=1, user_api="blas")
