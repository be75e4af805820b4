"""`vps-ros train`: a model, or what trackers learn for one, from generated drives."""

from __future__ import annotations

import argparse
from pathlib import Path

from vps_ros.commands import console
from vps_ros.errors import InputError
from vps_ros.learning.extra import require_training

DESCRIPTION = (
    "Trains a k-means mask transformer on generated street drives or, for a recipe of kind tracker, the embedding head "
    "and the fusion of the instance and hybrid trackers; what it needs of the drives is rendered first."
)
EXAMPLES = [
    "vps-ros train --config config/train/streets-s.yaml -o runs/streets-s",
    "vps-ros train --config config/train/streets-s.yaml -o runs/streets-s --resume",
    "vps-ros train --config config/train/streets-s-tracker.yaml -o runs/streets-s-tracker",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="YAML", help="the recipe: data, model, schedule, losses")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="RUN",
        help="folder of checkpoint.pt or NAME.tracker.npz, and log.jsonl",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")


def run(args: argparse.Namespace) -> int:
    require_training("training")
    from vps_ros.learning.recipe import Recipe
    from vps_ros.learning.tracker_training import TrackerRecipe, is_tracker_recipe, train_tracker
    from vps_ros.learning.training import train
    from vps_ros.learning.voice import Voice

    voice = Voice(console.progress, console.note)
    if is_tracker_recipe(args.config):
        if args.resume:
            raise InputError(f"{args.config}: a tracker's training takes minutes and is not resumed; drop --resume")
        path = train_tracker(TrackerRecipe.from_yaml(args.config), args.output, voice)
        console.note(f"{path}: {path.stat().st_size / 1e3:.0f} kB; put it beside the model")
        return 0
    recipe = Recipe.from_yaml(args.config)
    finished = train(recipe, Path(args.output), args.resume, voice)
    # As a shell reports a process that a signal ended.
    return 130 if finished.interrupted else 0
