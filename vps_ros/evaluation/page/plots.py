"""Plots of the PQ of each frame: one for each sequence, with a curve for each prediction, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vps_ros.evaluation.page.markup import macro, percent, plural, series

MAX_LARGE, MAX_PLOTS = 6, 48
"""With more sequences than the first the plots are small; of more than the second, those of highest PQ are left out."""
_WIDTH, _HEIGHT = 1000, 100
_POINTS = 480
MEANING = "PQ of each frame on its own, in percent, over the frames of its sequence."

Curves = Mapping[str, Sequence[float]]
"""Sequence -> PQ of each frame, in 0..1 or NaN."""


def quality_over_time(predictions: Mapping[str, Curves]) -> Markup | str:
    """The plots of the sequences of lowest PQ in their order, with a legend for several predictions."""
    names = list(dict.fromkeys(name for curves in predictions.values() for name in curves))
    lowest = sorted(names, key=lambda name: _lowest_mean(predictions, name))[:MAX_PLOTS]
    shown = [name for name in names if name in set(lowest)]
    if not shown:
        return ""
    left_out = len(names) - len(shown)
    return macro(
        "plots",
        [{"series": series(i), "text": name} for i, name in enumerate(predictions)] if len(predictions) > 1 else [],
        [_plot(name, [curves.get(name, ()) for curves in predictions.values()]) for name in shown],
        len(shown) > MAX_LARGE,
        f"Left out: {plural(left_out, 'sequence')} of higher mean PQ." if left_out else "",
    )


def _plot(name: str, curves: Sequence[Sequence[float]]) -> Markup:
    frames = max(map(len, curves))
    return macro(
        "plot",
        name,
        plural(frames, "frame"),
        [{"series": series(i), "text": percent(_mean(values))} for i, values in enumerate(curves)],
        [{"series": series(i), "lines": polylines(values, frames)} for i, values in enumerate(curves)],
        max(frames - 1, 0),
        len(curves) > 1,
    )


def polylines(values: Sequence[float], frames: int) -> list[str]:
    """The points of a curve of values in 0..1 in a picture of `frames` frames; NaN breaks it.

    A long curve is averaged; one of fewer frames ends earlier.
    """
    data = _averaged(np.asarray(values, float))
    x = np.linspace(0, _WIDTH * (len(values) - 1) / max(frames - 1, 1), len(data))
    return [_points(x[part], data[part]) for part in _known_parts(data)]


def _points(x: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    # A single point would not be drawn.
    ends = np.array([x[0], x[0] + 2]) if len(x) == 1 else x
    pairs = zip(ends, np.resize(values, len(ends)), strict=True)
    return " ".join(f"{a:.1f},{_HEIGHT * (1 - b):.1f}" for a, b in pairs)


def _averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most _POINTS means of equal parts; NaN for a part without a value."""
    if len(values) <= _POINTS:
        return values
    index = np.arange(len(values)) * _POINTS // len(values)
    known = ~np.isnan(values)
    count = np.bincount(index[known], minlength=_POINTS)
    total = np.bincount(index[known], values[known], _POINTS)
    return np.divide(total, count, out=np.full(_POINTS, np.nan), where=count > 0)


def _known_parts(values: NDArray[np.float64]) -> list[slice]:
    known = np.concatenate(([False], ~np.isnan(values), [False]))
    edges = np.flatnonzero(known[1:] != known[:-1])
    return [slice(a, b) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]


def _lowest_mean(predictions: Mapping[str, Curves], name: str) -> float:
    means = (_mean(curves.get(name, ())) for curves in predictions.values())
    return min((mean for mean in means if mean == mean), default=math.inf)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return math.fsum(known) / len(known) if known else math.nan
