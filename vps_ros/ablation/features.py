"""Association features of HiLA-MB, one by one and together, online and near-online (Video-kMaX table 5).

The last rows, which the paper does not have, are the default tracker on the same masks: without tubes, with stitching
before all else as in the other rows, and with tubes as evidence, as it is by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vps_ros.ablation import trial
from vps_ros.ablation.sources import SegmentedFrame
from vps_ros.ablation.trial import Trial
from vps_ros.trackers import Tracker, tracker_class
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.tracker import Matches

SOURCE = "Video-kMaX table 5"


class WithoutMemory(Tracker):
    """A tracker that matches tubes only: every other detection is a new object."""

    def associate(self, detections: Detections, stamp: int) -> Matches:
        return Matches()


@dataclass(frozen=True)
class Features:
    """A row of the table.

    Attributes:
        stitching: whether tubes of consecutive clips are stitched, for masks of clips.
        tracker: the memory, a name of TRACKERS with its default parameters; "" for none.
        evidence: whether tubes are compared by the tracker, and not matched before all else.
    """

    name: str
    stitching: bool
    tracker: str
    evidence: bool = False


FEATURES = (
    Features("none", False, ""),
    Features("appearance", False, "appearance"),
    Features("location", False, "location"),
    Features("appearance, location", False, "hila_mb"),
    Features("stitching", True, ""),
    Features("stitching, appearance", True, "appearance"),
    Features("stitching, location", True, "location"),
    Features("stitching, appearance, location", True, "hila_mb"),
    Features("hierarchical", False, "hierarchical"),
    Features("stitching, hierarchical", True, "hierarchical"),
    Features("stitching as evidence, hierarchical", True, "hierarchical", evidence=True),
)


def run(frames: Sequence[SegmentedFrame]) -> dict[str, Trial]:
    """Each row on one drive; rows with stitching only for frames with tubes."""
    stitched = any(f.segmentation.tubes is not None for f in frames)
    alone = [replace(f, segmentation=replace(f.segmentation, tubes=None)) for f in frames]
    found = {}
    for row in FEATURES:
        if row.stitching <= stitched:
            tracker = tracker_class(row.tracker)() if row.tracker else WithoutMemory()
            tracker.matches_tubes = not row.evidence
            found[row.name] = trial.run(tracker, frames if row.stitching else alone, ("CLEAR", "Identity"))
    return found
