"""`vps-ros train`: a model from generated drives."""

from __future__ import annotations

import argparse
from pathlib import Path

from vps_ros.commands import console
from vps_ros.learning.extra import require_training

DESCRIPTION = "Trains a k-means mask transformer on generated street drives; what it needs of them is rendered first."
EXAMPLES = [
    "vps-ros train --config config/train/streets-s.yaml -o runs/streets-s",
    "vps-ros train --config config/train/streets-s.yaml -o runs/streets-s --resume",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="YAML", help="the recipe: data, model, schedule, losses")
    parser.add_argument("-o", "--output", required=True, metavar="RUN", help="folder of checkpoint.pt and log.jsonl")
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")


def run(args: argparse.Namespace) -> int:
    require_training("training")
    from vps_ros.learning.recipe import Recipe
    from vps_ros.learning.training import train
    from vps_ros.learning.voice import Voice

    recipe = Recipe.from_yaml(args.config)
    finished = train(recipe, Path(args.output), args.resume, Voice(console.progress, console.note))
    # As a shell reports a process that a signal ended.
    return 130 if finished.interrupted else 0
