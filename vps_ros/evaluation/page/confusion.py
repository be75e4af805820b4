"""Confusion of classes as a map of shades."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from vps_ros.evaluation.page.markup import hexadecimal, percent, table
from vps_ros.evaluation.results import Report

WRITTEN = 24
"""Up to so many columns there is room for numbers."""
_NAMED = 5
"""Confusions that are told in words."""
_WORTH = 0.005

MEANING = (
    "Of all pixels of a true class (row), the percent that is predicted as each class (column). "
    "On the diagonal is what is right. The shade goes with the root of the share, so that rare confusions show."
)


def confusion_map(report: Report) -> str:
    """Rows of the true classes that occur, columns of what is predicted for them; nothing without a labelled pixel."""
    names, colors = [*report.classes, "void"], [*(c.color for c in report.classes.values()), (0, 0, 0)]
    labelled = report.confusion[:-1]
    rows = np.flatnonzero(labelled.sum(1))
    # The diagonal is kept, so that a class which is never found still has a place for what is right.
    columns = sorted({*rows.tolist(), *np.flatnonzero(labelled.sum(0)).tolist()})
    if not len(rows):
        return ""
    totals = labelled.sum(1)
    dense = len(columns) > WRITTEN
    head = ["<th scope=col class=corner>true ↓ predicted →</th>"]
    head += [f"<th scope=col class=column><span>{_named(names[c], colors[c])}</span></th>" for c in columns]
    body = [
        f"<th scope=row class=name>{_named(names[r], colors[r])}</th>"
        + "".join(_cell(labelled[r, c], totals[r], names[r], names[c], not dense) for c in columns)
        for r in rows
    ]
    return _in_words(report, names) + table(head, body, kind="confusion dense" if dense else "confusion")


def _in_words(report: Report, names: list[str]) -> str:
    """The confusions of the largest share of a true class."""
    totals = report.confusion[:-1].sum(1, keepdims=True)
    shares = report.confusion[:-1] / np.maximum(totals, 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:_NAMED]
    pairs = [divmod(int(i), shares.shape[1]) for i in order]
    told = [
        f"<b>{escape(names[r])}</b> as <b>{escape(names[c])}</b> ({percent(shares[r, c])})"
        for r, c in pairs
        if shares[r, c] >= _WORTH
    ]
    return f"<p>Most often taken for another: {', '.join(told)}.</p>" if told else ""


def _cell(pixels: int, total: int, truth: str, predicted: str, written: bool) -> str:
    right = truth == predicted
    if not pixels:
        return "<td class=hit></td>" if right else "<td></td>"
    share = pixels / total
    words = f"{truth} as {predicted}: {percent(share)} % of {total:,} pixels"
    number = f"{100 * share:.0f}" if written and share >= _WORTH else ""
    kind = "hit" if right else "miss"
    return f"<td class={kind} style='--v:{math.sqrt(share):.2f}' title='{escape(words)}'>{number}</td>"


def _named(name: str, color: tuple[int, int, int]) -> str:
    return f"<i class=sample style='background:{hexadecimal(color)}'></i>{escape(name)}"
