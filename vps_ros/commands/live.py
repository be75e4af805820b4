"""`vps-ros live`: the node over DDS, without ROS."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from vps_ros.commands.console import log_to_stderr, note, ticker, warn
from vps_ros.commands.dds import add_dds_flags, camera_topics, join
from vps_ros.commands.options import add_parameter_flags, config_from
from vps_ros.commands.viewing import add_viewer_flags, finish, target_of, viewer_beside
from vps_ros.config import Config, LiveConfig
from vps_ros.drawing.views import View
from vps_ros.errors import InputError
from vps_ros.files import model_path, write_json
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.live.foxglove import DEFAULT_ADDRESS, FoxgloveTransport
from vps_ros.live.node import LiveNode
from vps_ros.live.pipelines import pipelines
from vps_ros.live.process import Signals, leave
from vps_ros.live.stats import Figures
from vps_ros.live.transport import Transport, absolute
from vps_ros.live.worker import Worker

DESCRIPTION = (
    "Track every object that a camera sees: subscribe to its images over DDS, as ROS 2 does, and publish what the ROS "
    "node publishes. ROS is not needed. Only the newest image is processed. Runs until interrupted."
)
EXAMPLES = [
    "vps-ros live --image /camera/image_raw",
    "vps-ros live --image /camera/image_raw/compressed --domain 5 --interface eth0",
    "vps-ros live --image /camera/image_raw --view",
    "vps-ros live --image /camera/image_raw --foxglove 0.0.0.0:8765",
    "vps-ros live --image front=/front/image_raw --image rear=/rear/image_raw --tracker hybrid",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image",
        action="append",
        required=True,
        metavar="TOPIC",
        help="image topic, raw or compressed; NAME=TOPIC, repeated, for several cameras that share a model",
    )
    add_dds_flags(parser)
    parser.add_argument("--name", default="vps", help="name of the node and prefix of its topics (default: vps)")
    parser.add_argument("--json", metavar="F", help="write the figures as JSON at the end")
    parser.add_argument("--force", action="store_true", help="replace a JSON file that exists")
    add_viewer_flags(parser)
    parser.add_argument(
        "--foxglove",
        nargs="?",
        const=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f"also serve all topics for Foxglove over a WebSocket (default: {DEFAULT_ADDRESS}, for this machine only)",
    )
    add_parameter_flags(parser, Config, LiveConfig)


def run(args: argparse.Namespace) -> int:
    config, live = config_from(args), config_from(args, LiveConfig)
    topics, name = camera_topics(args.image, "--image"), absolute(args.name)[1:]
    model_path(config.model)
    target = target_of(args)
    with log_to_stderr(), Signals() as signals, join(args) as participant, ExitStack() as beside:
        from vps_ros.live.dds_transport import DdsTransport

        note(f"loading model {config.model}")
        made = signals.during(lambda: pipelines(config, len(topics)))
        if made is None:
            participant.close()
            leave(0)
        transport: Transport = DdsTransport(participant, name)
        if args.foxglove is not None:
            transport = _with_foxglove(transport, args.foxglove, beside)
        node = LiveNode(transport)
        depth = bool(live.depth_topic)
        viewer = beside.enter_context(viewer_beside(target, cameras=tuple(topics), depth=depth, name=name))

        def show_view(camera: str, frame: Frame, result: PanopticFrame) -> None:
            if viewer and node.worker:
                drops = node.worker.stats[node.names.index(camera)].drops()
                viewer.show(View(frame.stamp, frame.image, result, drops=drops, camera=camera))

        node.configure(topics, made, live, show_view if viewer else None)
        note(
            f"domain {participant.domain}: {', '.join(topics.values())} -> /{name}/...; "
            f"model {config.model}, providers {', '.join(made[0].segmenter.providers)}; Ctrl-C ends"
        )
        worker = node.activate()
        try:
            with ticker() as show:
                while worker.alive and not signals.wait(1.0):
                    node.tick()
                    show("  ".join(_lines(worker)))
        finally:
            alive = worker.alive
            stopped = node.deactivate()
            figures = _figures(worker)
            if viewer:
                finish(viewer)
                figures["viewer"] = viewer.to_json()
    for line in _lines(worker):
        note(line)
    for stats in worker.stats:
        for reason, count in stats.figures().failures.items():
            warn(f"{count} frame(s) skipped: {reason}")
    if args.json:
        write_json(args.json, figures)
    code = 0 if alive else 1
    if not stopped:
        leave(code)
    return code


def _with_foxglove(transport: Transport, address: str, opened: ExitStack) -> Transport:
    """The transport with a server for Foxglove beside it; without, and with a warning, where that is impossible."""
    try:
        both = FoxgloveTransport(transport, address)
    except InputError as error:
        warn(str(error))
        return transport
    opened.callback(both.close)
    note(f"Foxglove: open {both.url}")
    return both


def _figures(worker: Worker) -> dict:
    """As the JSON of `replay`, for one camera; by name where there are several."""
    by_name = {}
    for camera, stats in zip(worker.cameras, worker.stats, strict=True):
        clip = camera.pipeline.clip
        by_name[camera.name] = stats.to_json() | ({"clip": clip.to_json()} if clip.length > 1 else {})
    return by_name.get("", {"cameras": by_name})


def _lines(worker: Worker) -> list[str]:
    """A line for each camera."""
    return [_line(camera.name, stats.figures()) for camera, stats in zip(worker.cameras, worker.stats, strict=True)]


def _line(name: str, now: Figures) -> str:
    latency = "-" if now.p50 is None else f"{now.p50:.0f}/{now.p99:.0f}"
    text = (
        f"{now.rate:.1f} frames/s, latency p50/p99 {latency} ms, {now.frames} frames, {now.dropped} dropped, "
        f"{now.failed} failed, {now.objects} objects, {now.tracks} tracks"
    )
    return f"{name}: {text}" if name else text
