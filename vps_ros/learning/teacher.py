"""The hierarchical tracker led by the truth: what evidence it meets where every identity before was right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.ablation.sources import CLASSES, Shot
from vps_ros.config import Config
from vps_ros.evaluation.overlaps import Overlaps
from vps_ros.trackers import parts
from vps_ros.trackers.cascade import CascadeTracker
from vps_ros.trackers.objects import ObjectMemory
from vps_ros.trackers.scene import Scene
from vps_ros.trackers.stages import WholeStage
from vps_ros.trackers.stages.contract import NOTHING

STRANGER = -1
"""Name of a thing that is no known object, or only a part of one."""
_LEAST_SHARE = 0.25


class Lesson(NamedTuple):
    """The pairs of one frame, and what they are.

    Attributes:
        columns: float32 [P, F], evidence of each pair (trackers/evidence.py).
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


class TeacherStage(WholeStage):
    """Writes down the pairs of each frame and then gives the true ones.

    Attributes:
        names: int64 [S], who each segment of the current frame is.
        known: name of each track.
        lessons: of the frames so far.
    """

    def __init__(self, pixels) -> None:
        super().__init__(pixels, None, 0.5)
        self.names = np.empty(0, np.int64)
        self.known: dict[int, int] = {}
        self.lessons: list[Lesson] = []

    def pair(self, memory, rows, things, which, stamp):
        self.evidence = self.evidence[:0]
        pairs = self.compare(memory, rows, things, which, stamp)
        objects = np.array([self.known[track] for track in memory.rows["id"][rows].tolist()], np.int64)
        seen = self.names[things.index[which]]
        same = (objects[pairs.m] == seen[pairs.k]) & (objects[pairs.m] != STRANGER)
        if len(pairs.m):
            self.lessons.append(Lesson(pairs.columns, same, pairs.m, pairs.k, objects != STRANGER, seen != STRANGER))
        places = {name: place for place, name in enumerate(objects.tolist()) if name != STRANGER}
        found = [(places[name], k) for k, name in enumerate(seen.tolist()) if name in places]
        if not found:
            return NOTHING
        m, k = np.array(found).T
        self.evidence = np.full(len(m), 2)
        return rows[m], which[k], np.ones(len(m))


def lessons(shots: Iterable[Shot]) -> list[Lesson]:
    """Of the frames of one drive."""
    config = Config().settled()
    memory = ObjectMemory(config.appearance_weight, config.velocity_weight)
    scene = Scene(parts.flow(config), memory)
    stage = TeacherStage(scene.pixels)
    tracker = CascadeTracker(lambda config: ([stage], parts.lifecycle(config)), config, memory, scene)
    for shot in shots:
        stage.names = who(shot.table, len(shot.segmentation))
        for track in tracker.step(shot.frame, shot.segmentation):
            if track.index >= 0:
                stage.known.setdefault(track.track_id, int(stage.names[track.index]))
    return stage.lessons


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
