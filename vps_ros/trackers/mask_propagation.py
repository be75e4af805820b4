"""Mask IoU with the last mask of each track, left where it was or propagated by optical flow.

Two of the single-frame baselines of STEP (Weber et al., NeurIPS 2021; Video K-Net table 2): `iou` and
`mask_propagation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.flow.flow import FlowParameters, WorkingSizeParameters, working_size
from vps_ros.flow.history import FlowHistory, warp_labels
from vps_ros.frame import AssociatedBy, Frame, Segmentation
from vps_ros.parameters import fraction
from vps_ros.trackers.assignment import find, hungarian
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.masks import label_map
from vps_ros.trackers.similarity import iou, overlap
from vps_ros.trackers.tracker import Matches, Tracker, TrackerParameters, matched, memory_tau

_STEP = "STEP, released code of the baselines (Video K-Net table 2)"


@dataclass(frozen=True)
class _MaskIouParameters(TrackerParameters):
    """What both trackers have."""

    iou_threshold: float = fraction(0.3, "least intersection over union of a track's last mask and a detection", _STEP)
    memory_tau: float = memory_tau(10.0, _STEP)


@dataclass(frozen=True)
class IouParameters(WorkingSizeParameters, _MaskIouParameters):
    """Parameters of `iou`."""


@dataclass(frozen=True)
class MaskPropagationParameters(FlowParameters, _MaskIouParameters):
    """Parameters of `mask_propagation`."""


class _MaskIou(Tracker):
    """Pairs the last mask of each track with the masks of the current frame."""

    def __init__(self, parameters: Any = None, model: str | None = None) -> None:
        super().__init__(parameters, model)
        self._masks = LastMasks(self.parameters.flow_height, self.flow)

    def reset(self) -> None:
        super().reset()
        self._masks.reset()

    def _observe(self, frame: Frame, segmentation: Segmentation, detections: Detections) -> None:
        # Propagate the masks of all tracks, lost ones included, into the current frame.
        self._masks.push(frame, segmentation, detections)

    def associate(self, detections: Detections, stamp: int) -> Matches:
        rows = self.memory.rows
        self._masks.keep(rows["id"])
        known, m = find(rows["id"], self._masks.ids)
        if not len(known):
            return Matches()
        # Mask IoU of each track and each detection, above the threshold and within a class.
        similarity = self._masks.iou().take(known, axis=0)
        row, k = np.nonzero((similarity > self.parameters.iou_threshold) & self._comparable(detections)[m])
        # Optimal one-to-one assignment (Hungarian algorithm).
        similarity = similarity[row, k]
        best = hungarian(row, k, similarity)
        return matched(m[row[best]], k[best], similarity[best], AssociatedBy.PIXELS)

    def _set_ids(self, ids: NDArray[np.int64]) -> None:
        self._masks.remember(ids)


class Iou(_MaskIou):
    """IoU with the last mask of each track, where it was."""

    Parameters = IouParameters


class MaskPropagation(_MaskIou):
    """IoU with the last mask of each track, propagated from frame to frame by optical flow."""

    Parameters = MaskPropagationParameters
    uses_flow = True


class LastMasks:
    """The last mask of each track on the working grid.

    The masks of the last frame are in one label map. Two lost tracks may have been at one place at different times, so
    lost masks are in further maps: each in the first one where it covers no other mask. The number of maps is that of
    masks on top of each other, however long tracks are remembered.

    Args:
        height: of the grid in pixels; its aspect is that of the camera image.
        flow: propagates the masks from frame to frame, on its own grid; None leaves them where they were.

    Attributes:
        ids: int64 [M], track ids of the masks.
        maps: uint16 [h, w] each, m + 1 where the mask of ids[m] is; each mask is in one of them.
    """

    def __init__(self, height: int, flow: FlowHistory | None = None) -> None:
        self._height = height
        self._flow = flow
        self.reset()

    def reset(self) -> None:
        self.ids = np.empty(0, np.int64)
        self.maps: list[NDArray[np.uint16]] = []
        self._now = np.zeros((0, 0), np.uint16)
        self._count = 0
        if self._flow is not None:
            self._flow.reset()

    def push(self, frame: Frame, segmentation: Segmentation, detections: Detections) -> None:
        """Adds the current frame and propagates the masks into it. Masks of an image of another size are forgotten."""
        if self._flow is None:
            height, width = segmentation.map.shape
            size = working_size(height, width, self._height)
        else:
            size = self._flow.push(frame.image, frame.stamp)
        if self.maps and self.maps[0].shape != size:
            self.ids, self.maps = self.ids[:0], []
        if self._flow is not None and self.maps:
            flow = self._flow.backward(1)
            self.maps = [warp_labels(labels, flow) for labels in self.maps]
        self._now, self._count = label_map(segmentation, detections, size), len(detections)

    def keep(self, ids: NDArray[np.int64]) -> None:
        """Forgets the masks whose tracks are not among `ids`."""
        wanted = np.isin(self.ids, ids)
        if not wanted.all():
            self._renumber(wanted, 0)
            self.maps = [labels for labels in self.maps if labels.any()]

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union [M, K] of the masks with the detections of the current frame."""
        joint = np.zeros((len(self.ids) + 1, self._count + 1), np.int64)
        for labels in self.maps:
            joint[1:] += overlap(labels, self._now, len(self.ids), self._count)[1:]
        areas = np.bincount(self._now.ravel(), minlength=self._count + 1)
        # The first row counts the pixels of each detection that no mask covers.
        joint[0] = areas - joint[1:].sum(axis=0)
        return iou(joint)

    def remember(self, ids: NDArray[np.int64]) -> None:
        """Stores the masks of the current frame, whose detections have the track ids [K]."""
        self._renumber(~np.isin(self.ids, ids), len(ids))
        self.ids = np.concatenate([ids, self.ids])
        newest, older = self.maps[:1], self.maps[1:]
        for lost in newest:
            older = _added(lost, older)
        self.maps = [self._now, *(labels for labels in older if labels.any())]

    def _renumber(self, wanted: NDArray[np.bool_], offset: int) -> None:
        """Keeps the `wanted` masks [M] and numbers them from `offset` + 1 on."""
        table = np.zeros(len(wanted) + 1, np.uint16)
        table[1:][wanted] = offset + 1 + np.arange(wanted.sum())
        self.ids = self.ids[wanted]
        self.maps = [np.take(table, labels) for labels in self.maps]


def _added(lost: NDArray[np.uint16], maps: list[NDArray[np.uint16]]) -> list[NDArray[np.uint16]]:
    """`maps`, modified in place, with each mask of `lost` in the first one where it covers no mask, or in a new one."""
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
