"""The hierarchical tracker led by the truth: what evidence it meets where every identity before was right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.ablation.sources import CLASSES, Shot
from vps_ros.evaluation.overlaps import Overlaps
from vps_ros.frame import AssociatedBy
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.hierarchical import Hierarchical
from vps_ros.trackers.hierarchical.compare import compare
from vps_ros.trackers.tracker import Matches, matched

STRANGER = -1
"""Name of a thing that is no known object, or only a part of one."""
_LEAST_SHARE = 0.25


class Lesson(NamedTuple):
    """The pairs of one frame, and what they are.

    Attributes:
        columns: float32 [P, F], features of each pair (trackers/hierarchical/compare.py).
        same: bool [P].
        m, k: int64 [P], object and thing.
        objects, things: bool [M], [K]: which of them are known, so that a pair, or none, is right for them.
    """

    columns: NDArray[np.float32]
    same: NDArray[np.bool_]
    m: NDArray[np.int64]
    k: NDArray[np.int64]
    objects: NDArray[np.bool_]
    things: NDArray[np.bool_]


class Teacher(Hierarchical):
    """Writes down the pairs of each frame, and then matches the true ones.

    Attributes:
        names: int64 [S], true name of each segment of the current frame.
        known: name of each track.
        lessons: of the frames so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names = np.empty(0, np.int64)
        self.known: dict[int, int] = {}
        self.lessons: list[Lesson] = []

    def associate(self, detections: Detections, stamp: int) -> Matches:
        pairs = compare(self.memory, self._masks, detections, stamp)
        objects = np.array([self.known[track] for track in self.memory.rows["id"].tolist()], np.int64)
        seen = self.names[detections.index]
        same = (objects[pairs.m] == seen[pairs.k]) & (objects[pairs.m] != STRANGER)
        if len(pairs.m):
            self.lessons.append(Lesson(pairs.features, same, pairs.m, pairs.k, objects != STRANGER, seen != STRANGER))
        places = {name: place for place, name in enumerate(objects.tolist()) if name != STRANGER}
        found = [(places[name], k) for k, name in enumerate(seen.tolist()) if name in places]
        if not found:
            return Matches()
        m, k = np.array(found).T
        return matched(m, k, np.ones(len(m)), AssociatedBy.MEMORY)


def lessons(shots: Iterable[Shot]) -> list[Lesson]:
    """Of the frames of one drive."""
    teacher = Teacher()
    for shot in shots:
        teacher.names = who(shot.table, len(shot.segmentation))
        for track in teacher.step(shot.frame, shot.segmentation):
            if track.index >= 0:
                teacher.known.setdefault(track.track_id, int(teacher.names[track.index]))
    return teacher.lessons


def who(table: Overlaps, count: int) -> NDArray[np.int64]:
    """int64 [count], code of the true thing that each segment is.

    STRANGER for stuff, for all but the largest part of a thing, and where a thing covers less than a quarter of it.
    """
    number = table.pred & 0xFFFFFFFF
    is_thing = CLASSES.is_thing[table.pred_class]
    area = np.bincount(number[is_thing], table.count[is_thing], count + 1)
    true = is_thing & CLASSES.is_thing[table.gt_class] & (table.gt_instance > 0)
    found, taken = np.full(count + 1, STRANGER), set()
    rows = zip(table.count[true].tolist(), table.gt[true].tolist(), number[true].tolist(), strict=True)
    for pixels, code, segment in sorted(rows, key=lambda row: (-row[0], *row[1:])):
        if found[segment] == STRANGER and code not in taken and pixels > _LEAST_SHARE * area[segment]:
            found[segment] = code
            taken.add(code)
    return found[1:]
