"""How good a model is on drives it has not seen: PQ and mIoU per frame, for the training log and the thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vps_ros.learning.drives import Drive, resized
from vps_ros.learning.model import KMeansMaskTransformer
from vps_ros.segmenters.contract import Thresholds
from vps_ros.segmenters.postprocess import from_logits
from vps_ros.segmenters.preprocess import Fit
from vps_ros.taxonomy import VOID_ID, Taxonomy

LIMITS = Thresholds(
    thing=0.5, stuff=0.3, overlap=0.6, mask=0.35, mask_exponent=1.0, thing_area=32, stuff_area=128, mode="mask_wise"
)
"""Of the post-processing, for validation and for the exported model."""


@dataclass(frozen=True)
class Quality:
    """Panoptic quality (Kirillov et al., 2019) over all frames together, and mean IoU; NaN for absent classes.

    Attributes:
        pq, sq, rq: float64 [C].
        iou: float64 [C].
        isthing: bool [C].
    """

    pq: NDArray[np.float64]
    sq: NDArray[np.float64]
    rq: NDArray[np.float64]
    iou: NDArray[np.float64]
    isthing: NDArray[np.bool_]

    def summary(self) -> dict[str, float]:
        return {
            "pq": _mean(self.pq),
            "pq_things": _mean(self.pq[self.isthing]),
            "pq_stuff": _mean(self.pq[~self.isthing]),
            "miou": _mean(self.iou),
        }


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


class Counter:
    """Adds up what PQ and mIoU need, frame by frame."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        n = len(taxonomy)
        self.matched, self.iou_sum = np.zeros(n), np.zeros(n)
        self.missed, self.invented = np.zeros(n), np.zeros(n)
        self.confusion = np.zeros((n + 1, n + 1), np.int64)
        self.index = np.full(VOID_ID + 1, n, np.int64)
        self.index[taxonomy.ids] = np.arange(n)

    def add(self, truth: NDArray, truth_classes: NDArray, predicted: NDArray, predicted_classes: NDArray) -> None:
        """One frame.

        Args:
            truth, predicted: [H, W], 0 void (crowd included), k the segment of row k - 1.
            truth_classes, predicted_classes: [K], columns of the taxonomy.
        """
        n_truth, n_predicted = len(truth_classes) + 1, len(predicted_classes) + 1
        joint = np.bincount(
            truth.astype(np.int64).ravel() * n_predicted + predicted.ravel(), minlength=n_truth * n_predicted
        ).reshape(n_truth, n_predicted)
        tc = np.append(len(self.taxonomy), truth_classes).astype(int)
        pc = np.append(len(self.taxonomy), predicted_classes).astype(int)
        np.add.at(self.confusion, (tc[:, None], pc[None, :]), joint)
        areas = joint.sum(0)
        union = joint.sum(1)[:, None] + (areas - joint[0])[None, :] - joint
        iou = np.where((tc[:, None] == pc[None]) & (union > 0), joint / np.maximum(union, 1), 0.0)
        iou[0], iou[:, 0] = 0, 0
        hit_truth, hit_predicted = np.nonzero(iou > 0.5)
        np.add.at(self.matched, tc[hit_truth], 1)
        np.add.at(self.iou_sum, tc[hit_truth], iou[hit_truth, hit_predicted])
        lost = np.setdiff1d(np.arange(1, n_truth), hit_truth)
        np.add.at(self.missed, tc[lost], 1)
        extra = np.setdiff1d(np.arange(1, n_predicted), hit_predicted)
        # A prediction that lies mostly on void is nobody's mistake.
        extra = extra[joint[0, extra] <= 0.5 * areas[extra]]
        np.add.at(self.invented, pc[extra], 1)

    def quality(self) -> Quality:
        with np.errstate(invalid="ignore", divide="ignore"):
            sq = self.iou_sum / self.matched
            rq = self.matched / (self.matched + 0.5 * self.missed + 0.5 * self.invented)
            pq = np.where(self.matched > 0, sq * rq, np.where(self.missed + self.invented > 0, 0.0, np.nan))
            valid = self.confusion[:-1]
            hits = np.diag(valid).astype(float)
            truth, predicted = valid.sum(1), valid[:, :-1].sum(0)
            iou = np.where(truth > 0, hits / (truth + predicted - hits), np.nan)
        return Quality(pq, sq, rq, iou, self.taxonomy.isthing)


def truth_segments(semantic: NDArray, instance: NDArray, taxonomy: Taxonomy) -> tuple[NDArray, NDArray]:
    """Labels to (map with 0 for void, class column of each segment); a thing without an instance id is void."""
    index = np.full(VOID_ID + 1, -1, np.int64)
    index[taxonomy.ids] = np.arange(len(taxonomy))
    classes = index[semantic]
    thing = np.append(taxonomy.isthing, False)[classes]
    known = (classes >= 0) & ~(thing & (instance == 0))
    keys = np.where(known, classes * 65536 + np.where(thing, instance, 0), -1)
    found, where = np.unique(keys, return_inverse=True)
    shift = int(found[0] >= 0)
    return where.reshape(semantic.shape) + shift, found[found >= 0] // 65536


@torch.no_grad()
def predict(model: KMeansMaskTransformer, image: NDArray[np.uint8]) -> dict[str, NDArray]:
    """The contract's three outputs for one image uint8 [H, W, 3] of the network's size."""
    x = (torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2).float() - 127.5) / 127.5
    output = model(x)
    return {
        "class_logits": output.final.classes.numpy(),
        "mask_logits": output.final.masks.numpy(),
        "query_embeddings": output.embeddings.numpy(),
    }


def spread(drives: Iterable[Drive], frames: int) -> list[tuple[Drive, int]]:
    """`frames` frames of each drive, evenly spread."""
    return [(d, int(i)) for d in drives for i in np.linspace(0, len(d.image) - 1, min(frames, len(d.image)))]


def validate(
    model: KMeansMaskTransformer,
    frames: list[tuple[Drive, int]],
    size: tuple[int, int],
    taxonomy: Taxonomy,
    limits: Thresholds,
) -> Quality:
    """The model's quality on these frames, at the drives' resolution; the model is left in its mode."""
    was_training = model.training
    model.eval()
    counter = Counter(taxonomy)
    column = {int(c): i for i, c in enumerate(taxonomy.ids)}
    for one, i in frames:
        outputs = predict(model, resized(np.asarray(one.image[i]), size))
        fit = Fit(camera=one.image.shape[1:3], input=(size[1], size[0]), resized=(size[1], size[0]))
        found = from_logits(outputs, fit, taxonomy, limits, "softmax_queries")
        classes = np.array([column[int(c)] for c in found.class_ids], int)
        truth, truth_classes = truth_segments(np.asarray(one.semantic[i]), np.asarray(one.instance[i]), taxonomy)
        counter.add(truth, truth_classes, found.map, classes)
    model.train(was_training)
    return counter.quality()
