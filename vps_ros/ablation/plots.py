"""The document of a comparison as plots; needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vps_ros.ablation.study import TRUTH
from vps_ros.ablation.sweeps import OURS, SPACE, SWEEPS
from vps_ros.errors import InputError
from vps_ros.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS, _OTHERS, _CEILING = "#c0392b", "#44546a", "#7f8c8d"


def draw(document: dict, folder: Path) -> list[Path]:
    """Writes ablation-quality.png, ablation-cost.png and, where there are sweeps, ablation-sweeps.png."""
    pictures = {"quality": _quality(document), "cost": _cost(document)}
    if any(r["sweep"] != SPACE.name for r in document["sweeps"]):
        pictures["sweeps"] = _sweeps(document["sweeps"])
    paths = []
    for name, figure in pictures.items():
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
        paths.append(folder / f"ablation-{name}.png")
        with atomic_write(paths[-1]) as draft:
            draft.write_bytes(data.getvalue())
    return paths


def _quality(document: dict) -> Figure:
    """AQ and IDF1 of each tracker: a dot for each scenario, a bar for the mean, a dashed line for the upper bound."""
    masks, scenarios = document["plan"]["masks"], document["plan"]["scenarios"]
    trackers = document["plan"]["trackers"]
    figure = _figure(4 * len(masks) + 1.5, 1.6 + 0.55 * len(trackers))
    grid: Any = figure.subplots(2, len(masks), squeeze=False)
    for row, metric in zip(grid, ("AQ", "IDF1"), strict=True):
        for axes, kind in zip(row, masks, strict=True):
            means = {m["tracker"]: m[metric] or 0.0 for m in document["means"] if m["masks"] == kind}
            cells = {(c["tracker"], c["scenario"]): c[metric] for c in document["cells"] if c["masks"] == kind}
            order = sorted(trackers, key=lambda t: means[t])
            axes.barh(order, [100 * means[t] for t in order], color=[_color(t) for t in order], alpha=0.35)
            for i, scenario in enumerate(scenarios):
                values = [100 * (cells[t, scenario] or 0.0) for t in order]
                axes.plot(values, order, ".", color=f"C{i}", label=scenario)
            axes.axvline(100 * means[TRUTH], color=_CEILING, linestyle="--", linewidth=1)
            axes.set(title=f"{metric}, {kind} masks", xlim=(0, 101))
            axes.grid(axis="x", alpha=0.3)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def _cost(document: dict) -> Figure:
    """Mean AQ over all masks and scenarios, and the time of a step."""
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    for tracker in document["plan"]["trackers"]:
        means = [m for m in document["means"] if m["tracker"] == tracker]
        time = float(np.mean([m["association_ms"] + m["flow_ms"] for m in means]))
        quality = 100 * float(np.mean([m["AQ"] for m in means]))
        axes.plot(time, quality, "o", color=_color(tracker))
        axes.annotate(tracker, (time, quality), xytext=(6, -3), textcoords="offset points", color=_color(tracker))
    width, height = document["plan"]["size"]
    axes.set(xscale="log", xlabel=f"ms a frame of {width}x{height}, flow included", ylabel="mean AQ")
    # Space for the names, to the right of the dots.
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.3)
    axes.grid(alpha=0.3, which="both")
    return figure


def _sweeps(runs: Sequence[dict]) -> Figure:
    """Mean AQ over all masks by the first parameter of each sweep; a band if a second one was varied."""
    there = [s for s in SWEEPS if s is not SPACE and any(r["sweep"] == s.name for r in runs)]
    figure = _figure(4.2 * len(there), 4)
    for axes, sweep in zip(figure.subplots(1, len(there), squeeze=False)[0], there, strict=True):
        of_sweep = [r for r in runs if r["sweep"] == sweep.name]
        for tracker in dict.fromkeys(r["tracker"] for r in of_sweep):
            _line(axes, [r for r in of_sweep if r["tracker"] == tracker], tracker)
        first = sweep.axes[0].symbol
        axes.set(title=f"{sweep.source}", xlabel=f"{first}, by position in the table", ylabel="AQ")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def _line(axes: Axes, runs: Sequence[dict], tracker: str) -> None:
    first, *second = runs[0]["setting"]
    places = sorted({r["setting"][first] for r in runs})
    others = sorted({tuple(r["setting"][s] for s in second) for r in runs})
    values: dict[tuple, list[float]] = {}
    for r in runs:
        values.setdefault((tuple(r["setting"][s] for s in second), r["setting"][first]), []).append(100 * r["AQ"])
    table = np.array([[np.mean(values[other, place]) for place in places] for other in others])
    # The values of the trackers have different scales, so the axis is the position in the table.
    x = np.arange(len(places))
    label = f"{tracker}: {', '.join(f'{p:g}' for p in places)}"
    (line,) = axes.plot(x, table.mean(axis=0), marker=".", label=label, color=_OURS if tracker == OURS else None)
    if second:
        axes.fill_between(x, table.min(axis=0), table.max(axis=0), alpha=0.15, color=line.get_color())
    axes.set_xticks(x)


def require() -> None:
    """Raises InputError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f'plots need {error.name}; pip install "vps_ros[evaluate]", or ask for --json alone') from None


def _figure(width: float, height: float) -> Figure:
    """Size in inches. Without pyplot, which would need a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), constrained_layout=True)


def _color(tracker: str) -> str:
    return _OURS if tracker == OURS else _OTHERS
