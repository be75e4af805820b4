"""Time of each stage of a frame at two camera sizes, post-processing compared with that of transformers, and memory.

The stages are those of the shipped model and the default tracker on a generated street, without overlay.
Post-processing is also measured on synthetic logits (_scene.py), compared with transformers on the same tensors and one
thread.
"""

from __future__ import annotations

import gc
import importlib.util
from time import perf_counter

import numpy as np

from benchmarks._processes import memory_mib
from benchmarks._scene import street
from vps_ros.config import Config
from vps_ros.datasets.streets import drive
from vps_ros.frame import Frame
from vps_ros.online import OnlinePanoptic
from vps_ros.segmenters import postprocess
from vps_ros.segmenters.model_card import InputSpec, Thresholds
from vps_ros.segmenters.preprocess import fit
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = (
    "time per stage at 1242x375 and 1920x1080, post-processing compared with transformers', memory over 2,000 frames"
)
SIZES = ((1242, 375), (1920, 1080))
STAGES = ("preprocess", "network", "postprocess", "flow", "track", "other")
OWN = ("preprocess", "postprocess", "track", "other")
"""Everything but the network and flow."""
GOAL_MS = {"1242x375": 4.0, "1920x1080": 7.0}
DISTINCT, WARM_UP, MEASURED = 40, 20, 120
POST_PROCESSING, MASKS = InputSpec(192, 640), (48, 160)
REPEATS, REPEATS_THEIRS = 100, 10
MEMORY_FRAMES, MEMORY_EVERY, MEMORY_SHOWN = 2000, 100, 500
LIMITS = {
    "softmax_queries": Thresholds(overlap=0.5),
    "sigmoid": Thresholds(mask=0.5, overlap=0.8, mode="pixel_wise"),
}


def run(progress) -> dict:
    """Figures in milliseconds and MiB; `progress(items, label, total)` shows how far it is."""
    drives = {f"{w}x{h}": _frames(progress, (w, h)) for w, h in SIZES}
    return {
        "model": Config().model,
        "stages_ms": {size: _stages(progress, size, frames) for size, frames in drives.items()},
        "postprocess_ms": {f"{w}x{h}": _postprocess(progress, w, h) for w, h in SIZES},
        "memory": _memory(progress, drives["1242x375"]),
    }


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people."""
    stages = figures["stages_ms"]
    of_stages = [
        [size, *(stage["median"][key] for key in STAGES), stage["median"]["own"], GOAL_MS[size], stage["median"]["all"]]
        for size, stage in stages.items()
    ]
    of_post = [
        [size, kind, one["median"], one["p90"], figure["transformers"], one["times_faster"]]
        for size, figure in figures["postprocess_ms"].items()
        for kind, one in figure["here"].items()
    ]
    memory = figures["memory"]
    marks = zip(memory["frames"], memory["rss_mib"], strict=True)
    of_memory = [[frames, mib] for frames, mib in marks if frames % MEMORY_SHOWN == 0]
    return [
        (
            f"median milliseconds per stage, {figures['model']} on the CPU",
            ["camera", *STAGES, "all but network and flow", "goal", "all"],
            of_stages,
        ),
        (
            "milliseconds of post-processing, same tensors, one thread",
            ["camera", "masks", "median", "p90", "transformers", "times faster"],
            of_post,
        ),
        ("resident memory", ["frames", "MiB"], of_memory),
    ]


def _frames(progress, size: tuple[int, int]) -> list[Frame]:
    frames = drive("cruise", seed=900_000, frames=DISTINCT, size=size)
    return [street.frame for street in progress(frames, f"street {size[0]}x{size[1]}", DISTINCT)]


def _there_and_back(frames: list[Frame], count: int):
    """So many frames, running through the drive and back so that motion stays small; stamps go on."""
    path = frames + frames[-2:0:-1]
    interval = frames[1].stamp - frames[0].stamp
    for i in range(count):
        yield Frame(path[i % len(path)].image, frames[0].stamp + i * interval, frames[0].frame_id)


def _stages(progress, size: str, frames: list[Frame]) -> dict:
    pipeline = OnlinePanoptic(Config())
    seen: dict[str, list[float]] = {key: [] for key in (*STAGES, "own", "all", "segments")}
    count = WARM_UP + MEASURED
    for i, frame in enumerate(progress(_there_and_back(frames, count), f"stages {size}", count)):
        began = perf_counter()
        result = pipeline.step(frame)
        total = (perf_counter() - began) * 1e3
        if i < WARM_UP:
            continue
        parts = pipeline.segmenter.milliseconds
        times = {**parts, "flow": result.milliseconds["flow"], "track": result.milliseconds["track"]}
        times["other"] = total - sum(times.values())
        times |= {"own": sum(times[key] for key in OWN), "all": total, "segments": len(result.segments)}
        for key, values in seen.items():
            values.append(times[key])
    return {
        "median": {key: float(np.median(values)) for key, values in seen.items()},
        "p90": {key: float(np.percentile(values, 90)) for key, values in seen.items()},
    }


def _postprocess(progress, width: int, height: int) -> dict:
    tensors = street(MASKS)
    where = fit(POST_PROCESSING, height, width)
    theirs = _transformers(progress, tensors, width, height)
    here = {}
    for activation, limits in LIMITS.items():
        times = []
        for _ in progress(range(REPEATS), f"post-processing {width}x{height} {activation}", REPEATS):
            began = perf_counter()
            found = postprocess.from_logits(tensors, where, CITYSCAPES, limits, activation)
            times.append((perf_counter() - began) * 1e3)
        median = float(np.median(times))
        here[f"{activation}, {limits.mode}"] = {
            "median": median,
            "p90": float(np.percentile(times, 90)),
            "segments": len(found),
            "times_faster": theirs / median if theirs else None,
        }
    return {"here": here, "transformers": theirs}


def _transformers(progress, tensors: dict, width: int, height: int) -> float | None:
    """Median milliseconds of Mask2Former's post-processing in transformers; None where it is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return None
    import torch
    from transformers import Mask2FormerImageProcessorPil
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentationOutput

    processor = Mask2FormerImageProcessorPil()
    outputs = Mask2FormerForUniversalSegmentationOutput(
        class_queries_logits=torch.from_numpy(tensors["class_logits"]),
        masks_queries_logits=torch.from_numpy(tensors["mask_logits"]),
    )
    stuff = {c.id for c in CITYSCAPES.classes if not c.isthing}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    try:
        for _ in progress(range(REPEATS_THEIRS), f"transformers {width}x{height}", REPEATS_THEIRS):
            began = perf_counter()
            processor.post_process_panoptic_segmentation(
                outputs, threshold=0.5, label_ids_to_fuse=stuff, target_sizes=[(height, width)]
            )
            times.append((perf_counter() - began) * 1e3)
    finally:
        torch.set_num_threads(threads)
    return float(np.median(times))


def _memory(progress, frames: list[Frame]) -> dict:
    """Resident memory of the process while one pipeline runs over many frames."""
    pipeline = OnlinePanoptic(Config())
    marks, sizes = [], []
    for i, frame in enumerate(progress(_there_and_back(frames, MEMORY_FRAMES), "memory", MEMORY_FRAMES), 1):
        pipeline.step(frame)
        if i % MEMORY_EVERY == 0:
            gc.collect()
            marks.append(i)
            sizes.append(memory_mib())
    return {"frames": marks, "rss_mib": sizes, "growth_mib": sizes[-1] - sizes[len(sizes) // 4]}
