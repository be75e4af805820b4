"""The tables of scores, classes and sequences, of one prediction and of several side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from vps_ros.evaluation.average_precision import TrackPrecision
from vps_ros.evaluation.metric import Score
from vps_ros.evaluation.page.markup import (
    UNKNOWN,
    Cell,
    Table,
    bar,
    cells,
    heads,
    macro,
    percent,
    score_text,
    series,
)
from vps_ros.evaluation.pq import PanopticQuality
from vps_ros.evaluation.results import ClassReport, Quality, Report
from vps_ros.evaluation.vpq import VideoPanopticQuality

CLASSES = (
    "IoU compares pixels, PQ = SQ × RQ compares segments of single frames, VPQ those of short windows, and AQ measures "
    "how constant the identities of a thing are. TP, FP and FN are matched segments, false positives and false "
    "negatives. Classes that do not occur are left out."
)
SEQUENCES = "A tube is one true thing through its sequence. Without tubes AQ, and with it STQ, is 0 by protocol."
COMPARED_SCORES = "The best of each row is bold. VPQ is also shown for each length of its windows."
COMPARED_CLASSES = "PQ of each class that occurs, the best in bold."
COMPARED_SEQUENCES = "STQ of each sequence, the best in bold."
PRECISION = (
    "AP and AR of YouTube-VIS: the IoU of two tracks is taken over all frames of a video; matches need an IoU of 0.5, "
    "0.55, ... 0.95. AR1 and AR10 use the one and the ten best predictions of each video and class. small, medium and "
    "large are AP of tracks of up to 128², up to 256², and more pixels."
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


def tiles(report: Report, facts: Mapping[str, str]) -> Markup:
    """The main scores of one prediction, and further facts, name -> value."""
    windows = " · ".join(f"{n}: {percent(one.all)}" for n, one in report.vpq.windows.items())
    lines = {
        "STQ": [f"AQ {percent(report.aq)} · SQ {percent(report.sq)}"],
        "VPQ": [_things_and_stuff(report.vpq), f"windows of {windows}"],
        "PQ": [_things_and_stuff(report.pq)],
        "mIoU": ["mean over classes"],
    }
    main = [score for score in report.scores() if not score.part_of]
    large = [(s.name, score_text(s), lines[s.name], s.meaning) for s in main if s.name in _LARGE]
    small = [(s.name, score_text(s), s.meaning) for s in main if s.name not in _LARGE]
    return macro("tiles", large, [*small, *((name, value, "") for name, value in facts.items())])


def class_table(report: Report) -> Table:
    """A row for each class that occurs, and one for their means."""
    video = bool(report.vpq.windows)
    names = ("class", "kind", "IoU", "PQ", *(["VPQ"] if video else []), "AQ", "SQ", "RQ", "TP", "FP", "FN", "tubes")
    counts = [sum(getattr(c, field) for c in report.classes.values()) for field in ("tp", "fp", "fn", "tubes")]
    means = [report.miou, report.pq.all, *([report.vpq.all] if video else []), report.aq]
    return Table(
        heads(names, _MEANINGS),
        [_class_row(name, c, video) for name, c in report.classes.items() if c.occurs],
        [Cell("all"), Cell(kind="kind"), *map(bar, means), *cells("", "", *(f"{n:,}" for n in counts))],
    )


def _class_row(name: str, c: ClassReport, video: bool) -> list[Cell]:
    shares = [c.iou, c.pq, *([c.vpq] if video else []), c.aq]
    counts = [f"{n:,}" for n in (c.tp, c.fp, c.fn)]
    tubes = f"{c.tubes:,}" if c.is_thing else ""
    return [
        Cell(name, color=c.color),
        _kind(c),
        *map(bar, shares),
        *cells(percent(c.sq), percent(c.rq), *counts, tubes),
    ]


def sequence_table(report: Report) -> Table:
    """A row for each sequence, and one for all of them."""
    columns = {score.name: score.meaning for score in columns_of(report)}
    rows = [[Cell(name), *_sequence_cells(quality)] for name, quality in report.sequences.items()]
    foot = [Cell("all"), *_sequence_cells(report)] if len(rows) > 1 else []
    return Table(heads(("sequence", "frames", "tubes", *columns), columns), rows, foot, "many")


def columns_of(quality: Quality) -> list[Score]:
    """The scores that have a column in tables of sequences: all but the parts of VPQ."""
    return [score for score in quality.scores() if score.part_of != "VPQ"]


def _sequence_cells(quality: Quality) -> list[Cell]:
    shown = [bar(s.value) if s.name == "STQ" else Cell(score_text(s)) for s in columns_of(quality)]
    return [*cells(f"{quality.frames:,}", f"{quality.tubes:,}"), *shown]


def compared_scores(reports: Mapping[str, Report]) -> Table:
    """A row for each score, a column for each prediction; for two predictions also their difference."""
    found = [{(s.name, s.part_of): s for s in report.scores()} for report in reports.values()]
    rows = []
    for key in dict.fromkeys(key for column in found for key in column):
        scores = [column.get(key) for column in found]
        known = next(s for s in scores if s)
        texts = [score_text(s) if s else UNKNOWN for s in scores]
        best = _best([s.value if s else float("nan") for s in scores], texts, known.is_count)
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
            values = _bars(c.pq if c else float("nan") for c in found)
            rows.append([Cell(name, color=known.color), _kind(known), *values])
    foot = [Cell("all"), Cell(kind="kind"), *_bars(report.pq.all for report in reports.values())]
    return Table([*heads(["class", "kind"]), *_names(reports, 72)], rows, foot, "versus")


def compared_sequences(reports: Mapping[str, Report]) -> Table:
    """STQ of each sequence."""
    names = dict.fromkeys(name for report in reports.values() for name in report.sequences)
    rows = [
        [Cell(name), *_bars(r.sequences[name].stq if name in r.sequences else float("nan") for r in reports.values())]
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


def _kind(c: ClassReport) -> Cell:
    return Cell("thing" if c.is_thing else "stuff", "kind")


def _things_and_stuff(quality: PanopticQuality | VideoPanopticQuality) -> str:
    return f"things {percent(quality.things)} · stuff {percent(quality.stuff)}"


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
    if first is None or second is None or first.value != first.value or second.value != second.value:
        return UNKNOWN
    gain = second.value - first.value
    text = f"{gain:+,.0f}" if first.is_count else f"{100 * gain:+.1f}"
    if not text.strip("+-0."):
        return "0" if first.is_count else "0.0"
    return macro("change", text.replace("-", "−"), gain < 0 if first.is_count else gain > 0)
