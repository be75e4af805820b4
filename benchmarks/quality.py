"""PQ and STQ of the shipped models with the default tracker on held-out drives, and frames/s from bag to bag.

The comparison on the segments of streets-s is HiLA-MB with the paper's values, the online tracker of Video-kMaX.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from benchmarks._quality import pq_figures
from vps_ros.commands.synth import write_bag
from vps_ros.config import Config
from vps_ros.datasets.streets import HELD_OUT, StreetFrame, drive
from vps_ros.evaluation import Evaluator, Report
from vps_ros.messages.panoptic import class_and_track_maps
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.frames import BagReader
from vps_ros.recording.replay import replay
from vps_ros.recording.writer import BagWriter
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "PQ and STQ on 8 held-out drives, and frames/s from bag to bag"
SCENARIOS = ("cruise", "crowd", "occlusion", "turning", "low_rate", "night", "cruise", "crowd")
FIRST_SEED = HELD_OUT.start
"""Seeds from here on are never trained on."""
FRAMES, SIZE = 100, (640, 192)
JOBS = (1, 2, 3)
DEFAULT, FLOAT = "streets-s, hierarchical", "streets-s-float, hierarchical"
CITY = "city-s, hierarchical"
CONFIGS = {
    DEFAULT: Config(),
    "streets-s, memory (paper)": Config(tracker="hila_mb"),
    FLOAT: Config(model="streets-s-float"),
    CITY: Config(model="city-s"),
}


def run(progress) -> dict:
    """Figures by model and tracker; `progress(items, label, total)` shows how far it is."""
    pipelines = {name: OnlinePanoptic(config) for name, config in CONFIGS.items()}
    evaluators = {name: Evaluator(CITYSCAPES, video=False) for name in CONFIGS}
    speeds: dict[tuple[str, int], list[dict]] = {(model, n): [] for model in (DEFAULT, FLOAT) for n in JOBS}
    with tempfile.TemporaryDirectory() as temporary:
        for i, scenario in enumerate(progress(SCENARIOS, "drives", len(SCENARIOS))):
            name, bag = f"{scenario}-{FIRST_SEED + i}", Path(temporary) / f"{i}.mcap"
            frames = drive(scenario, seed=FIRST_SEED + i, frames=FRAMES, size=SIZE)
            write_bag(bag, _evaluated(frames, name, pipelines, evaluators))
            for (model, jobs), timed in speeds.items():
                out = Path(temporary) / f"{i}-{CONFIGS[model].model}-{jobs}.mcap"
                timed.append(_replay(CONFIGS[model], bag, out, jobs))
    shares = ("p50", "p99", "segment", "flow", "track", "other")
    return {
        "drives": [f"{s}-{FIRST_SEED + i}" for i, s in enumerate(SCENARIOS)],
        "frames": FRAMES * len(SCENARIOS),
        "quality": {name: _figures(evaluator.result()) for name, evaluator in evaluators.items()},
        "speed": {
            name: {
                "fps": float(np.median([one["fps"] for one in timed])),
                "latency_ms": {key: float(np.median([one["latency_ms"][key] for one in timed])) for key in shares},
            }
            for (name, jobs), timed in speeds.items()
            if jobs == 1
        },
        "fps_by_jobs": {
            name: {str(jobs): float(np.median([one["fps"] for one in speeds[name, jobs]])) for jobs in JOBS}
            for name in (DEFAULT, FLOAT)
        },
        "per_class": evaluators[DEFAULT].result().to_json()["per_class"],
    }


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people."""
    keys = ["STQ", "AQ", "SQ", "PQ", "PQ things", "PQ stuff", "mIoU"]
    of_quality = [[name, *(100 * one[k] for k in keys)] for name, one in figures["quality"].items()]
    shares = ["p50", "p99", "segment", "flow", "track", "other"]
    of_speed = [[name, one["fps"], *(one["latency_ms"][k] for k in shares)] for name, one in figures["speed"].items()]
    by_jobs = [[name, *by.values()] for name, by in figures.get("fps_by_jobs", {}).items()]
    return [
        ("percent", ["model, tracker", *keys], of_quality),
        ("frames/s from bag to bag, and milliseconds per frame", ["model, tracker", "frames/s", *shares], of_speed),
        *([("frames/s from bag to bag by --jobs", ["model, tracker", *map(str, JOBS)], by_jobs)] if by_jobs else []),
    ]


def _evaluated(
    frames: Iterable[StreetFrame], name: str, pipelines: dict[str, OnlinePanoptic], evaluators: dict[str, Evaluator]
) -> Iterator[StreetFrame]:
    for pipeline in pipelines.values():
        pipeline.reset()
    for street in frames:
        for which, pipeline in pipelines.items():
            found = class_and_track_maps(pipeline.step(street.frame))
            evaluators[which].update(name, street.semantic, street.instance, *found)
        yield street


def _replay(config: Config, source: Path, target: Path, jobs: int) -> dict:
    pipeline = OnlinePanoptic(config)
    with BagReader(source) as bag, BagWriter(target) as out:
        frames, taxonomy = bag.frames(), pipeline.taxonomy
        return replay(frames, pipeline, [lambda _, result: out.write_frame(result, taxonomy)], jobs).to_json()


def _figures(report: Report) -> dict:
    return {"STQ": report.stq, "AQ": report.aq, "SQ": report.sq, **pq_figures(report), "mIoU": report.miou}
