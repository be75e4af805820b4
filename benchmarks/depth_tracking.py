"""Identities of the default tracker with depth as additional evidence, on generated streets.

The tracker of the package associates in 2D. Here the depth of each detection (the median of its surface, as objects_3d
measures it) is compared with the depth that a Kalman filter of each track predicts: constant velocity, random
acceleration; the velocity of a new track is the mean of the others, which is mostly that of the camera. The
log-likelihood ratio of "same object" and "another object", times a weight, is added to the log-odds of each pair of a
track and a detection. Weight, offset, noise and share of outliers are fitted by the loss of the tracker's own network
(vps_ros/learning/tracking/match_scorer.py), on other drives than those of the figures.

Masks are those of streets-s. Depth is exact, or that of the simulated stereo camera of benchmarks/objects_3d.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._quality import IDENTITY_COLUMNS, identity_cells, identity_figures
from benchmarks.objects_3d import simulated_depth
from vps_ros import segmenters
from vps_ros.ablation import trial
from vps_ros.ablation.degrade import VISIBLE
from vps_ros.ablation.sources import ArrayCache, Drive, DriveFrame, fingerprint, pack, segment_table, unpack
from vps_ros.datasets import streets
from vps_ros.datasets.streets import HELD_OUT
from vps_ros.depth import measure as measuring
from vps_ros.depth.measure import measure
from vps_ros.errors import InputError
from vps_ros.frame import Frame, Segmentation
from vps_ros.segmenters import SegmenterParameters, load_segmenter
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.hierarchical import Hierarchical
from vps_ros.trackers.hierarchical.assign import assign
from vps_ros.trackers.hierarchical.compare import compare
from vps_ros.trackers.tracker import Matches

DESCRIPTION = "AQ, IDF1 and id switches with and without depth in the association, on 8 held-out drives"
SCENARIOS, SIZE = ("cruise", "crowd", "occlusion", "turning"), (640, 192)
FITTED = [Drive(scenario, 710_000, 60, SIZE) for scenario in SCENARIOS]
HELD = [Drive(scenario, HELD_OUT.start + i, 100, SIZE) for i in range(2) for scenario in SCENARIOS]
CACHE = Path(".drives/depth_tracking")
KINDS = ("exact", "stereo")
NOISE, RELATIVE, ACCELERATION, SPEED = 0.05, 0.02, 3.0, 5.0
"""Standard deviations: of the depth, metres plus a share of it; m/s^2; and m/s of a new track beside the others."""
FIT_STEPS = 300
METRICS = ("CLEAR", "Identity")
NONE, TERM = "2D", "2D and depth"


def run(progress: Any) -> dict:
    """Figures by drive and in total, with the fitted parameters and the losses."""
    try:
        from vps_ros.learning.tracking.match_scorer import assignment_loss  # noqa: F401
    except ModuleNotFoundError as error:
        return {"skipped": f"{error.name} is missing; run `pip install .[train]`"}
    with TemporaryDirectory() as temporary:
        folder = CACHE if CACHE.is_dir() else Path(temporary)
        recorded = {kind: Recording() for kind in KINDS}
        for drive in progress(FITTED, "drives for the fit", len(FITTED)):
            frames = frames_of(folder, drive)
            for kind in KINDS:
                recorded[kind].add(frames, kind)
        variants: dict[str, tuple[str, Term | None]] = {NONE: (KINDS[0], None)}
        fits = {}
        for kind in progress(KINDS, "fits", len(KINDS)):
            term, fits[kind] = fit_term(recorded[kind])
            variants[f"{TERM} ({kind})"] = (kind, term)
        trials: dict[str, dict[str, trial.Trial]] = {}
        for drive in progress(HELD, "held-out drives", len(HELD)):
            frames = frames_of(folder, drive)
            trials[drive.name] = {name: evaluate(frames, *variant) for name, variant in variants.items()}
    cells = [
        {"drive": drive, "scenario": drive.split("-")[0], "association": name, **identity_figures([one])}
        for drive, row in trials.items()
        for name, one in row.items()
    ]
    by_scenario = [
        {
            "scenario": scenario,
            "association": name,
            **identity_figures([row[name] for drive, row in trials.items() if drive.startswith(scenario)]),
        }
        for scenario in SCENARIOS
        for name in variants
    ]
    total = [{"association": name, **identity_figures([row[name] for row in trials.values()])} for name in variants]
    return {
        "size": list(SIZE),
        "fitted": [drive.name for drive in FITTED],
        "fits": fits,
        "cells": cells,
        "scenarios": by_scenario,
        "total": total,
    }


def tables(figures: dict) -> list[tuple[str, list[str], list[list[object]]]]:
    """All drives, each scenario, and the fits."""
    total = [[one["association"], *identity_cells(one)] for one in figures["total"]]
    scenarios = [[one["scenario"], one["association"], *identity_cells(one)] for one in figures["scenarios"]]
    fits = [[kind, one["pairs"], one["loss_2d"], one["loss"], one["weight"]] for kind, one in figures["fits"].items()]
    return [
        ("all held-out drives", ["association", *IDENTITY_COLUMNS], total),
        ("by scenario", ["scenario", "association", *IDENTITY_COLUMNS], scenarios),
        ("fit of the term", ["depth", "pairs with depth", "loss in 2D", "loss with depth", "weight"], fits),
    ]


@dataclass(frozen=True)
class DepthFrame:
    """A segmented frame and the depth of each of its segments, float64 [K] metres by KINDS; NaN where unknown."""

    shot: DriveFrame
    depths: dict[str, NDArray[np.float64]]


def frames_of(folder: Path, drive: Drive) -> list[DepthFrame]:
    """The frames of a drive, from the cache in `folder` or computed and added to it."""

    def compute() -> dict[str, NDArray]:
        network = load_segmenter(SegmenterParameters(model="streets-s", threads=1))
        rng = np.random.default_rng(drive.seed)
        depths: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        found, frames = [], []
        for street in streets.drive(drive.scenario, drive.seed, drive.frames, drive.size):
            segmentation = network(street.frame.image)
            truth = VISIBLE.void_small(street.semantic, street.instance, CITYSCAPES)
            found.append((segmentation, segment_table(truth, segmentation)))
            frames.append(street.frame)
            for kind in KINDS:
                depths[kind].append(_depths(segmentation, simulated_depth(street, kind, rng)))
        arrays = {f"depth_{kind}": np.concatenate(values) for kind, values in depths.items()}
        return {
            **pack(found),
            **arrays,
            "image": np.stack([one.image for one in frames]),
            "stamp": np.array([one.stamp for one in frames]),
        }

    key = fingerprint([streets, segmenters, measuring], [drive.name, "streets-s"])
    arrays = ArrayCache(folder).get(f"{drive.name}-depth", key, compute)
    depths = [np.split(arrays[f"depth_{kind}"], arrays["segments"]) for kind in KINDS]
    return [
        DepthFrame(DriveFrame(Frame(image, int(stamp), "camera"), *one), dict(zip(KINDS, of_kinds, strict=True)))
        for image, stamp, one, *of_kinds in zip(arrays["image"], arrays["stamp"], unpack(arrays), *depths, strict=True)
    ]


def _depths(segmentation: Segmentation, depth: Any) -> NDArray[np.float64]:
    """float64 [K], the depth of each thing; NaN for stuff and where too few pixels have depth."""
    found = np.full(len(segmentation), np.nan)
    for i in np.flatnonzero(segmentation.is_thing):
        one = measure(segmentation.map == i + 1, depth.metres, depth.intrinsics)
        if one is not None:
            found[i] = one.distance
    return found


class DepthFilters:
    """A Kalman filter of each track for its depth and the rate of change of it (m, m/s), relative to the camera."""

    def __init__(self) -> None:
        self._states: dict[int, tuple[NDArray, NDArray, int]] = {}

    def predict(self, ids: Sequence[int], stamp: int) -> NDArray[np.float64]:
        """[2, M], predicted depth of each track and its variance; NaN where no depth was measured."""
        found = np.full((2, len(ids)), np.nan)
        for i, track_id in enumerate(ids):
            if track_id in self._states:
                mean, covariance = self._predicted(track_id, stamp)
                found[:, i] = max(mean[0], 0.1), covariance[0, 0]
        return found

    def _predicted(self, track_id: int, stamp: int) -> tuple[NDArray, NDArray]:
        mean, covariance, before = self._states[track_id]
        dt = max(stamp - before, 0) * 1e-9
        move = np.array([[1, dt], [0, 1]])
        noise = ACCELERATION**2 * np.array([[dt**4 / 4, dt**3 / 2], [dt**3 / 2, dt**2]])
        return move @ mean, move @ covariance @ move.T + noise

    def update(self, ids: Sequence[int], depths: NDArray[np.float64], stamp: int) -> None:
        """Takes the depths [K] of detected tracks; NaN changes nothing."""
        speeds = [mean[1] for mean, covariance, _ in self._states.values() if covariance[1, 1] < SPEED**2 / 4]
        common = float(np.median(speeds)) if speeds else 0.0
        for track_id, depth in zip(ids, depths.tolist(), strict=True):
            if not np.isfinite(depth):
                continue
            variance = measured_variance(depth)
            if track_id not in self._states:
                self._states[track_id] = np.array([depth, common]), np.diag([variance, SPEED**2]), stamp
                continue
            mean, covariance = self._predicted(track_id, stamp)
            gain = covariance[:, 0] / (covariance[0, 0] + variance)
            mean = mean + gain * (depth - mean[0])
            self._states[track_id] = mean, covariance - np.outer(gain, covariance[0]), stamp


def measured_variance(depth: Any) -> Any:
    """m^2, of a measured depth."""
    return (NOISE + RELATIVE * depth) ** 2


@dataclass(frozen=True)
class Term:
    """Weighted log-likelihood ratio of the depth of a pair.

    The depth of the same object is normal around the prediction, but for a share of outliers; that of another one
    differs by a factor, whose logarithm has a Laplace distribution.

    Attributes:
        weight, offset: of the ratio.
        outliers: share.
        noise: factor of the variance.
        spread: of the logarithm of the factor.
    """

    weight: Any
    offset: Any
    outliers: Any
    noise: Any
    spread: Any

    def __call__(self, depth: Any, predicted: Any, variance: Any, of: Any = np) -> Any:
        """[P], of arrays of NumPy, or tensors for `of` torch."""
        variance = variance * self.noise
        same = -((depth - predicted) ** 2) / (2 * variance) - of.log(2 * np.pi * variance) / 2
        other = -of.abs(of.log(depth) - of.log(predicted)) / self.spread - of.log(2 * self.spread * depth)
        ratio = of.log((1 - self.outliers) * of.exp(same - other) + self.outliers)
        return self.weight * ratio + self.offset


class WithDepth(Hierarchical):
    """The default tracker, and a filter for the depth of each track.

    Attributes:
        depths: float64 [S], of the segments of the current frame.
        term: added to the log-odds; None: no depth.
    """

    def __init__(self, term: Term | None = None) -> None:
        super().__init__()
        self.depths, self.term = np.empty(0), term
        self._filters, self._seen, self._stamp = DepthFilters(), np.empty(0), 0

    def _observe(self, frame: Frame, segmentation: Segmentation, detections: Detections) -> None:
        super()._observe(frame, segmentation, detections)
        self._seen, self._stamp = self.depths[detections.index], int(frame.stamp)

    def depth_of(self, m: NDArray, k: NDArray) -> NDArray[np.float64]:
        """[3, P]: measured depth, predicted depth and variance of the difference of pairs; NaN where unknown."""
        predicted, variance = self._filters.predict(self.memory.rows["id"].tolist(), self._stamp)[:, m]
        depth = self._seen[k]
        return np.stack([depth, predicted, variance + measured_variance(depth)])

    def associate(self, detections: Detections, stamp: int) -> Matches:
        pairs = compare(self.memory, self._masks, detections, stamp)
        if not len(pairs.m):
            return Matches()
        depth = self.depth_of(pairs.m, pairs.k)
        log_odds = self._scorer(pairs.features, pairs.m, pairs.k)
        if self.term is not None:
            log_odds = log_odds + np.nan_to_num(self.term(*depth)).astype(np.float32)
        return assign(pairs, log_odds, self.parameters.association_threshold)

    def _set_ids(self, ids: NDArray[np.int64]) -> None:
        super()._set_ids(ids)
        self._filters.update(ids.tolist(), self._seen, self._stamp)


class Recording:
    """Pairs of frames that are tracked with the true identities, with their depth.

    Attributes:
        examples: of the frames, as `vps_ros.learning.tracking.match_scorer.FrameExample`.
        depths: float64 [3, P] of each.
    """

    def __init__(self) -> None:
        self.examples: list[Any] = []
        self.depths: list[NDArray[np.float64]] = []

    def add(self, frames: Sequence[DepthFrame], kind: str) -> None:
        from vps_ros.learning.tracking.match_scorer import GroundTruthTracker, true_objects

        class Recorder(GroundTruthTracker, WithDepth):
            """Records the depth of the pairs of each example."""

            def __init__(self) -> None:
                super().__init__()
                self.recorded: list[NDArray[np.float64]] = []

            def associate(self, detections: Detections, stamp: int) -> Matches:
                before = len(self.examples)
                found = super().associate(detections, stamp)
                self.recorded += [self.depth_of(one.m, one.k) for one in self.examples[before:]]
                return found

        tracker = Recorder()
        for frame in frames:
            segmentation = frame.shot.segmentation
            tracker.objects, tracker.depths = true_objects(frame.shot.table, len(segmentation)), frame.depths[kind]
            for track in tracker.step(frame.shot.frame, segmentation):
                if track.index >= 0:
                    tracker.known.setdefault(track.track_id, int(tracker.objects[track.index]))
        self.examples += tracker.examples
        self.depths += tracker.recorded


def fit_term(recorded: Recording) -> tuple[Term, dict]:
    """The term with the least loss beside the shipped network, and its figures."""
    import torch

    from vps_ros.learning.tracking.match_scorer import Batch, assignment_loss
    from vps_ros.trackers.hierarchical.compare import COLUMNS
    from vps_ros.trackers.match_scorer import shipped_scorer

    torch.set_num_threads(1)
    batch, scorer = Batch.of(recorded.examples), shipped_scorer("hierarchical", COLUMNS)
    shipped = torch.from_numpy(np.concatenate([scorer(one.columns, one.m, one.k) for one in recorded.examples]))
    depth = np.concatenate(recorded.depths, 1)
    known = torch.from_numpy(np.isfinite(depth).all(0))
    values = torch.from_numpy(np.where(known, depth, 1.0)).float()
    # Logarithms, but for the offset.
    raw = torch.tensor([-0.7, 0.0, -3.0, 0.0, -0.7], requires_grad=True)

    def term() -> Term:
        return Term(raw[0].exp(), raw[1], raw[2].sigmoid(), raw[3].exp(), raw[4].exp())

    optimizer = torch.optim.Adam([raw], 0.03)
    for _ in range(FIT_STEPS):
        measured, predicted, variance = values
        ratio = term()(measured, predicted, variance, of=torch)
        loss = assignment_loss(shipped + torch.where(known, ratio, 0), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fitted = Term(*(float(v.detach()) for v in vars(term()).values()))
    if not all(np.isfinite(v) for v in vars(fitted).values()):
        raise InputError("the fit of the term diverged")
    losses = {"loss_2d": float(assignment_loss(shipped, batch)), "loss": float(loss.detach())}
    return fitted, {"pairs": int(known.sum()), **losses, **vars(fitted)}


def evaluate(frames: Sequence[DepthFrame], kind: str, term: Term | None) -> trial.Trial:
    """The tracker with this term (None: without depth) on one drive."""
    tracker, counts = WithDepth(term), trial.TrialCounts(METRICS)
    for frame in frames:
        tracker.depths = frame.depths[kind]
        tracks = tracker.step(frame.shot.frame, frame.shot.segmentation)
        counts.update(frame.shot, *trial.tracked(frame.shot.segmentation, tracks))
    return counts.result()
