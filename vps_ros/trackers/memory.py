"""Memory of the trackers: what is known of each track, one array for each quantity (HiLA-MB, Video-kMaX 3.2)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import THING_BASE
from vps_ros.sequence import FrameIntervals
from vps_ros.trackers.detections import Detections

ROW: list[tuple] = [
    ("id", np.int64),
    ("slot", np.int64),
    ("index", np.int64),
    ("class_id", np.int64),
    ("score", np.float64),
    ("associated_by", np.int64),
    ("association", np.float64),
    ("area", np.int64),
    ("hits", np.int64),
    ("first_seen", np.int64),
    ("last_seen", np.int64),
    ("last_frame", np.int64),
    ("box", np.float64, 4),
    ("velocity", np.float64, 4),
    ("step", np.int64),
    ("has_embedding", np.bool_),
    ("tube", np.int64),
]
"""The fields of one track.

`box` is the last one that was detected, divided by the image's size, `velocity` that of its sides per second, and
`step` the nanoseconds that it was divided by; `index` is the segment of the current frame (-1: none); `last_frame`
counts the frames of the tracker; `tube` is the last number of its tube (0: none).
"""

_LAST_SLOT = np.iinfo(np.uint16).max - THING_BASE
_MIN_STEP = 1_000_000
"""Nanoseconds. No camera is faster, so after a shorter step the stamp is taken as unchanged."""
_SHORT_STEP = 0.5
"""Share of the usual time between frames: the least that a velocity is divided by."""


class TrackMemory:
    """Tracks in the order of their ids, as rows of one array, and their appearance.

    Attributes:
        appearance_weight: weight of the newest embedding in the moving average; lambda of Video-kMaX equation 3.
        velocity_weight: weight of the newest velocity in its moving average; 1 takes it from the last two boxes alone,
            as Video-kMaX equation 4.
        intervals: times between the frames; the tracker adds the stamp of each one.
        rows: [M], with the fields of ROW, and those that a subclass adds.
        embeddings: float32 [M, D], moving averages; zeros where unknown. None before the first.
    """

    dtype: ClassVar[np.dtype] = np.dtype(ROW, align=True)

    def __init__(self, appearance_weight: float = 0.8, velocity_weight: float = 1.0) -> None:
        self.appearance_weight = appearance_weight
        self.velocity_weight = velocity_weight
        self.clear()

    def __len__(self) -> int:
        return len(self.rows)

    def configure(self, parameters: Any) -> None:
        """Takes the weights that are among the parameters of a tracker."""
        self.appearance_weight = getattr(parameters, "appearance_weight", self.appearance_weight)
        self.velocity_weight = getattr(parameters, "velocity_weight", self.velocity_weight)

    def clear(self) -> None:
        self.rows = np.empty(0, self.dtype)
        self.embeddings: NDArray[np.float32] | None = None
        self.intervals = FrameIntervals()

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        """Removes the rows [M] that are not `wanted`."""
        self.rows = self.rows[wanted]
        if self.embeddings is not None:
            self.embeddings = self.embeddings[wanted]

    def predict(self, stamp: int, which: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Boxes of the rows `which` [R] (None: all) at `stamp` (nanoseconds), float64 [R, 4]; Video-kMaX equation 4.

        The velocity is constant, and per second, so that frames may come at uneven times; at a steady rate the step is
        the difference of the last two boxes, as in the paper. Opposite sides do not cross: they stop in the middle.
        """
        rows = self.rows if which is None else self.rows[which]
        seconds = np.maximum(stamp - rows["last_seen"], 0) * 1e-9
        # With sides as rows, NumPy's inner loops run over tracks, which is faster than over four or two numbers.
        sides = self._velocity(rows).T.copy()
        sides *= seconds
        sides += rows["box"].T
        low, high = sides[:2], sides[2:]
        middle = low + high
        middle *= 0.5
        np.minimum(low, middle, out=low)
        np.maximum(high, middle, out=high)
        return sides.T

    def centre_velocity(self) -> NDArray[np.float64]:
        """Velocity (x, y) of the centre of each row, float64 [M, 2], in image sizes per second."""
        sides = self._velocity(self.rows)
        velocity = sides[:, :2] + sides[:, 2:]
        velocity *= 0.5
        return velocity

    def update(
        self, rows: NDArray[np.int64], detections: Detections, which: NDArray[np.int64], stamp: int, frame: int
    ) -> None:
        """Updates the tracks `rows` [R] with the detections `which` [R] of this frame (Video-kMaX equations 3 and 4).

        The velocity is the difference of the last two detected boxes over the time between them. Equation 4 to the
        letter would use the predicted box of the frame before, which after a gap turns the error of the prediction
        into velocity. If the stamp has not changed, the velocity stays. If the step is shorter than half the usual one,
        as before an image that arrives late, half the usual one is used: otherwise a pixel would become a high speed.
        """
        table = self.rows
        boxes = detections.boxes[which]
        step = stamp - table["last_seen"][rows]
        moved = step >= _MIN_STEP
        step = np.maximum(step, self.shortest_step())
        newest = (boxes - table["box"][rows]) / (step * 1e-9)[:, None]
        if self.velocity_weight < 1:
            known = self._velocity(table[rows])
            moving = (table["hits"][rows] > 1)[:, None]
            newest = np.where(moving, known + self.velocity_weight * (newest - known), newest)
        if not moved.all():
            newest = np.where(moved[:, None], newest, self._velocity(table[rows]))
        table["velocity"][rows] = newest
        table["step"][rows] = step
        table["box"][rows] = boxes
        table["last_seen"][rows] = stamp
        table["last_frame"][rows] = frame
        table["hits"][rows] += 1
        self._describe(rows, detections, which)
        self._update_appearance(rows, detections, which)

    def create(
        self,
        detections: Detections,
        which: NDArray[np.int64],
        ids: NDArray[np.int64],
        slots: NDArray[np.int64],
        stamp: int,
        frame: int,
    ) -> NDArray[np.int64]:
        """Stores the detections `which` [N] of this frame as new tracks; returns their rows [N]."""
        count = len(which)
        new = np.zeros(count, self.dtype)
        new["id"], new["slot"], new["hits"] = ids, slots, 1
        new["box"] = detections.boxes[which]
        new["first_seen"] = new["last_seen"] = stamp
        new["last_frame"] = frame
        first = len(self.rows)
        self.rows = np.concatenate([self.rows, new])
        if self.embeddings is not None:
            unknown = np.zeros((count, self.embeddings.shape[1]), np.float32)
            self.embeddings = np.concatenate([self.embeddings, unknown])
        rows = np.arange(first, first + count)
        self._describe(rows, detections, which)
        self._update_appearance(rows, detections, which)
        return rows

    def shortest_step(self) -> int:
        """Nanoseconds: half the usual time between frames. Velocities from a shorter step are uncertain."""
        return max(int(_SHORT_STEP * self.intervals.usual), _MIN_STEP)

    def _velocity(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Velocities [R, 4] of ROW [R]."""
        return rows["velocity"] * self._correction(rows)[:, None]

    def _correction(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Factors [R], at most 1, of velocities that were measured before the usual step was known.

        Those of the first two frames may have been divided by less than half of it.
        """
        return np.minimum(rows["step"] / self.shortest_step(), 1)

    def _describe(self, rows, detections: Detections, which) -> None:
        for name, values in (
            ("index", detections.index),
            ("class_id", detections.class_ids),
            ("score", detections.scores),
            ("area", detections.areas),
        ):
            self.rows[name][rows] = values.take(which)
        if detections.tubes is not None:
            self.rows["tube"][rows] = detections.tubes.take(which)

    def _update_appearance(self, rows, detections: Detections, which) -> None:
        """Equation 3. An unusable embedding changes nothing, and the first one is taken with weight 1."""
        if detections.embeddings is None or len(rows) == 0:
            return
        width, embeddings = detections.embeddings.shape[1], self.embeddings
        if embeddings is None or embeddings.shape[1] != width:
            embeddings = self.embeddings = np.zeros((len(self.rows), width), np.float32)
            self.rows["has_embedding"] = False
        old, new = embeddings.take(rows, axis=0), detections.embeddings.take(which, axis=0)
        usable, known = detections.norms.take(which) > 0, self.rows["has_embedding"][rows]
        weight = np.float32(self.appearance_weight)
        new -= old
        if usable.all() and known.all():
            new *= weight
        else:
            new *= (np.where(known, weight, np.float32(1)) * usable)[:, None]
            self.rows["has_embedding"][rows] = known | usable
        new += old
        embeddings[rows] = new


class TrackNumbers:
    """Track ids, which are never used twice, and slots, which are the smallest free numbers."""

    def __init__(self) -> None:
        self._next = 1

    def ids(self, count: int) -> NDArray[np.int64]:
        first, self._next = self._next, self._next + count
        return np.arange(first, self._next)

    @staticmethod
    def slots(taken: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """The `count` smallest numbers that are not in `taken`.

        Raises InputError when a slot would not fit into a panoptic map, whose pixels have 16 bits.
        """
        if not count:
            return np.empty(0, np.int64)
        reach = len(taken) + count
        free = np.ones(reach, bool)
        free[taken[taken < reach]] = False
        slots = free.nonzero()[0][:count]
        if slots[-1] > _LAST_SLOT:
            raise InputError(
                f"{reach} objects are remembered at once, a panoptic map has numbers for {_LAST_SLOT + 1}; "
                "lower memory_tau, or raise the segmenter's thing_threshold or thing_area"
            )
        return slots
