"""A few street frames, the same each time, to try and to calibrate models on; no model is trained or judged on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets import SCENARIOS, drive

SIZE = (640, 192)
_SEED = 600_000
_EVERY = 6
"""Frames that lie this far apart differ enough."""


def street_frames(scenarios: int = len(SCENARIOS), each: int = 4) -> Iterator[NDArray[np.uint8]]:
    """uint8 [192, 640, 3] RGB: so many frames from a drive of each of the first scenarios."""
    for i, name in enumerate(list(SCENARIOS)[:scenarios]):
        for k, street in enumerate(drive(name, seed=_SEED + i, frames=each * _EVERY, size=SIZE), 1):
            if k % _EVERY == 0:
                yield street.frame.image
