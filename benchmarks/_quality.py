"""Figures that several benchmarks have: panoptic quality of segments, and identities."""

from __future__ import annotations

from collections.abc import Sequence

from vps_ros.ablation import trial
from vps_ros.evaluation import Report


def pq_figures(report: Report) -> dict[str, float]:
    return {"PQ": report.pq.all, "PQ things": report.pq.things, "PQ stuff": report.pq.stuff}


IDENTITY_SHARES, IDENTITY_COUNTS = ("AQ", "STQ", "IDF1", "MOTA"), ("IDSW", "tracks")
IDENTITY_COLUMNS = (*(f"{name} %" for name in IDENTITY_SHARES), *IDENTITY_COUNTS)


def identity_figures(trials: Sequence[trial.Trial]) -> dict[str, float | int | None]:
    """Identities over several drives."""
    found = trial.figures(trials)
    return {name: found[name] for name in (*IDENTITY_SHARES, *IDENTITY_COUNTS)}


def identity_cells(figures: dict) -> list[object]:
    """Cells of IDENTITY_COLUMNS."""
    return [*(100 * figures[name] for name in IDENTITY_SHARES), *(figures[name] for name in IDENTITY_COUNTS)]
