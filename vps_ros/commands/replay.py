"""`vps-ros replay`: the node's work on a recorded drive."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from vps_ros.commands.console import note, progress, table, warn
from vps_ros.commands.parameters import add_parameter_flags, config_from
from vps_ros.config import Config
from vps_ros.drawing.overlay import Overlay
from vps_ros.drawing.video import VideoWriter
from vps_ros.errors import InputError
from vps_ros.online import OnlinePanoptic
from vps_ros.output import refuse_folder, write_json
from vps_ros.recording.reader import BagReader
from vps_ros.recording.replay import Sink, Summary, replay
from vps_ros.recording.writer import BagWriter

DESCRIPTION = "Track every object of a recorded drive: reads a bag, writes a bag. Deterministic; no frame is dropped."
EXAMPLES = [
    "vps-ros replay drive.mcap -o tracked.mcap",
    "vps-ros replay drive/ -o tracked.mcap --topic /front/image_raw --overlay tracked.mp4",
    "vps-ros replay drive.mcap -o tracked.mcap --model mine.onnx --memory-tau 20 --json figures.json",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", help="a .mcap or .db3 file, or a rosbag2 folder")
    parser.add_argument("-o", "--output", required=True, help="OUT.mcap for one file, any other name for a folder")
    parser.add_argument("--topic", help="image topic; needed when the bag has several")
    parser.add_argument("--overlay", metavar="F.mp4", help="also draw the result as a video")
    parser.add_argument("--json", metavar="F", help="also write the figures as JSON")
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    add_parameter_flags(parser)


def run(args: argparse.Namespace) -> int:
    config = config_from(args)
    if args.json:
        refuse_folder(args.json, args.force)
    if Path(args.output).resolve() == Path(args.bag).resolve():
        raise InputError(f"{args.output}: is the input too; choose another output")
    with BagReader(args.bag, args.topic) as bag:
        summary = replay_bag(bag, config, args.output, args.overlay, args.force)
    figures = summary.to_json()
    if args.json:
        write_json(args.json, figures)
    show(figures, f"{Path(args.bag).name} -> {args.output}")
    return 0


def replay_bag(
    bag: BagReader,
    config: Config,
    output: str | Path,
    overlay: str | Path | None,
    force: bool,
    sinks: tuple[Sink, ...] = (),
) -> Summary:
    """Replays an open bag into a bag and, where `overlay` is given, a video; says on stderr what was lost."""
    # Before the model is loaded, which takes time: what they refuse is said at once.
    writer, video = BagWriter(output, force), overlay and VideoWriter(overlay, force=force)
    pipeline = OnlinePanoptic(config)
    note(f"{bag.topic}: {bag.count} frames, model {config.model}, providers {', '.join(pipeline.segmenter.providers)}")
    with ExitStack() as outputs:
        outputs.enter_context(writer)
        every: list[Sink] = [lambda frame, result: writer.write_frame(result, pipeline.taxonomy), *sinks]
        if video:
            outputs.enter_context(video)
            draw = Overlay(pipeline.taxonomy, min_height=360)
            every.append(lambda frame, result: video.write(draw(frame.image, result), result.stamp))
        summary = replay(progress(bag.frames(), "replay", bag.count), pipeline, every)
    for loss in bag.losses:
        warn(str(loss))
    for reason, count in summary.dropped.items():
        warn(f"{count} frame(s) skipped: {reason}")
    summary.dropped.update({str(loss): loss.count for loss in bag.losses})
    return summary


def show(figures: dict, title: str) -> None:
    """The figures of a replay as a table for people."""
    rows = [
        ("frames", figures["frames"]),
        ("tracks", figures["tracks"]),
        ("dropped", figures["dropped"]),
        ("frames/s", round(figures["fps"], 1)),
        *((f"{name} ms", round(value, 2)) for name, value in figures["latency_ms"].items()),
    ]
    table(title, ("figure", "value"), [(name, str(value)) for name, value in rows])
