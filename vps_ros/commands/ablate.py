"""`vps-ros ablate`: compares trackers on the same segmentations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vps_ros.ablation.report import draw, require_plots, tables
from vps_ros.ablation.sources import MASKS
from vps_ros.ablation.study import Plan, study
from vps_ros.commands.bench import machine
from vps_ros.commands.console import note, progress, table
from vps_ros.config import TRACKERS
from vps_ros.datasets.streets import SCENARIOS
from vps_ros.files import refuse_folder, write_json

DESCRIPTION = (
    "Compare trackers on the same segmentations of generated drives: AQ, STQ, IDF1, HOTA, id switches, time and the "
    "number of pairs compared. Masks: " + "; ".join(f"{name}: {meaning}" for name, meaning in MASKS.items()) + "."
)
EXAMPLES = [
    "vps-ros ablate",
    "vps-ros ablate --jobs 2 --sweeps -o ablation/",
    "vps-ros ablate --masks model,clips --model images.onnx --clip-model clips.onnx --sweeps",
    "vps-ros ablate --trackers hierarchical,hila_mb --scenarios crowd --masks degraded --seed 700000",
]
JSON, CACHE = "ablation.json", ".drives/ablation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="DIR", help=f"folder for {JSON} and the plots")
    parser.add_argument("--json", metavar="F", help="write the figures as JSON")
    parser.add_argument("--trackers", metavar="A,B", help=f"default: all of {', '.join(TRACKERS)}")
    parser.add_argument("--scenarios", metavar="A,B", help=f"default: all of {', '.join(SCENARIOS)}")
    parser.add_argument("--masks", metavar="A,B", help=f"of {', '.join(MASKS)} (default: all; clips with --clip-model)")
    parser.add_argument("--model", default=Plan.model, help=f"model of the masks `model` (default: {Plan.model})")
    parser.add_argument(
        "--clip-model",
        default="",
        metavar="F",
        help="model for clips, made by `vps-ros export --clip`: near-online beside online, as the masks `clips`",
    )
    parser.add_argument("--frames", type=int, default=Plan.frames, metavar="N", help=f"default: {Plan.frames}")
    parser.add_argument(
        "--drives", type=int, default=Plan.drives, metavar="N", help=f"for each scenario (default: {Plan.drives})"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=Plan.seed,
        metavar="S",
        help=f"drive k has seed S + k (default: {Plan.seed}, for reporting; tune on 700000 and up)",
    )
    parser.add_argument("--sweeps", action="store_true", help="also vary the parameters of the papers' tables")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--cache", default=CACHE, metavar="DIR", help=f"drives and segmentations (default: {CACHE})")
    parser.add_argument("--no-cache", action="store_true", help="do not keep drives and segmentations")
    parser.add_argument("--force", action="store_true", help="replace results that exist")


def run(args: argparse.Namespace) -> int:
    texts = {name: getattr(args, name) for name in ("trackers", "scenarios", "masks")}
    given: dict[str, Any] = {n: tuple(part.strip() for part in text.split(",")) for n, text in texts.items() if text}
    if args.clip_model and "masks" not in given:
        given["masks"] = (*Plan.masks, "clips")
    plan = Plan(
        **given,
        seed=args.seed,
        drives=args.drives,
        frames=args.frames,
        model=args.model,
        clip_model=args.clip_model,
        sweeps=args.sweeps,
        jobs=args.jobs,
        cache=None if args.no_cache else args.cache,
    )
    outputs = [Path(f) for f in (args.json, args.output and Path(args.output) / JSON) if f]
    if args.output:
        refuse_folder(outputs[-1], args.force)
        require_plots()
    document = {"machine": machine(), **study(plan, progress)}
    for output in outputs:
        write_json(output, document)
    for title, columns, rows in tables(document):
        table(title, columns, rows, digits=1)
    if args.output:
        for path in draw(document, Path(args.output)):
            note(f"wrote {path}")
    return 0
