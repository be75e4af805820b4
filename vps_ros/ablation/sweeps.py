"""Sweeps of parameters after Video-kMaX tables 6 to 9 and HybridTracker table VII, also for the default tracker."""

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
