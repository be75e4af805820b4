"""The pixel tracker: earlier masks moved by optical flow, compared with the current ones (HybridTracker III-C)."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.flow import FlowHistory, warp_labels
from vps_ros.frame import Frame, Segmentation
from vps_ros.trackers.similarity import dice, overlap
from vps_ros.trackers.things import Things


class PixelHistory:
    """Thing masks of the last frames as label maps on the flow's working grid, and whose they are.

    One label map holds 1 + k where thing k is, 0 elsewhere; beside it stand the track ids of the things.
    """

    def __init__(self, flow: FlowHistory) -> None:
        self._flow = flow
        self._past: deque[tuple[NDArray[np.uint16], NDArray[np.int64]]] = deque(maxlen=2)
        self._labels = np.zeros((0, 0), np.uint16)
        self._count = 0
        self._open = False

    @property
    def milliseconds(self) -> float:
        """Time of the optical flow since `push`."""
        return self._flow.milliseconds

    def reset(self) -> None:
        self._flow.reset()
        self._past.clear()
        self._open = False

    def push(self, frame: Frame, segmentation: Segmentation, things: Things) -> None:
        """Takes the current frame; one whose tracks were never told counts as one without things."""
        if self._open:
            self.remember(np.empty(0, np.int64))
        grid = self._flow.push(frame.image)
        if self._past and self._past[-1][0].shape != grid:
            self._past.clear()
        table = np.zeros(max(len(segmentation) + 1, 256), np.uint16)
        table[things.index + 1] = np.arange(1, len(things) + 1)
        self._labels = _on_grid(segmentation.map, grid, table)
        self._count = len(things)
        self._open = True

    def similarity(self, steps: int) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Track ids [M] of the things `steps` (1 or 2) frames ago, and Dice [M, K] of their moved masks with the
        current ones; None when that frame is not known or either frame has no thing.
        """
        if len(self._past) < steps or not self._count:
            return None
        labels, ids = self._past[-steps]
        if not len(ids):
            return None
        flow = self._flow.backward(steps)
        if flow is None:
            return None
        moved = warp_labels(labels, flow)
        return ids, dice(overlap(moved, self._labels, len(ids), self._count))

    def remember(self, ids: NDArray[np.int64]) -> None:
        """The things of the current frame are the tracks `ids` [K]."""
        self._past.append((self._labels, ids))
        self._open = False


def _on_grid(labels: NDArray, grid: tuple[int, int], table: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Labels [H, W] seen at the centres of the grid's cells, each replaced through `table`."""
    if labels.dtype not in (np.uint8, np.uint16):
        labels = labels.astype(np.uint16)
    if labels.shape != grid:
        labels = cv2.resize(labels, grid[::-1], interpolation=cv2.INTER_NEAREST)
    if labels.dtype == np.uint8:
        return cv2.LUT(labels, table[:256])
    return np.take(table, labels)
