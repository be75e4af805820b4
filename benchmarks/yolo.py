"""YOLO-seg imported by `vps-ros export --from yolo`, beside the same network with plain NumPy post-processing.

Frames of a KITTI clip (1242x375) with YOLOv8n-seg (640x640), for one to three overlapping crops of the image, and with
one and two threads. Ours has the choice of objects inside the graph, and multiplies and enlarges the masks of the
chosen ones only within their boxes (parameter `tiles` for several crops). Plain NumPy does what Ultralytics documents:
scores above 0.25, non-maximum suppression within each class at IoU 0.7, coefficients times prototypes, masks enlarged
by OpenCV to the crop and cut at the boxes, and the objects pasted in the order of score. It does not join objects
across crops.

The network and the clip may not be passed on and are no part of the project: VPS_ROS_REALDATA names the folder that
holds models/yolov8n-seg.onnx and kitti_tracking_0002/image_02.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks._real import CLIP, read_image, real_data
from vps_ros.config import Config
from vps_ros.segmenters import load_segmenter
from vps_ros.segmenters.tiles import columns

DESCRIPTION = "an imported YOLO-seg beside plain NumPy post-processing, one to three crops (needs VPS_ROS_REALDATA)"
MODEL = "models/yolov8n-seg.onnx"
TILES, THREADS = (1, 2, 3), (1, 2)
WARM_UP, MEASURED = 2, 15
SIDE, CLASSES = 640, 80
SCORE, IOU, OVERLAP, MOST = 0.25, 0.7, 0.5, 100
COLUMNS = ("tiles", "threads", "program", "network", "rest", "all", "objects per frame")


def run(progress: Any) -> dict:
    """Median milliseconds per frame; {"skipped": why} without the network or the clip."""
    from vps_ros.learning.onnx_import.instances import import_yolo

    folder, missing = real_data(MODEL, CLIP)
    if missing:
        return {"skipped": missing}
    files = sorted((folder / CLIP / "image_02").glob("*.jpg"))[: WARM_UP + MEASURED]
    images = [read_image(file) for file in files]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "things.onnx"
        import_yolo(folder / MODEL, path, classes="coco")
        for threads in THREADS:
            for tiles in TILES:
                config = Config(model=str(path), threads=threads, tiles=tiles)
                programs = {
                    "vps-ros": _Ours(config),
                    "plain NumPy": _Plain(folder / MODEL, threads, tiles),
                }
                for name, program in programs.items():
                    figures = _times(
                        program, progress(images, f"{name}, {tiles} crops, {threads} threads", len(images))
                    )
                    rows.append({"tiles": tiles, "threads": threads, "program": name, **figures})
    return {"frames": MEASURED, "size": f"{images[0].shape[1]}x{images[0].shape[0]}", "times_ms": rows}


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    """The table for people: columns and rows."""
    return list(COLUMNS), [[one[key] for key in COLUMNS] for one in figures["times_ms"]]


def _times(program: Any, images: Any) -> dict[str, float]:
    seen: dict[str, list[float]] = {"network": [], "all": []}
    objects = []
    for i, image in enumerate(images):
        began = perf_counter()
        count, network = program(image)
        total = (perf_counter() - began) * 1e3
        if i >= WARM_UP:
            seen["network"].append(network)
            seen["all"].append(total)
            objects.append(count)
    medians = {key: float(np.median(values)) for key, values in seen.items()}
    rest = float(np.median(np.subtract(seen["all"], seen["network"])))
    return {**medians, "rest": rest, "objects per frame": float(np.mean(objects))}


class _Ours:
    def __init__(self, config: Config) -> None:
        self._segmenter = load_segmenter(config.segmenter_parameters)

    def __call__(self, image: NDArray[np.uint8]) -> tuple[int, float]:
        """Number of objects, and milliseconds in ONNX Runtime."""
        found = self._segmenter(image)
        return len(found.class_ids), self._segmenter.milliseconds["network"]


class _Plain:
    def __init__(self, path: Path, threads: int, tiles: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        self._tiles = tiles

    def __call__(self, image: NDArray[np.uint8]) -> tuple[int, float]:
        """The same as of _Ours."""
        free = np.ones(image.shape[:2], bool)
        count, milliseconds = 0, 0.0
        for crop in columns(image.shape[1], self._tiles):
            part = image[:, crop]
            scale = min(SIDE / part.shape[0], SIDE / part.shape[1])
            height, width = round(part.shape[0] * scale), round(part.shape[1] * scale)
            padded = np.full((SIDE, SIDE, 3), 114, np.uint8)
            padded[:height, :width] = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
            x = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32) / 255
            began = perf_counter()
            predictions, prototypes = self._session.run(None, {self._name: x})
            milliseconds += (perf_counter() - began) * 1e3
            for mask in _masks(predictions[0].T, prototypes[0], (height, width), part.shape[:2]):
                left = mask & free[:, crop]
                if left.sum() > OVERLAP * mask.sum():
                    free[:, crop] &= ~left
                    count += 1
        return count, milliseconds


def _masks(
    rows: NDArray[np.float32], prototypes: NDArray[np.float32], resized: tuple[int, int], size: tuple[int, int]
) -> list[NDArray[np.bool_]]:
    """The masks of objects on a crop of this size, in the order of score."""
    scores = rows[:, 4 : 4 + CLASSES]
    rows = rows[scores.max(1) >= SCORE]
    score, kind = rows[:, 4 : 4 + CLASSES].max(1), rows[:, 4 : 4 + CLASSES].argmax(1)
    low, high = rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2
    # Boxes of different classes are moved apart, so that they do not suppress each other.
    box = np.concatenate([low, high], 1) + (kind * 2 * SIDE)[:, None]
    kept: list[int] = []
    order = np.argsort(-score, kind="stable")
    while len(order) and len(kept) < MOST:
        best, order = order[0], order[1:]
        kept.append(int(best))
        sides = np.minimum(box[best, 2:], box[order, 2:]) - np.maximum(box[best, :2], box[order, :2])
        both = np.prod(np.clip(sides, 0, None), 1)
        areas = np.prod(box[order, 2:] - box[order, :2], 1) + np.prod(box[best, 2:] - box[best, :2])
        order = order[both <= IOU * (areas - both)]
    channels, h, w = prototypes.shape
    logits = (rows[kept, 4 + CLASSES :] @ prototypes.reshape(channels, -1)).reshape(-1, h, w)
    logits = logits[:, : round(resized[0] * h / SIDE), : round(resized[1] * w / SIDE)]
    found = []
    for row, logit in zip(kept, logits, strict=True):
        mask = cv2.resize(logit, size[::-1], interpolation=cv2.INTER_LINEAR) > 0
        x0, x1 = (np.array([low[row, 0], high[row, 0]]) * size[1] / resized[1]).round().clip(0).astype(int)
        y0, y1 = (np.array([low[row, 1], high[row, 1]]) * size[0] / resized[0]).round().clip(0).astype(int)
        inside = np.zeros(size, bool)
        inside[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
        found.append(inside)
    return found
