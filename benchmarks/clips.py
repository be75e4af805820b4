"""Online and near-online: processor time and memory of one network on single images and on clips.

The network is the k-means mask transformer of `kind: streets` without heat maps, with random weights, on which time and
memory do not depend. Processor time is that of the pipeline with `hila_mb` on one thread, divided by the frames. Memory
is what Python and NumPy hold (tracemalloc) after some frames and after more of them; buffers of ONNX Runtime, which are
allocated once, are not in it.
"""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from vps_ros.clips import ClipSpec
from vps_ros.config import Config
from vps_ros.frame import Frame
from vps_ros.online import OnlinePanoptic
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "online and near-online: processor time for each frame, lateness, memory over time"
WIDTH, HEIGHT = 640, 192
FRAMES, ROUNDS = 8, 2
EARLY, LATE = 12, 36
"""Frames after which memory is measured."""
CLIPS = (ClipSpec(), ClipSpec(2, 1), ClipSpec(2, 0))


def run(progress) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        models = export(Path(folder), progress)
        return {
            "size": [WIDTH, HEIGHT],
            "frames": FRAMES,
            "rounds": ROUNDS,
            "memory_frames": [EARLY, LATE],
            "clips": [measure(models[clip.length], clip) for clip in progress(CLIPS, "clips", len(CLIPS))],
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


def measure(model: Path, clip: ClipSpec) -> dict[str, Any]:
    config = Config(model=str(model), threads=1, tracker="hila_mb", clip_overlap=clip.overlap)
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
            found.append(tracemalloc.get_traced_memory()[0] / 1e3)
    tracemalloc.stop()
    return found[0], found[1]


def pictures(count: int) -> Iterable[Frame]:
    """A texture that moves to the left."""
    texture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for number in range(count):
        yield Frame(np.roll(texture, -4 * number, axis=1), number * 10**8)


def rows(figures: dict[str, Any]) -> tuple[list[str], list[list[object]]]:
    early, late = figures["memory_frames"]
    columns = ["clip", "overlap", "late, at most", "frames computed", "CPU ms a frame", "frames/s of one core"]
    columns += [f"kB after {early} frames", f"kB after {late}"]
    table: list[list[object]] = [
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
    return columns, table
