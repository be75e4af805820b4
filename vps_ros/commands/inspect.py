"""`vps-ros inspect`: the contents of a model or a bag."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vps_ros.clips import ClipSpec
from vps_ros.commands.console import table, warn
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.files import write_json
from vps_ros.flow.raft import RaftFlow
from vps_ros.messages.images import DECODERS
from vps_ros.messages.typestore import read_message
from vps_ros.recording.bag import Bag, Topic
from vps_ros.segmenters import SegmenterParameters, load_segmenter, shipped_models
from vps_ros.segmenters.model_card import FlowCard, ModelCard, ModelDescription, describe_model
from vps_ros.segmenters.runtime import PROVIDER_NAMES

DESCRIPTION = (
    "List the contents of a bag (topics, counts, images, losses) or a model (classes, tensors, thresholds). A model is "
    "also checked as by `vps-ros replay`; one that it would refuse ends with exit code 2."
)
EXAMPLES = ["vps-ros inspect drive.mcap", "vps-ros inspect recording/ --json bag.json", "vps-ros inspect streets-s"]

_MIN_DATE = 10**17
"""Nanoseconds; a smaller time is shown in seconds, since its clock probably counts from the start of a machine."""
_MAX_DATE = 253_402_300_799 * 10**9
"""Nanoseconds; the end of the year 9999, after which datetime has no dates."""
_NESTED = "(in the file of --json)"
_TENSOR = ("", "tensor", "type", "shape")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a .mcap or .db3 file, a rosbag2 folder, an ONNX file or a shipped model's name")
    parser.add_argument("--json", metavar="F", help="also write what is found as JSON")
    parser.add_argument("--force", action="store_true", help="replace a JSON file that exists")


def run(args: argparse.Namespace) -> int:
    path = Path(args.file)
    if args.file in shipped_models() or path.suffix.lower() == ".onnx":
        model = describe_model(args.file)
        if model.card is not None:
            model = dataclasses.replace(model, problem=_contract_problem(model.path, model.card))
        _show_model(model)
        found = model.to_json()
    elif not path.exists():
        raise InputError(f"{path}: no such file; give a bag, an ONNX file or a model ({', '.join(shipped_models())})")
    else:
        found = describe_bag(path)
        _show_bag(found)
    if args.json:
        write_json(args.json, found)
    if found.get("problem"):
        if found["has_metadata"]:
            raise InputError(found["problem"])
        # A file of another program, which can be imported.
        warn(found["problem"])
    return 0


def _contract_problem(path: str, card: ModelCard | FlowCard) -> str:
    """Why `replay` would refuse a model on a CPU, where it loads and runs it once; "" where it would not."""
    try:
        if isinstance(card, FlowCard):
            RaftFlow(path)
        else:
            load_segmenter(SegmenterParameters(model=path))
    except InputError as error:
        return str(error)
    return ""


def describe_bag(path: str | Path) -> dict[str, Any]:
    """The entries of `--json`; raises InputError if there is no bag.

    Times are of the recorder, in nanoseconds. `hz`: messages over the duration of the bag; `lost`: messages known to be
    missing; `picture`: "1242x375 rgb8" of the first image, or why it cannot be read, "" for other topics.
    """
    with Bag(path) as bag:
        seconds = (bag.end - bag.start) / 1e9
        topics: list[dict[str, Any]] = []
        for topic in bag.topics:
            # The metadata count messages by topic, whatever their types.
            first = topic.name not in {t["name"] for t in topics}
            topics.append(
                {
                    "name": topic.name,
                    "type": topic.type,
                    "count": topic.count,
                    "hz": (topic.count - 1) / seconds if topic.count > 1 and seconds > 0 else None,
                    "lost": bag.lost(topic.name) if first else 0,
                    "picture": _describe_image(bag, topic),
                }
            )
        return {
            "kind": "bag",
            "path": str(path),
            "storage": bag.storage,
            "files": [str(file) for file in bag.files],
            "size": sum(file.stat().st_size for file in bag.files),
            "start": bag.start,
            "end": bag.end,
            "topics": topics,
            "losses": [str(loss) for loss in bag.losses],
            "duration": seconds,
            "messages": sum(t.count for t in bag.topics),
        }


def _describe_image(bag: Bag, topic: Topic) -> str:
    if topic.type not in DECODERS:
        return ""
    for message in bag.messages([topic.name], [topic.type]):
        try:
            content = read_message(message.data, topic.type)
            if hasattr(content, "encoding"):
                return f"{content.width}x{content.height} {content.encoding}"
            height, width = DECODERS[topic.type](content).shape[:2]
            return f"{width}x{height} {content.format}"
        except DroppedFrame as error:
            return str(error)
    return ""


def _show_bag(bag: Mapping[str, Any]) -> None:
    start = f"{bag['start'] / 1e9:.1f} s"
    if _MIN_DATE < bag["start"] < _MAX_DATE:
        start = datetime.fromtimestamp(bag["start"] / 1e9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    files = f"{len(bag['files'])} file{'s' if len(bag['files']) > 1 else ''}, {bag['size'] / 1e6:.1f} MB"
    title = f"{bag['path']}: {bag['storage']}, {files}, {bag['duration']:.1f} s from {start}"
    columns = {"name": "topic", "type": "type", "count": "messages", "hz": "Hz", "picture": "images", "lost": "lost"}
    if not any(t["lost"] for t in bag["topics"]):
        del columns["lost"]
    # The commands of ROS also omit /msg/.
    topics = [t | {"type": t["type"].replace("/msg/", "/")} for t in bag["topics"]]
    table(title, list(columns.values()), [[t[key] for key in columns] for t in topics])
    for loss in bag["losses"]:
        warn(loss)


def _show_model(model: ModelDescription) -> None:
    tensors = [
        (kind, t.name, t.type, t.shape) for kind, ts in (("in", model.inputs), ("out", model.outputs)) for t in ts
    ]
    providers = [PROVIDER_NAMES[name] for name in model.providers if name in PROVIDER_NAMES]
    table(f"{model.path}: {model.size / 1e6:.1f} MB, runs on {', '.join(providers)}", _TENSOR, tensors)
    if model.card is None:
        return
    card = model.card
    if isinstance(card, FlowCard):
        flow = [
            ("kind", "optical flow between two images, for the parameter flow_model"),
            ("name", card.name),
            *_source(card.source),
            ("input", f"2 images of {card.input.width}x{card.input.height}"),
            ("updates", card.updates),
        ]
        table("card", ("entry", "value"), flow)
        return
    rows: list[tuple[str, Any]] = [
        ("name", card.name),
        *_source(card.source),
        ("input", f"{card.input.width}x{card.input.height}{', keeps aspect' if card.input.keep_aspect else ''}"),
        ("post-processing", "on the host" if card.camera is None else "in the graph, for {1}x{0}".format(*card.camera)),
        ("clip", _clip(card.clip)),
        ("mask activation", card.mask_activation),
        *((f"threshold {name}", value) for name, value in dataclasses.asdict(card.thresholds).items()),
    ]
    table("card", ("entry", "value"), [(name, "-" if value is None else str(value)) for name, value in rows])
    classes = [
        (c.id, c.name, "thing" if c.isthing else "stuff", " ".join(map(str, c.color))) for c in card.taxonomy.classes
    ]
    table(f"taxonomy {card.taxonomy.name}", ("id", "class", "kind", "colour"), classes)


def _clip(clip: ClipSpec | None) -> str:
    return "single images" if clip is None else str(clip)


def _source(text: str) -> list[tuple[str, Any]]:
    """The origin of the model, one row per entry if it is JSON, as exports write it.

    Of nested entries, such as a recipe, the table only says that they are in `--json`: they are longer than all others.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        return [("source", text or None)]
    return [(f"source {key}", v if isinstance(v, (str, int, float)) else _NESTED) for key, v in found.items()]
