"""The tables of an evaluation, of one prediction and of several side by side, for the terminal and the HTML report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from vps_ros.evaluation.average_precision import TrackPrecision
from vps_ros.evaluation.metric import Score
from vps_ros.evaluation.page import UNKNOWN, Cell, Table, bar, cells, heads, macro, percent, series
from vps_ros.evaluation.results import ClassReport, Quality, Report

CLASSES = (
    "IoU compares pixels, PQ = SQ × RQ compares segments of single frames, VPQ those of short windows, and AQ measures "
    "how constant the identities of a thing are. TP, FP and FN are matched segments, false positives and false "
    "negatives. Classes that do not occur are left out."
)
SEQUENCES = "A tube is one true thing through its sequence. Without tubes AQ, and with it STQ, is 0 by protocol."
DRIVES = "By STQ. A name leads to the report of its drive: pictures of its worst frames, timelines and classes."
COMPARED_SCORES = "The best of each row is bold. VPQ is also shown for each length of its windows."
COMPARED_CLASSES = "PQ of each class that occurs, the best in bold."
COMPARED_SEQUENCES = "STQ of each sequence, the best in bold."
PRECISION = (
    "AP and AR of YouTube-VIS: the IoU of two tracks is taken over all frames of a video; matches need an IoU of 0.5, "
    "0.55, ... 0.95. AR1 and AR10 use the one and the ten best predictions of each video and class. small, medium and "
    "large are AP of tracks of up to 128², up to 256², and more pixels."
)
CONFUSION = (
    "Of all pixels of a true class (row), the percent that is predicted as each class (column); correct pixels are on "
    "the diagonal. The shade is proportional to the square root of the share, so that rare confusions are visible."
)
_MEANINGS = {
    "IoU": "shared pixels of all pixels of the class in ground truth or prediction",
    "PQ": "SQ × RQ",
    "SQ": "mean IoU of the matched segments (not the SQ of STQ)",
    "RQ": "TP / (TP + FP / 2 + FN / 2)",
    "VPQ": "video panoptic quality, the mean over its windows",
    "AQ": "mean association quality of the true tubes of the class",
    "tubes": "true things through their sequences",
}
_LARGE = ("STQ", "VPQ", "PQ", "mIoU")
_PRECISION_COLUMNS = ("AP", "AP50", "AP75", "AR1", "AR10")
MAX_NUMBERED_COLUMNS = 24
"""A table of confusion with more columns has shades without numbers."""
_LISTED = 5
"""Most frequent confusions that are listed above the table."""
_MIN_SHARE = 0.005


def score_text(score: Score | None) -> str:
    """In percent, or the count; a dash for NaN and None."""
    if score is None or score.value != score.value:
        return UNKNOWN
    return f"{score.value:,.0f}" if score.is_count else percent(score.value)


def tiles(report: Report, facts: Mapping[str, str]) -> Markup:
    """The main scores of one prediction, and further facts, name -> value."""
    main = [(s.name, score_text(s), s.meaning) for s in report.scores() if not s.part_of]
    large, small = ([tile for tile in main if (tile[0] in _LARGE) == is_large] for is_large in (True, False))
    return macro("tiles", report, large, [*small, *((name, value, "") for name, value in facts.items())])


def class_table(report: Report) -> Table:
    """A row for each class that occurs, and one for their means."""
    bars = [name for name in ("IoU", "PQ", "VPQ", "AQ") if name != "VPQ" or report.vpq.windows]
    counts = ("TP", "FP", "FN", "tubes")
    rows, sums = [], dict.fromkeys(counts, 0)
    for name, c in report.classes.items():
        found = c.to_json()
        sums = {count: total + found[count] for count, total in sums.items()}
        if c.occurs:
            texts = *map(percent, (c.sq, c.rq)), c.tp, c.fp, c.fn, c.tubes if c.is_thing else ""
            rows.append([Cell(name, color=c.color), _kind(c), *(bar(found[share]) for share in bars), *cells(*texts)])
    means = {"IoU": report.miou, "PQ": report.pq.all, "VPQ": report.vpq.all, "AQ": report.aq}
    foot = [Cell("all"), Cell(kind="kind"), *(bar(means[name]) for name in bars), *cells("", "", *sums.values())]
    return Table(heads(("class", "kind", *bars, "SQ", "RQ", *counts), _MEANINGS), rows, foot)


def sequence_table(report: Report, links: Mapping[str, str] | None = None) -> Table:
    """A row for each sequence, and one for all of them; a column for each score but the parts of VPQ.

    Args:
        links: name of a sequence -> relative URL of its own report. With them, the sequence of lowest STQ is the first.
    """

    def scores(quality: Quality) -> list[Score]:
        return [score for score in quality.scores() if score.part_of != "VPQ"]

    def row(name: str, quality: Quality) -> list[Cell]:
        shown = [bar(s.value) if s.name == "STQ" else Cell(score_text(s)) for s in scores(quality)]
        return [Cell(name), *cells(quality.frames, quality.tubes), *shown]

    meanings = {score.name: score.meaning for score in scores(report)}
    sequences = list(report.sequences.items())
    if links is not None:
        sequences.sort(key=lambda one: -1 if one[1].stq != one[1].stq else one[1].stq)
    rows = [row(name, quality) for name, quality in sequences]
    for cells_of, (name, _) in zip(rows, sequences, strict=True):
        if links is not None:
            cells_of[0] = Cell(_link(links[name], name))
    head = heads(("sequence", "frames", "tubes", *(score.name for score in scores(report))), meanings)
    return Table(head, rows, row("all", report) if len(rows) > 1 else [], "many")


def _link(url: str, text: str) -> Markup:
    return Markup('<a href="{}#pictures">{}</a>').format(quote(url), text)


def compared_scores(reports: Mapping[str, Report]) -> Table:
    """A row for each score, a column for each prediction; for two predictions also their difference."""
    found = [{(s.name, s.part_of): s for s in report.scores()} for report in reports.values()]
    rows = []
    for key in dict.fromkeys(key for column in found for key in column):
        scores = [column.get(key) for column in found]
        known = next(s for s in scores if s)
        texts = [score_text(s) for s in scores]
        best = _best([s.value if s else math.nan for s in scores], texts, known.is_count)
        name = Cell(known.name, "part" if known.part_of else "", known.meaning)
        values = [Cell(text, best=is_best) for text, is_best in zip(texts, best, strict=True)]
        rows.append([name, *values, *([Cell(_difference(*scores))] if len(scores) == 2 else [])])
    head = [Cell("metric"), *_names(reports), *([Cell("difference")] if len(reports) == 2 else [])]
    return Table(head, rows, kind="versus metrics")


def compared_classes(reports: Mapping[str, Report]) -> Table:
    """PQ of the classes that occur anywhere."""
    rows = []
    for name in dict.fromkeys(name for report in reports.values() for name in report.classes):
        found = [report.classes.get(name) for report in reports.values()]
        if known := next((c for c in found if c and c.occurs), None):
            values = _bars(c.pq if c else math.nan for c in found)
            rows.append([Cell(name, color=known.color), _kind(known), *values])
    foot = [Cell("all"), Cell(kind="kind"), *_bars(report.pq.all for report in reports.values())]
    return Table([*heads(["class", "kind"]), *_names(reports, 72)], rows, foot, "versus")


def compared_sequences(reports: Mapping[str, Report]) -> Table:
    """STQ of each sequence."""
    names = dict.fromkeys(name for report in reports.values() for name in report.sequences)
    rows = [
        [Cell(name), *_bars(r.sequences[name].stq if name in r.sequences else math.nan for r in reports.values())]
        for name in names
    ]
    foot = [Cell("all"), *_bars(report.stq for report in reports.values())] if len(rows) > 1 else []
    return Table([Cell("sequence"), *_names(reports, 80)], rows, foot, "versus")


def precision_table(reports: Mapping[str, TrackPrecision]) -> Table:
    """AP and AR, a row for each prediction."""
    rows = [
        [Cell(name), bar(r.total.ap), *cells(*map(percent, (*r.total[1:], *r.sizes.values())))]
        for name, r in reports.items()
    ]
    sizes = next(iter(reports.values())).sizes
    return Table(heads(["", *_PRECISION_COLUMNS, *sizes]), rows)


def precision_classes(reports: Mapping[str, TrackPrecision]) -> Table:
    """AP and AR of each class; of several predictions AP alone, side by side."""
    first = next(iter(reports.values()))
    if len(reports) == 1:
        rows = [[Cell(name), bar(c.ap), *cells(*map(percent, c[1:]))] for name, c in first.classes.items()]
        return Table(heads(["class", *_PRECISION_COLUMNS]), rows)
    rows = [[Cell(name), *(bar(r.classes[name].ap) for r in reports.values())] for name in first.classes]
    return Table(heads(["class", *reports]), rows)


def confusion_table(report: Report) -> Markup | str:
    """Rows of the true classes that occur, columns of the classes predicted for them; empty without labelled pixels."""
    names, colors = [*report.classes, "void"], [*(c.color for c in report.classes.values()), (0, 0, 0)]
    labelled = report.confusion[:-1]
    totals = labelled.sum(1)
    rows = np.flatnonzero(totals).tolist()
    if not rows:
        return ""
    shares = labelled / np.maximum(totals, 1)[:, None]
    # Each row has a column for its diagonal, even if the class is never predicted.
    columns = sorted({*rows, *np.flatnonzero(labelled.sum(0)).tolist()})
    numbered = len(columns) <= MAX_NUMBERED_COLUMNS

    def cell(r: int, c: int) -> Cell:
        share, kind = shares[r, c], "hit" if r == c else "miss"
        if not share:
            return Cell(kind=kind if r == c else "")
        text = f"{100 * share:.0f}" if numbered and share >= _MIN_SHARE else ""
        title = f"{names[r]} as {names[c]}: {percent(share)} % of {totals[r]:,} pixels"
        return Cell(text, kind, title, f"--v:{math.sqrt(share):.2f}")

    head = [Cell("true ↓ predicted →", "corner"), *(Cell(names[c], "column", color=colors[c]) for c in columns)]
    body = [[Cell(names[r], color=colors[r]), *(cell(r, c) for c in columns)] for r in rows]
    wrong = np.where(np.eye(*shares.shape, dtype=bool), 0, shares)
    largest = [divmod(int(i), wrong.shape[1]) for i in np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]]
    frequent = [(names[r], names[c], wrong[r, c]) for r, c in largest if wrong[r, c] >= _MIN_SHARE]
    table = Table(head, body, kind="confusion" if numbered else "confusion dense")
    return macro("confused", frequent) + macro("table", table)


def _kind(c: ClassReport) -> Cell:
    return Cell("thing" if c.is_thing else "stuff", "kind")


def _names(reports: Mapping[str, Report], share: int = 0) -> list[Cell]:
    """The predictions over their columns, which together take `share` percent of the width of the table."""
    style = f"width:{share / len(reports):.1f}%" if share else ""
    return [Cell(name, f"entry {series(i)}", style=style) for i, name in enumerate(reports)]


def _bars(values: Iterable[float]) -> list[Cell]:
    values = tuple(values)
    best = _best(values, [percent(value) for value in values], False)
    return [bar(value, is_best) for value, is_best in zip(values, best, strict=True)]


def _best(values: Sequence[float], texts: Sequence[str], fewer: bool) -> list[bool]:
    """Which have the text of the best value; none when all texts are equal."""
    known = [(value, text) for value, text in zip(values, texts, strict=True) if value == value]
    if not known or len(set(texts)) == 1:
        return [False] * len(texts)
    best = (min if fewer else max)(known)[1]
    return [text == best for text in texts]


def _difference(first: Score | None, second: Score | None) -> str:
    if UNKNOWN in (score_text(first), score_text(second)):
        return UNKNOWN
    assert first and second
    gain = second.value - first.value
    text = f"{gain:+,.0f}" if first.is_count else f"{100 * gain:+.1f}"
    if not text.strip("+-0."):
        return "0" if first.is_count else "0.0"
    return macro("change", text.replace("-", "−"), gain < 0 if first.is_count else gain > 0)
