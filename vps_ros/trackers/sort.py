"""SORT (Bewley et al., ICIP 2016): box IoU with the boxes that a Kalman filter predicts, for all tracks at once.

One of the single-frame baselines of STEP (Weber et al., NeurIPS 2021; Video K-Net table 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import AssociatedBy
from vps_ros.parameters import fraction
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.memory import TrackMemory
from vps_ros.trackers.similarity import box_iou
from vps_ros.trackers.tracker import Matches, Tracker, TrackerParameters, matched, memory_tau

FRAME = 100_000_000
"""Nanoseconds of one step of the filter. SORT's step is one frame, and its process noise is that of one step."""

MEASUREMENT_NOISE = np.array([1.0, 1.0, 10.0, 10.0])
INITIAL_VARIANCE, INITIAL_RATE_VARIANCE = np.array([10.0, 10.0, 10.0, 10.0]), np.array([1e4, 1e4, 1e4, 0.0])
PROCESS_NOISE, RATE_PROCESS_NOISE = np.array([1.0, 1.0, 1.0, 1.0]), np.array([0.01, 0.01, 1e-4, 0.0])
"""Variances of SORT's filter (released code).

The state is the box's centre x, centre y, area and aspect ratio (width / height), in pixels, and the rates of the first
three. All matrices are diagonal and each quantity changes by its own rate only, so the filter of 7 dimensions separates
into four filters of at most 2 dimensions.
"""
_MIN_SIDE = 1e-3

_KINDS = 5
_EMPTY = np.empty((_KINDS, 0, 4))


@dataclass(frozen=True)
class SortParameters(TrackerParameters):
    """Parameters of SORT."""

    iou_threshold: float = fraction(
        0.3, "least intersection over union of a predicted box and a detection", "SORT, released code"
    )
    memory_tau: float = memory_tau(10.0, "as the other baselines of STEP; SORT itself forgets after 1")


class KalmanMemory(TrackMemory):
    """Tracks whose boxes are predicted by a Kalman filter with constant velocity.

    Attributes:
        states: float64 [5, M, 4]: mean and rate (per FRAME) of each quantity, their variance, covariance and the
            variance of the rate, one column for each row of `rows`.
    """

    def clear(self) -> None:
        super().clear()
        self.states = _EMPTY
        self._size = (1, 1)

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        super().keep(wanted)
        self.states = self.states[:, wanted]

    def predict(self, stamp: int, which: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        height, width = self._size
        boxes = _boxes(self._predicted(stamp, np.arange(len(self)) if which is None else which)[0])
        boxes[:, 0::2] /= width
        boxes[:, 1::2] /= height
        return boxes

    def centre_velocity(self) -> NDArray[np.float64]:
        rates = self.states[1, :, :2] * self._correction(self.rows)[:, None]
        return rates / (self._size[1], self._size[0]) / (FRAME * 1e-9)

    def update(self, rows, detections: Detections, which, stamp: int, frame: int) -> None:
        self._resize(detections.size)
        states = self._predicted(stamp, rows)
        mean, rate, variance, covariance, rate_variance = states
        innovation_variance = variance + MEASUREMENT_NOISE
        gain, rate_gain = variance / innovation_variance, covariance / innovation_variance
        innovation = _measurement(detections, which) - mean
        mean += gain * innovation
        rate += rate_gain * innovation
        rate_variance -= rate_gain * covariance
        covariance *= 1 - gain
        variance *= 1 - gain
        self.states[:, rows] = states
        super().update(rows, detections, which, stamp, frame)

    def create(self, detections: Detections, which, ids, slots, stamp: int, frame: int) -> NDArray[np.int64]:
        self._resize(detections.size)
        new = np.zeros((_KINDS, len(which), 4))
        new[0], new[2], new[4] = _measurement(detections, which), INITIAL_VARIANCE, INITIAL_RATE_VARIANCE
        self.states = np.concatenate([self.states, new], axis=1)
        return super().create(detections, which, ids, slots, stamp, frame)

    def _predicted(self, stamp: int, which: NDArray[np.int64]) -> NDArray:
        """States of the rows `which` [R], predicted for `stamp`: the closed form of as many steps of FRAME."""
        states = self.states[:, which]
        mean, rate, variance, covariance, rate_variance = states
        steps = (np.maximum(stamp - self.rows["last_seen"][which], 0) / FRAME)[:, None]
        rate *= self._correction(self.rows[which])[:, None]
        before = np.maximum(steps - 1, 0)
        area, growth = mean[:, 2].copy(), rate[:, 2]
        mean += steps * rate
        # SORT sets the rate to 0 in the step in which the area would become negative.
        negative = np.flatnonzero(mean[:, 2] <= 0)
        mean[negative, 2] = area[negative] + growth[negative] * np.maximum(
            np.ceil(-area[negative] / growth[negative]) - 1, 0
        )
        growth[negative] = 0
        variance += steps * (2 * covariance + steps * rate_variance + PROCESS_NOISE)
        variance += before * steps * (2 * steps - 1) / 6 * RATE_PROCESS_NOISE
        covariance += steps * (rate_variance + before / 2 * RATE_PROCESS_NOISE)
        rate_variance += steps * RATE_PROCESS_NOISE
        return states

    def _resize(self, size: tuple[int, int]) -> None:
        """Converts the states to pixels of an image of `size` (height, width)."""
        if size == self._size:
            return
        y, x = size[0] / self._size[0], size[1] / self._size[1]
        self._size = size
        scale = np.array([x, y, x * y, x / y])
        self.states[:2] *= scale
        self.states[2:] *= scale**2


class Sort(Tracker):
    """SORT. Matched tracks are updated by the Kalman filter, unmatched detections become new tracks (III-C, III-D)."""

    Parameters = SortParameters
    Memory = KalmanMemory

    def associate(self, detections: Detections, stamp: int) -> Matches:
        # Predict the box of each track in the current frame (III-B).
        predicted = self.memory.predict(stamp)
        # Compare with all detections; pairs below the threshold and pairs of different classes are rejected (III-C).
        iou = box_iou(predicted[:, None], detections.boxes)
        m, k = np.nonzero((iou >= self.parameters.iou_threshold) & (iou > 0) & self._comparable(detections))
        # Optimal one-to-one assignment (Hungarian algorithm).
        best = hungarian(m, k, iou[m, k])
        return matched(m[best], k[best], iou[m, k][best], AssociatedBy.MEMORY)


def _measurement(detections: Detections, which: NDArray[np.int64]) -> NDArray[np.float64]:
    """Centre x, centre y, area and aspect ratio, float64 [R, 4], in pixels."""
    height, width = detections.size
    boxes = detections.boxes[which] * (width, height, width, height)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], _MIN_SIDE)
    return np.column_stack([(boxes[:, :2] + boxes[:, 2:]) / 2, sides[:, 0] * sides[:, 1], sides[:, 0] / sides[:, 1]])


def _boxes(states: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes x0 y0 x1 y1, float64 [R, 4], of states [R, 4]."""
    area, aspect = np.maximum(states[:, 2], _MIN_SIDE**2), np.maximum(states[:, 3], _MIN_SIDE)
    width = np.sqrt(area * aspect)
    half = np.column_stack([width, area / width]) / 2
    return np.concatenate([states[:, :2] - half, states[:, :2] + half], axis=1)
