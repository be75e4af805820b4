"""`vps-ros demo`: generation, replay and evaluation of a street drive."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.commands.console import note, progress
from vps_ros.commands.evaluate import show as show_report
from vps_ros.commands.replay import Options, replay_source
from vps_ros.commands.replay import show as show_figures
from vps_ros.commands.synth import write_bag
from vps_ros.config import Config
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.drawing.colors import paint_map
from vps_ros.drawing.overlay import Overlay
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.report import INTERVAL, Entry, Picture, moment, write_html
from vps_ros.files import refuse_existing, write_json
from vps_ros.frame import Frame, PanopticFrame
from vps_ros.messages.panoptic import class_and_track_maps
from vps_ros.recording.frames import BagReader
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = """Generate a street drive as a bag, replay it, evaluate it against its exact ground truth.
Writes drive.mcap, tracked.mcap, overlay.mp4, report.html and metrics.json."""
EXAMPLES = ["vps-ros demo", "vps-ros demo --view", "vps-ros demo -o out/ --frames 300"]
SCENARIO, SEED, SIZE = "cruise", 900_106, (640, 192)
"""A drive outside of the training data, with tram, bus, trucks, riders, people, and a turn at a junction."""
PICTURES = 6
"""Number of frames in the report."""
FILES = ("drive.mcap", "tracked.mcap", "overlay.mp4", "report.html", "metrics.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", default="demo", metavar="DIR", help="folder of the results (default: demo)")
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="length of the drive (default: 100)")
    parser.add_argument("--view", action="store_true", help="then show them, as `vps-ros view DIR` does")
    parser.add_argument("--force", action="store_true", help="replace results that exist")


def run(args: argparse.Namespace) -> int:
    if args.frames < 2:
        raise InputError(f"--frames {args.frames}: a drive that can be tracked has at least 2 frames")
    folder = Path(args.output)
    drive_bag, tracked_bag, video, page, metrics = (refuse_existing(folder / f, args.force) for f in FILES)
    truth = _Truth()
    frames = drive(SCENARIO, seed=SEED, frames=args.frames, size=SIZE)
    write_bag(drive_bag, progress(truth.store(frames), "generate", args.frames), args.force)

    comparison = _Comparison(truth)
    with BagReader(drive_bag) as bag:
        summary = replay_source(bag, Config(), tracked_bag, Options(video, args.force, sinks=(comparison,)))
    report, figures = comparison.evaluator.result(), summary.to_json()
    write_json(metrics, {**report.to_json(), "fps": figures["fps"]})
    write_html(
        page,
        [Entry("demo", report, {SCENARIO: comparison.timeline})],
        comparison.pictures,
        "A generated street drive",
        {"frames/s": f"{figures['fps']:.1f}", "latency, median": f"{figures['latency_ms']['p50']:.1f} ms"},
    )
    show_report({"demo": report})
    show_figures(figures, f"{drive_bag} -> {tracked_bag}")
    note(f"results: {video} and {page}")
    missing = "" if find_spec("rerun") else "; needs: pip install 'vps_ros[view]'"
    note(f"look at them: vps-ros view {folder}{missing}")
    if args.view:
        from vps_ros.commands.main import main

        return main(["view", str(folder)])
    return 0


class _Truth:
    """Ground truth by stamp, compressed, so that a long drive fits in memory."""

    def __init__(self) -> None:
        self._packed: dict[int, tuple[bytes, bytes]] = {}

    def store(self, frames: Iterable[StreetFrame]) -> Iterator[StreetFrame]:
        for street in frames:
            self._packed[street.frame.stamp] = zlib.compress(street.semantic, 1), zlib.compress(street.instance, 1)
            yield street

    def at(self, stamp: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        semantic, instance = (zlib.decompress(packed) for packed in self._packed[stamp])
        shape = SIZE[::-1]
        return np.frombuffer(semantic, np.uint8).reshape(shape), np.frombuffer(instance, np.uint16).reshape(shape)


class _Comparison:
    """Compares each panoptic frame with the ground truth at its stamp."""

    def __init__(self, truth: _Truth) -> None:
        self.evaluator = Evaluator(CITYSCAPES)
        self.timeline: list[float] = []
        self._lowest: dict[int, tuple[float, Picture]] = {}
        self._truth = truth
        self._draw = Overlay(CITYSCAPES, min_height=360)

    def __call__(self, frame: Frame, result: PanopticFrame) -> None:
        semantic, instance = self._truth.at(result.stamp)
        quality = self.evaluator.update(SCENARIO, semantic, instance, *class_and_track_maps(result))
        index = len(self.timeline)
        if index == 0:
            self._first = result.stamp
        # Of consecutive frames, which look alike, only one is shown; of all of them, the lowest.
        if quality.pq < self._lowest.get(index // INTERVAL, (2.0,))[0]:
            panels = {
                "camera": frame.image,
                "ground truth": paint_map(self.evaluator.taxonomy, semantic, instance),
                "result": self._draw(frame.image, result),
            }
            caption = f"Among the lowest PQ: frame {index}, PQ {100 * quality.pq:.1f}"
            link = moment(FILES[2], (result.stamp - self._first) / 1e9)
            self._lowest[index // INTERVAL] = quality.pq, Picture(panels, caption, link)
        if len(self._lowest) > PICTURES:
            del self._lowest[max(self._lowest, key=lambda interval: self._lowest[interval][0])]
        self.timeline.append(quality.pq)

    @property
    def pictures(self) -> list[Picture]:
        """Of the frames of lowest PQ, in the order of time."""
        return [picture for _, (_, picture) in sorted(self._lowest.items())]
