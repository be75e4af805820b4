"""Quality over time: one plot for each sequence, with a curve for each prediction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from vps_ros.evaluation.page.entry import Entry
from vps_ros.evaluation.page.markup import percent, plural
from vps_ros.evaluation.plots import line_plot, series

WIDE, MOST = 6, 48
"""With more sequences than that their plots are small ones, and at most so many."""


def over_time(entries: Sequence[Entry]) -> str:
    """The plots of the sequences of lowest PQ, in the order given; nothing where no frame was rated."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.timeline))
    worst = sorted(names, key=lambda name: _lowest_mean(entries, name))[:MOST]
    shown = [name for name in names if name in set(worst)]
    plots = "".join(_plot(entries, name) for name in shown)
    left_out = len(names) - len(shown)
    note = f"<p class=note>Left out: {plural(left_out, 'sequence')} of higher mean PQ.</p>" if left_out else ""
    return f"<div class='plots{' small' * (len(shown) > WIDE)}'>{plots}</div>{note}" if shown else ""


def legend(names: Iterable[str]) -> str:
    """Which colour is whose."""
    entries = "".join(f"<li><i class='key {series(i)}'></i>{escape(name)}</li>" for i, name in enumerate(names))
    return f"<ul class=legend>{entries}</ul>"


def _plot(entries: Sequence[Entry], name: str) -> str:
    curves = [entry.timeline.get(name, ()) for entry in entries]
    means = [percent(_mean(curve)) for curve in curves]
    frames = plural(max(map(len, curves)), "frame")
    keys = [f"<i class='key {series(i)}'></i>" for i in range(len(entries))] if len(entries) > 1 else [""]
    words = " ".join(f"<span>{key}{mean}</span>" for key, mean in zip(keys, means, strict=True))
    caption = f"<figcaption><b>{escape(name)}</b> {frames}, mean PQ <span class=means>{words}</span></figcaption>"
    return f"<figure class=plot>{caption}{line_plot(*curves)}</figure>"


def _lowest_mean(entries: Sequence[Entry], name: str) -> float:
    means = (_mean(entry.timeline.get(name, ())) for entry in entries)
    return min((mean for mean in means if mean == mean), default=math.inf)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return math.fsum(known) / len(known) if known else math.nan
