"""Thing masks of the last frames on the working grid of the optical flow, and their overlaps (HybridTracker III-C)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.flow.history import FlowHistory, warp_labels
from vps_ros.frame import Frame, Segmentation
from vps_ros.label_maps import look_up
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.similarity import dice, overlap


def label_map(segmentation: Segmentation, detections: Detections, size: tuple[int, int]) -> NDArray[np.unsignedinteger]:
    """[h, w] of `size`, uint8 if that is enough: 1 + k where detection k is at the centre of the cell, 0 elsewhere."""
    table = np.zeros(len(segmentation) + 1, np.uint8 if len(detections) < 256 else np.uint16)
    table[detections.index + 1] = np.arange(1, len(detections) + 1)
    labels = segmentation.map
    if labels.dtype not in (np.uint8, np.uint16):
        labels = labels.astype(np.uint16)
    if labels.shape != size:
        labels = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return look_up(labels, table)


@dataclass
class Masks:
    """Masks of the detections of one frame.

    Attributes:
        labels: uint8 or uint16 [h, w], 1 + k where detection k is, 0 elsewhere.
        ids: int64 [K], track ids of the detections; 0 until they are known.
        centres: float64 [K, 2], (x, y) of their boxes, divided by the image's size.
        stamp: nanoseconds.
    """

    labels: NDArray[np.unsignedinteger]
    ids: NDArray[np.int64]
    centres: NDArray[np.float64]
    stamp: int

    @cached_property
    def pixels(self) -> tuple[NDArray[np.int64], NDArray[np.unsignedinteger]]:
        """Indices in the flattened map of the pixels of detections, and their labels."""
        flat = self.labels.ravel()
        place = np.flatnonzero(flat != 0)
        return place, flat[place]

    @cached_property
    def places(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Rows and columns of `pixels`."""
        y, x = np.divmod(self.pixels[0].astype(np.int32), np.int32(self.labels.shape[1]))
        return y, x

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each label, int64 [K + 1]; that of label 0 is 0."""
        return np.bincount(self.pixels[1], minlength=len(self.ids) + 1)


_EMPTY = Masks(np.zeros((0, 0), np.uint16), np.empty(0, np.int64), np.empty((0, 2)), 0)


class MaskHistory:
    """Masks of the current frame and of the two before it, and their overlaps.

    Args:
        flow: of the same frames; `push` and `reset` act on it as well.

    Attributes:
        now: masks of the current frame; empty before the first.
    """

    def __init__(self, flow: FlowHistory) -> None:
        self._flow = flow
        self._past: deque[Masks] = deque(maxlen=2)
        self.now = _EMPTY

    def reset(self) -> None:
        self._flow.reset()
        self._past.clear()
        self.now = _EMPTY

    def push(self, frame: Frame, segmentation: Segmentation, detections: Detections) -> None:
        """Adds the current frame. Masks of an image of another size are forgotten."""
        self._past.append(self.now)
        size = self._flow.push(frame.image, frame.stamp)
        if self._past[-1].labels.shape != size:
            self._past.clear()
        # No track has id 0. If the tracker fails in this frame, its detections belong to no track in the next ones.
        unknown, centres = np.zeros(len(detections), np.int64), (detections.boxes[:, :2] + detections.boxes[:, 2:]) / 2
        self.now = Masks(label_map(segmentation, detections, size), unknown, centres, frame.stamp)

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each detection of the current frame, int64 [K]."""
        return self.now.areas[1:]

    def set_ids(self, ids: NDArray[np.int64]) -> None:
        """The track ids [K] of the detections of the current frame."""
        self.now.ids = ids

    def before(self, steps: int) -> Masks | None:
        """The masks `steps` (1 or 2) frames ago; None if there are none, there or in the current frame."""
        if len(self._past) < steps or not len(self.now.ids) or not len(self._past[-steps].ids):
            return None
        return self._past[-steps]

    def ids(self, steps: int) -> NDArray[np.int64] | None:
        """Track ids [M] of the masks `before(steps)`; None without them."""
        past = self.before(steps)
        return None if past is None else past.ids

    def flow_overlap(self, steps: int) -> NDArray[np.int64]:
        """Joint histogram [M + 1, K + 1] (see `overlap`) of the masks `before(steps)`, warped, and `now`."""
        past = self._past[-steps]
        warped = warp_labels(past.labels, self._flow.backward(steps))
        return overlap(warped, self.now.labels, len(past.ids), len(self.now.ids))

    def flow_dice(self, steps: int, backward: bool = False) -> NDArray[np.float64]:
        """Dice [M, K] of the masks `before(steps)` and `now`, one of them warped into the frame of the other.

        HybridTracker equation 7. With `backward` the current masks are warped into the older frame (III-E).
        """
        if not backward:
            return dice(self.flow_overlap(steps))
        past = self._past[-steps]
        warped = warp_labels(self.now.labels, self._flow.forward(steps))
        return dice(overlap(past.labels, warped, len(past.ids), len(self.now.ids)))

    def shift_overlap(self, steps: int, shifts: NDArray[np.float64]) -> NDArray[np.int64]:
        """Joint histogram [M + 1, K + 1] of the masks `before(steps)`, each moved by its shift, and `now`.

        Args:
            shifts: [M, 2], (x, y) in image sizes.
        """
        past, now = self._past[-steps], self.now
        height, width = now.labels.shape
        by = np.zeros((2, len(past.ids) + 1), np.int32)
        by[:, 1:] = np.rint(np.minimum(np.maximum(shifts, -1), 1) * (width, height)).T
        (y, x), label = past.places, past.pixels[1]
        x, y = x + by[0].take(label), y + by[1].take(label)
        # As unsigned numbers, negative ones are large.
        inside = (x.view(np.uint32) < width) & (y.view(np.uint32) < height)
        y *= np.int32(width)
        y += x
        found = now.labels.ravel().take(y[inside])
        joint = overlap(label[inside], found, len(past.ids), len(now.ids))
        # The first row counts the pixels of each current mask that no moved mask covers.
        joint[0] = now.areas - joint[1:].sum(axis=0)
        return joint
