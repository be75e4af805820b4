"""What changed between two predictions of the same videos: true things that another number of tracks follows."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from vps_ros.evaluation.page import Cell, Table, cells, heads, macro
from vps_ros.evaluation.page.charts import draw_spans
from vps_ros.evaluation.results import SequenceReport
from vps_ros.evaluation.timelines import Timeline

CHANGES = (
    "Ground-truth things that the two predictions follow differently, those that changed most first. Each has two rows "
    "over time, the first prediction above the second. Appeared: only the second has a track for it. Vanished: only "
    "the first has."
)
MAX_CHANGES = 40


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
            Cell(Markup("").join(_bar(line, frames) for line in (before, after)), "timeline two"),
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


def _bar(line: Timeline, frames: int) -> Markup:
    return macro("timeline", draw_spans(line.spans, frames), line.switch_frames, frames)


def _pair(before: int, after: int) -> Markup | str:
    return str(before) if before == after else macro("change", f"{before} → {after}", after < before)
