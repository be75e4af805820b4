"""The last mask of every remembered object, left where it was or moved along by optical flow (STEP's baselines)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vps_ros.flow import FlowHistory, warp_labels
from vps_ros.frame import Frame, Segmentation
from vps_ros.trackers.grid import thing_labels
from vps_ros.trackers.similarity import iou, overlap
from vps_ros.trackers.things import Things


class Propagation:
    """Masks on the flow's working grid, those of the last frame in one label map, those of lost objects in others.

    Two lost objects may have been at one place at different times. A lost mask is laid on the first map where it
    covers no other, so there are as many maps as masks on top of each other, however long objects are remembered.

    Args:
        working_size: (height, width) of the grid for a camera of that height and width.
        flow: moves the masks from frame to frame, on its own grid; None: they stay where they were.

    Attributes:
        ids: int64 [M], track ids of the masks.
        maps: uint16 [h, w] each, label m + 1 where the mask of ids[m] is; each mask is on one of them.
    """

    def __init__(self, working_size: Callable[[int, int], tuple[int, int]], flow: FlowHistory | None = None) -> None:
        self._working_size = working_size
        self._flow = flow
        self.reset()

    @property
    def milliseconds(self) -> float:
        """Time of the optical flow since `push`."""
        return 0.0 if self._flow is None else self._flow.milliseconds

    def reset(self) -> None:
        self.ids = np.empty(0, np.int64)
        self.maps: list[NDArray[np.uint16]] = []
        self._now = np.zeros((0, 0), np.uint16)
        self._count = 0
        if self._flow is not None:
            self._flow.reset()

    def push(self, frame: Frame, segmentation: Segmentation, things: Things) -> None:
        """Takes the current frame and moves what is known into it; masks of an image of another size are lost."""
        if self._flow is None:
            grid = self._working_size(*segmentation.map.shape)
        else:
            grid = self._flow.push(frame.image, frame.stamp)
        if self.maps and self.maps[0].shape != grid:
            self.ids, self.maps = self.ids[:0], []
        if self._flow is not None and self.maps:
            flow = self._flow.backward(1)
            self.maps = [warp_labels(labels, flow) for labels in self.maps]
        self._now, self._count = thing_labels(segmentation, things, grid), len(things)

    def keep(self, ids: NDArray[np.int64]) -> None:
        """Forgets the masks whose tracks are not among `ids`."""
        wanted = np.isin(self.ids, ids)
        if not wanted.all():
            self._renumber(wanted, 0)
            self.maps = [labels for labels in self.maps if labels.any()]

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union [M, K] of the known masks with the things of the current frame."""
        joint = np.zeros((len(self.ids) + 1, self._count + 1), np.int64)
        for labels in self.maps:
            joint[1:] += overlap(labels, self._now, len(self.ids), self._count)[1:]
        areas = np.bincount(self._now.ravel(), minlength=self._count + 1)
        # The row of nothing completes the sums over columns: pixels of a thing that no known mask covers.
        joint[0] = areas - joint[1:].sum(axis=0)
        return iou(joint)

    def remember(self, ids: NDArray[np.int64]) -> None:
        """The things of the current frame are the tracks `ids` [K]."""
        self._renumber(~np.isin(self.ids, ids), len(ids))
        self.ids = np.concatenate([ids, self.ids])
        newest, older = self.maps[:1], self.maps[1:]
        for lost in newest:
            older = _laid(lost, older)
        self.maps = [self._now, *(labels for labels in older if labels.any())]

    def _renumber(self, wanted: NDArray[np.bool_], before: int) -> None:
        """Keeps the `wanted` masks [M]; their labels follow after `before` others."""
        table = np.zeros(len(wanted) + 1, np.uint16)
        table[1:][wanted] = before + 1 + np.arange(wanted.sum())
        self.ids = self.ids[wanted]
        self.maps = [np.take(table, labels) for labels in self.maps]


def _laid(lost: NDArray[np.uint16], maps: list[NDArray[np.uint16]]) -> list[NDArray[np.uint16]]:
    """`maps`, written to, with each mask of `lost` on the first of them where it covers nothing, or on a new one."""
    place = np.flatnonzero(lost)
    label = lost.ravel()[place]
    for labels in maps:
        if not len(place):
            return maps
        flat = labels.reshape(-1)
        covering = np.zeros(int(label.max()) + 1, bool)
        covering[label[flat[place] > 0]] = True
        stays = covering[label]
        flat[place[~stays]] = label[~stays]
        place, label = place[stays], label[stays]
    rest = np.zeros_like(lost)
    rest.reshape(-1)[place] = label
    return [*maps, rest]
