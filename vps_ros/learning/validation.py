"""How good a model is on drives it has not seen, frame by frame, and which thresholds suit it best."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vps_ros.evaluation import Evaluator, Report
from vps_ros.learning.drives import Drive, resized
from vps_ros.learning.model import KMeansMaskTransformer
from vps_ros.learning.voice import SILENT, Voice
from vps_ros.segmenters.contract import Thresholds
from vps_ros.segmenters.postprocess import from_logits
from vps_ros.segmenters.preprocess import Fit
from vps_ros.taxonomy import CITYSCAPES, VOID_ID, Taxonomy

LIMITS = Thresholds(
    thing=0.5, stuff=0.3, overlap=0.6, mask=0.0, mask_exponent=1.0, thing_area=32, stuff_area=128, mode="pixel_wise"
)
"""Of the post-processing, during training, and where a search begins.

Each pixel goes to its likeliest query, however unlikely: soft masks leave fewer pixels void so, and STQ counts void.
"""
SEARCHED = {
    "thing": (0.2, 0.3, 0.4, 0.5, 0.6),
    "thing_area": (0, 16, 32, 64, 96),
    "stuff_area": (64, 128, 256),
    "stuff": (0.2, 0.3, 0.5),
}
"""Values that `tune` tries, one threshold after the other."""


class Prediction(NamedTuple):
    """The network's outputs for one frame, and the truth, maps [H, W] at the drive's resolution."""

    outputs: dict[str, NDArray]
    where: Fit
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]


def spread(drives: Iterable[Drive], frames: int) -> list[tuple[Drive, int]]:
    """`frames` frames of each drive, evenly spread."""
    return [(d, int(i)) for d in drives for i in np.linspace(0, len(d.image) - 1, min(frames, len(d.image)))]


@torch.no_grad()
def predict(
    model: KMeansMaskTransformer, frames: Iterable[tuple[Drive, int]], size: tuple[int, int]
) -> Iterable[Prediction]:
    """Predictions for these frames, resized to the network's `size` (width, height); the model's mode is kept."""
    was_training = model.training
    model.eval()
    for one, i in frames:
        image = torch.from_numpy(np.array(resized(np.asarray(one.image[i]), size)))[None]
        output = model((image.permute(0, 3, 1, 2).float() - 127.5) / 127.5)
        outputs = {
            "class_logits": output.final.classes.numpy(),
            "mask_logits": output.final.masks.numpy(),
            "query_embeddings": output.embeddings.numpy(),
        }
        network = (size[1], size[0])
        fit = Fit(camera=one.image.shape[1:3], input=network, resized=network)
        yield Prediction(outputs, fit, np.asarray(one.semantic[i]), np.asarray(one.instance[i]))
    model.train(was_training)


def judge(predictions: Iterable[Prediction], limits: Thresholds, taxonomy: Taxonomy = CITYSCAPES) -> Report:
    """PQ and mIoU over all frames; each frame counts as a sequence of its own, since identities are the tracker's."""
    evaluator = Evaluator(taxonomy, video=False)
    for number, p in enumerate(predictions):
        found = from_logits(p.outputs, p.where, taxonomy, limits, "softmax_queries")
        semantic = np.append(VOID_ID, found.class_ids).astype(np.uint8)[found.map]
        evaluator.update(str(number), p.semantic, p.instance, semantic, found.map)
    return evaluator.result()


def summary(report: Report) -> dict[str, float]:
    """What the training log keeps of a report."""
    values = {"pq": report.pq.all, "pq_things": report.pq.things, "pq_stuff": report.pq.stuff, "miou": report.miou}
    return {name: round(float(value), 4) for name, value in values.items()}


def tune(predictions: list[Prediction], voice: Voice = SILENT) -> tuple[Thresholds, Report]:
    """The thresholds with the best PQ + STQ found by changing one after the other, and the report they give.

    PQ alone prefers to leave out what is doubtful. But an object that is left out has no track either: STQ, here of
    single frames, speaks for the tracker.
    """
    best, report = LIMITS, judge(predictions, LIMITS)
    trials = [(name, value) for name, values in SEARCHED.items() for value in values]
    for name, value in voice.progress(trials, "thresholds", total=len(trials)):
        if getattr(best, name) == value:
            continue
        limits = dataclasses.replace(best, **{name: value})
        tried = judge(predictions, limits)
        if tried.pq.all + tried.stq > report.pq.all + report.stq:
            best, report = limits, tried
    return best, report
