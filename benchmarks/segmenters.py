"""What a frame costs from image to segments: the shipped model in float32 and int8, and larger ones where a GPU is.

On the CPU: streets-s with one and two threads, quantised by `vps-ros export --int8`, with the PQ of both on drives that
neither was trained nor calibrated on; and with its post-processing inside the graph, with how many pixels are then
those of the host where the graph was made for the camera, and where it was made for the network's input.

On a GPU: networks with random weights, whose outputs are replaced by those of a street (_scene.py) after the network
has been computed, so that post-processing has its usual work; images have the size of the network's input. What lies
outside the network is everything besides the run of the same network without post-processing in its graph.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import onnxruntime

from benchmarks._networks import NETWORKS, SIZES, with_graph, write
from benchmarks._quality import pq_figures
from vps_ros.datasets.streets import SCENARIOS, StreetFrame, drive
from vps_ros.evaluation import Evaluator
from vps_ros.files import model_path
from vps_ros.labelling.segments import class_map
from vps_ros.segmenters.onnx_segmenter import OnnxSegmenter
from vps_ros.segmenters.segmenter import SegmenterParameters
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "image to segments: streets-s in float32 and int8, and larger networks where a GPU is"
MODEL = "streets-s-float"
"""The shipped model before its quantisation, which gives streets-s."""
THREADS = (1, 2)
FIRST_SEED, FRAMES, EVERY = 800_000, 10, 4
"""Drives of each scenario from this seed on, how many frames of each are evaluated, and their distance in frames."""
WARM_UP, MEASURED = 10, 60
CAMERAS = ((640, 192), (1242, 375), (1920, 1080))
STAGES = ("preprocess", "network", "postprocess")
GOALS = {"outside_percent": 15.0, "frames_per_second_384x1280_fp16": 60.0}


def run(progress) -> dict:
    """Milliseconds per frame (medians), and PQ; `progress(items, label, total)` shows how far it is."""
    with tempfile.TemporaryDirectory() as folder:
        return {"goals": GOALS, "cpu": _cpu(progress, Path(folder)), "gpu": _gpu(progress, Path(folder))}


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """The tables for people."""
    cpu = figures["cpu"]
    columns = ["weights", "post-processing", "threads", *STAGES, "all", "times faster"]
    of_times = [
        [one["weights"], one["post-processing"], one["threads"], *(one[k] for k in (*STAGES, "all", "faster"))]
        for one in cpu["times_ms"]
    ]
    of_quality = [
        [name, *(100 * one[k] for k in ("PQ", "PQ things", "PQ stuff"))] for name, one in cpu["quality"].items()
    ]
    found = [
        (f"median milliseconds per frame, {cpu['model']} on the CPU", columns, of_times),
        (f"quality on {cpu['frames']} frames, percent", ["weights", "PQ", "PQ things", "PQ stuff"], of_quality),
        (
            "post-processing in the graph: percent of the pixels that are as on the host",
            ["camera", "made for the camera", "made for the network's input"],
            [
                [one["camera"], *(100 * one[k] for k in ("made for the camera", "made for the input"))]
                for one in cpu["same_pixels"]
            ],
        ),
    ]
    if figures["gpu"]:
        keys = ("network", "input", "precision", "provider", "post-processing", *STAGES, "all", "fps", "outside")
        rows = [[one[k] for k in keys] for one in figures["gpu"]]
        found.append(("median milliseconds per frame on a GPU; share outside the network in percent", list(keys), rows))
    return found


def _cpu(progress, folder: Path) -> dict:
    from vps_ros.learning.data.streets import street_frames
    from vps_ros.learning.export.int8 import quantise
    from vps_ros.learning.in_graph.append import move_into_graph

    name = MODEL
    files = {which: folder / f"{which}.onnx" for which in ("float32", "int8", "graph", "camera")}
    for path in files.values():
        shutil.copyfile(model_path(name), path)
    quantise(files["int8"], list(street_frames()), name)
    move_into_graph(files["graph"], None, name)
    streets = list(progress(_streets(), "held-out frames", len(SCENARIOS) * FRAMES))
    images = [street.frame.image for street in streets]
    times: list[dict] = []
    for which in ("float32", "int8", "graph"):
        weights, place = ("float32", "graph") if which == "graph" else (which, "host")
        for threads in THREADS:
            segmenter = OnnxSegmenter(files[which], SegmenterParameters(threads=threads))
            one = _times(segmenter, images, progress, f"{weights}, {place}, {threads} threads")
            plain = next((t["all"] for t in times if t["threads"] == threads), one["all"])
            faster = plain / one["all"]
            times.append({"weights": weights, "post-processing": place, "threads": threads, **one, "faster": faster})
    quality = {which: _quality(files[which], streets) for which in ("float32", "int8")}
    same = []
    for width, height in CAMERAS:
        shutil.copyfile(model_path(name), files["camera"])
        move_into_graph(files["camera"], (height, width), name)
        shown = [cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) for image in images[::EVERY]]
        same.append(
            {
                "camera": f"{width}x{height}",
                "made for the camera": _same(files["float32"], files["camera"], shown),
                "made for the input": _same(files["float32"], files["graph"], shown),
            }
        )
    return {"model": name, "frames": len(streets), "times_ms": times, "quality": quality, "same_pixels": same}


def _same(host: Path, graph: Path, images: list[np.ndarray]) -> float:
    """Share of pixels that belong to the same segment of both."""
    one, other = OnnxSegmenter(host, SegmenterParameters()), OnnxSegmenter(graph, SegmenterParameters())
    return float(np.mean([_pairs(one(image).map, other(image).map) for image in images]))


def _pairs(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the pixels whose segments are each other's partner of most pixels."""
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1), np.int64)
    np.add.at(table, (a.ravel(), b.ravel()), 1)
    best = (table == table.max(1, keepdims=True)) & (table == table.max(0, keepdims=True))
    return float(table[best].sum() / a.size)


def _streets() -> Iterator[StreetFrame]:
    for i, scenario in enumerate(SCENARIOS):
        for k, street in enumerate(drive(scenario, seed=FIRST_SEED + i, frames=FRAMES * EVERY, size=(640, 192)), 1):
            if k % EVERY == 0:
                yield street


def _times(segmenter: OnnxSegmenter, images: list[np.ndarray], progress, label: str) -> dict[str, float]:
    seen: dict[str, list[float]] = {key: [] for key in (*STAGES, "all")}
    for i in progress(range(WARM_UP + MEASURED), label, WARM_UP + MEASURED):
        began = perf_counter()
        segmenter(images[i % len(images)])
        total = (perf_counter() - began) * 1e3
        if i >= WARM_UP:
            for key, value in {**segmenter.milliseconds, "all": total}.items():
                seen[key].append(value)
    return {key: float(np.median(values)) for key, values in seen.items()}


def _quality(path: Path, streets: list[StreetFrame]) -> dict[str, float]:
    segmenter, evaluator = OnnxSegmenter(path, SegmenterParameters()), Evaluator(CITYSCAPES, video=False)
    for number, street in enumerate(streets):
        found = segmenter(street.frame.image)
        evaluator.update(str(number), street.semantic, street.instance, class_map(found), found.map)
    return pq_figures(evaluator.result())


def _gpu(progress, folder: Path) -> list[dict]:
    """One entry for every network, size, precision, provider and place of post-processing; empty without a GPU."""
    there = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in there:
        return []
    street = next(drive("cruise", seed=FIRST_SEED, frames=1, size=(1280, 384))).frame.image
    found = []
    for network, size, precision in itertools.product(NETWORKS, SIZES, ("fp32", "fp16")):
        half = precision == "fp16"
        host = write(network, size, half, folder / "host.onnx")
        files = {"host": host, "graph": with_graph(host, folder / "graph.onnx")}
        # An engine takes minutes to build: TensorRT is measured where it is fastest.
        for provider in ("cuda", "tensorrt") if half and "TensorrtExecutionProvider" in there else ("cuda",):
            what = {"network": network, "input": f"{size[1]}x{size[0]}", "precision": precision, "provider": provider}
            alone = None
            for place, path in files.items():
                segmenter = OnnxSegmenter(path, SegmenterParameters(providers=(provider,), tensorrt_fp16=half))
                spec = segmenter.card.input
                image = cv2.resize(street, (spec.width, spec.height), interpolation=cv2.INTER_LINEAR)
                one = _times(segmenter, [image], progress, " ".join([*what.values(), place]))
                alone = one["network"] if alone is None else alone
                outside = 100 * max(one["all"] - alone, 0.0) / one["all"]
                found.append({**what, "post-processing": place, **one, "fps": 1e3 / one["all"], "outside": outside})
    return found
