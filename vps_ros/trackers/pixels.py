"""The pixel tracker: earlier masks moved by optical flow, compared with the current ones (HybridTracker III-C)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vps_ros.flow import FlowHistory, warp_labels
from vps_ros.frame import Frame, Segmentation
from vps_ros.trackers.grid import thing_labels
from vps_ros.trackers.similarity import dice, overlap
from vps_ros.trackers.things import Things


@dataclass
class Masks:
    """Thing masks of one frame on the flow's working grid.

    Attributes:
        labels: uint16 [h, w], 1 + k where thing k is, 0 elsewhere.
        ids: int64 [K], track ids of the things.
        centres: float64 [K, 2], (x, y) of their boxes, divided by the image's size.
        stamp: nanoseconds.
    """

    labels: NDArray[np.uint16]
    ids: NDArray[np.int64]
    centres: NDArray[np.float64]
    stamp: int

    @cached_property
    def pixels(self) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Places in the flattened map where a thing is, and its label there."""
        flat = self.labels.ravel()
        place = np.flatnonzero(flat != 0)
        return place, flat[place]

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each label, int64 [K + 1]; nothing itself counts none."""
        return np.bincount(self.pixels[1], minlength=len(self.ids) + 1)


_NOTHING = Masks(np.zeros((0, 0), np.uint16), np.empty(0, np.int64), np.empty((0, 2)), 0)


class PixelHistory:
    """Masks of the current frame and of the two before it."""

    def __init__(self, flow: FlowHistory) -> None:
        self._flow = flow
        self._past: deque[Masks] = deque(maxlen=2)
        self._now = _NOTHING

    @property
    def milliseconds(self) -> float:
        """Time of the optical flow since `push`."""
        return self._flow.milliseconds

    @property
    def now(self) -> Masks:
        """Those of the current frame; of no size before the first."""
        return self._now

    def reset(self) -> None:
        self._flow.reset()
        self._past.clear()
        self._now = _NOTHING

    def push(self, frame: Frame, segmentation: Segmentation, things: Things) -> None:
        """Takes the current frame."""
        self._past.append(self._now)
        grid = self._flow.push(frame.image, frame.stamp)
        if self._past and self._past[-1].labels.shape != grid:
            self._past.clear()
        # No track has id 0: a frame whose tracks are never told is one of strangers.
        strangers, centres = np.zeros(len(things), np.int64), (things.boxes[:, :2] + things.boxes[:, 2:]) / 2
        self._now = Masks(thing_labels(segmentation, things, grid), strangers, centres, frame.stamp)

    def remember(self, ids: NDArray[np.int64]) -> None:
        """The things of the current frame are the tracks `ids` [K]."""
        self._now.ids = ids

    def before(self, steps: int) -> Masks | None:
        """The masks `steps` (1 or 2) frames ago; None where there are none to compare with the current ones."""
        if len(self._past) < steps or not len(self._now.ids) or not len(self._past[-steps].ids):
            return None
        return self._past[-steps]

    def flow_dice(self, steps: int) -> NDArray[np.float64]:
        """Dice [M, K] of the masks `before(steps)`, moved by the optical flow, with the current ones."""
        return dice(self.flow_overlap(steps))

    def flow_overlap(self, steps: int) -> NDArray[np.int64]:
        """Joint histogram [M + 1, K + 1] (trackers/similarity.py) of the same masks."""
        past, now = self._past[-steps], self._now
        moved = warp_labels(past.labels, self._flow.backward(steps))
        return overlap(moved, now.labels, len(past.ids), len(now.ids))

    def flow_dice_back(self, steps: int) -> NDArray[np.float64]:
        """Dice [M, K] of the masks `before(steps)` with the current ones, moved back in time by the optical flow."""
        past, now = self._past[-steps], self._now
        moved = warp_labels(now.labels, self._flow.forward(steps))
        return dice(overlap(past.labels, moved, len(past.ids), len(now.ids)))

    def motion_overlap(self, steps: int, shifts: NDArray[np.float64]) -> NDArray[np.int64]:
        """Joint histogram [M + 1, K + 1] of the masks `before(steps)`, each moved as a whole, with the current ones.

        `shifts` [M, 2] are (x, y) in sizes of the image.
        """
        past, now = self._past[-steps], self._now
        height, width = now.labels.shape
        by = np.zeros((len(past.ids) + 1, 2), np.int64)
        by[1:] = np.rint(np.clip(shifts, -1, 1) * (width, height))
        place, label = past.pixels
        y, x = np.divmod(place, width)
        x += by[label, 0]
        y += by[label, 1]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        found = now.labels.ravel()[y[inside] * width + x[inside]]
        joint = overlap(label[inside], found, len(past.ids), len(now.ids))
        # Only pixels of the past were visited: what they did not reach of the current masks is counted here.
        joint[0] = now.areas - joint[1:].sum(axis=0)
        return joint
