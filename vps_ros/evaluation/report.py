"""An evaluation as one HTML page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from vps_ros.errors import InputError
from vps_ros.evaluation.page import comparison, summary
from vps_ros.evaluation.page.confusion import MEANING as CONFUSION
from vps_ros.evaluation.page.confusion import confusion_map
from vps_ros.evaluation.page.entry import Entry, Picture
from vps_ros.evaluation.page.lines import LEGEND, life_lines
from vps_ros.evaluation.page.markup import percent, section
from vps_ros.evaluation.page.overtime import legend, over_time
from vps_ros.evaluation.page.pictures import pictures as embedded
from vps_ros.evaluation.page.style import STYLE
from vps_ros.files import atomic_write

__all__ = ["Entry", "Picture", "write_html", "write_page"]

_OVER_TIME = "Panoptic quality of each frame by itself, in percent, over the frames of its sequence."


def write_html(
    path: str | Path,
    entries: Sequence[Entry],
    pictures: Sequence[Picture] = (),
    title: str = "Evaluation",
    facts: Mapping[str, str] | None = None,
) -> None:
    """Writes the page, whole or not at all; an existing file is replaced.

    Args:
        entries: predictions of the same videos. Of one the page tells everything; several are compared first.
        pictures: frames to look at.
        facts: what else to say at the top, such as speed: name -> value.

    Raises InputError without an entry, and when two have the same name.
    """
    write_page(path, title, _body(entries, pictures, facts or {}))


def write_page(path: str | Path, title: str, body: str) -> None:
    """Writes a page with that title and body (HTML), whole or not at all; an existing file is replaced."""
    page = _PAGE.format(title=escape(title), style=STYLE, body=body)
    with atomic_write(path) as draft:
        draft.write_text(page, encoding="utf-8")


def _body(entries: Sequence[Entry], pictures: Sequence[Picture], facts: Mapping[str, str]) -> str:
    names = [entry.name for entry in entries]
    if not names or len(set(names)) < len(names):
        raise InputError(f"a page of predictions {names}: needs at least one, and names that differ")
    first, parts = entries[0], _Parts()
    if len(entries) == 1:
        top = summary.tiles(first.report, facts) + summary.notes(first.report)
        _tables(parts, first)
        parts.add("time", "Quality over time", _OVER_TIME, over_time(entries))
        _maps(parts, first)
    else:
        top = summary.figures(facts)
        parts.add("comparison", "Comparison", comparison.METRICS, comparison.metrics_table(entries))
        parts.add("classes", "Classes", comparison.CLASSES, comparison.class_table(entries))
        parts.add("sequences", "Sequences", comparison.SEQUENCES, comparison.sequence_table(entries))
        plots = over_time(entries)
        parts.add("time", "Quality over time", _OVER_TIME, plots and legend(names) + plots)
    parts.add("pictures", "Pictures", "", embedded(pictures) if pictures else "")
    if len(entries) > 1:
        parts.add("details", "Each prediction by itself", "", "".join(map(_details, range(len(entries)), entries)))
    return f"<p>{summary.lead(first.report)}</p>{parts.contents()}{top}\n{parts}"


class _Parts:
    """Sections in their order; those that have nothing to show are left out."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._shown: list[tuple[str, str, str]] = []

    def add(self, anchor: str, heading: str, meaning: str, body: str) -> None:
        if body:
            anchor = self._prefix + anchor
            self._shown.append((anchor, heading, section(anchor, heading, meaning, body)))

    def contents(self) -> str:
        links = "".join(f"<a href='#{anchor}'>{escape(heading)}</a>" for anchor, heading, _ in self._shown)
        return f"<nav>{links}</nav>"

    def __str__(self) -> str:
        return "\n".join(text for _, _, text in self._shown)


def _tables(parts: _Parts, entry: Entry) -> None:
    parts.add("classes", "Classes", summary.CLASSES, summary.class_table(entry.report))
    parts.add("sequences", "Sequences", summary.SEQUENCES, summary.sequence_table(entry.report))


def _maps(parts: _Parts, entry: Entry) -> None:
    parts.add("lives", "Life lines", LEGEND, life_lines(entry.report.sequences))
    parts.add("confusion", "Confusion of classes", CONFUSION, confusion_map(entry.report))


def _details(number: int, entry: Entry) -> str:
    """All about one prediction of several, but for what is compared already."""
    report = entry.report
    parts = _Parts(f"p{number}-")
    _tables(parts, entry)
    _maps(parts, entry)
    figures = (("STQ", report.stq), ("PQ", report.pq.all), ("mIoU", report.miou))
    short = " · ".join(f"{name}&nbsp;{percent(value)}" for name, value in figures)
    head = f"<summary><b>{escape(entry.name)}</b>{short}</summary>"
    return f"<details>{head}{summary.tiles(report, {})}{summary.notes(report)}{parts}</details>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title><style>{style}</style></head>
<body><main><h1>{title}</h1>
{body}
</main></body></html>
"""
