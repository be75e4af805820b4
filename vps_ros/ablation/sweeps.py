"""The papers' tables: what they vary, and their figures. The default tracker is varied in the same way.

Sweeps of parameters are those of Video-kMaX tables 6 to 9 and HybridTracker table VII, association features those of
Video-kMaX table 5. Figures of Video-kMaX (Shin et al.) are AQ in percent on KITTI-STEP val, or pairs (table 6).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from vps_ros.config import tracker_parameters

OURS = "hierarchical"


@dataclass(frozen=True)
class Axis:
    """One parameter that is varied.

    Attributes:
        symbol: in the paper.
        names: parameters of Config; all of them that a tracker of the paper has take each value.
        values: of the paper; None is the tracker's default.
        ours: parameters of OURS, if other than `names`; the first that it has is varied.
        factors: multiples of the default of OURS, where its scale differs from the paper's.
    """

    symbol: str
    names: tuple[str, ...]
    values: tuple[float | None, ...]
    ours: tuple[str, ...] = ()
    factors: tuple[float, ...] = ()

    def choices(self, tracker: str) -> tuple[list[str], Sequence[float]]:
        """The parameters to vary for this tracker, and their values."""
        own = {p.name: p.default for p in tracker_parameters(tracker)}
        if tracker != OURS:
            used = [name for name in self.names if name in own]
            return used, self._values(used, own)
        used = [name for name in self.ours or self.names if name in own][:1]
        if used and self.factors:
            return used, [round(own[used[0]] * factor, 6) for factor in self.factors]
        return used, self._values(used, own)

    def _values(self, used: list[str], own: dict[str, float]) -> list[float]:
        return [own[used[0]] if value is None else value for value in self.values if used]


@dataclass(frozen=True)
class Sweep:
    """The parameters of one table (`source`) for some trackers; every combination of the axes is run."""

    name: str
    source: str
    trackers: tuple[str, ...]
    axes: tuple[Axis, ...]

    def settings(self, tracker: str) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
        """(symbol -> value, parameter of Config -> value) of each run; none if the tracker lacks an axis."""
        choices = []
        for axis in self.axes:
            used, values = axis.choices(tracker)
            if not used:
                return
            choices.append([(axis.symbol, used, float(value)) for value in values])
        for choice in product(*choices):
            yield {s: v for s, _, v in choice}, {name: v for _, used, v in choice for name in used}


_KMAX, _HYBRID = "Video-kMaX", "HybridTracker"
_LEAST = ("association_threshold", "memory_threshold")
SPACE = Sweep(
    "matching space",
    f"{_KMAX} table 6",
    ("appearance", "hila_mb", OURS),
    (Axis("tau", ("memory_tau",), (1000, None)),),
)
"""Its result is the number of compared pairs."""
SWEEPS = (
    SPACE,
    Sweep(
        "tau and alpha",
        f"{_KMAX} table 7",
        ("appearance", "hila_mb", OURS),
        (
            Axis("tau", ("memory_tau",), (1, 3, 10, 20)),
            Axis("alpha", ("memory_threshold", "location_threshold"), (0.6, 0.7, 0.8), _LEAST, (0.8, 1.0, 1.2)),
        ),
    ),
    Sweep(
        "T",
        f"{_KMAX} table 8",
        ("location", "hila_mb", OURS),
        (Axis("T", ("location_temperature",), (0.5, 1.0, 1.5), factors=(0.5, 1.0, 1.5)),),
    ),
    Sweep(
        "lambda",
        f"{_KMAX} table 9",
        ("appearance", "hila_mb", OURS),
        (Axis("lambda", ("appearance_weight",), (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)),),
    ),
    Sweep(
        "theta",
        f"{_HYBRID} table VII",
        ("instance", "pixel", "hybrid", OURS),
        (
            Axis(
                "theta",
                ("temporal_threshold",),
                (0.001, 0.005, 0.01, 0.015, 0.02),
                ("association_threshold", "pixel_threshold"),
                (0.6, 0.8, 1.0, 1.2, 1.4),
            ),
        ),
    ),
)
"""The factors 0.5 to 1.5 for OURS are not from the papers."""


@dataclass(frozen=True)
class Features:
    """A row of Video-kMaX table 5: features of HiLA-MB, one by one and together, online and near-online.

    Attributes:
        stitching: whether tubes of consecutive clips are stitched, for masks of clips.
        tracker: the memory, a name of TRACKERS with its default parameters; "" for none.
        published: figures of the paper, by FEATURE_COLUMNS.
        evidence: whether tubes are compared by the tracker, and not matched before all else.
    """

    name: str
    stitching: bool
    tracker: str
    published: tuple[float | None, float | None, float | None] = (None, None, None)
    evidence: bool = False


PUBLISHED = "paper, near-online"
"""Tables 6 to 9 are near-online, with `appearance` and `hila_mb` for the paper's naive-MB and HiLA-MB."""
FEATURE_COLUMNS = ("paper, online, ResNet50", "paper, online, ConvNeXt-L", PUBLISHED)
FEATURES = (
    Features("none", False, "", (10.0, 10.4, None)),
    Features("appearance", False, "appearance", (33.8, 61.6, 71.4)),
    Features("location", False, "location", (72.0, 74.0, 72.3)),
    Features("appearance, location", False, "hila_mb", (66.4, 75.7, 73.8)),
    Features("stitching", True, "", (None, None, 72.3)),
    Features("stitching, appearance", True, "appearance", (None, None, 72.1)),
    Features("stitching, location", True, "location", (None, None, 73.6)),
    Features("stitching, appearance, location", True, "hila_mb", (None, None, 74.2)),
    Features("hierarchical", False, "hierarchical"),
    Features("stitching, hierarchical", True, "hierarchical"),
    Features("stitching as evidence, hierarchical", True, "hierarchical", evidence=True),
)
"""The last rows, which the paper does not have, are the default tracker on the same masks: without tubes, with
stitching before all else as in the other rows, and with tubes as evidence, as it is by default.
"""
PUBLISHED_SPACE = {"appearance": (67.1, 336, 25.1, 196), "hila_mb": (19.7, 94, 2.8, 24)}
"""Table 6: mean and maximum of the pairs at tau 1000, and at its best tau (1 and 10)."""
PUBLISHED_SWEEPS: dict[str, dict[str, tuple[float, ...]]] = {
    "tau and alpha": {
        "appearance": (69.5, 69.9, 71.4, 67.1, 68.8, 71.3, 54.3, 57.4, 64.9, 47.4, 50.7, 59.5),
        "hila_mb": (72.7, 72.8, 72.6, 73.0, 73.4, 73.2, 73.9, 74.2, 73.6, 73.7, 74.2, 73.6),
    },
    "T": {"hila_mb": (73.95, 74.22, 74.30)},
    "lambda": {"hila_mb": (73.34, 74.19, 74.22, 74.22, 74.22, 74.18)},
}
"""Tables 7 (tau 1, 3, 10, 20, each with alpha 0.6, 0.7, 0.8), 8 and 9, in the order of the sweeps' settings."""
