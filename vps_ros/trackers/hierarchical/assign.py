"""Step 3, assign: one assignment over all pairs decides, by the scores of a learned network (match_scorer.py)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import AssociatedBy
from vps_ros.trackers.assignment import hungarian
from vps_ros.trackers.hierarchical.compare import Pairs
from vps_ros.trackers.tracker import Matches


def assign(pairs: Pairs, log_odds: NDArray[np.floating], threshold: float) -> Matches:
    """The assignment of the greatest sum of log-odds, among the pairs with a probability above `threshold`.

    The log-odds are counted from those of the threshold. A match is by PIXELS where masks overlap, else by MEMORY.
    """
    share = min(max(threshold, 1e-9), 1 - 1e-9)
    least = float(np.log(share / (1 - share)))
    good = np.flatnonzero(log_odds > least)
    best = good[hungarian(pairs.m[good], pairs.k[good], log_odds[good] - least)]
    probability = 1 / (1 + np.exp(-log_odds[best].astype(np.float64)))
    by = np.where(pairs.by_pixels[best], int(AssociatedBy.PIXELS), int(AssociatedBy.MEMORY))
    return Matches(pairs.m[best], pairs.k[best], probability, by)
