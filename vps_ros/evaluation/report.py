"""The HTML reports of evaluations: each is one file without scripts; only that of many drives has links, to theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from vps_ros.errors import InputError
from vps_ros.evaluation.average_precision import TrackPrecision
from vps_ros.evaluation.page import Table, charts, macro, tables
from vps_ros.evaluation.page.pictures import INTERVAL, Picture, embed, moment
from vps_ros.evaluation.results import Report
from vps_ros.files import atomic_write

__all__ = ["INTERVAL", "Entry", "Picture", "moment", "write_drives_html", "write_html", "write_precision_html"]

Section = tuple[str, str, Markup | str, Table | Markup | str]
"""Anchor, heading, meaning and content; a section without content is left out."""


@dataclass(frozen=True)
class Entry:
    """One evaluated prediction.

    Attributes:
        name: unique in the report.
        timeline: PQ of each frame, 0..1 or NaN, by sequence.
    """

    name: str
    report: Report
    timeline: Mapping[str, Sequence[float]] = field(default_factory=dict)


def write_html(
    path: str | Path,
    entries: Sequence[Entry],
    pictures: Sequence[Picture] = (),
    title: str = "Evaluation",
    facts: Mapping[str, str] | None = None,
) -> None:
    """Writes the report atomically; an existing file is replaced.

    Args:
        entries: predictions of the same videos. Several are compared first, then each is shown in full.
        pictures: example frames.
        facts: further values for the top of the page, such as speed: name -> value.

    Raises InputError without an entry, and when two have the same name.
    """
    reports = {entry.name: entry.report for entry in entries}
    if not entries or len(reports) < len(entries):
        names = [entry.name for entry in entries]
        raise InputError(f"report of predictions {names}: needs at least one, and names that differ")
    first = entries[0].report
    curves = charts.quality_over_time({entry.name: entry.timeline for entry in entries})
    quality: Section = "time", "Quality over time", charts.QUALITY, curves
    shown: Section = "pictures", "Pictures", "", embed(pictures) if pictures else ""
    if len(entries) == 1:
        top = _summary(first, facts or {})
        sections = [*_tables(first), quality, *_maps(first), shown]
    else:
        top = macro("tiles", first, [], [(name, value, "") for name, value in (facts or {}).items()])
        sections = [
            ("comparison", "Comparison", tables.COMPARED_SCORES, tables.compared_scores(reports)),
            ("classes", "Classes", tables.COMPARED_CLASSES, tables.compared_classes(reports)),
            ("sequences", "Sequences", tables.COMPARED_SEQUENCES, tables.compared_sequences(reports)),
            quality,
            *(_changes(entries[0], other, len(entries) > 2) for other in entries[1:]),
            shown,
            ("details", "Each prediction in full", "", Markup("").join(map(_details, range(len(entries)), entries))),
        ]
    _write(path, title, macro("lead", first), sections, top, contents=True)


def write_drives_html(
    path: str | Path, report: Report, links: Mapping[str, str], failed: Mapping[str, str], title: str
) -> None:
    """Writes the report of many drives atomically, the one of lowest STQ first; an existing file is replaced.

    Args:
        links: name of each sequence -> relative URL of its own report, written by `write_html`.
        failed: drive without result -> the reason.
    """
    reasons = Table(tables.heads(("drive", "reason")), [tables.cells(*one) for one in failed.items()])
    sections: list[Section] = [
        ("drives", "Drives, worst first", tables.DRIVES, tables.sequence_table(report, links)),
        ("failed", "Drives without result", "", reasons if failed else ""),
        ("classes", "Classes", tables.CLASSES, tables.class_table(report)),
        ("confusion", "Confusion of classes", tables.CONFUSION, tables.confusion_table(report)),
    ]
    _write(path, title, macro("lead", report), sections, _summary(report, {}), contents=True)


def write_precision_html(path: str | Path, reports: Mapping[str, TrackPrecision], title: str) -> None:
    """Writes a report of AP and AR atomically, of predictions by name; an existing file is replaced."""
    sections: list[Section] = [
        ("total", "Average precision", tables.PRECISION, tables.precision_table(reports)),
        ("classes", "Classes", "AP of each class that has a true track.", tables.precision_classes(reports)),
    ]
    _write(path, title, macro("precision_lead", next(iter(reports.values()))), sections)


def _write(
    path: str | Path,
    title: str,
    lead: Markup,
    sections: Iterable[Section],
    top: Markup | str = "",
    contents: bool = False,
) -> None:
    page = macro("page", title, lead, top, _with_content(sections), contents)
    with atomic_write(path) as draft:
        draft.write_text(page, encoding="utf-8")


def _with_content(sections: Iterable[Section]) -> list[Section]:
    return [(a, h, m, macro("table", body) if isinstance(body, Table) else body) for a, h, m, body in sections if body]


def _tables(report: Report) -> list[Section]:
    return [
        ("classes", "Classes", tables.CLASSES, tables.class_table(report)),
        ("sequences", "Sequences", tables.SEQUENCES, tables.sequence_table(report)),
    ]


def _maps(report: Report) -> list[Section]:
    return [
        ("timelines", "Timelines", macro("timeline_legend"), charts.timelines(report.sequences)),
        ("confusion", "Confusion of classes", tables.CONFUSION, tables.confusion_table(report)),
    ]


def _changes(first: Entry, second: Entry, several: bool) -> Section:
    body = charts.changes(*((one.name, one.report.sequences) for one in (first, second)))
    anchor = f"changes-{second.name}" if several else "changes"
    return anchor, f"What changed from {first.name} to {second.name}", charts.CHANGES, body


def _summary(report: Report, facts: Mapping[str, str]) -> Markup:
    """The main scores, and notes on what could be misunderstood or missed."""
    found = [report.void_note] if report.void_note else []
    if report.vpq.windows and report.identity is None:
        found.append("IDF1, HOTA, MOTA and switches were not measured: TrackEval is not installed.")
    return tables.tiles(report, facts) + Markup("").join(macro("note", text) for text in found)


def _details(number: int, entry: Entry) -> Markup:
    """All about one prediction of several, but for its curves and pictures."""
    sections = _with_content([*_tables(entry.report), *_maps(entry.report)])
    return macro("details", number, entry.name, entry.report, _summary(entry.report, {}), sections)
