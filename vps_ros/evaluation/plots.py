"""Plots as inline SVG, coloured by the style of the page around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 1000, 110
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 990, 8, 92
_POINTS = 480


def line_plot(values: Sequence[float]) -> str:
    """Values in 0..1 over frames, as SVG; the line is broken where a value is NaN, long ones are averaged."""
    data = _averaged(np.asarray(values, float))
    lines = "".join(
        f"<line x1='{_LEFT}' x2='{_RIGHT}' y1='{_y(v):.1f}' y2='{_y(v):.1f}'/>"
        f"<text x='{_LEFT - 6}' y='{_y(v) + 4:.1f}' text-anchor='end'>{round(100 * v)}</text>"
        for v in (0.0, 0.5, 1.0)
    )
    ends = (
        f"<text x='{_LEFT}' y='{HEIGHT - 5}'>0</text>"
        f"<text x='{_RIGHT}' y='{HEIGHT - 5}' text-anchor='end'>{max(len(values) - 1, 0)}</text>"
    )
    x = np.linspace(_LEFT, _RIGHT, len(data)) if len(data) > 1 else np.array([_LEFT])
    curve = "".join(_piece(x[part], data[part]) for part in _known_parts(data))
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' preserveAspectRatio='none' role='img'>{lines}{ends}{curve}</svg>"


def _piece(x: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    if len(x) == 1:
        return f"<circle cx='{x[0]:.1f}' cy='{_y(values[0]):.1f}' r='2'/>"
    points = " ".join(f"{a:.1f},{_y(b):.1f}" for a, b in zip(x, values, strict=True))
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


def _y(value: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * value
