"""Life lines: a row for each true thing, coloured by the track that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from vps_ros.drawing.palette import identity_color, text_color
from vps_ros.evaluation.lifelines import LifeLine, Span
from vps_ros.evaluation.page.markup import cells, heads, hexadecimal, name_cell, percent, plural, table
from vps_ros.evaluation.results import SequenceReport

SEQUENCES, ROWS, LEAST, MOST = 16, 240, 8, 40
"""So many sequences at most, so many rows on the whole page, and in a sequence at least and at most."""
FINEST = 2000
"""Parts of a sequence's length that a row can tell apart."""
BUSY = 60
"""Switches in a row whose ticks must be thin ones."""
_MARGIN, _DIGIT = 0.013, 0.012
"""Room that the number of a track takes in its span, as shares of a row; the style hides it where rows are short."""


def life_lines(sequences: Mapping[str, SequenceReport]) -> str:
    """The rows of the sequences, the worst things first; nothing where no sequence has a line."""
    with_lines = {name: s for name, s in sequences.items() if s.lines}
    worst = sorted(with_lines, key=lambda name: _worst_first(with_lines[name].lines))[:SEQUENCES]
    rows = max(LEAST, min(MOST, ROWS // max(len(worst), 1)))
    parts = [_sequence(name, s, rows) for name, s in with_lines.items() if name in set(worst)]
    left_out = len(with_lines) - len(parts)
    note = f"<p class=note>Left out: {plural(left_out, 'better sequence')}.</p>" if left_out else ""
    return "".join(parts) + note


LEGEND = (
    "A row is a true thing through time. <i class='life-key'></i> Where a track is matched with it (same class, IoU "
    "above one half) the row has the colour and number of that track; <i class='life-key gone'></i> where it is seen "
    "and missed, a thin line; where it is not in the picture, nothing. <i class='life-key switch'></i> A tick marks a "
    "switch: another track than the last. Things with most switches come first, then those missed most. "
    "(IDSW also counts matches with an IoU of exactly one half, so it can differ by a few.)"
)


def _sequence(name: str, report: SequenceReport, rows: int) -> str:
    lines = sorted(report.lines, key=_badness)
    shown, left_out = lines[:rows], len(lines) - rows
    axis = f"<th scope=col class=axis><span>0</span><span>frame</span><span>{report.frames - 1}</span></th>"
    head = [*heads(["thing"]), axis, *heads(["switches", "missed", "seen"], _MEANINGS)]
    body = table(head, [_row(line, report.frames) for line in shown], kind="lives")
    switches, missed, seen = (sum(getattr(line, field) for line in lines) for field in ("switches", "missed", "seen"))
    words = (
        f"{plural(len(lines), 'thing')}, {plural(switches, 'switch', 'switches')}, "
        f"missed in {percent(missed / seen)} % of {plural(seen, 'sighting')}"
    )
    more = f"<p class=note>Left out: {plural(left_out, 'better thing')}.</p>" if left_out > 0 else ""
    return f"<figure><figcaption><b>{escape(name)}</b> {words}</figcaption>{body}{more}</figure>"


_MEANINGS = {
    "switches": "how often it is matched with another track than when it was matched last",
    "missed": "frames that show it, in which no track is matched with it",
    "seen": "frames that show it",
}


def _row(line: LifeLine, frames: int) -> str:
    spans = "".join(_span(span, frames) for span in _visible(line.spans, frames))
    ticks = "".join(
        f"<b style='left:{_share(at, frames)}%' title='frame {at}: another track'></b>" for at in line.switched
    )
    kind = "life busy" if line.switches > BUSY else "life"
    bar = f"<td class='{kind}'><div>{spans}{ticks}</div></td>"
    return name_cell(f"{line.class_name} {line.instance}") + bar + cells(line.switches, line.missed, line.seen)


def _span(span: Span, frames: int) -> str:
    when = f"frame {span.first}" if span.frames == 1 else f"frames {span.first}–{span.last}"
    place = f"left:{_share(span.first, frames)}%;width:{_share(span.frames, frames)}%"
    if span.track is None:
        return f"<i class=gone style='{place}' title='{when}: missed'></i>"
    color = identity_color(span.track)
    number = str(span.track)
    written = number if span.frames >= (_MARGIN + _DIGIT * len(number)) * frames else ""
    paint = f"background:{hexadecimal(color)};color:{hexadecimal(text_color(color))}"
    return f"<i style='{place};{paint}' title='{when}: track {number}'>{written}</i>"


def _visible(spans: tuple[Span, ...], frames: int) -> list[Span]:
    """The spans but for those that begin and end within one of FINEST parts, where an earlier one is drawn."""
    if frames <= FINEST:
        return list(spans)
    shown, end = [], -1
    for span in spans:
        part = (span.last + 1) * FINEST // frames
        if part > end:
            shown.append(span)
            end = part
    return shown


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}".rstrip("0").rstrip(".")


def _badness(line: LifeLine) -> tuple[int, int, int]:
    """Smaller for a worse line."""
    return -line.switches, -line.missed, -line.seen


def _worst_first(lines: tuple[LifeLine, ...]) -> tuple[int, int]:
    return -sum(line.switches for line in lines), -sum(line.missed for line in lines)
