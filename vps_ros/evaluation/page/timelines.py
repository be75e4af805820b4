"""Timelines as rows: each true thing over time, coloured by the track that is matched with it."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from vps_ros.drawing.palette import identity_color, text_color
from vps_ros.evaluation.page.markup import Cell, Table, cells, heads, hexadecimal, macro, percent, plural
from vps_ros.evaluation.results import SequenceReport
from vps_ros.evaluation.timelines import Span, Timeline

MAX_SEQUENCES, MAX_ROWS, MIN_SEQUENCE_ROWS, MAX_SEQUENCE_ROWS = 16, 240, 8, 40
"""Limits of the page: sequences, rows of all, and rows of one sequence."""
RESOLUTION = 2000
"""A row distinguishes that many parts of the length of its sequence."""
_MANY_SWITCHES = 60
"""A row with more switches has thin ticks."""
_MARGIN, _DIGIT = 0.013, 0.012
"""Widths of the margin and of a digit of a track's number, as shares of a row; narrow screens hide the numbers."""
_MEANINGS = {
    "switches": "matches with another track than at the previous match",
    "missed": "frames with the thing in which no track is matched with it",
    "visible": "frames with the thing",
}


def timelines(sequences: Mapping[str, SequenceReport]) -> Markup | str:
    """The rows of the sequences, those of the worst things first; empty without timelines."""
    known = {name: report for name, report in sequences.items() if report.timelines}
    worst = sorted(known, key=lambda name: _badness_of_all(known[name].timelines))[:MAX_SEQUENCES]
    rows = max(MIN_SEQUENCE_ROWS, min(MAX_SEQUENCE_ROWS, MAX_ROWS // max(len(worst), 1)))
    figures = [_sequence(name, report, rows) for name, report in known.items() if name in set(worst)]
    if len(known) > len(figures):
        figures.append(macro("note", f"Left out: {plural(len(known) - len(figures), 'better sequence')}."))
    return Markup("").join(figures)


def _sequence(name: str, report: SequenceReport, rows: int) -> Markup:
    ranked = sorted(report.timelines, key=_badness)
    switches, missed, visible = (
        sum(getattr(line, field) for line in ranked) for field in ("switches", "missed", "visible")
    )
    words = (
        f"{plural(len(ranked), 'thing')}, {plural(switches, 'switch', 'switches')}, "
        f"missed in {percent(missed / visible)} % of {plural(visible, 'appearance')}"
    )
    left_out = len(ranked) - rows
    return macro(
        "timelines",
        name,
        words,
        Table(
            [*heads(["thing"]), Cell(macro("axis", report.frames - 1), "axis"), *heads(_MEANINGS, _MEANINGS)],
            [_row(line, report.frames) for line in ranked[:rows]],
            kind="timelines",
        ),
        f"Left out: {plural(left_out, 'better thing')}." if left_out > 0 else "",
    )


def _row(line: Timeline, frames: int) -> list[Cell]:
    spans = [_span(span, frames) for span in _drawn(line.spans, frames)]
    ticks = [{"left": _share(frame, frames), "frame": frame} for frame in line.switch_frames]
    kind = "timeline busy" if line.switches > _MANY_SWITCHES else "timeline"
    counts = cells(line.switches, line.missed, line.visible)
    return [Cell(f"{line.class_name} {line.instance}"), Cell(macro("timeline", spans, ticks), kind), *counts]


def _span(span: Span, frames: int) -> dict:
    shown = {
        "missed": span.track is None,
        "place": f"left:{_share(span.first, frames)}%;width:{_share(span.frames, frames)}%",
        "frames": f"frame {span.first}" if span.frames == 1 else f"frames {span.first}–{span.last}",
    }
    if span.track is None:
        return shown
    color, number = identity_color(span.track), str(span.track)
    fits = span.frames >= (_MARGIN + _DIGIT * len(number)) * frames
    return shown | {
        "track": number,
        "label": number if fits else "",
        "color": hexadecimal(color),
        "text_color": hexadecimal(text_color(color)),
    }


def _drawn(spans: tuple[Span, ...], frames: int) -> list[Span]:
    """The spans without those that lie within one part of RESOLUTION in which an earlier span ends."""
    if frames <= RESOLUTION:
        return list(spans)
    shown, end = [], -1
    for span in spans:
        part = (span.last + 1) * RESOLUTION // frames
        if part > end:
            shown.append(span)
            end = part
    return shown


def _share(part: int, total: int) -> str:
    return f"{100 * part / total:.2f}".rstrip("0").rstrip(".")


def _badness(line: Timeline) -> tuple[int, int, int]:
    """Smaller for a worse timeline."""
    return -line.switches, -line.missed, -line.visible


def _badness_of_all(lines: tuple[Timeline, ...]) -> tuple[int, int]:
    return -sum(line.switches for line in lines), -sum(line.missed for line in lines)
