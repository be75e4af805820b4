"""What the shipped model and the default tracker reach on drives they never saw: PQ, STQ, frames/s from bag to bag.

Beside them, on the same segments: HiLA-MB with the paper's values, which is the online tracker of Video-kMaX.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vps_ros.commands.synth import write_bag
from vps_ros.config import Config
from vps_ros.datasets.streets import StreetFrame, drive
from vps_ros.evaluation import Evaluator, Report
from vps_ros.messages.panoptic import class_and_track_maps
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.reader import BagReader
from vps_ros.recording.replay import replay
from vps_ros.recording.writer import BagWriter
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import make_tracker

DESCRIPTION = "PQ and STQ on 8 held-out drives, and frames/s from bag to bag"
SCENARIOS = ("cruise", "crowd", "occlusion", "turning", "low_rate", "night", "cruise", "crowd")
FIRST_SEED = 900_000
"""Seeds from here on are never trained on."""
FRAMES, SIZE = 100, (640, 192)
TRACKERS = {"hierarchical": "hierarchical", "memory (paper)": "hila_mb"}


def run(progress) -> dict:
    """Figures by tracker; `progress(items, label, total)` shows how far it is."""
    pipelines = {
        name: OnlinePanoptic(tracker=make_tracker(Config(tracker=tracker))) for name, tracker in TRACKERS.items()
    }
    judges = {name: Evaluator(CITYSCAPES, video=False) for name in TRACKERS}
    speeds: list[dict] = []
    with tempfile.TemporaryDirectory() as room:
        for i, scenario in enumerate(progress(SCENARIOS, "drives", len(SCENARIOS))):
            name, bag = f"{scenario}-{FIRST_SEED + i}", Path(room) / f"{i}.mcap"
            frames = drive(scenario, seed=FIRST_SEED + i, frames=FRAMES, size=SIZE)
            write_bag(bag, _judged(frames, name, pipelines, judges))
            speeds.append(_replay(bag, Path(room) / f"{i}-tracked.mcap"))
    shares = ("p50", "p99", "segment", "flow", "track", "other")
    return {
        "drives": [f"{s}-{FIRST_SEED + i}" for i, s in enumerate(SCENARIOS)],
        "frames": FRAMES * len(SCENARIOS),
        "trackers": {name: _figures(judge.result()) for name, judge in judges.items()},
        "fps": float(np.median([s["fps"] for s in speeds])),
        "latency_ms": {key: float(np.median([s["latency_ms"][key] for s in speeds])) for key in shares},
        "per_class": judges["hierarchical"].result().to_json()["per_class"],
    }


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    """The table for people, in percent."""
    columns = ["tracker", "STQ", "AQ", "SQ", "PQ", "PQ things", "PQ stuff", "mIoU"]
    keys = columns[1:]
    return columns, [[name, *(100 * one[k] for k in keys)] for name, one in figures["trackers"].items()]


def _judged(
    frames: Iterable[StreetFrame], name: str, pipelines: dict[str, OnlinePanoptic], judges: dict[str, Evaluator]
) -> Iterator[StreetFrame]:
    for pipeline in pipelines.values():
        pipeline.reset()
    for street in frames:
        for tracker, pipeline in pipelines.items():
            found = class_and_track_maps(pipeline.step(street.frame))
            judges[tracker].update(name, street.semantic, street.instance, *found)
        yield street


def _replay(source: Path, target: Path) -> dict:
    pipeline = OnlinePanoptic()
    with BagReader(source) as bag, BagWriter(target) as out:
        frames, taxonomy = bag.frames(), pipeline.taxonomy
        return replay(frames, pipeline, [lambda _, result: out.write_frame(result, taxonomy)]).to_json()


def _figures(report: Report) -> dict:
    pq = report.pq
    return {
        "STQ": report.stq,
        "AQ": report.aq,
        "SQ": report.sq,
        "PQ": pq.all,
        "PQ things": pq.things,
        "PQ stuff": pq.stuff,
        "mIoU": report.miou,
    }
