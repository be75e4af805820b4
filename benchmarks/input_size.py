"""What the input size of the shipped model brings: one set of weights, exported for each size.

On frames of the validation drives; in training the network saw 640x192, with random zoom. STQ is that of single frames,
as in the search for thresholds. The work of the network grows with the pixels. The upper bound is the PQ of the
ground truth after it was resized to the grid of the masks and back, at stride 4 (streets-s) and at 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import cv2
import numpy as np

from benchmarks._quality import pq_figures
from vps_ros.evaluation import Evaluator
from vps_ros.files import model_path
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = "quality of the shipped model at several input sizes"
MODEL = "streets-s-float"
SIZES = ((640, 192), (704, 224), (768, 224), (800, 256), (960, 288))
FIRST_SEED, DRIVES, FRAMES, USED = 800_000, 4, 6, 3
"""Validation drives of every scenario, their frames, and how many of these are evaluated."""
LEAST = 64
"""Pixels of the input; the ceiling leaves out what is smaller, which costs it nothing."""


def run(progress) -> dict:
    """Figures by input size; `progress(items, label, total)` shows how far it is."""
    import torch

    from vps_ros.datasets.streets import SCENARIOS
    from vps_ros.learning.data.clips import spread
    from vps_ros.learning.data.entries import StreetsData
    from vps_ros.learning.data.streets import validation_drives
    from vps_ros.learning.kinds import kind_for
    from vps_ros.learning.training.initial_weights import trained
    from vps_ros.learning.training.validation import evaluate, predict

    torch.set_num_threads(2)
    model, recipe, _, limits = trained(model_path(MODEL))
    assert limits is not None
    kind = kind_for(recipe)
    data = StreetsData(tuple(SCENARIOS), frames=FRAMES, validation_seed=FIRST_SEED, validation_drives=DRIVES)
    frames = spread(validation_drives(data), USED)
    truths = [clip.read(i)[1:] for clip, i in frames]
    figures = {}
    for size in progress(SIZES, "sizes", len(SIZES)):
        report = evaluate(predict(kind, model, frames, kind.input_spec(size, False)), limits)
        figures["{}x{}".format(*size)] = {
            **pq_figures(report),
            "STQ": report.stq,
            "pixels": size[0] * size[1],
            "ceiling": {str(s): ceiling(truths, (size[0] // s, size[1] // s), LEAST / s**2) for s in (4, 2)},
        }
    return {"frames": len(frames), "thresholds": dataclasses.asdict(limits), "sizes": figures}


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    """The table for people: quality in percent."""
    columns = ["input", "PQ", "PQ things", "PQ stuff", "STQ of frames", "work"]
    columns += ["PQ of the truth at stride 4", "at stride 2"]
    table: list[list[object]] = []
    for size, one in figures["sizes"].items():
        work = one["pixels"] / figures["sizes"]["640x192"]["pixels"]
        quality = (100 * one[key] for key in ("PQ", "PQ things", "PQ stuff", "STQ"))
        table.append([size, *quality, work, *(100 * one["ceiling"][stride] for stride in ("4", "2"))])
    return columns, table


def ceiling(truths: Iterable[tuple[np.ndarray, np.ndarray]], grid: tuple[int, int], least: float) -> float:
    """PQ of true segments as masks on a grid (width, height), each pixel given to the largest mask after upsampling.

    Args:
        truths: class ids uint8 [H, W] and instance ids [H, W] of each frame.
        least: segments of fewer cells become void.
    """
    evaluator = Evaluator(CITYSCAPES, video=False)
    for number, (semantic, instance) in enumerate(truths):
        keys, segments = np.unique(semantic.astype(np.int64) << 16 | instance, return_inverse=True)
        segments = segments.reshape(semantic.shape)
        size = semantic.shape[::-1]
        best, winner = np.zeros(semantic.shape, np.float32), np.zeros(semantic.shape, np.int64)
        for k in range(len(keys)):
            mask = cv2.resize((segments == k).astype(np.float32), grid, interpolation=cv2.INTER_AREA)
            if mask.sum() >= least:
                mask = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)
                winner[mask > best], best = k, np.maximum(best, mask)
        classes = (keys >> 16).astype(np.uint8)[winner]
        evaluator.update(str(number), semantic, instance, classes, (winner + 1).astype(np.int32))
    return float(evaluator.result().pq.all)
