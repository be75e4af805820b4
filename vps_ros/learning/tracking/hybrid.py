"""`vps-ros train` with a recipe of kind tracker: trains embedding head and fusion for a model."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from vps_ros import __version__
from vps_ros.config import Config, tracker_parameters
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.files import atomic_write, fingerprint, model_path, refuse_existing
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.entries import HELD_OUT_SEED, StreetsData
from vps_ros.learning.data.streets import training_drives
from vps_ros.learning.tracking.matching import Matcher, MatchingSchedule, evaluate, pairs_of, train_matcher
from vps_ros.learning.tracking.observations import SegmentedDrive, segment_drives
from vps_ros.taxonomy import CITYSCAPES, VOID_ID
from vps_ros.trackers import make_tracker
from vps_ros.trackers.learned import FORMAT, Learned, weights_path, write

KIND = "tracker"
LOG = "log.jsonl"
TRACKERS = ("pixel", "instance", "hybrid")


@dataclass(frozen=True)
class TrackerRecipe:
    """Training of the trackers `instance` and `hybrid` for a model.

    Attributes:
        kind: KIND, which distinguishes this recipe from that of a model.
        model: name of a shipped model, or path of an ONNX file.
        data, validation: training and validation drives, by first seed and number.
        least_iou: smallest IoU of a detection with its true object.
        processes: number of processes that run the model.
        schedule: of the training of head and fusion; `lessons` in earlier releases.
    """

    kind: str
    model: str
    data: StreetsData
    validation: StreetsData
    seed: int = 0
    least_iou: float = 0.3
    processes: int = 2
    schedule: MatchingSchedule = field(default=MatchingSchedule(), metadata={"former": "lessons"})

    def __post_init__(self) -> None:
        mine, others = (range(d.seed, d.seed + d.drives) for d in (self.data, self.validation))
        for seeds in (mine, others):
            if len(seeds) < 1 or seeds[0] < 0 or seeds[-1] >= HELD_OUT_SEED:
                raise InputError(
                    f"data: seeds {seeds.start}..{seeds.stop - 1}; use seeds in 0..{HELD_OUT_SEED - 1}, "
                    "the others are held out for evaluation"
                )
        if max(mine[0], others[0]) <= min(mine[-1], others[-1]):
            raise InputError("data: training and validation have seeds in common; use different ones")


def train_tracker(recipe: TrackerRecipe, folder: str | Path, reporter: Reporter = SILENT) -> Path:
    """Writes NAME.tracker.npz, to be placed beside NAME.onnx, and log.jsonl into the folder; returns the file.

    Raises InputError when the folder exists, or the model detects too little.
    """
    model = model_path(recipe.model)
    folder = refuse_existing(folder, force=False)
    began = time.monotonic()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    training, validation = (
        segment_drives(training_drives(data, reporter), recipe.model, recipe.least_iou, recipe.processes, reporter)
        for data in (recipe.data, recipe.validation)
    )
    seen = time.monotonic()
    pairs, unseen = (pairs_of([one.observations for one in drives]) for drives in (training, validation))
    schedule = recipe.schedule

    def measured(when: str, matcher: Matcher, weights: str) -> dict[str, Any]:
        qualities = _qualities(validation, recipe.model, weights, when, reporter)
        return {"when": when, "pairs": evaluate(matcher, unseen), "AQ": qualities}

    untrained = Matcher(pairs.embeddings.shape[2], schedule.hidden, schedule.temperature).eval()
    log = [measured("before", untrained, "none")]
    matcher = train_matcher(pairs, schedule, recipe.seed, reporter)
    about = {
        "format": FORMAT,
        "model": model.stem,
        "sha256": fingerprint(model),
        "embedding": pairs.embeddings.shape[2],
        "step": schedule.steps,
        "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
        "trained_by": f"vps-ros {__version__}",
    }
    with atomic_write(folder) as draft:
        draft.mkdir()
        path = draft / weights_path(model).name
        write(path, Learned(*matcher.parts(), about))
        log.append(measured("after", matcher, str(path)))
        log.append({"seconds": {"segmenting": seen - began, "in all": time.monotonic() - began}})
        (draft / LOG).write_text("".join(json.dumps(entry) + "\n" for entry in log))
    _report(log, reporter)
    return folder / path.name


def _config(model: str, tracker: str, weights: str) -> Config:
    values: dict[str, Any] = {}
    if "tracker_weights" in {p.name for p in tracker_parameters(tracker)}:
        values["tracker_weights"] = weights
    return Config(model=model, tracker=tracker, **values)


def _qualities(
    drives: Sequence[SegmentedDrive], model: str, weights: str, when: str, reporter: Reporter
) -> dict[str, float]:
    """AQ of each tracker on the drives."""
    trackers = reporter.progress(TRACKERS, f"evaluating the trackers {when}", total=len(TRACKERS))
    return {name: association_quality(drives, _config(model, name, weights)) for name in trackers}


def association_quality(drives: Sequence[SegmentedDrive], config: Config) -> float:
    """AQ of the tracker of `config` on the segments of the drives."""
    tracker, evaluator = make_tracker(config), Evaluator(CITYSCAPES, video=False)
    for number, one in enumerate(drives):
        tracker.reset()
        for i, (frame, segmentation) in enumerate(zip(one.frames(), one.segmentations, strict=True)):
            ids = np.zeros(len(segmentation) + 1, np.int64)
            for track in tracker.step(frame, segmentation):
                ids[track.index + 1 if track.index >= 0 else 0] = track.track_id
            ids[0] = 0
            classes = np.append(VOID_ID, segmentation.class_ids).astype(np.uint8)[segmentation.map]
            truth = np.asarray(one.drive.semantic[i]), np.asarray(one.drive.instance[i])
            evaluator.update(str(number), *truth, classes, ids[segmentation.map])
    return float(evaluator.result().aq)


def _report(log: list[dict], reporter: Reporter) -> None:
    before, after, times = log
    for name in TRACKERS:
        reporter.note(
            f"{name}: AQ {100 * before['AQ'][name]:.2f} before, {100 * after['AQ'][name]:.2f} after; objects found "
            f"again {100 * before['pairs'][name]:.2f} % before, {100 * after['pairs'][name]:.2f} % after"
        )
    reporter.note(f"{times['seconds']['in all']:.0f} s, of which {times['seconds']['segmenting']:.0f} s for the model")
