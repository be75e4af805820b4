"""Online and near-online: processor time and memory of one network on single images and on clips.

The network is the k-means mask transformer of `kind: streets` without heat maps, with random weights, on which time and
memory do not depend. Processor time is that of the pipeline with `hila_mb` on one thread, divided by the frames. Memory
is what Python and NumPy hold (tracemalloc) after some frames and after more of them; buffers of ONNX Runtime, which are
allocated once, are not in it.

Frames/s are of replays without output on generated streets, from the end of the first clip to the last result, each
process with one thread; for Clip-PanoFCN of streets-s-float, exported with `--kernels`, in clips of 3 frames.
"""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks._kernels import MODEL, SIMILARITY, export_kernels, needs_training
from vps_ros.clips import ClipSpec
from vps_ros.config import Config
from vps_ros.datasets.streets import drive
from vps_ros.frame import Frame
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.replay import replay
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "online and near-online: processor time for each frame, lateness, memory over time"
WIDTH, HEIGHT = 640, 192
FRAMES, ROUNDS = 8, 2
EARLY, LATE = 20, 100
"""Frames after which memory is measured."""
CLIPS = (ClipSpec(), ClipSpec(2, 1), ClipSpec(2, 0))
DRIVE, DRIVE_FRAMES = ("cruise", 940_000), 61
FUSED = 3
PROCESSES = (1, 2)


def run(progress) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            models, kernels = export(Path(folder), progress), export_kernels(Path(folder))
        except ModuleNotFoundError as error:
            return needs_training(error)
        replays = [(f"random, clips of {c.length}, overlap {c.overlap}", clip_config(models, c), 1) for c in CLIPS]
        for length, jobs in ((1, 1), *((FUSED, jobs) for jobs in PROCESSES)):
            config = Config(model=str(kernels), threads=1, clip_length=length, clip_similarity=SIMILARITY)
            replays.append(
                (f"{MODEL}, " + (f"clips of {length}, kernels fused" if length > 1 else "online"), config, jobs)
            )
        frames = [one.frame for one in drive(*DRIVE, DRIVE_FRAMES, (WIDTH, HEIGHT))]
        return {
            "size": [WIDTH, HEIGHT],
            "frames": FRAMES,
            "rounds": ROUNDS,
            "memory_frames": [EARLY, LATE],
            "clips": [measure(clip_config(models, clip), clip) for clip in progress(CLIPS, "clips", len(CLIPS))],
            "drive": ["-".join(map(str, DRIVE)), DRIVE_FRAMES],
            "replays": [
                {"network": name, "processes": jobs, "frames_per_second": rate(config, frames, jobs)}
                for name, config, jobs in progress(replays, "replays", len(replays))
            ],
        }


def export(folder: Path, progress) -> dict[int, Path]:
    """A model file for each length of CLIPS, of one network."""
    import torch

    from vps_ros.learning.export import onnx_file
    from vps_ros.learning.kmeans.export import Deployed, compare
    from vps_ros.learning.kmeans.model import KMeansMaskTransformer

    torch.manual_seed(0)
    network, spec = KMeansMaskTransformer().eval(), InputSpec(HEIGHT, WIDTH)
    paths = {}
    lengths = sorted({clip.length for clip in CLIPS})
    for length in progress(lengths, "export", len(lengths)):
        clip = ClipSpec(length, 0) if length > 1 else None
        card = ModelCard("random", CITYSCAPES, spec, "softmax_queries", Thresholds(0.0, 0.0, 0.0, 0.0), clip=clip)
        paths[length] = folder / f"{length}.onnx"
        onnx_file.export(network, card, paths[length], deployed=Deployed(network, spec), compare=compare)
    return paths


def clip_config(models: dict[int, Path], clip: ClipSpec) -> Config:
    return Config(model=str(models[clip.length]), threads=1, tracker="hila_mb", clip_overlap=clip.overlap)


def rate(config: Config, frames: Sequence[Frame], jobs: int) -> float:
    """Results per second of a replay with `jobs` processes, from the end of its first clip on."""
    pipeline, ends = OnlinePanoptic(config), list[float]()
    replay(frames, pipeline, [lambda frame, result: ends.append(perf_counter())], jobs)
    first = pipeline.clip.length - 1
    return (len(ends) - 1 - first) / (ends[-1] - ends[first])


def measure(config: Config, clip: ClipSpec) -> dict[str, Any]:
    pipeline = OnlinePanoptic(config)
    frames = list(pictures(FRAMES + clip.length))
    for frame in frames[: clip.length]:
        pipeline.push(frame)
    times = []
    for _ in range(ROUNDS):
        began = process_time()
        for frame in frames[clip.length :]:
            pipeline.push(frame)
        pipeline.flush()
        times.append((process_time() - began) * 1e3 / FRAMES)
    early, late = memory(config)
    return {**clip.to_json(), "cpu_ms": min(times), "early_kb": early, "late_kb": late}


def memory(config: Config) -> tuple[float, float]:
    """kB that are allocated after EARLY and after LATE frames."""
    tracemalloc.start()
    pipeline = OnlinePanoptic(config)
    found = []
    for number, frame in enumerate(pictures(LATE), 1):
        pipeline.push(frame)
        if number in (EARLY, LATE):
            gc.collect()
            found.append(tracemalloc.get_traced_memory()[0] / 1e3)
    tracemalloc.stop()
    return found[0], found[1]


def pictures(count: int) -> Iterable[Frame]:
    """A texture that moves to the left."""
    texture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for number in range(count):
        yield Frame(np.roll(texture, -4 * number, axis=1), number * 10**8)


def tables(figures: dict[str, Any]) -> list[tuple[str, list[str], list[list[object]]]]:
    """Cost and memory by clip, and the speed of replays."""
    early, late = figures["memory_frames"]
    columns = ["clip", "overlap", "late, at most", "frames computed", "CPU ms a frame", "frames/s of one core"]
    columns += [f"kB after {early} frames", f"kB after {late}"]
    cost: list[list[object]] = [
        [
            one["length"],
            one["overlap"],
            one["late_frames"],
            round(one["network_frames"], 2),
            round(one["cpu_ms"], 1),
            round(1e3 / one["cpu_ms"], 1),
            round(one["early_kb"]),
            round(one["late_kb"]),
        ]
        for one in figures["clips"]
    ]
    name, count = figures["drive"]
    speed: list[list[object]] = [
        [one["network"], one["processes"], round(one["frames_per_second"], 1)] for one in figures["replays"]
    ]
    return [
        (DESCRIPTION, columns, cost),
        (
            f"replays of {name}, {count} frames of {figures['size'][0]}x{figures['size'][1]}, wall time",
            ["network", "processes", "frames/s"],
            speed,
        ),
    ]
