"""`vps-ros train`: trains a model, or the learned weights of trackers."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

from vps_ros.commands import console
from vps_ros.config import collected_deprecations
from vps_ros.errors import InputError
from vps_ros.learning import Reporter, require_training

DESCRIPTION = (
    "Trains a model on generated street drives or on data sets on disk. A recipe of kind match-scorer trains the "
    "weights of the hierarchical tracker, one of kind lookahead those of replay --lookahead, one of kind tracker the "
    "embedding head and the fusion of the instance and "
    "hybrid trackers. Drives that do not exist yet are generated first."
)
EXAMPLES = [
    "vps-ros train --config config/train/streets-s.yaml -o runs/streets-s",
    "vps-ros train --config config/train/streets-s.yaml -o runs/streets-s --resume",
    "vps-ros train --config config/train/kitti-step.yaml -o runs/kitti-step --tensorboard",
    "vps-ros train --config config/train/streets-s-tracker.yaml -o runs/streets-s-tracker",
    "vps-ros train --config config/train/hierarchical.yaml -o runs/hierarchical",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="YAML", help="the recipe: data, model, schedule, losses")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="RUN",
        help="folder of checkpoint.pt and log.jsonl, or of the weights of a tracker",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in that folder")
    parser.add_argument("--tensorboard", action="store_true", help="also write the log for TensorBoard into the folder")


def run(args: argparse.Namespace) -> int:
    require_training("training")
    from vps_ros.learning.recipe import Recipe, kind_of
    from vps_ros.learning.tracking.hybrid import TrackerRecipe, train_tracker
    from vps_ros.learning.tracking.lookahead import LookaheadRecipe
    from vps_ros.learning.tracking.match_scorer import MatchScorerRecipe, train_match_scorer
    from vps_ros.learning.training.loop import train
    from vps_ros.reading import read_file

    reporter = Reporter(console.progress, console.note)
    trackers: dict[str, tuple[type, Callable[..., Path]]] = {
        "tracker": (TrackerRecipe, train_tracker),
        "match-scorer": (MatchScorerRecipe, train_match_scorer),
        "lookahead": (LookaheadRecipe, train_match_scorer),
    }
    with collected_deprecations() as deprecated:
        kind = kind_of(args.config)
        recipe = read_file(trackers[kind][0], args.config) if kind in trackers else Recipe.from_yaml(args.config)
    for message in deprecated:
        console.warn(message)
    if kind in trackers:
        if args.resume:
            raise InputError(f"{args.config}: a tracker's training takes minutes and is not resumed; drop --resume")
        path = trackers[kind][1](dataclasses.replace(recipe, kind=kind), args.output, reporter)
        console.note(f"{path}: {path.stat().st_size / 1e3:.0f} kB; put it in the folder of the model")
        return 0
    finished = train(recipe, Path(args.output), args.resume, reporter, args.tensorboard)
    if finished.interrupted:
        console.note(f"{args.output}: continue with --resume")
        # As a shell reports a process that a signal ended.
        return 130
    return 0
