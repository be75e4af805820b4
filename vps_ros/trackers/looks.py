"""What objects look like, and how much that says: by how far the looks of one object and of two differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.trackers.similarity import dots

_SAME, _DIFFERENT = (0.9, 0.01), (0.6, 0.03)
"""Mean and variance of the cosine that are taken for true until objects have been seen."""
_LEAST_SAME, _LEAST_DIFFERENT = 1e-4, 1e-3
_SAME_RATE, _DIFFERENT_RATE = 0.02, 0.05
_BOUNDS = (-6.0, 4.0)
_COMPARED = 64
"""Things of one frame, at most, that are compared with each other."""


class Looks:
    """Mean appearance of each object, and the log-likelihood ratio of a cosine: one object, or two of a class?

    Both likelihoods are normal, with the mean and variance of the cosines met so far: of objects with what they looked
    like before, and of different things of one class in one frame. An embedding that cannot tell objects apart so says
    nothing, whatever it was made for, and one that can is believed as far as it deserves.

    Args:
        weight: share of the newest vector in an object's mean.

    Attributes:
        weight: as given.
        vectors: float32 [M, D] of length 1; zeros where unknown. D is 0 before the first.
    """

    def __init__(self, weight: float) -> None:
        self.weight = np.float32(weight)
        self.clear()

    def clear(self) -> None:
        self.vectors: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._same, self._different = np.array(_SAME), np.array(_DIFFERENT)

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        self.vectors = self.vectors[wanted]

    def cosine(
        self, rows: NDArray[np.int64], units: NDArray[np.float32], things: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """[P] of the objects `rows` [P] and the `things` [P] of unit vectors [K, D]; 0 where one is unknown."""
        return dots(self.vectors, units, (rows, things))

    def ratio(self, cosine: NDArray[np.floating]) -> NDArray[np.float64]:
        """log p(cosine | one object) - log p(cosine | two objects), within bounds."""
        (same, spread), (different, other) = self._same, self._different
        # More alike than an object mostly is to itself is no reason to doubt.
        below = np.minimum(cosine, same) - same
        ratio = (cosine - different) ** 2 / (2 * other) - below**2 / (2 * spread) + 0.5 * np.log(other / spread)
        return np.clip(ratio, *_BOUNDS)

    def see(self, rows: NDArray[np.int64], units: NDArray[np.float32]) -> None:
        """The objects `rows` [R] look like `units` [R, D]; rows of zeros change nothing."""
        old = self.vectors[rows]
        known = units.any(axis=1)
        both = known & old.any(axis=1)
        if both.any():
            cosine = (old[both] * units[both]).sum(axis=1, dtype=np.float64)
            rate = min(1.0, _SAME_RATE * len(cosine))
            self._same[0] += rate * (cosine.mean() - self._same[0])
            self._same[1] += rate * (((cosine - self._same[0]) ** 2).mean() - self._same[1])
            self._same[1] = max(self._same[1], _LEAST_SAME)
        share = np.where(both, self.weight, known.astype(np.float32))[:, None]
        mean = old + share * (units - old)
        self.vectors[rows] = mean / np.maximum(np.sqrt((mean * mean).sum(axis=1, keepdims=True)), np.float32(1e-6))

    def add(self, count: int) -> None:
        """`count` new objects of unknown looks, after those that are there."""
        self.vectors = np.concatenate([self.vectors, np.zeros((count, self.vectors.shape[1]), np.float32)])

    def make_room(self, objects: int, width: int) -> None:
        """Vectors of another length than before, or the first: nothing is known of `objects` any more."""
        if self.vectors.shape[1] != width:
            self.clear()
            self.vectors = np.zeros((objects, width), np.float32)

    def differ(self, units: NDArray[np.float32], class_ids: NDArray[np.int64]) -> None:
        """Learns how alike different things [K, D] of one class are in one frame."""
        # In a crowd some of them tell as much as all.
        some = np.flatnonzero(units.any(axis=1))
        some = some[:: -(-len(some) // _COMPARED) or 1]
        units, class_ids = units[some], class_ids[some]
        alike = np.triu(class_ids[:, None] == class_ids, 1)
        if not alike.any():
            return
        cosine = (units @ units.T)[alike].astype(np.float64)
        self._different[0] += _DIFFERENT_RATE * (cosine.mean() - self._different[0])
        self._different[1] += _DIFFERENT_RATE * (((cosine - self._different[0]) ** 2).mean() - self._different[1])
        self._different[1] = max(self._different[1], _LEAST_DIFFERENT)
