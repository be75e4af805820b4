"""The document of a comparison as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vps_ros.ablation.study import TRUTH
from vps_ros.ablation.sweeps import OURS, SPACE, SWEEPS

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


def tables(document: dict) -> list[Table]:
    """Title, columns and rows; shares in percent."""
    found = []
    for masks in document["plan"]["masks"]:
        found.append(_means(document, masks))
        found += [_by_scenario(document, masks, name) for name in ("AQ", "IDF1", "IDSW")]
    if ours := _goal(document):
        found.append(ours)
    if document["sweeps"]:
        found.append(_space(document["sweeps"]))
    return found + list(_sweeps(document["sweeps"]))


def _means(document: dict, masks: str) -> Table:
    rows = [
        [mean["tracker"], *(_percent(mean[name]) if name in _SHARES else mean[name] for name in _COLUMNS)]
        for mean in _best_first([m for m in document["means"] if m["masks"] == masks])
    ]
    return f"{masks} masks, mean over scenarios", ["tracker", *_COLUMNS.values()], rows


def _best_first(means: Iterable[dict]) -> list[dict]:
    return sorted(means, key=lambda m: (m["tracker"] != TRUTH, -(m["AQ"] or 0)))


def _by_scenario(document: dict, masks: str, name: str) -> Table:
    cells = {(c["tracker"], c["scenario"]): c[name] for c in document["cells"] if c["masks"] == masks}
    scenarios = document["plan"]["scenarios"]
    rows = []
    for mean in _best_first([m for m in document["means"] if m["masks"] == masks]):
        values = [cells[mean["tracker"], scenario] for scenario in scenarios]
        every = [*values, mean[name]]
        rows.append([mean["tracker"], *(map(_percent, every) if name in _SHARES else every)])
    last = "sum" if name == "IDSW" else "mean"
    return f"{masks} masks, {_COLUMNS[name]} by scenario", ["tracker", *scenarios, last], rows


def goal(document: dict) -> list[dict]:
    """OURS compared with the other tracker of the highest mean, for each kind of masks and for AQ and IDF1.

    Keys: masks, metric, ours, best, tracker (that of best), gap ((ours - best) / (1 - best)), bound_gap (the same with
    the upper bound instead of 1), cells (scenarios), lost: [(scenario, tracker, ours, its)] where another is better.
    """
    found = []
    for masks in document["plan"]["masks"]:
        for metric in ("AQ", "IDF1"):
            means = {m["tracker"]: m[metric] for m in document["means"] if m["masks"] == masks}
            ceiling = means.pop(TRUTH, 1.0)
            if OURS not in means or len(means) < 2:
                continue
            ours = means.pop(OURS)
            tracker = max(means, key=lambda t: means[t])
            best = means[tracker]
            lost = []
            for scenario in document["plan"]["scenarios"]:
                row = {
                    c["tracker"]: c[metric]
                    for c in document["cells"]
                    if (c["masks"], c["scenario"]) == (masks, scenario) and c["tracker"] != TRUTH
                }
                rival = max((t for t in row if t != OURS), key=lambda t: row[t])
                if row[rival] > row[OURS]:
                    lost.append((scenario, rival, row[OURS], row[rival]))
            found.append(
                {
                    "masks": masks,
                    "metric": metric,
                    "ours": ours,
                    "best": best,
                    "tracker": tracker,
                    "gap": _share(ours - best, 1 - best),
                    "bound_gap": _share(ours - best, ceiling - best),
                    "cells": len(document["plan"]["scenarios"]),
                    "lost": lost,
                }
            )
    return found


def _goal(document: dict) -> Table | None:
    rows = [
        [
            g["masks"],
            g["metric"],
            _percent(g["ours"]),
            _percent(g["best"]),
            g["tracker"],
            _percent(g["gap"]),
            _percent(g["bound_gap"]),
            f"{g['cells'] - len(g['lost'])} of {g['cells']}",
            ", ".join(f"{scenario} ({rival})" for scenario, rival, _, _ in g["lost"]) or "none",
        ]
        for g in goal(document)
    ]
    columns = [
        "masks",
        "",
        OURS,
        "best other",
        "which",
        "of its gap to 100",
        "of what is possible",
        "scenarios where none is better",
        "where one is",
    ]
    return (f"{OURS} beside the best other", columns, rows) if rows else None


def _space(runs: Sequence[dict]) -> Table:
    rows: dict[tuple[str, str], list[object]] = {}
    for r in runs:
        if r["sweep"] == SPACE.name:
            rows.setdefault((r["masks"], r["tracker"]), []).extend([r["candidates"], r["candidates_max"]])
    columns = ["masks", "tracker", "pairs at tau 1000", "most", "pairs at its own tau", "most"]
    return f"Pairs compared in a frame ({SPACE.source})", columns, [[*key, *row] for key, row in rows.items()]


def _sweeps(runs: Sequence[dict]) -> Iterable[Table]:
    """A table for each sweep and set of values: AQ, and its mean and standard deviation."""
    for sweep in SWEEPS:
        if sweep is SPACE:
            continue
        rows: dict[tuple[str, ...], list[list[object]]] = {}
        of_sweep = [r for r in runs if r["sweep"] == sweep.name]
        for masks, tracker in dict.fromkeys((r["masks"], r["tracker"]) for r in of_sweep):
            mine = [r for r in of_sweep if (r["masks"], r["tracker"]) == (masks, tracker)]
            settings = tuple("/".join(f"{v:g}" for v in r["setting"].values()) for r in mine)
            values = [100 * r["AQ"] for r in mine]
            row = [masks, tracker, *values, float(np.mean(values)), float(np.std(values))]
            rows.setdefault(settings, []).append(row)
        symbols = "/".join(axis.symbol for axis in sweep.axes)
        for settings, several in rows.items():
            title = f"AQ by {symbols} ({sweep.source})"
            yield title, ["masks", "tracker", *settings, "mean", "deviation"], several


def _percent(value: float | None) -> float | None:
    return None if value is None or value != value else 100 * value


def _share(part: float, total: float) -> float | None:
    return part / total if total > 0 else None
