"""AP and AR of tracks: the figures of predictions of the same videos, and their classes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from vps_ros.evaluation.average_precision import TrackPrecision
from vps_ros.evaluation.page.markup import bar, cells, heads, name_cell, percent, plural, section, table

_MEANING = (
    "AP and AR of YouTube-VIS: tracks match from an IoU, over all frames of a video, of 0.5, 0.55, ... 0.95 on. AR1 "
    "and AR10 look at one and at ten predictions of each video and class. small, medium and large are AP of tracks of "
    "up to 128, up to 256 and more pixels squared."
)
_COLUMNS = ("AP", "AP50", "AP75", "AR1", "AR10")


def precision_tables(reports: Mapping[str, TrackPrecision]) -> str:
    """The body of a page about them, by name, below its title."""
    first = next(iter(reports.values()))
    rows = [
        name_cell(name) + bar(r.total.ap) + cells(*map(percent, (*r.total[1:], *r.sizes.values())))
        for name, r in reports.items()
    ]
    words = (
        f"<p>{plural(first.videos, 'video')}, {plural(first.tracks, 'true track')}. Rules of <b>youtube-vis</b>; "
        f"taxonomy <b>{escape(first.taxonomy)}</b>. Numbers are percent.</p>"
    )
    total = section("total", "Average precision", _MEANING, table(heads(["", *_COLUMNS, *first.sizes]), rows))
    if len(reports) == 1:
        rows = [name_cell(name) + bar(c.ap) + cells(*map(percent, c[1:])) for name, c in first.classes.items()]
        classes = table(heads(["class", *_COLUMNS]), rows)
    else:
        rows = [name_cell(name) + "".join(bar(r.classes[name].ap) for r in reports.values()) for name in first.classes]
        classes = table(heads(["class", *reports]), rows)
    return words + total + section("classes", "Classes", "AP of each class that has a true track.", classes)
