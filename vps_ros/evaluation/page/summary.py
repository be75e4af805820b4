"""The figures of one prediction: lead, tiles, and the tables of classes and sequences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from vps_ros.evaluation.page.markup import bar, cells, heads, name_cell, percent, plural, table
from vps_ros.evaluation.page.metrics import MEANINGS, metrics
from vps_ros.evaluation.pq import PanopticQuality
from vps_ros.evaluation.results import ClassReport, Quality, Report
from vps_ros.evaluation.vpq import VideoPanopticQuality

CLASSES = (
    "IoU compares pixels, PQ = SQ × RQ compares segments of single frames, VPQ those of short windows, and AQ says how "
    "well the identities of a thing last. TP, FP and FN are matched, invented and missed segments. "
    "Classes that never occur are left out."
)
SEQUENCES = "A tube is one true thing through its sequence. Without tubes AQ, and with it STQ, is 0 by protocol."
_MEANINGS = MEANINGS | {
    "IoU": "shared pixels of all pixels of the class in truth or prediction",
    "PQ": "SQ × RQ",
    "SQ": "mean IoU of the matched segments (not the SQ of STQ)",
    "RQ": "TP / (TP + FP / 2 + FN / 2)",
    "AQ": "mean association quality of the true tubes of the class",
    "tubes": "true things through their sequences",
}


def lead(report: Report) -> str:
    """What was measured, and by whose rules."""
    rules = ", ".join(f"<b>{escape(whose)}</b> for {escape(metric)}" for metric, whose in report.protocols.items())
    small = report.rules.smallest
    void = f"In the truth <b>{escape(str(small))}</b>. " if small else ""
    return (
        f"{plural(report.frames, 'frame')} in {plural(len(report.sequences), 'sequence')}, "
        f"{plural(report.tubes, 'true tube')}. Rules of {rules}; taxonomy <b>{escape(report.taxonomy)}</b>. "
        f"{void}Numbers are percent, unless they count something."
    )


def tiles(report: Report, facts: Mapping[str, str]) -> str:
    """The figures of a whole evaluation, and what else is to be said."""
    windows = " · ".join(f"{n}:&nbsp;{percent(one.all)}" for n, one in report.vpq.windows.items())
    large = [
        ("STQ", percent(report.stq), f"AQ {percent(report.aq)} · SQ {percent(report.sq)}"),
        *([("VPQ", percent(report.vpq.all), f"{_parts(report.vpq)}<br>windows of {windows}")] if windows else []),
        ("PQ", percent(report.pq.all), _parts(report.pq)),
        ("mIoU", percent(report.miou), "mean over classes"),
    ]
    shown = {"STQ", "AQ", "SQ", "VPQ", "PQ", "mIoU"}
    small = [(m.name, m.text, m.meaning) for m in metrics(report) if m.name not in shown and not m.part_of]
    rows = "".join(_tile(*one, kind="tile first" if one[0] == "STQ" else "tile") for one in large)
    return (
        f"<div class=tiles>{rows}</div>{_small_tiles([*small, *((name, value, '') for name, value in facts.items())])}"
    )


def figures(facts: Mapping[str, str]) -> str:
    """What else is to be said, where nothing but that is told in tiles."""
    return _small_tiles([(name, value, "") for name, value in facts.items()])


def notes(report: Report) -> str:
    """What a reader could take wrongly, or look for in vain."""
    found = [report.void_note] if report.void_note else []
    if report.vpq.windows and report.identity is None:
        found.append("IDF1, HOTA, MOTA and switches were not counted: TrackEval is not installed.")
    return "".join(f"<p class=note>{escape(note)}</p>" for note in found)


def class_table(report: Report) -> str:
    """A row for each class that occurs, and one for their means."""
    video = bool(report.vpq.windows)
    head = ("class", "kind", "IoU", "PQ", *(["VPQ"] if video else []), "AQ", "SQ", "RQ", "TP", "FP", "FN", "tubes")
    rows = [_class_row(name, c, video) for name, c in report.classes.items() if c.occurs]
    counts = [sum(getattr(c, field) for c in report.classes.values()) for field in ("tp", "fp", "fn", "tubes")]
    means = [report.miou, report.pq.all, *([report.vpq.all] if video else []), report.aq]
    foot = name_cell("all") + "<td class=kind></td>" + "".join(map(bar, means)) + cells("", "", *_whole(counts))
    return table(heads(head, _MEANINGS), rows, foot)


def sequence_table(report: Report) -> str:
    """A row for each sequence, and one for all."""
    names = [m.name for m in metrics(report) if m.part_of != "VPQ"]
    rows = [name_cell(name) + _sequence_cells(s, len(names)) for name, s in report.sequences.items()]
    foot = name_cell("all") + _sequence_cells(report, len(names)) if len(rows) > 1 else ""
    return table(heads(("sequence", "frames", "tubes", *names), MEANINGS), rows, foot, "many")


def _tile(name: str, value: str, parts: str, kind: str) -> str:
    meaning = escape(MEANINGS.get(name, ""))
    return f'<div class="{kind}" title="{meaning}"><span>{name}</span><b>{value}</b><small>{parts}</small></div>'


def _parts(quality: PanopticQuality | VideoPanopticQuality) -> str:
    return f"things {percent(quality.things)} · stuff {percent(quality.stuff)}"


def _small_tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """Name, value and meaning of each."""
    small = "".join(
        f'<div title="{escape(meaning)}"><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>'
        for name, value, meaning in figures
    )
    return f"<dl class=figures>{small}</dl>" if small else ""


def _class_row(name: str, c: ClassReport, video: bool) -> str:
    kind = f"<td class=kind>{'thing' if c.is_thing else 'stuff'}</td>"
    bars = bar(c.iou) + bar(c.pq) + (bar(c.vpq) if video else "") + bar(c.aq)
    counts = _whole((c.tp, c.fp, c.fn)) + (_whole((c.tubes,)) if c.is_thing else [""])
    return name_cell(name, c.color) + kind + bars + cells(percent(c.sq), percent(c.rq), *counts)


def _sequence_cells(quality: Quality, columns: int) -> str:
    found = [m for m in metrics(quality) if m.part_of != "VPQ"]
    shown = "".join(bar(m.value) if m.name == "STQ" else cells(m.text) for m in found)
    return cells(*_whole((quality.frames, quality.tubes))) + shown + cells(*[""] * (columns - len(found)))


def _whole(numbers: list[int] | tuple[int, ...]) -> list[str]:
    return [f"{number:,}" for number in numbers]
