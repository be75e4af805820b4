"""A memory whose boxes move as the Kalman filter of SORT says (Bewley et al., ICIP 2016)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.memory import Memory
from vps_ros.trackers.things import Things

FRAME = 100_000_000
"""Nanoseconds that SORT's step, one frame, stands for: its noise is what happens in so long."""

MEASURED = np.array([1.0, 1.0, 10.0, 10.0])
START, START_RATE = np.array([10.0, 10.0, 10.0, 10.0]), np.array([1e4, 1e4, 1e4, 0.0])
STEP, STEP_RATE = np.array([1.0, 1.0, 1.0, 1.0]), np.array([0.01, 0.01, 1e-4, 0.0])
"""Variances of SORT's filter: of a measurement, of the first state and of one step, each with that of the rates.

The state is the box's centre, area and aspect (width / height), in pixels; the aspect has no rate. All these matrices
are diagonal and each quantity moves by its own rate alone, so the filter of 7 dimensions is four of at most two.
"""
_LEAST = 1e-3

_KINDS = 5
_EMPTY = np.empty((_KINDS, 0, 4))


class KalmanMemory(Memory):
    """Objects whose predicted boxes are those of a Kalman filter at constant velocity, all of them at once.

    Attributes:
        states: float64 [5, M, 4]: mean and rate (per FRAME) of each quantity, their variance, covariance and the
            variance of the rate, beside `rows`.
    """

    def clear(self) -> None:
        super().clear()
        self.states = _EMPTY
        self._size = (1, 1)

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        super().keep(wanted)
        self.states = self.states[:, wanted]

    def predict(self, stamp: int, which: NDArray[np.int64]) -> NDArray[np.float64]:
        """Boxes of the rows `which` [R] at `stamp` (nanoseconds), float64 [R, 4], divided by the image's size."""
        height, width = self._size
        boxes = _boxes(self._at(stamp, which)[0])
        boxes[:, 0::2] /= width
        boxes[:, 1::2] /= height
        return boxes

    def centre_velocity(self, which: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        return self.states[1, which, :2] / (self._size[1], self._size[0]) / (FRAME * 1e-9)

    def see(self, rows, things: Things, which, stamp: int, frame: int) -> None:
        self._resize(things.size)
        states = self._at(stamp, rows)
        mean, rate, variance, covariance, rate_variance = states
        spread = variance + MEASURED
        gain, rate_gain = variance / spread, covariance / spread
        surprise = _measured(things, which) - mean
        mean += gain * surprise
        rate += rate_gain * surprise
        rate_variance -= rate_gain * covariance
        covariance *= 1 - gain
        variance *= 1 - gain
        self.states[:, rows] = states
        super().see(rows, things, which, stamp, frame)

    def add(self, things: Things, which, ids, slots, stamp: int, frame: int) -> NDArray[np.int64]:
        self._resize(things.size)
        new = np.zeros((_KINDS, len(which), 4))
        new[0], new[2], new[4] = _measured(things, which), START, START_RATE
        self.states = np.concatenate([self.states, new], axis=1)
        return super().add(things, which, ids, slots, stamp, frame)

    def _at(self, stamp: int, which: NDArray[np.int64]) -> NDArray:
        """The states of the rows `which` [R] at `stamp`, as so many steps of one frame would leave them."""
        states = self.states[:, which]
        mean, rate, variance, covariance, rate_variance = states
        steps = (np.maximum(stamp - self.rows["last_seen"][which], 0) / FRAME)[:, None]
        before = np.maximum(steps - 1, 0)
        area, growth = mean[:, 2].copy(), rate[:, 2]
        mean += steps * rate
        # An area shrinks while something is left, as in SORT.
        gone = np.flatnonzero(mean[:, 2] <= 0)
        mean[gone, 2] = area[gone] + growth[gone] * np.maximum(np.ceil(-area[gone] / growth[gone]) - 1, 0)
        growth[gone] = 0
        variance += steps * (2 * covariance + steps * rate_variance + STEP)
        variance += before * steps * (2 * steps - 1) / 6 * STEP_RATE
        covariance += steps * (rate_variance + before / 2 * STEP_RATE)
        rate_variance += steps * STEP_RATE
        return states

    def _resize(self, size: tuple[int, int]) -> None:
        """The states in pixels of an image of `size` (height, width)."""
        if size == self._size:
            return
        y, x = size[0] / self._size[0], size[1] / self._size[1]
        self._size = size
        scale = np.array([x, y, x * y, x / y])
        self.states[:2] *= scale
        self.states[2:] *= scale**2


def _measured(things: Things, which: NDArray[np.int64]) -> NDArray[np.float64]:
    """Centre x, centre y, area and aspect, float64 [R, 4], in pixels."""
    height, width = things.size
    boxes = things.boxes[which] * (width, height, width, height)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], _LEAST)
    return np.column_stack([(boxes[:, :2] + boxes[:, 2:]) / 2, sides[:, 0] * sides[:, 1], sides[:, 0] / sides[:, 1]])


def _boxes(states: NDArray[np.float64]) -> NDArray[np.float64]:
    area, aspect = np.maximum(states[:, 2], _LEAST**2), np.maximum(states[:, 3], _LEAST)
    width = np.sqrt(area * aspect)
    half = np.column_stack([width, area / width]) / 2
    return np.concatenate([states[:, :2] - half, states[:, :2] + half], axis=1)
