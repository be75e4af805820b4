"""Kalman filter of a point in 3D that moves at constant velocity, in metres and seconds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ACCELERATION = 3.0
"""Standard deviation of the acceleration, m/s^2: a car that brakes, a person who turns."""
FIRST_SPEED = 10.0
"""Standard deviation of the velocity of a new object, m/s."""
_GATE = 25.0
"""Squared Mahalanobis distance of a measurement that is an outlier; of chi square with 3 degrees: 2 in 100,000."""


class PointFilter:
    """State of one object: position and velocity, [6], and their covariance [6, 6].

    The acceleration between two measurements is random and constant (Bar-Shalom, Li and Kirubarajan, Estimation with
    Applications to Tracking and Navigation, 2001, section 6.3.2). One outlier is ignored; after a second one in a row
    the filter starts again.

    Args:
        position: [3], metres.
        covariance: [3, 3] of it.
        seconds: its time.
    """

    def __init__(self, position: NDArray, covariance: NDArray, seconds: float) -> None:
        self._start(position, covariance, seconds)

    def _start(self, position: NDArray, covariance: NDArray, seconds: float) -> None:
        self._mean = np.concatenate([position, np.zeros(3)])
        self._covariance = np.zeros((6, 6))
        self._covariance[:3, :3] = covariance
        self._covariance[3:, 3:] = FIRST_SPEED**2 * np.eye(3)
        self._seconds, self._outliers = seconds, 0

    @property
    def position(self) -> NDArray[np.float64]:
        """[3], metres."""
        return self._mean[:3]

    @property
    def velocity(self) -> NDArray[np.float64]:
        """[3], metres per second."""
        return self._mean[3:]

    @property
    def deviation(self) -> NDArray[np.float64]:
        """[3], standard deviations of `position`."""
        return np.sqrt(np.diagonal(self._covariance)[:3])

    def update(self, position: NDArray, covariance: NDArray, seconds: float) -> None:
        """Takes a measurement of the position [3] with its covariance [3, 3]."""
        self._predict(seconds)
        innovation = position - self.position
        spread = self._covariance[:3, :3] + covariance
        if innovation @ np.linalg.solve(spread, innovation) > _GATE:
            self._outliers += 1
            if self._outliers > 1:
                self._start(position, covariance, seconds)
            return
        self._outliers = 0
        gain = np.linalg.solve(spread, self._covariance[:3]).T
        self._mean = self._mean + gain @ innovation
        # Joseph form, which stays symmetric and positive.
        rest = np.eye(6)
        rest[:, :3] -= gain
        self._covariance = rest @ self._covariance @ rest.T + gain @ covariance @ gain.T

    def _predict(self, seconds: float) -> None:
        dt = max(seconds - self._seconds, 0.0)
        self._seconds = max(seconds, self._seconds)
        move = np.eye(6)
        move[:3, 3:] = dt * np.eye(3)
        noise = np.kron(np.array([[dt**4 / 4, dt**3 / 2], [dt**3 / 2, dt**2]]), ACCELERATION**2 * np.eye(3))
        self._mean = move @ self._mean
        self._covariance = move @ self._covariance @ move.T + noise
