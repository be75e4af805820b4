"""`vps-ros inspect`: what a model or a bag contains."""

from __future__ import annotations

import argparse
import dataclasses
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vps_ros.commands.console import table, warn
from vps_ros.errors import InputError
from vps_ros.files import refuse_folder, write_json
from vps_ros.recording.survey import BagSurvey, survey_bag
from vps_ros.segmenters import shipped_models
from vps_ros.segmenters.model_card import ModelDescription, describe_model

DESCRIPTION = "Say what a bag (topics, counts, images, losses) or a model (classes, tensors, thresholds) contains."
EXAMPLES = ["vps-ros inspect drive.mcap", "vps-ros inspect recording/ --json bag.json", "vps-ros inspect streets-s"]

_CALENDAR = 10**17
"""Nanoseconds; clocks that show less count from their start and not from 1970."""
_TENSOR = ("", "tensor", "type", "shape")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a .mcap or .db3 file, a rosbag2 folder, an ONNX file or a shipped model's name")
    parser.add_argument("--json", metavar="F", help="also write what is found as JSON")
    parser.add_argument("--force", action="store_true", help="replace a JSON file that exists")


def run(args: argparse.Namespace) -> int:
    if args.json:
        refuse_folder(args.json, args.force)
    path = Path(args.file)
    if args.file in shipped_models() or path.suffix.lower() == ".onnx":
        model = describe_model(args.file)
        _show_model(model)
        found = model.to_json()
    elif not path.exists():
        raise InputError(f"{path}: no such file; give a bag, an ONNX file or a model ({', '.join(shipped_models())})")
    else:
        bag = survey_bag(path)
        _show_bag(bag)
        found = bag.to_json()
    if args.json:
        write_json(args.json, found)
    return 0


def _show_bag(bag: BagSurvey) -> None:
    began = f"{bag.start / 1e9:.1f} s"
    if bag.start > _CALENDAR:
        began = datetime.fromtimestamp(bag.start / 1e9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    files = f"{len(bag.files)} file{'s' if len(bag.files) > 1 else ''}, {bag.size / 1e6:.1f} MB"
    title = f"{bag.path}: {bag.storage}, {files}, {bag.seconds:.1f} s from {began}"
    # Commands of ROS write the type without its middle too.
    rows = [[t.name, t.type.replace("/msg/", "/"), t.count, t.hz, t.picture, t.lost] for t in bag.topics]
    columns = ["topic", "type", "messages", "Hz", "images", "lost"]
    if not any(t.lost for t in bag.topics):
        rows, columns = [row[:-1] for row in rows], columns[:-1]
    table(title, columns, rows)
    for loss in bag.losses:
        warn(loss)


def _show_model(model: ModelDescription) -> None:
    tensors = [
        (kind, t.name, t.type, t.shape) for kind, ts in (("in", model.inputs), ("out", model.outputs)) for t in ts
    ]
    table(f"{model.path}: {model.size / 1e6:.1f} MB, runs on {', '.join(model.providers)}", _TENSOR, tensors)
    if model.card is None:
        warn(model.problem)
        return
    card = model.card
    rows: list[tuple[str, Any]] = [
        ("name", card.name),
        *_source(card.source),
        ("input", f"{card.input.width}x{card.input.height}{', keeps aspect' if card.input.keep_aspect else ''}"),
        ("post-processing", "on the host" if card.camera is None else "in the graph, for {1}x{0}".format(*card.camera)),
        ("mask activation", card.mask_activation),
        *((f"threshold {name}", value) for name, value in dataclasses.asdict(card.thresholds).items()),
    ]
    table("card", ("entry", "value"), [(name, "-" if value is None else str(value)) for name, value in rows])
    classes = [
        (c.id, c.name, "thing" if c.isthing else "stuff", " ".join(map(str, c.color))) for c in card.taxonomy.classes
    ]
    table(f"taxonomy {card.taxonomy.name}", ("id", "class", "kind", "colour"), classes)


def _source(text: str) -> list[tuple[str, Any]]:
    """Where the model came from, an entry a row: exports write it as JSON, others as they like."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        return [("source", text or None)]
    return [(f"source {key}", v if isinstance(v, (str, int, float)) else json.dumps(v)) for key, v in found.items()]
