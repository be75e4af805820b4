"""The document of a comparison as tables, and as plots, which need matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vps_ros.ablation.study import TRUTH
from vps_ros.ablation.sweeps import (
    FEATURE_COLUMNS,
    FEATURES,
    OURS,
    PUBLISHED,
    PUBLISHED_SPACE,
    PUBLISHED_SWEEPS,
    SPACE,
    SWEEPS,
)
from vps_ros.errors import InputError
from vps_ros.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Table = tuple[str, list[str], list[list[object]]]
_COLUMNS = {
    "AQ": "AQ",
    "STQ": "STQ",
    "IDF1": "IDF1",
    "HOTA": "HOTA",
    "MOTA": "MOTA",
    "IDSW": "switches",
    "IDSW_any_class": "of any class",
    "association_ms": "association ms",
    "flow_ms": "flow ms",
    "candidates": "pairs",
    "candidates_max": "most",
}
_SHARES = ("AQ", "STQ", "IDF1", "HOTA", "MOTA")
_GOAL_COLUMNS = ["masks", "", OURS, "best other", "which", "of its gap to 100", "of what is possible"]
_GOAL_COLUMNS += ["scenarios where none is better", "where one is"]
_OURS, _OTHERS, _CEILING = "#c0392b", "#44546a", "#7f8c8d"


def tables(document: dict) -> list[Table]:
    """Title, columns and rows; shares in percent."""
    found = []
    for masks in document["plan"]["masks"]:
        means = [m for m in document["means"] if m["masks"] == masks]
        means.sort(key=lambda m: (m["tracker"] != TRUTH, -(m["AQ"] or 0)))
        rows = [[m["tracker"], *(_shown(name, m[name]) for name in _COLUMNS)] for m in means]
        found.append((f"{masks} masks, mean over scenarios", ["tracker", *_COLUMNS.values()], rows))
        for name in ("AQ", "IDF1", "IDSW"):
            cells, scenarios = _cells(document, masks, name), document["plan"]["scenarios"]
            rows = [
                [t, *(_shown(name, value) for value in (*(cells[t, s] for s in scenarios), m[name]))]
                for m in means
                for t in [m["tracker"]]
            ]
            columns = ["tracker", *scenarios, "sum" if name == "IDSW" else "mean"]
            found.append((f"{masks} masks, {_COLUMNS[name]} by scenario", columns, rows))
    if compared := goal(document):
        found.append((f"{OURS} beside the best other", _GOAL_COLUMNS, list(map(_goal_row, compared))))
    if {"model", "clips"} <= set(document["plan"]["masks"]):
        found.append(_near_online(document))
    if document.get("features"):
        found.append(_features(document))
    if document["sweeps"]:
        found.append(_space(document["sweeps"]))
    return found + list(_sweep_tables(document["sweeps"]))


def goal(document: dict) -> list[dict]:
    """OURS compared with the other tracker of the highest mean, for each kind of masks and for AQ and IDF1.

    Keys: masks, metric, ours, best, tracker (that of best), gap ((ours - best) / (1 - best)), bound_gap (the same with
    the upper bound instead of 1), cells (scenarios), lost: [(scenario, tracker, ours, its)] where another is better.
    """
    found = []
    scenarios = document["plan"]["scenarios"]
    for masks, metric in ((masks, metric) for masks in document["plan"]["masks"] for metric in ("AQ", "IDF1")):
        means, cells = _means(document, masks, metric), _cells(document, masks, metric)
        ceiling = means.pop(TRUTH, 1.0)
        ours = means.pop(OURS, None)
        if ours is None or not means:
            continue
        tracker, best = max(means.items(), key=lambda item: item[1])
        rivals = {scenario: max(means, key=lambda t: cells[t, scenario]) for scenario in scenarios}
        lost = [
            (scenario, rival, cells[OURS, scenario], cells[rival, scenario])
            for scenario, rival in rivals.items()
            if cells[rival, scenario] > cells[OURS, scenario]
        ]
        found.append(
            {
                "masks": masks,
                "metric": metric,
                "ours": ours,
                "best": best,
                "tracker": tracker,
                "gap": _share(ours - best, 1 - best),
                "bound_gap": _share(ours - best, ceiling - best),
                "cells": len(scenarios),
                "lost": lost,
            }
        )
    return found


def _goal_row(g: dict) -> list[object]:
    better = ", ".join(f"{scenario} ({rival})" for scenario, rival, _, _ in g["lost"]) or "none"
    ours, best, gap, bound_gap = (_percent(g[name]) for name in ("ours", "best", "gap", "bound_gap"))
    won = f"{g['cells'] - len(g['lost'])} of {g['cells']}"
    return [g["masks"], g["metric"], ours, best, g["tracker"], gap, bound_gap, won, better]


def _means(document: dict, masks: str, name: str) -> dict[str, Any]:
    """Tracker -> mean over the scenarios."""
    return {m["tracker"]: m[name] for m in document["means"] if m["masks"] == masks}


def _cells(document: dict, masks: str, name: str) -> dict[tuple[str, str], Any]:
    """(tracker, scenario) -> value."""
    return {(c["tracker"], c["scenario"]): c[name] for c in document["cells"] if c["masks"] == masks}


def _near_online(document: dict) -> Table:
    """AQ online and near-online, and the difference in each scenario."""
    scenarios = document["plan"]["scenarios"]
    online, near = (_cells(document, masks, "AQ") for masks in ("model", "clips"))
    means = [_means(document, masks, "AQ") for masks in ("model", "clips")]
    rows: list[list[object]] = []
    for tracker in (TRUTH, *document["plan"]["trackers"]):
        gains = [100 * (near[tracker, s] - online[tracker, s]) for s in scenarios]
        won = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
        rows.append([tracker, *(_percent(mean[tracker]) for mean in means), won, *gains])
    columns = ["tracker", "online", "near-online", "near-online better", *(f"{s}, gain" for s in scenarios)]
    return "AQ of online (model) and near-online (clips)", columns, rows


def _features(document: dict) -> Table:
    masks = document["plan"]["masks"]
    found = {(r["masks"], r["features"]): _percent(r["AQ"]) for r in document["features"]}
    rows: list[list[object]] = [
        [row.name, *(found.get((m, row.name)) for m in masks), *row.published]
        for row in FEATURES
        if any((m, row.name) in found for m in masks)
    ]
    return "AQ by association features (Video-kMaX table 5)", ["features", *masks, *FEATURE_COLUMNS], rows


def _space(runs: Sequence[dict]) -> Table:
    rows: dict[tuple[str, str], list[object]] = {}
    for r in runs:
        if r["sweep"] == SPACE.name:
            rows.setdefault((r["masks"], r["tracker"]), []).extend([r["candidates"], r["candidates_max"]])
    columns = ["masks", "tracker", "pairs at tau 1000", "most", "pairs at its own tau", "most"]
    theirs = {(PUBLISHED, tracker): [*values] for tracker, values in PUBLISHED_SPACE.items()}
    return (
        f"Pairs compared in a frame ({SPACE.source})",
        columns,
        [[*key, *row] for key, row in (rows | theirs).items()],
    )


def _sweep_tables(runs: Sequence[dict]) -> Iterable[Table]:
    """A table for each sweep and set of values: AQ, and its mean and standard deviation."""
    for sweep in SWEEPS:
        if sweep is SPACE:
            continue
        rows: dict[tuple[str, ...], list[list[object]]] = {}
        groups: dict[str, tuple[str, ...]] = {}
        of_sweep = [r for r in runs if r["sweep"] == sweep.name]
        for masks, tracker in dict.fromkeys((r["masks"], r["tracker"]) for r in of_sweep):
            mine = [r for r in of_sweep if (r["masks"], r["tracker"]) == (masks, tracker)]
            settings = tuple("/".join(f"{v:g}" for v in r["setting"].values()) for r in mine)
            values = [100 * r["AQ"] for r in mine]
            row = [masks, tracker, *values, float(np.mean(values)), float(np.std(values))]
            rows.setdefault(settings, []).append(row)
            groups[tracker] = settings
        for tracker, theirs in PUBLISHED_SWEEPS.get(sweep.name, {}).items():
            if tracker in groups:
                row = [PUBLISHED, tracker, *theirs, float(np.mean(theirs)), float(np.std(theirs))]
                rows[groups[tracker]].append(row)
        symbols = "/".join(axis.symbol for axis in sweep.axes)
        for settings, several in rows.items():
            title = f"AQ by {symbols} ({sweep.source})"
            yield title, ["masks", "tracker", *settings, "mean", "deviation"], several


def _shown(name: str, value: Any) -> Any:
    return _percent(value) if name in _SHARES else value


def _percent(value: float | None) -> float | None:
    return None if value is None or value != value else 100 * value


def _share(part: float, total: float) -> float | None:
    return part / total if total > 0 else None


def require_plots() -> None:
    """Raises InputError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f'plots need {error.name}; pip install "vps_ros[evaluate]", or ask for --json alone') from None


def draw(document: dict, folder: Path) -> list[Path]:
    """Writes ablation-quality.png, ablation-cost.png and, where there are sweeps, ablation-sweeps.png."""
    pictures = {"quality": _quality(document), "cost": _cost(document)}
    if any(r["sweep"] != SPACE.name for r in document["sweeps"]):
        pictures["sweeps"] = _sweep_plots(document["sweeps"])
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
    masks, trackers = document["plan"]["masks"], document["plan"]["trackers"]
    figure = _figure(4 * len(masks) + 1.5, 1.6 + 0.55 * len(trackers))
    grid: Any = figure.subplots(2, len(masks), squeeze=False)
    for row, metric in zip(grid, ("AQ", "IDF1"), strict=True):
        for axes, kind in zip(row, masks, strict=True):
            means = {tracker: mean or 0.0 for tracker, mean in _means(document, kind, metric).items()}
            cells = _cells(document, kind, metric)
            order = sorted(trackers, key=lambda t: means[t])
            axes.barh(order, [100 * means[t] for t in order], color=[_color(t) for t in order], alpha=0.35)
            for i, scenario in enumerate(document["plan"]["scenarios"]):
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


def _sweep_plots(runs: Sequence[dict]) -> Figure:
    """Mean AQ over all masks by the first parameter of each sweep; a band if a second one was varied."""
    there = [s for s in SWEEPS if s is not SPACE and any(r["sweep"] == s.name for r in runs)]
    figure = _figure(4.2 * len(there), 4)
    for axes, sweep in zip(figure.subplots(1, len(there), squeeze=False)[0], there, strict=True):
        of_sweep = [r for r in runs if r["sweep"] == sweep.name]
        for tracker in dict.fromkeys(r["tracker"] for r in of_sweep):
            _line(axes, [r for r in of_sweep if r["tracker"] == tracker], tracker)
        axes.set(title=sweep.source, xlabel=f"{sweep.axes[0].symbol}, by position in the table", ylabel="AQ")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def _line(axes: Axes, runs: Sequence[dict], tracker: str) -> None:
    first, *second = runs[0]["setting"]
    values: dict[tuple, list[float]] = {}
    for r in runs:
        values.setdefault((tuple(r["setting"][s] for s in second), r["setting"][first]), []).append(100 * r["AQ"])
    others, places = (sorted(set(column)) for column in zip(*values, strict=True))
    table = np.array([[np.mean(values[other, place]) for place in places] for other in others])
    # The values of the trackers have different scales, so the axis is the position in the table.
    x = np.arange(len(places))
    label = f"{tracker}: {', '.join(f'{p:g}' for p in places)}"
    (line,) = axes.plot(x, table.mean(axis=0), marker=".", label=label, color=_OURS if tracker == OURS else None)
    if second:
        axes.fill_between(x, table.min(axis=0), table.max(axis=0), alpha=0.15, color=line.get_color())
    axes.set_xticks(x)


def _figure(width: float, height: float) -> Figure:
    """Size in inches. Without pyplot, which would need a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), constrained_layout=True)


def _color(tracker: str) -> str:
    return _OURS if tracker == OURS else _OTHERS
