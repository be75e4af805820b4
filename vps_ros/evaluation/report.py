"""The HTML report of an evaluation: one file without scripts and without links to other files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from vps_ros.errors import InputError
from vps_ros.evaluation.average_precision import TrackPrecision
from vps_ros.evaluation.page import confusion, plots, tables
from vps_ros.evaluation.page.markup import Table, macro, percent, plural, render_page
from vps_ros.evaluation.page.pictures import Picture, embed
from vps_ros.evaluation.page.timelines import timelines
from vps_ros.evaluation.results import Report
from vps_ros.files import atomic_write

__all__ = ["Entry", "Picture", "write_html", "write_precision_html"]


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
    names = [entry.name for entry in entries]
    if not names or len(set(names)) < len(names):
        raise InputError(f"report of predictions {names}: needs at least one, and names that differ")
    first, sections = entries[0], _Sections()
    curves = plots.quality_over_time({entry.name: entry.timeline for entry in entries})
    if len(entries) == 1:
        top = _summary(first.report, facts or {})
        _add_tables(sections, first.report)
        sections.add("time", "Quality over time", plots.MEANING, curves)
        _add_maps(sections, first.report)
    else:
        reports = {entry.name: entry.report for entry in entries}
        top = macro("tiles", [], [(name, value, "") for name, value in (facts or {}).items()])
        sections.add("comparison", "Comparison", tables.COMPARED_SCORES, tables.compared_scores(reports))
        sections.add("classes", "Classes", tables.COMPARED_CLASSES, tables.compared_classes(reports))
        sections.add("sequences", "Sequences", tables.COMPARED_SEQUENCES, tables.compared_sequences(reports))
        sections.add("time", "Quality over time", plots.MEANING, curves)
    sections.add("pictures", "Pictures", "", embed(pictures) if pictures else "")
    if len(entries) > 1:
        details = Markup("").join(_details(number, entry) for number, entry in enumerate(entries))
        sections.add("details", "Each prediction in full", "", details)
    _write(path, title, _lead(first.report), sections, top, contents=True)


def write_precision_html(path: str | Path, reports: Mapping[str, TrackPrecision], title: str) -> None:
    """Writes a report of AP and AR atomically, of predictions by name; an existing file is replaced."""
    first = next(iter(reports.values()))
    sections = _Sections()
    sections.add("total", "Average precision", tables.PRECISION, tables.precision_table(reports))
    sections.add("classes", "Classes", "AP of each class that has a true track.", tables.precision_classes(reports))
    lead = macro("precision_lead", first, plural(first.videos, "video"), plural(first.tracks, "true track"))
    _write(path, title, lead, sections)


def _write(
    path: str | Path, title: str, lead: Markup, sections: _Sections, top: Markup | str = "", contents: bool = False
) -> None:
    page = render_page(title=title, lead=lead, top=top, sections=sections.shown, contents=contents)
    with atomic_write(path) as draft:
        draft.write_text(page, encoding="utf-8")


class _Section(NamedTuple):
    anchor: str
    heading: str
    meaning: Markup | str
    body: Markup | str

    def html(self) -> Markup:
        return macro("section", *self)


class _Sections:
    """The sections of a page in their order; those without content are left out."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.shown: list[_Section] = []

    def add(self, anchor: str, heading: str, meaning: Markup | str, body: Table | Markup | str) -> None:
        if isinstance(body, Table):
            body = macro("table", body)
        if body:
            self.shown.append(_Section(self._prefix + anchor, heading, meaning, body))


def _add_tables(sections: _Sections, report: Report) -> None:
    sections.add("classes", "Classes", tables.CLASSES, tables.class_table(report))
    sections.add("sequences", "Sequences", tables.SEQUENCES, tables.sequence_table(report))


def _add_maps(sections: _Sections, report: Report) -> None:
    sections.add("timelines", "Timelines", macro("timeline_legend"), timelines(report.sequences))
    sections.add("confusion", "Confusion of classes", confusion.MEANING, confusion.confusion_map(report))


def _lead(report: Report) -> Markup:
    frames, tubes = plural(report.frames, "frame"), plural(report.tubes, "true tube")
    return macro("lead", report, frames, plural(len(report.sequences), "sequence"), tubes)


def _summary(report: Report, facts: Mapping[str, str]) -> Markup:
    """The main scores, and notes on what could be misunderstood or missed."""
    found = [report.void_note] if report.void_note else []
    if report.vpq.windows and report.identity is None:
        found.append("IDF1, HOTA, MOTA and switches were not measured: TrackEval is not installed.")
    return tables.tiles(report, facts) + Markup("").join(macro("note", text) for text in found)


def _details(number: int, entry: Entry) -> Markup:
    """All about one prediction of several, but for its curves and pictures."""
    sections = _Sections(f"p{number}-")
    _add_tables(sections, entry.report)
    _add_maps(sections, entry.report)
    scores = (("STQ", entry.report.stq), ("PQ", entry.report.pq.all), ("mIoU", entry.report.miou))
    figures = [f"{name} {percent(value)}" for name, value in scores]
    return macro("details", entry.name, figures, _summary(entry.report, {}), sections.shown)
