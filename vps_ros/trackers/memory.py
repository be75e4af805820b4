"""The tracker's memory: what is known of each object, arrays side by side (HiLA-MB, Video-kMaX 3.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.things import Things

ROW = np.dtype(
    [
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
        ("described", np.bool_),
    ],
    align=True,
)
"""One object. `box` is its last seen one, divided by the image's size, `velocity` that of its sides per second;
`index` is the segment it has in the current frame (-1: none); `last_frame` counts the frames of the tracker;
`described` says whether its appearance is known."""

_SHORTEST = 1_000_000
"""Nanoseconds; no camera's frames are closer, so a smaller step is a stamp that stands still."""


class Memory:
    """Objects in the order of their ids, rows of one array, and their appearance.

    Args:
        appearance_weight: lambda of equation 3, the share of the newest appearance.
        velocity_weight: share of the newest velocity in the moving average; 1 is the paper's last two boxes.

    Attributes:
        rows: ROW [M].
        appearance: float32 [M, D], moving average of the embeddings; zeros where unknown. None before the first.
    """

    def __init__(self, appearance_weight: float = 0.8, velocity_weight: float = 1.0) -> None:
        self._appearance_weight = np.float32(appearance_weight)
        self._velocity_weight = velocity_weight
        self.clear()

    def weigh(self, appearance_weight: float, velocity_weight: float) -> None:
        """Other shares from now on; those that are -1 stay as they are."""
        if appearance_weight != -1:
            self._appearance_weight = np.float32(appearance_weight)
        if velocity_weight != -1:
            self._velocity_weight = velocity_weight

    def __len__(self) -> int:
        return len(self.rows)

    def clear(self) -> None:
        self.rows = np.empty(0, ROW)
        self.appearance: NDArray[np.float32] | None = None

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        """Forgets the rows [M] that are not `wanted`."""
        self.rows = self.rows[wanted]
        if self.appearance is not None:
            self.appearance = self.appearance[wanted]

    def predict(self, stamp: int, which: NDArray[np.int64]) -> NDArray[np.float64]:
        """Boxes of the rows `which` [R] at `stamp` (nanoseconds), float64 [R, 4]: the last ones at constant velocity.

        Equation 4.

        The velocity is per second, so frames may come unevenly; at a steady rate the step is the difference of the
        last two boxes, as in the paper. A side does not run through the opposite one.
        """
        rows = self.rows
        seconds = np.maximum(stamp - rows["last_seen"][which], 0) * 1e-9
        # One side after the other: NumPy's loops over two columns of a few rows cost more than what they do.
        sides = rows["velocity"][which].T.copy()
        sides *= seconds
        sides += rows["box"][which].T
        low, high = sides[:2], sides[2:]
        middle = low + high
        middle *= 0.5
        np.minimum(low, middle, out=low)
        np.maximum(high, middle, out=high)
        return sides.T

    def described(self, width: int) -> bool:
        """Whether appearances of that length are known."""
        return self.appearance is not None and self.appearance.shape[1] == width

    def centre_velocity(self, which: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """float64 [R, 2], (x, y) of the rows `which` in sizes of the image per second."""
        sides = self.rows["velocity"][which]
        velocity = sides[:, :2] + sides[:, 2:]
        velocity *= 0.5
        return velocity

    def see(self, rows: NDArray[np.int64], things: Things, which: NDArray[np.int64], stamp: int, frame: int) -> None:
        """Known objects `rows` [R] are the things `which` [R] of this frame (equations 3 and 4).

        The velocity is taken from the last two boxes that were seen, over the time between them. (Equation 4 read
        to the letter would take a predicted box for one of them after a gap, and the whole error of the prediction
        for the motion of one frame.) When the stamp stands still the velocity stays.
        """
        table = self.rows
        boxes = things.boxes[which]
        step = stamp - table["last_seen"][rows]
        moved = step >= _SHORTEST
        newest = (boxes - table["box"][rows]) / (np.maximum(step, _SHORTEST) * 1e-9)[:, None]
        if self._velocity_weight < 1:
            known = table["velocity"][rows]
            moving = (table["hits"][rows] > 1)[:, None]
            newest = np.where(moving, known + self._velocity_weight * (newest - known), newest)
        table["velocity"][rows] = newest if moved.all() else np.where(moved[:, None], newest, table["velocity"][rows])
        table["box"][rows] = boxes
        table["last_seen"][rows] = stamp
        table["last_frame"][rows] = frame
        table["hits"][rows] += 1
        self._describe(rows, things, which)
        self._average(rows, things, which)

    def add(
        self,
        things: Things,
        which: NDArray[np.int64],
        ids: NDArray[np.int64],
        slots: NDArray[np.int64],
        stamp: int,
        frame: int,
    ) -> NDArray[np.int64]:
        """Stores the things `which` [N] of this frame as new objects; gives their rows [N]."""
        count = len(which)
        new = np.zeros(count, ROW)
        new["id"], new["slot"], new["hits"] = ids, slots, 1
        new["box"] = things.boxes[which]
        new["first_seen"] = new["last_seen"] = stamp
        new["last_frame"] = frame
        first = len(self.rows)
        self.rows = np.concatenate([self.rows, new])
        if self.appearance is not None:
            blank = np.zeros((count, self.appearance.shape[1]), np.float32)
            self.appearance = np.concatenate([self.appearance, blank])
        rows = np.arange(first, first + count)
        self._describe(rows, things, which)
        self._average(rows, things, which)
        return rows

    def _describe(self, rows, things: Things, which) -> None:
        for name, values in (
            ("index", things.index),
            ("class_id", things.class_ids),
            ("score", things.scores),
            ("area", things.areas),
        ):
            self.rows[name][rows] = values.take(which)

    def _average(self, rows, things: Things, which) -> None:
        """Equation 3; an unusable embedding changes nothing, a first one is taken whole."""
        if things.embeddings is None or len(rows) == 0:
            return
        width, appearance = things.embeddings.shape[1], self.appearance
        if appearance is None or appearance.shape[1] != width:
            appearance = self.appearance = np.zeros((len(self.rows), width), np.float32)
            self.rows["described"] = False
        old, new = appearance.take(rows, axis=0), things.embeddings.take(which, axis=0)
        usable, described = things.lengths.take(which) > 0, self.rows["described"][rows]
        new -= old
        if usable.all() and described.all():
            new *= self._appearance_weight
        else:
            new *= (np.where(described, self._appearance_weight, np.float32(1)) * usable)[:, None]
            self.rows["described"][rows] = described | usable
        new += old
        appearance[rows] = new
