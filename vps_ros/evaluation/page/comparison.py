"""Several predictions of the same videos side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from vps_ros.evaluation.page.entry import Entry
from vps_ros.evaluation.page.markup import UNKNOWN, bar, cells, heads, name_cell, percent, strong, table
from vps_ros.evaluation.page.metrics import Metric, metrics
from vps_ros.evaluation.plots import series
from vps_ros.evaluation.results import Report

METRICS = "The best of each row is bold. VPQ is also told for each window, by its frames."
CLASSES = "PQ of each class that occurs, the best bold."
SEQUENCES = "STQ of each sequence, the best bold."


def metrics_table(entries: Sequence[Entry]) -> str:
    """Metrics by predictions, the best as shown in bold; with two of them also what the second gains."""
    columns = [metrics(entry.report) for entry in entries]
    names = list(dict.fromkeys((m.name, m.part_of) for column in columns for m in column))
    found = [{(m.name, m.part_of): m for m in column} for column in columns]
    rows = []
    for name in names:
        row = [column.get(name) for column in found]
        known = [m for m in row if m is not None]
        kind = "name part" if name[1] else "name"
        shown = [m.text if m else UNKNOWN for m in row]
        best = _best([m.value if m else float("nan") for m in row], shown, known[0].is_count)
        rows.append(
            name_cell(name[0], kind=kind, meaning=known[0].meaning)
            + cells(*(strong(text, is_best) for text, is_best in zip(shown, best, strict=True)))
            + (cells(_gain(*row)) if len(entries) == 2 else "")
        )
    head = [*heads(["metric"]), *_entry_heads(entries), *(heads(["difference"]) if len(entries) == 2 else [])]
    return table(head, rows, kind="versus metrics")


def class_table(entries: Sequence[Entry]) -> str:
    """PQ of the classes that occur anywhere, by prediction."""
    names = dict.fromkeys(name for entry in entries for name in entry.report.classes)
    rows = []
    for name in names:
        found = [entry.report.classes.get(name) for entry in entries]
        label = next((c for c in found if c and c.occurs), None)
        if label is None:
            continue
        kind = f"<td class=kind>{'thing' if label.is_thing else 'stuff'}</td>"
        rows.append(name_cell(name, label.color) + kind + _bars(c.pq if c else float("nan") for c in found))
    foot = name_cell("all") + "<td class=kind></td>" + _bars(entry.report.pq.all for entry in entries)
    return table([*heads(["class", "kind"]), *_entry_heads(entries, 72)], rows, foot, "versus")


def sequence_table(entries: Sequence[Entry]) -> str:
    """STQ of each sequence, by prediction."""
    reports: list[Report] = [entry.report for entry in entries]
    names = dict.fromkeys(name for report in reports for name in report.sequences)
    rows = [
        name_cell(name) + _bars(r.sequences[name].stq if name in r.sequences else float("nan") for r in reports)
        for name in names
    ]
    foot = name_cell("all") + _bars(report.stq for report in reports) if len(rows) > 1 else ""
    return table([*heads(["sequence"]), *_entry_heads(entries, 80)], rows, foot, "versus")


def _entry_heads(entries: Sequence[Entry], share: int = 0) -> list[str]:
    """The names over their columns, which together take so many percent of the table, one as much as the other."""
    width = f" style='width:{share / len(entries):.1f}%'" if share else ""
    return [
        f"<th scope=col class='entry {series(i)}'{width}>{escape(entry.name)}</th>" for i, entry in enumerate(entries)
    ]


def _bars(values: Iterable[float]) -> str:
    values = tuple(values)
    best = _best(values, [percent(value) for value in values], False)
    return "".join(bar(value, is_best) for value, is_best in zip(values, best, strict=True))


def _best(values: Sequence[float], shown: Sequence[str], fewer: bool) -> list[bool]:
    """Which are shown as the best one is; none where all are shown alike."""
    known = [(value, text) for value, text in zip(values, shown, strict=True) if value == value]
    if not known or len(set(shown)) == 1:
        return [False] * len(shown)
    best = (min if fewer else max)(known)[1]
    return [text == best for text in shown]


def _gain(first: Metric | None, second: Metric | None) -> str:
    if first is None or second is None or first.value != first.value or second.value != second.value:
        return UNKNOWN
    gain = second.value - first.value
    text = f"{gain:+,.0f}" if first.is_count else f"{100 * gain:+.1f}"
    better = gain < 0 if first.is_count else gain > 0
    # A zero has no sign to show.
    if not text.strip("+-0."):
        return "0" if first.is_count else "0.0"
    return f"<span class={'better' if better else 'worse'}>{text.replace('-', '−')}</span>"
