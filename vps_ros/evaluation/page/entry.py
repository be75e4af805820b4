"""What a page is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vps_ros.evaluation.results import Report


@dataclass(frozen=True)
class Entry:
    """One evaluated prediction.

    Attributes:
        name: what tells it from the others on the page.
        timeline: PQ of each frame, 0..1 or NaN, by sequence.
    """

    name: str
    report: Report
    timeline: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A frame as an example.

    Attributes:
        panels: RGB uint8 [H, W, 3] each, from above, by what they show: {"camera": ..., "ground truth": ...}.
        caption: which frame it is, and why it is shown.
    """

    panels: Mapping[str, NDArray[np.uint8]]
    caption: str
