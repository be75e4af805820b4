"""One tracker on the segmentations of one drive, and the figures of several such."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vps_ros.ablation.relabel import relabelled, tracked, true_identities
from vps_ros.ablation.sources import CLASSES, Shot
from vps_ros.evaluation.confusion import Confusion
from vps_ros.evaluation.identity import ALL, Identity, IdentityQuality
from vps_ros.evaluation.overlaps import instance_of
from vps_ros.evaluation.stq import Association, AssociationQuality, segmentation_and_tracking_quality
from vps_ros.trackers import Tracker

_STRANGERS = 1 << 20
"""First id of segments that show no true thing; true instances are smaller."""


@dataclass(frozen=True)
class Trial:
    """What was counted over one drive; of several drives it adds up.

    Attributes:
        association, confusion: of STQ.
        identity: of things, see `vps_ros.evaluation.identity`.
        any_class: id switches alone, whatever the classes.
        tracks: identities that were given to segments.
        association_ms, flow_ms: of each frame; empty where there was no tracker.
        candidates: pairs compared in each frame, see `Tracker`.
    """

    association: AssociationQuality
    confusion: Confusion
    identity: IdentityQuality
    any_class: IdentityQuality
    tracks: int
    association_ms: Sequence[float] = ()
    flow_ms: Sequence[float] = ()
    candidates: Sequence[int] = ()


class Jury:
    """Counts identities against the truth, frame by frame."""

    def __init__(self, metrics: Iterable[str] = ALL) -> None:
        self._association = Association(CLASSES)
        self._confusion = Confusion(CLASSES)
        self._identity = Identity(CLASSES, metrics=metrics)
        self._any_class = Identity(CLASSES, any_class=True, metrics=("CLEAR",))
        self._tracks: set[int] = set()

    def update(self, shot: Shot, ids: np.ndarray, class_ids: np.ndarray | None = None) -> None:
        """Takes in the identities int64 [K] of the shot's segments."""
        table = relabelled(CLASSES, shot.table, ids, class_ids)
        for part in (self._association, self._confusion, self._identity, self._any_class):
            part.update(table)
        self._tracks.update(ids[shot.segmentation.is_thing].tolist())

    def result(self, **times: Sequence) -> Trial:
        return Trial(
            self._association.result(),
            self._confusion,
            self._identity.result(),
            self._any_class.result(),
            len(self._tracks),
            **times,
        )


def run(tracker: Tracker, shots: Iterable[Shot], metrics: Iterable[str] = ALL) -> Trial:
    """The tracker, fresh, on the frames of one drive. Raises InputError as the tracker does."""
    jury = Jury(metrics)
    times: dict[str, list] = {"association_ms": [], "flow_ms": [], "candidates": []}
    for shot in shots:
        tracks = tracker.step(shot.frame, shot.segmentation)
        times["association_ms"].append(tracker.milliseconds["track"])
        times["flow_ms"].append(tracker.milliseconds["flow"])
        times["candidates"].append(tracker.candidates)
        jury.update(shot, *tracked(shot.segmentation, tracks))
    return jury.result(**times)


def run_truth(shots: Iterable[Shot]) -> Trial:
    """The best there is to reach: each segment is the true thing that most of its pixels show, see true_identities."""
    jury, strangers = Jury(), _STRANGERS
    for shot in shots:
        ids = instance_of(true_identities(CLASSES, shot.table, len(shot.segmentation)))
        strange = np.flatnonzero(shot.segmentation.is_thing & (ids == 0))
        ids[strange] = strangers + np.arange(len(strange))
        strangers += len(strange)
        jury.update(shot, ids)
    return jury.result()


def figures(trials: Sequence[Trial]) -> dict[str, float | int | None]:
    """Of the drives of a scenario: AQ over all their tubes, IDF1 and HOTA over all their masks, medians over frames."""
    association = AssociationQuality.add(t.association for t in trials)
    identity = IdentityQuality.add(t.identity for t in trials)
    confusion = Confusion(CLASSES)
    for trial in trials:
        confusion.merge(trial.confusion)
    sq = confusion.segmentation_quality()
    found: dict[str, float | int | None] = {
        "AQ": association.mean,
        "STQ": segmentation_and_tracking_quality(association.mean, sq),
        "SQ": sq,
        "IDF1": identity.idf1,
        "HOTA": identity.hota if "HOTA" in identity.counts else math.nan,
        "AssA": identity.assa if "HOTA" in identity.counts else math.nan,
        "MOTA": identity.mota,
        "IDSW": identity.switches,
        "IDSW_any_class": IdentityQuality.add(t.any_class for t in trials).switches,
        "tubes": association.tubes,
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
    """Over scenarios, each of which counts the same whatever its length; numbers of things are added up."""
    found: dict[str, float | int | None] = {}
    for name in MEANS:
        values = [c[name] for c in cells if c[name] is not None and c[name] == c[name]]
        found[name] = float(np.mean(values)) if values else None
    found |= {name: sum(c[name] for c in cells) for name in SUMS}
    found["candidates_max"] = max((c["candidates_max"] for c in cells if c["candidates_max"] is not None), default=None)
    return found
