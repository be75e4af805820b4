"""The confusion of classes as a table of shades."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from vps_ros.evaluation.page.markup import Cell, Table, macro, percent
from vps_ros.evaluation.results import Report

MAX_NUMBERED_COLUMNS = 24
"""A table with more columns has shades without numbers."""
_LISTED = 5
"""Most frequent confusions that are listed above the table."""
_MIN_SHARE = 0.005

MEANING = (
    "Of all pixels of a true class (row), the percent that is predicted as each class (column); correct pixels are on "
    "the diagonal. The shade is proportional to the square root of the share, so that rare confusions are visible."
)


def confusion_map(report: Report) -> Markup | str:
    """Rows of the true classes that occur, columns of the classes predicted for them; empty without labelled pixels."""
    names, colors = [*report.classes, "void"], [*(c.color for c in report.classes.values()), (0, 0, 0)]
    labelled = report.confusion[:-1]
    totals = labelled.sum(1)
    rows = np.flatnonzero(totals).tolist()
    # Each row has a column for its diagonal, even if the class is never predicted.
    columns = sorted({*rows, *np.flatnonzero(labelled.sum(0)).tolist()})
    if not rows:
        return ""
    numbered = len(columns) <= MAX_NUMBERED_COLUMNS
    head = [Cell("true ↓ predicted →", "corner"), *(Cell(names[c], "column", color=colors[c]) for c in columns)]
    body = [
        [
            Cell(names[r], color=colors[r]),
            *(_cell(labelled[r, c], totals[r], names[r], names[c], numbered) for c in columns),
        ]
        for r in rows
    ]
    table = Table(head, body, kind="confusion" if numbered else "confusion dense")
    return macro("confused", _most_frequent(report, names)) + macro("table", table)


def _most_frequent(report: Report, names: list[str]) -> list[tuple[str, str, float]]:
    """(true class, predicted class, share of the true class) of the largest shares."""
    totals = report.confusion[:-1].sum(1, keepdims=True)
    shares = report.confusion[:-1] / np.maximum(totals, 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:_LISTED]
    pairs = [divmod(int(i), shares.shape[1]) for i in order]
    return [(names[r], names[c], float(shares[r, c])) for r, c in pairs if shares[r, c] >= _MIN_SHARE]


def _cell(pixels: int, total: int, truth: str, predicted: str, numbered: bool) -> Cell:
    correct = truth == predicted
    if not pixels:
        return Cell(kind="hit" if correct else "")
    share = pixels / total
    return Cell(
        f"{100 * share:.0f}" if numbered and share >= _MIN_SHARE else "",
        "hit" if correct else "miss",
        f"{truth} as {predicted}: {percent(share)} % of {total:,} pixels",
        f"--v:{math.sqrt(share):.2f}",
    )
