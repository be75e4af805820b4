"""How time and memory grow: association by objects, post-processing by queries and pixels, evaluation by frames.

The slope is that of the logarithms, by least squares: 1 is linear, 2 quadratic, 0 constant. Times are processor time on
one thread, medians of the frames.

- Association: objects on a grid of 1920x1080, which move and never overlap; `hierarchical` without what reads pixels
  (_watch.py), beside roboflow's trackers on the same boxes.
- Post-processing by masks: as many sigmoid masks side by side as objects, input 640x192, camera 1242x375; by pixels: a
  street's 26 masks (_scene.py), same input, cameras from VGA to 4K.
- Evaluation: all metrics of videos of 320x96 with 20 objects; seconds of the complete video.
- Memory: resident size while post-processing and tracking go on with the same pipeline.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from time import thread_time

import numpy as np

from benchmarks import _roboflow
from benchmarks._crowd import CLASSES, INTERVAL
from benchmarks._processes import limited_threads, memory_mib, milliseconds
from benchmarks._roboflow import Roboflow
from benchmarks._scene import HIGHEST, LOWEST, VOID, street
from benchmarks._watch import PIXELS, of_the_image, watch
from vps_ros.config import Config
from vps_ros.evaluation import Evaluator
from vps_ros.frame import Frame, Segmentation
from vps_ros.segmenters import postprocess
from vps_ros.segmenters.model_card import InputSpec, Thresholds
from vps_ros.segmenters.preprocess import fit
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import make_tracker

DESCRIPTION = "growth of time and memory with objects, queries, pixels and frames, as slopes"
CAMERA, FRAMES, WARM_UP = (1920, 1080), 16, 4
OBJECTS, MASKS = (10, 30, 100, 300, 1000), (10, 30, 100, 300)
CAMERAS = ((640, 480), (1280, 720), (1920, 1080), (3840, 2160))
VIDEO, EVALUATED, MEMORY = (320, 96), (25, 50, 100, 200), (50, 100, 200, 400)
INPUT, NODES = InputSpec(192, 640), (48, 160)
LIMITS = Thresholds(mask=0.5, overlap=0.5)


def run(progress) -> dict:
    """Lines of {what, unit, sizes, values}; `progress(items, label, total)` shows how far it is."""
    lines = [
        ("association, hierarchical", "objects", OBJECTS, _association),
        *((f"association, {name}", "objects", OBJECTS, _theirs(name)) for name in _names()),
        ("post-processing", "masks", MASKS, _by_masks),
        ("post-processing", "camera pixels", [w * h for w, h in CAMERAS], _by_pixels),
        ("evaluation", "frames", EVALUATED, _evaluation),
    ]
    found: list[dict] = []
    with limited_threads():
        for what, unit, sizes, measure in lines:
            values = [measure(size) for size in progress(sizes, what, len(sizes))]
            found.append({"what": what, "unit": unit, "sizes": list(sizes), "values": values})
        marks = list(_memory(progress))
    return {"lines": [*found, {"what": "resident MiB", "unit": "frames", "sizes": list(MEMORY), "values": marks}]}


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    found = []
    for one in figures["lines"]:
        logs = np.log([one["sizes"], one["values"]])
        slope, last = np.polyfit(*logs, 1)[0], np.diff(logs[1])[-1] / np.diff(logs[0])[-1]
        values = ", ".join(f"{size:,}: {value:.2f}" for size, value in zip(one["sizes"], one["values"], strict=True))
        found.append([one["what"], one["unit"], values, float(slope), float(last)])
    return ["what", "by", "milliseconds or MiB", "slope", "slope at the end"], found


def _names() -> list[str]:
    return [name for name in ("roboflow SORT", "roboflow ByteTrack") if _roboflow.there()]


def _association(count: int) -> float:
    frames, results = list(_grid(count)), []
    with watch(*PIXELS, *of_the_image()) as watched:
        tracker = make_tracker(Config())
        for frame, segmentation in frames:
            watched.start()
            tracker.step(frame, segmentation)
            results.append(watched.results)
        tracker, times = make_tracker(Config()), []
        for (frame, segmentation), result in zip(frames, results, strict=True):
            watched.start(result)
            times.append(_milliseconds(partial(tracker.step, frame, segmentation)))
    return float(np.median(times[WARM_UP:]))


def _theirs(name: str) -> Callable[[int], float]:
    def measure(count: int) -> float:
        tracker = Roboflow(name)
        return float(np.median([_milliseconds(tracker.see(*one)) for one in _grid(count)][WARM_UP:]))

    return measure


def _grid(count: int) -> Iterator[tuple[Frame, Segmentation]]:
    """Objects of half the size of a cell, each of which moves in a circle in the middle of its cell."""
    width, height = CAMERA
    columns = int(np.ceil(np.sqrt(count * width / height)))
    cell = np.array([width / columns, height / np.ceil(count / columns)])
    corner = np.stack([np.arange(count) % columns, np.arange(count) // columns], axis=1) * cell + cell / 4
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (height, width, 3), np.uint8)
    appearance, phase = rng.normal(size=(count, 64)).astype(np.float32), rng.uniform(0, 2 * np.pi, count)
    classes = rng.choice(CLASSES, count).astype(np.int32)
    for i in range(FRAMES):
        angle = phase + 0.3 * i
        boxes = np.rint(np.tile(corner + np.stack([np.cos(angle), np.sin(angle)], axis=1) * cell / 8, 2))
        boxes[:, 2:] += np.rint(cell / 2)
        labels = np.zeros((height, width), np.uint16)
        for k, (x0, y0, x1, y1) in enumerate(boxes.astype(int), 1):
            labels[y0:y1, x0:x1] = k
        areas = np.full(count, int(np.rint(cell / 2).prod()))
        noisy = appearance + 0.3 * rng.normal(size=appearance.shape).astype(np.float32)
        scores = np.ones(count, np.float32)
        is_thing = np.ones(count, bool)
        found = Segmentation(labels, classes, is_thing, scores, areas, boxes.astype(np.float32), noisy)
        yield Frame(image, i * INTERVAL), found


def _by_masks(count: int) -> float:
    """Masks side by side on a grid of nodes, with borders of a few nodes as in `street`."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: NODES[0], : NODES[1]]
    columns = int(np.ceil(np.sqrt(count * NODES[1] / NODES[0])))
    rows_ = int(np.ceil(count / columns))
    owner = np.minimum(y * rows_ // NODES[0] * columns + x * columns // NODES[1], count - 1)
    masks = np.where(owner == np.arange(count)[:, None, None], HIGHEST, LOWEST) + rng.normal(0, 0.3, (count, *NODES))
    logits = rng.normal(0, 0.7, (count, VOID + 1))
    logits[np.arange(count), rng.choice(CLASSES, count)] += 7
    outputs = {"class_logits": logits[None].astype(np.float32), "mask_logits": masks[None].astype(np.float32)}
    return _postprocess(outputs, 1242, 375)


def _by_pixels(pixels: int) -> float:
    width, height = next(camera for camera in CAMERAS if camera[0] * camera[1] == pixels)
    return _postprocess(street(NODES), width, height)


def _postprocess(outputs: dict[str, np.ndarray], width: int, height: int) -> float:
    where = fit(INPUT, height, width)
    times = [
        _milliseconds(lambda: postprocess.from_logits(outputs, where, CITYSCAPES, LIMITS, "sigmoid"))
        for _ in range(FRAMES)
    ]
    return float(np.median(times[WARM_UP:]))


def _evaluation(frames: int) -> float:
    rng, (width, height) = np.random.default_rng(0), VIDEO
    evaluator = Evaluator(CITYSCAPES)
    classes = np.repeat(np.array([0, 2, 8, 13], np.uint8), height // 4)[:, None].repeat(width, axis=1)
    instances = (np.arange(width) * 20 // width + 1)[None].repeat(height, axis=0) * (classes == CLASSES[1])

    def evaluate() -> None:
        for i in range(frames):
            shown = np.roll(instances, i, axis=1)
            wrong = np.where(rng.random((height, width)) < 0.02, 0, shown)
            evaluator.update("video", classes, shown, classes, wrong)
        evaluator.result()

    return _milliseconds(evaluate)


def _memory(progress) -> Iterator[float]:
    outputs, where = street(NODES), fit(INPUT, 375, 1242)
    image = np.random.default_rng(0).integers(0, 255, (375, 1242, 3), np.uint8)
    tracker = make_tracker(Config())
    for i in progress(range(1, MEMORY[-1] + 1), "memory", MEMORY[-1]):
        found = postprocess.from_logits(outputs, where, CITYSCAPES, LIMITS, "sigmoid")
        tracker.step(Frame(image, i * INTERVAL), found)
        if i in MEMORY:
            gc.collect()
            yield memory_mib()


def _milliseconds(work: Callable[[], object]) -> float:
    return milliseconds(work, thread_time)
