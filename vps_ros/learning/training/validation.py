"""Quality of a model on single validation frames, and the search for its post-processing thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vps_ros.evaluation import Evaluator, Report
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.data.clips import Clip
from vps_ros.learning.kinds import Kind, normalised
from vps_ros.segmenters.model_card import InputSpec, Thresholds
from vps_ros.segmenters.postprocess import from_logits
from vps_ros.segmenters.preprocess import Fit, fit, prepare
from vps_ros.taxonomy import CITYSCAPES, VOID_ID, Taxonomy

LIMITS = Thresholds(
    thing=0.5, stuff=0.3, overlap=0.6, mask=0.0, mask_exponent=1.0, thing_area=32, stuff_area=128, mode="pixel_wise"
)
"""Post-processing thresholds during training, and the initial values of `tune`.

Each pixel is assigned to its most probable query, without a threshold: STQ counts void pixels as wrong.
"""
DENSE_LIMITS = dataclasses.replace(LIMITS, overlap=0.5, mask=0.5, mode="mask_wise", things_first=True)
"""For models with heat maps of things, whose masks may overlap."""
SEARCHED = {
    "thing": (0.2, 0.3, 0.4, 0.5, 0.6),
    "thing_area": (0, 16, 32, 64, 96),
    "stuff_area": (64, 128, 256),
    "stuff": (0.2, 0.3, 0.5),
}
"""Values that `tune` compares, one threshold after the other."""


class Prediction(NamedTuple):
    """Outputs of the network for one frame, and its true label maps [H, W] at the size of the frame."""

    outputs: dict[str, NDArray]
    where: Fit
    semantic: NDArray[np.uint8]
    instance: NDArray[np.integer]


@torch.no_grad()
def predict(
    kind: Kind, network: nn.Module, frames: Iterable[tuple[Clip, int]], spec: InputSpec
) -> Iterator[Prediction]:
    """Predictions for these frames, with the preprocessing of the segmenter; restores the training mode."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    for clip, i in frames:
        image, semantic, instance = clip.read(i)
        where = fit(spec, *image.shape[:2])
        # A copy: memory-mapped files are read-only, and torch warns of that.
        ready = torch.from_numpy(np.array(prepare(image, where, spec.padding))).to(device)
        outputs = kind.predict(network, normalised(ready, spec))
        yield Prediction({n: t.float().cpu().numpy() for n, t in outputs._asdict().items()}, where, semantic, instance)
    network.train(was_training)


def evaluate(
    predictions: Iterable[Prediction],
    limits: Thresholds,
    taxonomy: Taxonomy = CITYSCAPES,
    activation: str = "softmax_queries",
    renamed: tuple[Taxonomy, NDArray[np.uint8]] | None = None,
) -> Report:
    """PQ and mIoU over all frames; each frame is a sequence of its own, since the predictions have no identities.

    Args:
        taxonomy: classes of the model.
        renamed: taxonomy of the truth if it differs, and the table [256] from class ids of the model to it.
    """
    truth, table = renamed or (taxonomy, np.arange(256, dtype=np.uint8))
    evaluator = Evaluator(truth, video=False)
    for number, p in enumerate(predictions):
        found = from_logits(p.outputs, p.where, taxonomy, limits, activation)
        semantic = table[np.append(VOID_ID, found.class_ids).astype(np.uint8)][found.map]
        evaluator.update(str(number), p.semantic, p.instance, semantic, found.map)
    return evaluator.result()


def summary(report: Report) -> dict[str, float]:
    """The values of a report that the training log has."""
    values = {"pq": report.pq.all, "pq_things": report.pq.things, "pq_stuff": report.pq.stuff, "miou": report.miou}
    return {name: round(float(value), 4) for name, value in values.items()}


def tune(
    predictions: list[Prediction],
    reporter: Reporter = SILENT,
    taxonomy: Taxonomy = CITYSCAPES,
    activation: str = "softmax_queries",
    limits: Thresholds = LIMITS,
) -> tuple[Thresholds, Report]:
    """The thresholds with the highest PQ + STQ, found by changing one of `limits` after the other, and their report.

    PQ alone leads to high thresholds that drop uncertain objects. The tracker cannot track a dropped object, which STQ,
    here of single frames, counts.
    """
    best, report = limits, evaluate(predictions, limits, taxonomy, activation)
    trials = [(name, value) for name, values in SEARCHED.items() for value in values]
    for name, value in reporter.progress(trials, "thresholds", total=len(trials)):
        if getattr(best, name) == value:
            continue
        changed = dataclasses.replace(best, **{name: value})
        tried = evaluate(predictions, changed, taxonomy, activation)
        if tried.pq.all + tried.stq > report.pq.all + report.stq:
            best, report = changed, tried
    return best, report
