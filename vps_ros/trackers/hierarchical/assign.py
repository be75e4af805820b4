"""Step 3, assign: one assignment over all pairs decides, by the scores of a learned network (match_scorer.py)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.hierarchical.compare import Pairs
from vps_ros.trackers.tracker import Matches

_EVIDENCE = np.array([AssociatedBy.MEMORY, AssociatedBy.PIXELS], np.int64)
"""Without and with overlapping masks."""


def assign(pairs: Pairs, log_odds: NDArray[np.floating], threshold: float) -> Matches:
    """The assignment of the greatest sum of log-odds, among the pairs with a probability above `threshold`.

    The log-odds are counted from those of the threshold. A match is by PIXELS where masks overlap, else by MEMORY.
    """
    share = min(max(threshold, 1e-9), 1 - 1e-9)
    least = math.log(share / (1 - share))
    good = (log_odds > least).nonzero()[0]
    m, k, log_odds = pairs.m.take(good), pairs.k.take(good), log_odds.take(good)
    best = hungarian(m, k, log_odds - least)
    probability = 1 / (1 + np.exp(-log_odds.take(best).astype(np.float64)))
    by = _EVIDENCE.take(pairs.by_pixels.take(good.take(best)))
    return Matches(m.take(best), k.take(best), probability, by)
