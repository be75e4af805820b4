"""Identities on a real drive: every tracker on the same masks of a clip of the KITTI tracking benchmark.

The masks are the boxes of the labels, nearer ones over farther ones; DontCare regions are left out. Identities are
removed and the order is shuffled in each frame. The appearance is the colour histogram of the image within the mask.
Every third frame represents a robot at a third of the rate. Where boxes are dropped, figures are means over SEEDS
random draws. IDF1, HOTA and id switches (TrackEval) are over all boxes of the labels, dropped ones included: `true
identity` is the upper bound. Roboflow's trackers, with their defaults, get the same boxes (BoT-SORT also the image);
boxes without an id, and of classes that they do not use, count as not tracked.

The clip is non-commercial data and not part of the project: VPS_ROS_REALDATA is the folder that contains
kitti_tracking_0002/image_02/*.jpg and kitti_tracking_0002/label_02/0002.txt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks import _roboflow
from benchmarks._crowd import INTERVAL, SMALLEST, segmented
from benchmarks._real import CLIP, KittiLabel, kitti_labels, read_image, real_data
from benchmarks._roboflow import Roboflow
from vps_ros.commands.console import note
from vps_ros.evaluation.identity import Identity
from vps_ros.evaluation.overlaps import Classes, Overlaps
from vps_ros.frame import Frame, Segmentation
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import TRACKERS, tracker_class
from vps_ros.trackers.colour_histogram import with_appearance
from vps_ros.trackers.tracker import Tracker

DESCRIPTION = "IDF1, HOTA and id switches of every tracker on a real drive (needs VPS_ROS_REALDATA)"
CLASSES = {"Pedestrian": 11, "Person_sitting": 11, "Cyclist": 12, "Car": 13, "Van": 13, "Truck": 14, "Tram": 16}
OTHER = 14
"""Misc is trailers and the like."""
SEEDS = 10
TRUE = "true identity"
Identify: TypeAlias = Callable[[Frame, Segmentation], NDArray[np.int64]]
"""Frame and segments to the id of each segment, 0 for none."""


class Variant(NamedTuple):
    """Share of boxes dropped, drawn anew in each frame, and how many frames lie between two that are taken."""

    dropped: float
    every: int


VARIANTS = {
    "all boxes": Variant(0.0, 1),
    "10 % dropped": Variant(0.1, 1),
    "every third frame": Variant(0.0, 3),
    "every third frame, 10 % dropped": Variant(0.1, 3),
}


class Score(NamedTuple):
    """IDF1 and HOTA in 0..1, and how often a true track is found with another id than the last time."""

    IDF1: float
    HOTA: float
    switches: float


class Labelled(NamedTuple):
    """A frame and its labels: `painted` [H, W] holds 1 + track, 0 elsewhere; tracks [K] are those with a mask."""

    frame: Frame
    painted: NDArray[np.int32]
    tracks: NDArray[np.int64]
    classes: NDArray[np.int32]


def run(progress: Any) -> dict:
    """Figures by variant and tracker."""
    folder, missing = real_data(CLIP)
    if missing:
        return {"skipped": missing}
    clip = list(progress(read(folder / CLIP), "clip", None))
    if not _roboflow.there():
        note(_roboflow.MISSING)
    found: dict[str, dict[str, dict[str, float]]] = {}
    jobs = [(name, seed) for name, v in VARIANTS.items() for seed in range(SEEDS if v.dropped else 1)]
    samples: dict[tuple[str, str], list[Score]] = {}
    for name, seed in progress(jobs, "drives", len(jobs)):
        for tracker, one in evaluated(clip, VARIANTS[name], seed).items():
            samples.setdefault((name, tracker), []).append(one)
    for (name, tracker), scores in samples.items():
        means = dict(zip(Score._fields, np.mean(scores, axis=0).tolist(), strict=True))
        found.setdefault(name, {})[tracker] = means
    boxes = sum(len(one.tracks) for one in clip)
    tracks = len(np.unique(np.concatenate([one.tracks for one in clip])))
    return {"frames": len(clip), "boxes": boxes, "tracks": tracks, "seeds": SEEDS, "variants": found}


def rows(figures: dict) -> tuple[list[str], list[list[object]]]:
    """The table for people: IDF1 and HOTA in percent, and switches."""
    variants = figures["variants"]
    columns = ["tracker", *(f"{name}: IDF1 / HOTA / switches" for name in variants), "mean IDF1", "mean HOTA"]
    found = []
    for tracker in next(iter(variants.values())):
        ones = [one[tracker] for one in variants.values()]
        cells = [f"{100 * one['IDF1']:.1f} / {100 * one['HOTA']:.1f} / {one['switches']:.1f}" for one in ones]
        means = [100 * float(np.mean([one[key] for one in ones])) for key in ("IDF1", "HOTA")]
        found.append([tracker, *cells, *means])
    return columns, found


def read(folder: Path) -> list[Labelled]:
    """The frames of the clip, each with the boxes of its labels painted, near over far."""
    labels: dict[int, list[KittiLabel]] = {}
    for label in kitti_labels(folder):
        if label.kind != "DontCare":
            labels.setdefault(label.frame, []).append(label)
    clip = []
    for path in sorted((folder / "image_02").glob("*.jpg")):
        number = int(path.stem)
        image = read_image(path)
        painted = np.zeros(image.shape[:2], np.int32)
        classes = {}
        for label in sorted(labels.get(number, ()), key=lambda label: -label.distance):
            x0, y0, x1, y1 = np.rint(label.box).astype(int).tolist()
            painted[max(y0, 0) : y1, max(x0, 0) : x1] = 1 + label.track
            classes[label.track] = CLASSES.get(label.kind, OTHER)
        areas = np.bincount(painted.ravel())
        tracks = np.array(sorted(t for t in classes if t + 1 < len(areas) and areas[t + 1] >= SMALLEST), np.int64)
        kinds = np.array([classes[track] for track in tracks.tolist()], np.int32)
        clip.append(Labelled(Frame(image, number * INTERVAL), painted, tracks, kinds))
    return clip


def evaluated(clip: Sequence[Labelled], variant: Variant, seed: int) -> dict[str, Score]:
    """Every tracker on the same draw of boxes and of their order."""
    rng = np.random.default_rng(seed)
    trackers = all_trackers(10.0 / variant.every)
    found: dict[str, list[dict[int, int]]] = {name: [] for name in [*trackers, TRUE]}
    chosen = clip[:: variant.every]
    for one in chosen:
        kept = rng.permutation(np.flatnonzero(rng.random(len(one.tracks)) >= variant.dropped))
        tracks, classes = one.tracks[kept], one.classes[kept]
        # A dropped box leaves a hole: what it covers has no pixels there either.
        segmentation = with_appearance(one.frame, segmented(one.painted, tracks, classes))
        found[TRUE].append({track: track + 1 for track in tracks.tolist()})
        for name, track in trackers.items():
            ids = track(one.frame, segmentation)
            found[name].append({t: i for t, i in zip(tracks.tolist(), ids.tolist(), strict=True) if i > 0})
    return {name: score(chosen, ids) for name, ids in found.items()}


def score(truth: Sequence[Labelled], found: Sequence[dict[int, int]]) -> Score:
    """The score of the ids that a tracker gave to the true tracks of each frame.

    Masks are those of the labels, so that each is found completely or not at all.
    """
    classes = Classes(CITYSCAPES)
    identity = Identity(classes, any_class=True)
    for one, ids in zip(truth, found, strict=True):
        kind = classes.column[one.classes] << 32
        known = np.array([ids.get(track, 0) for track in one.tracks.tolist()], np.int64)
        areas = np.bincount(one.painted.ravel(), minlength=1)
        pred = np.where(known > 0, kind | known, classes.void << 32)
        identity.update(Overlaps.add([Overlaps(kind | (one.tracks + 1), pred, areas[one.tracks + 1])]))
    result = identity.result()
    return Score(result.idf1, result.hota, float(result.switches))


def all_trackers(rate: float) -> dict[str, Identify]:
    """By name: frame and segments to the id of each segment, 0 for none."""
    found: dict[str, Identify] = {}
    for name in TRACKERS:
        found[name] = _with_ids(tracker_class(name)())
    for name in _roboflow.NAMES if _roboflow.there() else ():
        other = Roboflow(name, rate, camera_motion=name == "roboflow BoT-SORT")
        found[name] = _seen_by(other)
    return found


def _with_ids(tracker: Tracker) -> Identify:
    return lambda frame, segments: _ids(tracker.step(frame, segments))


def _seen_by(tracker: Roboflow) -> Identify:
    return lambda frame, segments: tracker.see(frame, segments)()


def _ids(tracks: Sequence[Any]) -> NDArray[np.int64]:
    return np.array([track for _, track in sorted((t.index, t.track_id) for t in tracks if t.index >= 0)], np.int64)
