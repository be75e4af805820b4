"""Plots as inline SVG, coloured by the style of the page around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT = 1000, 100
_POINTS = 480


def line_plot(values: Sequence[float]) -> str:
    """Values in 0..1 over frames, as HTML; the line is broken where a value is NaN, long ones are averaged."""
    data = _averaged(np.asarray(values, float))
    x = np.linspace(0, _WIDTH, len(data))
    grid = "".join(f"<line x1='0' x2='{_WIDTH}' y1='{y}' y2='{y}'/>" for y in (0, _HEIGHT // 2, _HEIGHT))
    curve = "".join(_piece(x[part], data[part]) for part in _known_parts(data))
    # Words stand outside the picture, which is stretched to any width.
    labels = (("high", 100), ("mid", 50), ("low", 0), ("from", 0), ("to", max(len(values) - 1, 0)))
    words = "".join(f"<span class={place}>{value}</span>" for place, value in labels)
    picture = f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' preserveAspectRatio='none' aria-hidden='true'>{grid}{curve}</svg>"
    return f"<div class=axes>{picture}{words}</div>"


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
