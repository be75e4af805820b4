"""`vps-ros replay`: runs the pipeline on a recording."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vps_ros.commands.console import note, progress, table, warn
from vps_ros.commands.depth import add_depth_flags, open_depth, open_locator
from vps_ros.commands.options import (
    add_parameter_flags,
    add_youtube_vis_flags,
    config_from,
    jobs_of,
    refuse_camera,
    youtube_vis_results,
)
from vps_ros.commands.truth import TruthReader, add_truth_flags
from vps_ros.commands.viewing import add_viewer_flags, finish, serve, sink_of, target_of, viewer_beside
from vps_ros.config import Config
from vps_ros.depth.locator import ObjectLocator
from vps_ros.errors import InputError
from vps_ros.files import write_json
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.bag import recording_name
from vps_ros.recording.depth import DepthSource
from vps_ros.recording.frames import FrameSource, open_frames
from vps_ros.recording.image_files import DEFAULT_HZ
from vps_ros.recording.replay import Sink, Summary, replay
from vps_ros.recording.tables import TableWriter
from vps_ros.recording.writer import BagWriter

if TYPE_CHECKING:
    from vps_ros.datasets.youtube_vis import ResultsWriter

DESCRIPTION = (
    "Track every object in a recording: reads a bag, a video or a folder of images, writes a bag. Deterministic; "
    "no frame is skipped for lack of time. Stamps are those of the bag or video, or count from 1 s at --hz."
)
EXAMPLES = [
    "vps-ros replay drive.mcap -o tracked.mcap",
    "vps-ros replay drive/ -o tracked.mcap --topic /front/image_raw --overlay tracked.mp4",
    "vps-ros replay dashcam.mp4 -o tracked.mcap --overlay tracked.mp4",
    "vps-ros replay images/ -o tracked.mcap --hz 30",
    "vps-ros replay drive.mcap -o tracked.mcap --depth /camera/depth/image_raw",
    "vps-ros replay drive.mcap -o tracked.mcap --depth /camera/depth/image_raw --objects-frame odom",
    "vps-ros replay images/ -o tracked.mcap --depth depth/ --camera-info calibration.yaml --cloud",
    "vps-ros replay drive.mcap -o labels.mcap --lookahead",
    "vps-ros replay video.mp4 -o tracked.mcap --youtube-vis results.json --video-id 7",
    "vps-ros replay drive.mcap -o tracked.mcap --model mine.onnx --memory-tau 20 --json figures.json",
    "vps-ros replay drive.mcap -o tracked.mcap --tables tables/",
    "vps-ros replay drive.mcap -o tracked.mcap --view",
    "vps-ros replay drive.mcap -o tracked.mcap --web --gt drive.mcap",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", help="a bag (.mcap or .db3 file, rosbag2 folder), a video, or a folder of images in natural order"
    )
    parser.add_argument("-o", "--output", required=True, help="OUT.mcap for one file, any other name for a folder")
    parser.add_argument("--topic", help="image topic of a bag or number of a video stream; required if it has several")
    parser.add_argument(
        "--hz", type=float, help=f"frames per second of images (default: {DEFAULT_HZ:g}); a video has its own times"
    )
    parser.add_argument("--overlay", metavar="F.mp4", help="also write the result as a video")
    parser.add_argument(
        "--tables",
        nargs="?",
        const="",
        metavar="DIR",
        help="also write Parquet tables of the objects and of the frames, named like the output (default: beside it)",
    )
    add_depth_flags(parser, "adds position, size and velocity in 3D (topic objects_3d)")
    parser.add_argument("--cloud", action="store_true", help="also write the topic panoptic_cloud; needs --depth")
    parser.add_argument("--remembered", action="store_true", help="of the overlay: also boxes of objects not seen now")
    parser.add_argument("--json", metavar="F", help="also write the figures as JSON")
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help="threads beside those of the network. 1: one frame after the other; 2: the network runs one frame "
        "ahead of tracking; 3: writing has a thread as well; 0: by the cores (default). With a model for clips, N "
        "processes segment them. The output is the same",
    )
    parser.add_argument(
        "--lookahead",
        action="store_true",
        help="decide identities after the last frame, from the complete recording: fewer id switches, for "
        "labelling and as a bound of the online result. Reads the recording twice",
    )
    add_youtube_vis_flags(parser)
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    add_viewer_flags(parser)
    add_truth_flags(parser)
    add_parameter_flags(parser)


def run(args: argparse.Namespace) -> int:
    config = config_from(args)
    jobs = jobs_of(args)
    if args.cloud and args.depth is None:
        raise InputError("--cloud needs --depth TOPIC or --depth FOLDER")
    if args.lookahead and args.depth:
        raise InputError("--lookahead: objects in 3D follow the online identities; leave --depth or --lookahead out")
    for output in (args.output, args.overlay, args.json, args.youtube_vis):
        if output and Path(output).resolve() == Path(args.source).resolve():
            raise InputError(f"{output}: is also the input; choose another output")
    refuse_camera(args.source, "replay")
    target = target_of(args)
    if args.gt and not target:
        raise InputError("--gt: the ground truth is shown by the viewer; add --view, --web or --save F.rrd")
    summary, sinks = Summary(), list[Sink]()
    with viewer_beside(
        target, truth=args.gt is not None, depth=bool(args.depth), name=Path(args.source).name
    ) as viewer:
        with open_frames(args.source, topic=args.topic, hz=args.hz) as source, ExitStack() as stack:
            if args.tables is not None:
                sinks.append(stack.enter_context(_tables(args)).write)
            if results := stack.enter_context(youtube_vis_results(args)):
                sinks.append(partial(_add_objects, results))
            if viewer:
                truth = stack.enter_context(TruthReader(args)) if args.gt else None
                sinks.append(sink_of(viewer, truth, lambda: {"unusable": summary.dropped.total()}))
            options = Options(args.overlay, args.force, jobs, tuple(sinks), args.cloud, args.lookahead, args.remembered)
            depth, locator = open_depth(args, source, args.source), open_locator(args, source, args.source, stack)
            replay_source(source, config, args.output, options, depth, summary, locator)
        figures = summary.to_json()
        if viewer:
            finish(viewer)
            figures["viewer"] = viewer.to_json()
        if args.json:
            write_json(args.json, figures)
        show(figures, f"{Path(args.source).name} -> {args.output}")
        serve(viewer)
    return 0


def _add_objects(results: ResultsWriter, frame: Frame, result: PanopticFrame) -> None:
    objects = ((t.track_id, t.class_id, t.score, result.mask(t)) for t in result.visible)
    results.add("", result.taxonomy, result.map.shape, objects)


def _tables(args: argparse.Namespace) -> TableWriter:
    output = Path(args.output)
    name = output.name.removesuffix(".mcap")
    return TableWriter(args.tables or output.parent, name, recording_name(args.source), args.force)


@dataclass(frozen=True)
class Options:
    """What a replay writes besides the bag, and how.

    Attributes:
        overlay: path of a video; None: no video.
        force: replace outputs that exist.
        jobs: threads, as in `replay`; 0: by the cores of this machine.
        sinks: get each frame and its result, too.
        cloud: write the topic panoptic_cloud, too.
        lookahead: identities from the complete recording; the source is read twice.
        remembered: draw boxes of objects that are not seen into the video, too.
    """

    overlay: str | Path | None = None
    force: bool = False
    jobs: int = 0
    sinks: tuple[Sink, ...] = ()
    cloud: bool = False
    lookahead: bool = False
    remembered: bool = False


def replay_source(
    source: FrameSource,
    config: Config,
    output: str | Path,
    options: Options,
    depth: DepthSource | None = None,
    summary: Summary | None = None,
    locator: ObjectLocator | None = None,
) -> Summary:
    """Writes the results of a source to the bag `output`, and what `options` add; reports losses on stderr.

    `depth`, `summary` and `locator` are as in `replay`; `depth` is closed at the end.
    """
    # Checked before the model is loaded, which takes time.
    writer, video = BagWriter(output, options.force), None
    if options.overlay:
        # These, and look-ahead below, load packages that other replays do not need.
        from vps_ros.drawing.overlay import Overlay
        from vps_ros.drawing.video import VideoWriter

        video = VideoWriter(options.overlay, force=options.force)
    pipeline = OnlinePanoptic(config)
    length = "" if source.count is None else f"{source.count} frames, "
    note(f"{source.name}: {length}model {config.model}, providers {', '.join(pipeline.segmenter.providers)}")
    with ExitStack() as outputs:
        outputs.enter_context(writer)

        def write(frame: Frame, result: PanopticFrame) -> None:
            writer.write_frame(result, pipeline.taxonomy, cloud=frame.image if options.cloud else None)

        all_sinks: list[Sink] = [write, *options.sinks]
        if depth:
            outputs.callback(depth.close)
        if video:
            outputs.enter_context(video)
            draw = Overlay(pipeline.taxonomy, lost=options.remembered, min_height=360, trails=True, legend=True)
            all_sinks.append(lambda frame, result: video.write(draw(frame.image, result), result.stamp))
        passes = iter(("replay", "identities"))

        def read() -> Iterator[Frame]:
            # Closed before an error is printed, so that the bar is not the last line.
            return outputs.enter_context(closing(progress(source.frames(), next(passes), source.count)))

        threads = options.jobs or os.cpu_count() or 1
        if options.lookahead:
            from vps_ros.recording.lookahead import replay_with_lookahead

            summary = replay_with_lookahead(read, pipeline, all_sinks, threads, summary)
        else:
            summary = replay(read(), pipeline, all_sinks, threads, depth, summary, locator)
    warn_of_losses(source, summary)
    summary.dropped.update({str(loss): loss.count for loss in source.losses})
    return summary


def warn_of_losses(source: FrameSource, summary: Summary) -> None:
    """Warns of frames that could not be read or used, and of where all tracks ended."""
    for loss in source.losses:
        warn(str(loss))
    for reason, count in summary.dropped.items():
        warn(f"{count} frame(s) skipped: {reason}")
    for reason, count in summary.restarts.items():
        warn(f"all tracks end and new ones start {count} time(s), because {reason}")
    for reason, count in summary.depth.failures.items() if summary.depth else ():
        warn(f"{count} frame(s) without objects in 3D: {reason}")


def show(figures: dict, title: str) -> None:
    """Prints the figures of a replay as a table."""
    rows = [
        ("frames", figures["frames"]),
        ("tracks", figures["tracks"]),
        ("dropped", figures["dropped"]),
        ("frames/s", round(figures["fps"], 1)),
        *((f"3D {name.replace('_', ' ')}", n) for name, n in figures.get("depth", {}).items() if name != "failures"),
        *((f"{name} ms", round(value, 2)) for name, value in figures["latency_ms"].items()),
    ]
    table(title, ("figure", "value"), [(name, str(value)) for name, value in rows])
