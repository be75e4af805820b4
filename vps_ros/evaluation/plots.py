"""Plots as inline SVG, coloured by the style of the page around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT = 1000, 100
_POINTS = 480
COLORS, DASHES = 6, 3
"""Curves that the style can tell apart by colour, and lines of one colour by their dashes."""


def line_plot(*curves: Sequence[float]) -> str:
    """Curves of values in 0..1 over frames, as HTML.

    A curve is broken where a value is NaN. Long ones are averaged, and a shorter one than the others ends earlier.
    """
    frames = max((len(values) for values in curves), default=0)
    grid = "".join(f"<line x1='0' x2='{_WIDTH}' y1='{y}' y2='{y}'/>" for y in (0, _HEIGHT // 2, _HEIGHT))
    drawn = "".join(
        f"<g class='{series(i)}'>{_curve(np.asarray(values, float), frames)}</g>" for i, values in enumerate(curves)
    )
    # Words stand outside the picture, which is stretched to any width.
    labels = (("high", 100), ("mid", 50), ("low", 0), ("from", 0), ("to", max(frames - 1, 0)))
    words = "".join(f"<span class={place}>{value}</span>" for place, value in labels)
    picture = f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' preserveAspectRatio='none' aria-hidden='true'>{grid}{drawn}</svg>"
    return f"<div class=axes>{picture}{words}</div>"


def series(number: int) -> str:
    """The style's names for the curve of this number, and for its entry in a legend."""
    return f"s{number % COLORS} d{number // COLORS % DASHES}"


def _curve(values: NDArray[np.float64], frames: int) -> str:
    data = _averaged(values)
    end = _WIDTH * (len(values) - 1) / max(frames - 1, 1)
    x = np.linspace(0, end, len(data))
    return "".join(_piece(x[part], data[part]) for part in _known_parts(data))


def _piece(x: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    # A lone frame is a short stroke: a point has no extent to draw.
    ends = np.array([x[0], x[0] + 2]) if len(x) == 1 else x
    points = " ".join(
        f"{a:.1f},{_HEIGHT * (1 - b):.1f}" for a, b in zip(ends, np.resize(values, len(ends)), strict=True)
    )
    return f"<polyline points='{points}'/>"


def _averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most _POINTS means of equal stretches; NaN where a whole stretch is."""
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
