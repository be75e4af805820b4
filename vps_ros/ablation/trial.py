"""One tracker on the segmentations of one drive, and the figures over several drives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vps_ros.ablation.sources import CLASSES, DriveFrame
from vps_ros.ablation.sweeps import FEATURES
from vps_ros.evaluation.identity import ALL, Identity, IdentityQuality
from vps_ros.evaluation.overlaps import Classes, Overlaps, code_of, instance_of
from vps_ros.evaluation.stq import SegmentationTracking
from vps_ros.frame import Segmentation, Track
from vps_ros.trackers import Tracker, tracker_class
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.tracker import Matches

_FIRST_UNKNOWN = 1 << 20
"""First id of segments without a true thing; true instances are smaller."""


@dataclass(frozen=True)
class Trial:
    """The counts of one tracker over one drive.

    Attributes:
        segmentation_tracking: of STQ.
        identity: of things, see `vps_ros.evaluation.identity`.
        any_class: id switches when masks of different classes are compared too.
        tracks: number of identities.
        association_ms, flow_ms: of each frame; empty without a tracker.
        candidates: pairs compared in each frame, see `Tracker`.
    """

    segmentation_tracking: SegmentationTracking
    identity: IdentityQuality
    any_class: IdentityQuality
    tracks: int
    association_ms: Sequence[float] = ()
    flow_ms: Sequence[float] = ()
    candidates: Sequence[int] = ()


class TrialCounts:
    """Compares identities with the ground truth, frame by frame."""

    def __init__(self, metrics: Iterable[str] = ALL) -> None:
        self._segmentation_tracking = SegmentationTracking(CLASSES)
        self._identity = Identity(CLASSES, metrics=metrics)
        self._any_class = Identity(CLASSES, any_class=True, metrics=("CLEAR",))
        self._tracks: set[int] = set()

    def update(self, frame: DriveFrame, ids: np.ndarray, class_ids: np.ndarray | None = None) -> None:
        """Counts the identities int64 [K] of the segments of a frame, and their classes, if other than the frame's."""
        table = relabelled(CLASSES, frame.table, ids, class_ids)
        for part in (self._segmentation_tracking, self._identity, self._any_class):
            part.update(table)
        self._tracks.update(ids[frame.segmentation.is_thing].tolist())

    def result(self, **times: Sequence) -> Trial:
        return Trial(
            self._segmentation_tracking, self._identity.result(), self._any_class.result(), len(self._tracks), **times
        )


def run(tracker: Tracker, frames: Iterable[DriveFrame], metrics: Iterable[str] = ALL) -> Trial:
    """Runs a new tracker on the frames of one drive. Raises InputError as the tracker does."""
    counts = TrialCounts(metrics)
    times: dict[str, list] = {"association_ms": [], "flow_ms": [], "candidates": []}
    for frame in frames:
        tracks = tracker.step(frame.frame, frame.segmentation)
        times["association_ms"].append(tracker.milliseconds["track"])
        times["flow_ms"].append(tracker.milliseconds["flow"])
        times["candidates"].append(tracker.candidates)
        counts.update(frame, *tracked(frame.segmentation, tracks))
    return counts.result(**times)


class WithoutMemory(Tracker):
    """A tracker that matches tubes only: every other detection is a new object."""

    def associate(self, detections: Detections, stamp: int) -> Matches:
        return Matches()


def run_features(frames: Sequence[DriveFrame]) -> dict[str, Trial]:
    """Each row of FEATURES on one drive; rows with stitching only for frames with tubes."""
    stitched = any(f.segmentation.tubes is not None for f in frames)
    alone = [replace(f, segmentation=replace(f.segmentation, tubes=None)) for f in frames]
    found = {}
    for row in FEATURES:
        if row.stitching <= stitched:
            tracker = tracker_class(row.tracker)() if row.tracker else WithoutMemory()
            tracker.matches_tubes = not row.evidence
            found[row.name] = run(tracker, frames if row.stitching else alone, ("CLEAR", "Identity"))
    return found


def run_truth(frames: Iterable[DriveFrame]) -> Trial:
    """The upper bound: each segment has the identity of the true thing that most of its pixels belong to."""
    counts, next_id = TrialCounts(), _FIRST_UNKNOWN
    for frame in frames:
        ids = instance_of(true_identities(CLASSES, frame.table, len(frame.segmentation)))
        unknown = np.flatnonzero(frame.segmentation.is_thing & (ids == 0))
        ids[unknown] = next_id + np.arange(len(unknown))
        next_id += len(unknown)
        counts.update(frame, ids)
    return counts.result()


def figures(trials: Sequence[Trial]) -> dict[str, float | int | None]:
    """Over the drives of a scenario: AQ over all tubes, IDF1 and HOTA over all masks, times as medians over frames."""
    quality = SegmentationTracking.total([t.segmentation_tracking for t in trials])
    identity = IdentityQuality.add(t.identity for t in trials)
    found: dict[str, float | int | None] = {
        "AQ": quality.aq,
        "STQ": quality.stq,
        "SQ": quality.sq,
        "IDF1": identity.idf1,
        "HOTA": identity.hota if "HOTA" in identity.counts else math.nan,
        "AssA": identity.assa if "HOTA" in identity.counts else math.nan,
        "MOTA": identity.mota,
        "IDSW": identity.switches,
        "IDSW_any_class": IdentityQuality.add(t.any_class for t in trials).switches,
        "tubes": quality.association.tubes,
        "detections": identity.detections,
        "tracks": sum(t.tracks for t in trials),
    }
    for name, of in (("association_ms", np.median), ("flow_ms", np.median), ("candidates", np.mean)):
        values = [v for t in trials for v in getattr(t, name)]
        found[name] = float(of(values)) if values else None
    found["candidates_max"] = max((v for t in trials for v in t.candidates), default=None)
    return found


MEANS = ("AQ", "STQ", "SQ", "IDF1", "HOTA", "AssA", "MOTA", "association_ms", "flow_ms", "candidates")
SUMS = ("IDSW", "IDSW_any_class", "tubes", "detections", "tracks")


def mean(cells: Sequence[dict]) -> dict[str, float | int | None]:
    """Unweighted mean over scenarios; SUMS are added."""
    found: dict[str, float | int | None] = {}
    for name in MEANS:
        values = [c[name] for c in cells if c[name] is not None and c[name] == c[name]]
        found[name] = float(np.mean(values)) if values else None
    found |= {name: sum(c[name] for c in cells) for name in SUMS}
    found["candidates_max"] = max((c["candidates_max"] for c in cells if c["candidates_max"] is not None), default=None)
    return found


def relabelled(
    classes: Classes, table: Overlaps, ids: NDArray[np.int64], class_ids: NDArray[np.int64] | None = None
) -> Overlaps:
    """The overlap table with identities as predicted instances, without reading the pixels again.

    Args:
        table: as in `vps_ros.ablation.sources.DriveFrame`.
        ids: int64 [K], identity of each segment; those of stuff are ignored.
        class_ids: int64 [K], classes that the tracker assigned; None keeps those of the segments.
    """
    number = np.where(classes.is_thing[table.pred_class], table.pred_instance, 0)
    instance = np.append(0, ids)[number]
    column = table.pred_class
    if class_ids is not None:
        column = np.where(number > 0, classes.column[np.append(0, class_ids)[number]], column)
    return Overlaps.add([Overlaps(table.gt, code_of(column, instance), table.count)])


def tracked(segmentation: Segmentation, tracks: Iterable[Track]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64 [K] each: track id of each segment, 0 for stuff, and class: for things the class of the track."""
    ids, class_ids = np.zeros(len(segmentation), np.int64), segmentation.class_ids.astype(np.int64)
    for track in tracks:
        if track.index >= 0:
            ids[track.index], class_ids[track.index] = track.track_id, track.class_id
    return ids, class_ids


def true_identities(classes: Classes, table: Overlaps, count: int) -> NDArray[np.int64]:
    """int64 [K], code of the true thing that most pixels of each of `count` segments belong to; 0: none.

    Of several segments of one thing only the one with most of its pixels gets its identity, since no tracker gives one
    identity to two segments.
    """
    thing = classes.is_thing[table.gt_class] & (table.gt_instance > 0) & classes.is_thing[table.pred_class]
    number, code, pixels = table.pred_instance[thing], table.gt[thing], table.count[thing]
    # The last value of a key is kept: that of most pixels.
    order = np.lexsort((-number, -code, pixels)).tolist()
    shown = {int(number[i]): i for i in order}
    owner = {int(code[i]): int(number[i]) for i in order if shown[int(number[i])] == i}
    found = np.zeros(count, np.int64)
    found[np.array(list(owner.values()), np.int64) - 1] = list(owner)
    return found
