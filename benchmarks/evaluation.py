"""Frames per second of STQ and VPQ together, compared with np.unique and with reading the maps from PNG files; memory.

The sequence is synthetic: bands of street stuff with wavy borders, and 30 things that move and occlude each other. The
prediction has other borders, some changes of identity, and small patches of other classes.
"""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray

from benchmarks import _unique
from vps_ros.datasets.kitti_step import load_map, save_map
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.identity import available
from vps_ros.evaluation.overlaps import Classes, Overlaps, overlaps
from vps_ros.evaluation.stq import Association
from vps_ros.evaluation.vpq import VideoPanoptic, VideoPanopticQuality
from vps_ros.taxonomy import CITYSCAPES, VOID_ID

DESCRIPTION = "frames/s of STQ and VPQ n=1..4 together at 1242x375, compared with np.unique and PNG decoding; memory"
WIDTH, HEIGHT, TUBES = 1242, 375, 30
FRAMES, PLAIN_FRAMES, REPEATS = 40, 6, 3
MEMORY_FRAMES, MEMORY_EVERY = 400, 100
GOAL_FPS, GOAL_TIMES = 200.0, 10.0
WINDOWS = (1, 2, 3, 4)
CLASSES = Classes(CITYSCAPES)
_EVERYTHING = {
    True: "PQ, mIoU, VC, IDF1, HOTA, MOTA and timelines too, from arrays",
    False: "PQ, mIoU, VC and timelines too, from arrays",
}
Maps = tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint16]]


def run(progress) -> dict:
    """Frames per second, ratios and KiB; `progress(items, label, total)` shows the progress."""
    video = list(progress(drawn(FRAMES), "drawing", FRAMES))
    tables = [overlaps(CLASSES, *maps) for maps in video]
    arrays = max(_fps(_count, video) for _ in progress(range(REPEATS), "from arrays", REPEATS))
    from_tables = max(_fps(_count_tables, tables) for _ in progress(range(REPEATS), "from tables", REPEATS))
    everything = max(_fps(_everything, video) for _ in progress(range(REPEATS), "everything", REPEATS))
    plain = _fps(_plain, video[:PLAIN_FRAMES])
    decoding = _decoding(progress, video)
    return {
        "size": [WIDTH, HEIGHT],
        "tubes": TUBES,
        "pairs": float(np.mean([len(t.count) for t in tables])),
        "fps": {
            "here": arrays,
            "tables_only": from_tables,
            "everything": everything,
            "np_unique": plain,
            "png_decoding": decoding,
        },
        "identities": available(),
        "times_faster_than_np_unique": arrays / plain,
        "agree": _agree(video[:PLAIN_FRAMES]),
        "memory": _memory(tables),
    }


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The figures as tables."""
    fps = figures["fps"]
    speed = [
        ["STQ and VPQ n=1..4 from arrays", fps["here"], GOAL_FPS],
        ["of that, metrics from overlap tables", fps["tables_only"], None],
        ["the same by np.unique", fps["np_unique"], None],
        [_EVERYTHING[figures["identities"]], fps["everything"], None],
        ["times faster than np.unique", figures["times_faster_than_np_unique"], GOAL_TIMES],
        ["decoding both PNG maps of a frame", fps["png_decoding"], None],
    ]
    memory = figures["memory"]
    kept = [[n, kib] for n, kib in zip(memory["frames"], memory["kib"], strict=True)]
    return [
        ("frames per second of one core's time", ["what", "frames/s", "goal"], speed),
        ("memory of STQ and VPQ", ["frames", "KiB"], kept),
    ]


def drawn(frames: int, seed: int = 0) -> Iterator[Maps]:
    """(true classes, true instances, predicted classes, predicted instances) of each frame."""
    rng = np.random.default_rng(seed)
    things = _things(rng)
    still = np.zeros(WIDTH, np.int64)
    for t in range(frames):
        truth = _draw(t, things, still)
        semantic, instance = _draw(t + rng.normal(0, 0.3), things, rng.integers(-2, 3, WIDTH))
        switched = (instance > 0) & (instance % 10 == t // 10 % 10)
        instance[switched] += 1000
        for _ in range(20):
            y, x = rng.integers(0, (HEIGHT - 6, WIDTH - 9))
            semantic[y : y + 6, x : x + 9], instance[y : y + 6, x : x + 9] = rng.integers(0, 11), 0
        yield (*truth, semantic, instance)


def _things(rng: np.random.Generator) -> list[tuple[int, ...]]:
    """(class, x, y, half width, half height, pixels per frame) of each."""
    low, high = (11, 0, 120, 8, 8, -6), (19, WIDTH, HEIGHT - 40, 70, 50, 7)
    return [tuple(int(v) for v in rng.integers(low, high)) for _ in range(TUBES)]


def _draw(t: float, things: list[tuple[int, ...]], jitter: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    wave = (12 * np.sin(x / 70 + t / 9) + 5 * np.sin(x / 13)).astype(np.int64) + jitter
    semantic = np.clip((y + wave) * 11 // HEIGHT, 0, 10).astype(np.uint8)
    semantic[(y > HEIGHT - 20) & (x < 200)] = VOID_ID
    instance = np.zeros(semantic.shape, np.uint16)
    for i, (column, cx, cy, w, h, speed) in enumerate(things, 1):
        inside = ((x - (cx + speed * t) % WIDTH) / w) ** 2 + ((y - cy) / h) ** 2 < 1
        semantic[inside], instance[inside] = column, i
    return semantic, instance


def _fps(count, frames: list) -> float:
    """By CPU time of the process, so that other processes do not matter."""
    began = process_time()
    count(frames)
    return len(frames) / (process_time() - began)


def _count(video: list[Maps]) -> tuple[Association, VideoPanoptic]:
    return _count_tables(overlaps(CLASSES, *maps) for maps in video)


def _count_tables(frames) -> tuple[Association, VideoPanoptic]:
    stq, vpq = Association(CLASSES), VideoPanoptic(CLASSES, "cityscapes-vps", WINDOWS)
    for table in frames:
        stq.update(table)
        vpq.update(table)
    stq.result(), vpq.result()
    return stq, vpq


def _everything(video: list[Maps]) -> None:
    """All metrics of `vps-ros evaluate`; identities if TrackEval is installed."""
    evaluator = Evaluator(CITYSCAPES)
    for maps in video:
        evaluator.update("drawn", *maps)
    evaluator.result()


def _plain(video: list[Maps]):
    video_arrays = _unique.Video(*(np.stack(part) for part in zip(*video, strict=True)))
    things, ids = CITYSCAPES.thing_ids, CITYSCAPES.ids.tolist()
    stq = _unique.association(video_arrays, things, "deeplab2")
    return stq, {n: _unique.panoptic([video_arrays], things, ids, n, True) for n in WINDOWS}


def _agree(video: list[Maps]) -> bool:
    """Whether both give the same numbers."""
    (stq, vpq), (plain_stq, plain_vpq) = _count(video), _plain(video)
    found, quality = stq.result(), vpq.result()
    assert isinstance(quality, VideoPanopticQuality)
    same = (found.total, found.tubes) == plain_stq
    for n, one in quality.windows.items():
        for i, c in enumerate(CITYSCAPES.ids.tolist()):
            iou, *counts = plain_vpq[n][c]
            same &= [int(one.tp[i]), int(one.fp[i]), int(one.fn[i])] == counts
            if any(counts):
                same &= float(one.pq[i]) == float(iou) / (counts[0] + (counts[1] + counts[2]) / 2)
    return bool(same)


def _decoding(progress, video: list[Maps]) -> float:
    """Frames per second of reading the truth and the prediction from PNG files."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = []
        for i, maps in enumerate(video):
            pairs.append((Path(folder) / f"{i}-gt.png", Path(folder) / f"{i}.png"))
            for path, side in zip(pairs[-1], (maps[:2], maps[2:]), strict=True):
                save_map(path, *side)
        return max(_fps(_read, pairs) for _ in progress(range(REPEATS), "decoding", REPEATS))


def _read(pairs: list[tuple[Path, Path]]) -> None:
    for pair in pairs:
        for path in pair:
            load_map(path)


def _memory(frames: list[Overlaps]) -> dict:
    """KiB of Python objects of the accumulators by the number of frames, which repeat the sequence."""
    stq, vpq = Association(CLASSES), VideoPanoptic(CLASSES, "cityscapes-vps", WINDOWS)
    marks, sizes = [], []
    tracemalloc.start()
    try:
        for i in range(1, MEMORY_FRAMES + 1):
            table = frames[(i - 1) % len(frames)]
            stq.update(table)
            vpq.update(table)
            if i % MEMORY_EVERY == 0:
                gc.collect()
                marks.append(i)
                sizes.append(tracemalloc.get_traced_memory()[0] / 1024)
    finally:
        tracemalloc.stop()
    return {"frames": marks, "kib": sizes, "growth_kib": sizes[-1] - sizes[0]}
