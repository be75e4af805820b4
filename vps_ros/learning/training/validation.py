"""How good a model is on drives it has not seen, frame by frame, and which thresholds suit it best."""

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
"""Of the post-processing, during training, and where a search begins.

Each pixel goes to its likeliest query, however unlikely: soft masks leave fewer pixels void so, and STQ counts void.
"""
DENSE_LIMITS = dataclasses.replace(LIMITS, overlap=0.5, mask=0.5, mode="mask_wise", things_first=True)
"""Of models with heat maps of things, whose masks may overlap."""
SEARCHED = {
    "thing": (0.2, 0.3, 0.4, 0.5, 0.6),
    "thing_area": (0, 16, 32, 64, 96),
    "stuff_area": (64, 128, 256),
    "stuff": (0.2, 0.3, 0.5),
}
"""Values that `tune` tries, one threshold after the other."""


class Prediction(NamedTuple):
    """The network's outputs for one frame, and the truth, maps [H, W] at the frame's own size."""

    outputs: dict[str, NDArray]
    where: Fit
    semantic: NDArray[np.uint8]
    instance: NDArray[np.integer]


@torch.no_grad()
def predict(
    kind: Kind, network: nn.Module, frames: Iterable[tuple[Clip, int]], spec: InputSpec
) -> Iterator[Prediction]:
    """Predictions for these frames, brought to the network's input as a node does; the network's mode is kept."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    for clip, i in frames:
        image, semantic, instance = clip.read(i)
        where = fit(spec, *image.shape[:2])
        # A mapped file is read-only, which torch warns of.
        ready = torch.from_numpy(np.array(prepare(image, where, spec.padding))).to(device)
        answers = kind.predict(network, normalised(ready, spec))
        yield Prediction({n: t.float().cpu().numpy() for n, t in answers._asdict().items()}, where, semantic, instance)
    network.train(was_training)


def judge(
    predictions: Iterable[Prediction],
    limits: Thresholds,
    taxonomy: Taxonomy = CITYSCAPES,
    activation: str = "softmax_queries",
    renamed: tuple[Taxonomy, NDArray[np.uint8]] | None = None,
) -> Report:
    """PQ and mIoU over all frames; each frame counts as a sequence of its own, since identities are the tracker's.

    Args:
        taxonomy: of the model.
        renamed: the taxonomy of the truth, where it is another, and the table [256] that brings class ids to its own.
    """
    truth, table = renamed or (taxonomy, np.arange(256, dtype=np.uint8))
    evaluator = Evaluator(truth, video=False)
    for number, p in enumerate(predictions):
        found = from_logits(p.outputs, p.where, taxonomy, limits, activation)
        semantic = table[np.append(VOID_ID, found.class_ids).astype(np.uint8)][found.map]
        evaluator.update(str(number), p.semantic, p.instance, semantic, found.map)
    return evaluator.result()


def summary(report: Report) -> dict[str, float]:
    """What the training log keeps of a report."""
    values = {"pq": report.pq.all, "pq_things": report.pq.things, "pq_stuff": report.pq.stuff, "miou": report.miou}
    return {name: round(float(value), 4) for name, value in values.items()}


def tune(
    predictions: list[Prediction],
    reporter: Reporter = SILENT,
    taxonomy: Taxonomy = CITYSCAPES,
    activation: str = "softmax_queries",
    limits: Thresholds = LIMITS,
) -> tuple[Thresholds, Report]:
    """The thresholds with the best PQ + STQ found by changing one of `limits` after the other, and their report.

    PQ alone prefers to leave out what is doubtful. But an object that is left out has no track either: STQ, here of
    single frames, speaks for the tracker.
    """
    best, report = limits, judge(predictions, limits, taxonomy, activation)
    trials = [(name, value) for name, values in SEARCHED.items() for value in values]
    for name, value in reporter.progress(trials, "thresholds", total=len(trials)):
        if getattr(best, name) == value:
            continue
        changed = dataclasses.replace(best, **{name: value})
        tried = judge(predictions, changed, taxonomy, activation)
        if tried.pq.all + tried.stq > report.pq.all + report.stq:
            best, report = changed, tried
    return best, report
