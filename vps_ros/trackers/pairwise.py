"""How alike the things of the current frame are to those of the two frames before it (HybridTracker III).

Each evidence gives a matrix [M, K], and the same seen backward in time, for the check of temporal consistency (III-E).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import Frame, Segmentation
from vps_ros.trackers.learned import Fusion, Learned
from vps_ros.trackers.pixels import PixelHistory
from vps_ros.trackers.similarity import bidirectional_softmax
from vps_ros.trackers.things import Things


class Evidence(Protocol):
    """Things of the current frame and of the two before it, compared in pairs.

    Attributes:
        milliseconds: time of the optical flow since `push`.
    """

    @property
    def milliseconds(self) -> float: ...

    def push(self, frame: Frame, segmentation: Segmentation, things: Things) -> None:
        """Takes the current frame."""

    def remember(self, ids: NDArray[np.int64]) -> None:
        """The things of the current frame are the tracks `ids` [K]."""

    def reset(self) -> None: ...

    def ids(self, steps: int) -> NDArray[np.int64] | None:
        """int64 [M], tracks `steps` (1 or 2) frames ago; None where there is nothing to compare."""

    def similarity(self, steps: int, back: bool = False) -> NDArray[np.floating]:
        """[M, K] in 0..1, of the things `steps` frames ago with the current ones; `back`: going back in time."""


class PixelEvidence(PixelHistory):
    """Dice of masks moved by optical flow (III-C, equation 7), forward in time or back."""

    def ids(self, steps):
        past = self.before(steps)
        return None if past is None else past.ids

    def similarity(self, steps, back=False):
        return self.flow_dice_back(steps) if back else self.flow_dice(steps)


@dataclass
class _Described:
    vectors: NDArray[np.float32]
    known: NDArray[np.bool_]
    ids: NDArray[np.int64]


def _compare(past: _Described, now: _Described) -> NDArray[np.float64]:
    similarity = np.zeros((len(past.ids), len(now.ids)))
    products = past.vectors[past.known] @ now.vectors[now.known].T
    similarity[np.ix_(past.known, now.known)] = bidirectional_softmax(products)
    return similarity


class InstanceEvidence:
    """Probability of a match by appearance (III-B, equation 4), the same in both directions."""

    milliseconds = 0.0

    def __init__(self, learned: Learned) -> None:
        self._learned = learned
        self.reset()

    def reset(self):
        self._frames: deque[_Described] = deque(maxlen=3)
        self._compared: dict[int, NDArray[np.floating]] = {}

    def push(self, frame, segmentation, things):
        vectors = self._learned.describe(things.embeddings, things.lengths) if len(things) else np.empty((0, 0))
        self._compared.clear()
        self._frames.append(_Described(vectors, things.lengths > 0, np.zeros(len(things), np.int64)))

    def remember(self, ids):
        self._frames[-1].ids = ids

    def ids(self, steps):
        if len(self._frames) <= steps or not len(self._frames[-1].ids):
            return None
        past = self._frames[-1 - steps]
        return past.ids if past.vectors.shape[1] == self._frames[-1].vectors.shape[1] else None

    def similarity(self, steps, back=False):
        # Asked for once in each direction.
        if steps not in self._compared:
            self._compared[steps] = _compare(self._frames[-1 - steps], self._frames[-1])
        return self._compared[steps]


class FusedEvidence:
    """Both matrices through the learnt 1x1 convolution (III-D)."""

    def __init__(self, pixels: PixelEvidence, instances: InstanceEvidence, fusion: Fusion) -> None:
        self._pixels, self._instances, self._fusion = pixels, instances, fusion

    @property
    def milliseconds(self):
        return self._pixels.milliseconds

    def push(self, frame, segmentation, things):
        self._instances.push(frame, segmentation, things)
        self._pixels.push(frame, segmentation, things)

    def remember(self, ids):
        self._instances.remember(ids)
        self._pixels.remember(ids)

    def reset(self):
        self._instances.reset()
        self._pixels.reset()

    def ids(self, steps):
        return None if self._instances.ids(steps) is None else self._pixels.ids(steps)

    def similarity(self, steps, back=False):
        return self._fusion(self._pixels.similarity(steps, back), self._instances.similarity(steps, back))
