"""Charts over the frames of a sequence: PQ of each frame as curves, and each true thing as a row of matched tracks.

Of two predictions also the rows of the things that another number of tracks follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vps_ros.evaluation.overlaps import nan_mean
from vps_ros.evaluation.page import Cell, Table, cells, heads, macro
from vps_ros.evaluation.results import SequenceReport
from vps_ros.evaluation.timelines import Span, Timeline

CHANGES = (
    "Ground-truth things that the two predictions follow differently, those that changed most first. Each has two rows "
    "over time, the first prediction above the second. Appeared: only the second has a track for it. Vanished: only "
    "the first has."
)
QUALITY = "PQ of each frame on its own, in percent, over the frames of its sequence."
MAX_LARGE, MAX_PLOTS = 6, 48
"""With more sequences than the first the plots are small; of more than the second, those of highest PQ are left out."""
_WIDTH, _HEIGHT = 1000, 100
_POINTS = 480
MAX_SEQUENCES, MAX_ROWS, MIN_SEQUENCE_ROWS, MAX_SEQUENCE_ROWS = 16, 240, 8, 40
"""Limits of the timelines on a page: sequences, rows of all, and rows of one sequence."""
MAX_CHANGES = 40
RESOLUTION = 2000
"""A row distinguishes that many parts of the length of its sequence."""
_MANY_SWITCHES = 60
"""A row with more switches has thin ticks."""
_MEANINGS = {
    "switches": "matches with another track than at the previous match",
    "missed": "frames with the thing in which no track is matched with it",
    "visible": "frames with the thing",
}

Curves = Mapping[str, Sequence[float]]
"""Sequence -> PQ of each frame, in 0..1 or NaN."""


def quality_over_time(predictions: Mapping[str, Curves]) -> Markup | str:
    """A plot for each sequence, with a curve for each prediction: those of lowest PQ, in the order of the sequences."""
    names = list(dict.fromkeys(name for curves in predictions.values() for name in curves))
    means = {
        name: [nan_mean(np.asarray(curves.get(name, ()), float)) for curves in predictions.values()] for name in names
    }
    lowest = sorted(names, key=lambda name: min((mean for mean in means[name] if mean == mean), default=math.inf))
    plots = []
    for name in names:
        if name in lowest[:MAX_PLOTS]:
            curves = [curves.get(name, ()) for curves in predictions.values()]
            frames = max(map(len, curves))
            plots.append(
                (name, frames, list(zip(means[name], (polylines(values, frames) for values in curves), strict=True)))
            )
    return macro("plots", list(predictions), plots, len(plots) > MAX_LARGE, len(names) - len(plots)) if plots else ""


def polylines(values: Sequence[float], frames: int) -> list[str]:
    """The points of a curve of values in 0..1 in a picture of `frames` frames; NaN breaks it.

    A long curve is averaged; one of fewer frames ends earlier.
    """
    data = _averaged(np.asarray(values, float))
    x = np.linspace(0, _WIDTH * (len(values) - 1) / max(frames - 1, 1), len(data))
    known = np.concatenate(([False], ~np.isnan(data), [False]))
    edges = np.flatnonzero(known[1:] != known[:-1]).reshape(-1, 2)
    return [_points(x[begin:end], data[begin:end]) for begin, end in edges]


def _points(x: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    # A single point would not be drawn.
    ends = np.array([x[0], x[0] + 2]) if len(x) == 1 else x
    pairs = zip(ends, np.resize(values, len(ends)), strict=True)
    return " ".join(f"{a:.1f},{_HEIGHT * (1 - b):.1f}" for a, b in pairs)


def _averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most _POINTS means of equal parts; NaN for a part without a value."""
    if len(values) <= _POINTS:
        return values
    index = np.arange(len(values)) * _POINTS // len(values)
    known = ~np.isnan(values)
    count = np.bincount(index[known], minlength=_POINTS)
    total = np.bincount(index[known], values[known], _POINTS)
    return np.divide(total, count, out=np.full(_POINTS, np.nan), where=count > 0)


def timelines(sequences: Mapping[str, SequenceReport]) -> Markup | str:
    """The rows of the sequences, those of the worst things first; empty without timelines."""
    known = {name: report for name, report in sequences.items() if report.timelines}
    worst = sorted(known, key=lambda name: np.sum([_badness(t)[:2] for t in known[name].timelines], axis=0).tolist())
    rows = max(MIN_SEQUENCE_ROWS, min(MAX_SEQUENCE_ROWS, MAX_ROWS // max(min(len(worst), MAX_SEQUENCES), 1)))
    figures = [_sequence(name, report, rows) for name, report in known.items() if name in set(worst[:MAX_SEQUENCES])]
    return macro("timelines", figures, len(known) - len(figures)) if figures else ""


def _sequence(name: str, report: SequenceReport, most: int) -> Markup:
    ranked = sorted(report.timelines, key=_badness)
    axis = Cell(macro("axis", report.frames - 1), "axis")
    rows = [
        [
            Cell(f"{line.class_name} {line.instance}"),
            Cell(_row(line, report.frames), "timeline busy" if line.switches > _MANY_SWITCHES else "timeline"),
            *cells(*map(str, (line.switches, line.missed, line.visible))),
        ]
        for line in ranked[:most]
    ]
    table = Table([*heads(["thing"]), axis, *heads(_MEANINGS, _MEANINGS)], rows, kind="timelines")
    return macro("timelines_of", name, ranked, table, len(ranked) - len(rows))


def _row(line: Timeline, frames: int) -> Markup:
    return macro("timeline", draw_spans(line.spans, frames), line.switch_frames, frames)


def draw_spans(spans: tuple[Span, ...], frames: int) -> list[Span]:
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


def _badness(line: Timeline) -> tuple[int, int, int]:
    """Smaller for a worse timeline."""
    return -line.switches, -line.missed, -line.visible


def changes(
    first: tuple[str, Mapping[str, SequenceReport]], second: tuple[str, Mapping[str, SequenceReport]]
) -> Markup | str:
    """A table of the things that changed; empty if there are none, or without timelines."""
    names = first[0], second[0]
    found = []
    for sequence, report in first[1].items():
        others = {(t.class_name, t.instance): t for t in second[1][sequence].timelines} if sequence in second[1] else {}
        for before in report.timelines:
            after = others.get((before.class_name, before.instance))
            if after is not None and (kind := change_of(before, after)):
                found.append((sequence, report.frames, kind, before, after))
    found.sort(key=lambda row: -_size(*row[3:]))
    if not found:
        return ""
    one = len({sequence for sequence, *_ in found}) == 1 and len(first[1]) == 1
    rows = [
        [
            Cell(
                f"{before.class_name} {before.instance}"
                if one
                else f"{sequence}: {before.class_name} {before.instance}"
            ),
            Cell(Markup("").join(_row(line, frames) for line in (before, after)), "timeline two"),
            *cells(kind, _pair(before.switches, after.switches), _pair(before.missed, after.missed)),
        ]
        for sequence, frames, kind, before, after in found[:MAX_CHANGES]
    ]
    meanings = {"switches": f"{names[0]} → {names[1]}", "missed": f"frames: {names[0]} → {names[1]}"}
    head = [
        *heads(["thing"]),
        Cell(f"{names[0]} above {names[1]}", "axis wide"),
        *heads(["change", *meanings], meanings),
    ]
    return macro("changes", Table(head, rows, kind="timelines"), len(found) - MAX_CHANGES)


def change_of(before: Timeline, after: Timeline) -> str:
    """What changed for a thing in one or two words; "" if neither the switches nor the missed frames did."""
    if before.missed == before.visible and after.missed < after.visible:
        return "appeared"
    if after.missed == after.visible and before.missed < before.visible:
        return "vanished"
    if before.switches != after.switches:
        return "fewer switches" if after.switches < before.switches else "more switches"
    if before.missed != after.missed:
        return "missed less" if after.missed < before.missed else "missed more"
    return ""


def _size(before: Timeline, after: Timeline) -> float:
    """A switch counts as ten missed frames."""
    return 10 * abs(before.switches - after.switches) + abs(before.missed - after.missed)


def _pair(before: int, after: int) -> Markup | str:
    return str(before) if before == after else macro("change", f"{before} → {after}", after < before)
