"""`vps-ros train`: a model, or what trackers learn for one, from generated drives."""

from __future__ import annotations

import argparse
from pathlib import Path

from vps_ros.commands import console
from vps_ros.errors import InputError
from vps_ros.learning.extra import require_training

DESCRIPTION = (
    "Trains a model on generated street drives, or on a data set on disk; or, for a recipe of kind judge, the weights "
    "of the hierarchical tracker; or, of kind tracker, the embedding head and the fusion of the instance and hybrid "
    "trackers. What it needs of the drives is rendered first."
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
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    parser.add_argument("--tensorboard", action="store_true", help="write the log for TensorBoard too, into the folder")


def run(args: argparse.Namespace) -> int:
    require_training("training")
    from vps_ros.learning.judging import JudgeRecipe, train_judge
    from vps_ros.learning.recipe import Recipe, kind_of
    from vps_ros.learning.tracker_training import TrackerRecipe, train_tracker
    from vps_ros.learning.training import train
    from vps_ros.learning.voice import Voice
    from vps_ros.reading import read_file

    voice = Voice(console.progress, console.note)
    trackers = {"tracker": (TrackerRecipe, train_tracker), "judge": (JudgeRecipe, train_judge)}
    kind = kind_of(args.config)
    if kind in trackers:
        if args.resume:
            raise InputError(f"{args.config}: a tracker's training takes minutes and is not resumed; drop --resume")
        recipe, teach = trackers[kind]
        path = teach(read_file(recipe, args.config), args.output, voice)
        console.note(f"{path}: {path.stat().st_size / 1e3:.0f} kB; put it beside the model")
        return 0
    recipe = Recipe.from_yaml(args.config)
    finished = train(recipe, Path(args.output), args.resume, voice, args.tensorboard)
    # As a shell reports a process that a signal ended.
    return 130 if finished.interrupted else 0
