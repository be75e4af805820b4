"""Numbers that add up the same in any order, and those that nobody could measure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ONE = 1 << 64
"""Shares are added as whole multiples of 1 / ONE: whole numbers add up the same in any order, doubles do not."""


def mean_of_known(values: NDArray[np.float64]) -> float:
    """Mean of the entries that are not NaN; NaN when all are."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if measured.size else float("nan")


def known(value: float) -> float | None:
    """The value as JSON takes it: None for NaN."""
    return None if value != value else float(value)
