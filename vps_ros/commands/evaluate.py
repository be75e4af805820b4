"""`vps-ros evaluate`: all metrics of a data set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sized
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

from vps_ros.commands.console import note, progress, table
from vps_ros.commands.evaluate_bag import open_bags
from vps_ros.commands.evaluate_tracks import measure_tracks, show_tracks
from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.labels import MinimumSize
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator, Report
from vps_ros.evaluation.average_precision import TrackPrecision
from vps_ros.evaluation.folders import FramePair, evaluate_pairs, pair_frames
from vps_ros.evaluation.identity import INSTALL
from vps_ros.evaluation.page.precision import precision_tables
from vps_ros.evaluation.protocols import DEFAULT, PROTOCOLS
from vps_ros.evaluation.report import Entry, write_html, write_page
from vps_ros.evaluation.results import Quality
from vps_ros.evaluation.worst import Found, Judged, pictures
from vps_ros.files import refuse_folder, write_json
from vps_ros.taxonomy import TAXONOMIES, Taxonomy

DESCRIPTION = "Measure predicted panoptic video against ground truth: STQ, VPQ, PQ, mIoU, VC, IDF1, HOTA, MOTA, IDSW."
EXAMPLES = [
    "vps-ros evaluate --format kitti-step --gt kitti-step/ --pred mine/ --split val",
    "vps-ros evaluate --format kitti-step --taxonomy cityscapes --gt streets/ --pred tracked/ --json figures.json",
    "vps-ros evaluate --format kitti-step --gt kitti-step/ --split val --pred mine/ --pred theirs/ --html report.html",
    "vps-ros evaluate --format vipseg --gt VIPSeg_720P/ --split val --pred mine/ --json figures.json --jobs 8",
    "vps-ros evaluate --format youtube-vis --gt ytvis_2019/ --split train --pred results.json",
    "vps-ros evaluate --format bag --gt drive.mcap --pred tracked.mcap",
]
BAG, TRACKS = "bag", "youtube-vis"
"""Formats that are no folders of maps."""
_ONLY = {
    "gt_topic": (BAG,),
    "pred_topic": (BAG,),
    "split": (*FORMATS, TRACKS),
    "protocol": (*FORMATS, BAG),
    "taxonomy": (*FORMATS, BAG),
    "least_area": (*FORMATS, BAG),
    "least_height": (*FORMATS, BAG),
}
"""Option -> the formats that have it, where not all do."""


class Pairs(Sized, Iterable[FramePair], Protocol):
    """The frames of one prediction with their truth; gone through as often as one likes."""


class Source(NamedTuple):
    """What is compared: the frames of each prediction by its name, their classes, and the benchmark's own rules."""

    pairs: Mapping[str, Pairs]
    taxonomy: Taxonomy
    protocol: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        required=True,
        choices=(*FORMATS, TRACKS, BAG),
        help="how both are laid out and coded; see docs/datasets.md",
    )
    parser.add_argument("--gt", required=True, metavar="PATH", help="ground truth: the data set's folder, or a bag")
    parser.add_argument(
        "--pred",
        required=True,
        action="append",
        metavar="PATH",
        help="predictions, as the data set's benchmark takes them, or a bag (which may be that of the ground truth); "
        "give it again to compare several side by side",
    )
    parser.add_argument("--split", help="take only this split of the data set (train, val)")
    parser.add_argument("--gt-topic", metavar="TOPIC", help="labels of the ground truth, where a bag has several")
    parser.add_argument("--pred-topic", metavar="TOPIC", help="labels of the predictions, where a bag has several")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="whose rules (default: the data set's own benchmark's)")
    parser.add_argument(
        "--taxonomy",
        choices=TAXONOMIES,
        help="which classes are things, for kitti-step: kitti-step person and car (the benchmark's, the default), "
        "cityscapes every road user (the generated streets and the shipped model); bags say theirs themselves",
    )
    add_least(parser, "ignore true things")
    parser.add_argument("--allow-missing", action="store_true", help="count frames that one side lacks as void")
    parser.add_argument("--json", metavar="F", help="also write the figures as JSON")
    parser.add_argument("--html", metavar="F", help="also write a page with tables, plots and the worst frames")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="threads; 0 takes one for each core (default)")
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")


def add_least(parser: argparse.ArgumentParser, what: str) -> None:
    """The options of MinimumSize; `what` is done to things below the limits."""
    for name, unit in (("area", "that show fewer than PX pixels"), ("height", "that are lower than PX rows")):
        parser.add_argument(
            f"--least-{name}",
            type=int,
            default=0,
            metavar="PX",
            help=f"{what} {unit} in a frame: there the truth is void (default: 0, all count)",
        )


def run(args: argparse.Namespace) -> int:
    _check(args)
    names, smallest = names_of(args.pred), MinimumSize(args.least_area, args.least_height)
    if args.format == TRACKS:
        return _run_tracks(args, names)
    with ExitStack() as stack:
        source = _bags(args, names, stack) if args.format == BAG else _folders(args, names)
        jobs = args.jobs or os.cpu_count() or 1
        reports, found = _measure(source, args.protocol, jobs, args.allow_missing, smallest)
        shown = []
        if args.html:
            shown = pictures(found, source.pairs, source.taxonomy, args.gt, args.split, smallest)
        if args.json:
            write_json(args.json, to_json(reports))
        if args.html:
            entries = [Entry(name, report, _timeline(found[name])) for name, report in reports.items()]
            write_html(args.html, entries, shown, title=_title_of(args, names))
    if len(reports) > 1:
        compare(reports)
    else:
        show(next(iter(reports.values())))
    _remark(reports)
    return 0


def _run_tracks(args: argparse.Namespace, names: Mapping[str, str]) -> int:
    reports = measure_tracks(args.gt, names, args.split)
    if args.json:
        write_json(args.json, to_json(reports))
    if args.html:
        write_page(args.html, _title_of(args, names), precision_tables(reports))
    show_tracks(reports)
    return 0


def _title_of(args: argparse.Namespace, names: Mapping[str, str]) -> str:
    return f"{', '.join(names)} against {Path(args.gt).resolve().name}"


def _check(args: argparse.Namespace) -> None:
    if args.jobs < 0:
        raise InputError(f"--jobs {args.jobs}: cannot be negative; 0 takes one for each core")
    for option, formats in _ONLY.items():
        if getattr(args, option) and args.format not in formats:
            flag = f"--{option.replace('_', '-')}"
            raise InputError(f"{flag}: means nothing for --format {args.format}; leave it out")
    for output in (args.json, args.html):
        if output:
            refuse_folder(output, args.force)


def _folders(args: argparse.Namespace, names: Mapping[str, str]) -> Source:
    form = FORMATS[args.format]
    taxonomy = TAXONOMIES[args.taxonomy] if args.taxonomy else form.taxonomy
    if [(c.id, c.name) for c in taxonomy.classes] != [(c.id, c.name) for c in form.taxonomy.classes]:
        raise InputError(f"--taxonomy {args.taxonomy}: has other classes than {form.name}; leave it out")
    # Every folder is listed before the first is measured: what lacks in the last is said at once.
    pairs = {n: pair_frames(args.gt, pred, args.split, args.allow_missing, form) for n, pred in names.items()}
    return Source(pairs, taxonomy, form.protocol)


def _bags(args: argparse.Namespace, names: Mapping[str, str], stack: ExitStack) -> Source:
    taxonomy = TAXONOMIES.get(args.taxonomy)
    topics = args.gt_topic, args.pred_topic
    opened = {
        name: stack.enter_context(open_bags(args.gt, pred, *topics, taxonomy, args.allow_missing))
        for name, pred in names.items()
    }
    first, *others = (pairs.taxonomy for pairs in opened.values())
    if any(other != first for other in others):
        named = ", ".join(dict.fromkeys(pairs.taxonomy.name for pairs in opened.values()))
        raise InputError(
            f"{args.gt}: the predictions are of different taxonomies ({named}); choose one with --taxonomy"
        )
    return Source(opened, first, DEFAULT)


def _measure(
    source: Source, protocol: str | None, jobs: int, allow_missing: bool, smallest: MinimumSize
) -> tuple[dict[str, Report], Mapping[str, Found]]:
    reports: dict[str, Report] = {}
    found: dict[str, list[Judged]] = {}
    for name, pairs in source.pairs.items():
        evaluator = Evaluator(source.taxonomy, protocol or source.protocol, smallest=smallest)
        label = "evaluate" if len(source.pairs) == 1 else f"evaluate {name}"
        found[name], absent = [], 0
        for pair, quality in progress(evaluate_pairs(pairs, evaluator, jobs), label, len(pairs)):
            found[name].append(Judged(pair.sequence, pair.frame, quality.pq))
            absent += pair.gt is None or pair.pred is None
        reports[name] = evaluator.result()
        if allow_missing:
            note(f"{name}: {absent} frame(s) that one side lacks were counted as void")
    return reports, found


def names_of(folders: list[str]) -> dict[str, str]:
    """Short name -> folder: as many of its last parts as tell it from the others. Raises InputError for one twice."""
    paths = {folder: Path(folder).resolve() for folder in folders}
    if len(set(paths.values())) < len(folders):
        raise InputError("--pred: names one folder twice; give each once")
    for count in range(1, max(len(path.parts) for path in paths.values()) + 1):
        names = {"/".join(path.parts[-count:]): folder for folder, path in paths.items()}
        if len(names) == len(folders):
            break
    return names


def to_json(reports: Mapping[str, Report | TrackPrecision]) -> dict:
    """One prediction's figures as they are, several by name."""
    figures = {name: report.to_json() for name, report in reports.items()}
    return {"predictions": figures} if len(figures) > 1 else next(iter(figures.values()))


METRICS = ("STQ", "AQ", "SQ", "VPQ", "PQ", "things", "stuff", "mIoU", "VC8", "VC16", "IDF1", "HOTA", "MOTA", "IDSW")


def show(report: Report) -> None:
    """The figures as tables for people, in percent."""
    sequences = [(n, s.frames, s.tubes, *_figures(s)) for n, s in report.sequences.items()]
    if len(sequences) > 1:
        sequences.append(("all", report.frames, report.tubes, *_figures(report)))
    table(_title(report), ("sequence", "frames", "tubes", *METRICS), sequences, digits=1)
    windows = [(f"{n}", *_percent(w.all, w.things, w.stuff)) for n, w in report.vpq.windows.items()]
    mean = ("mean", *_percent(report.vpq.all, report.vpq.things, report.vpq.stuff))
    table("VPQ by frames of a window", ("frames", "all", "things", "stuff"), [*windows, mean], digits=1)
    classes = [
        (n, "thing" if c.is_thing else "stuff", *_percent(c.iou, c.pq, c.sq, c.rq, c.vpq, c.aq), c.tp, c.fp, c.fn)
        for n, c in report.classes.items()
        if c.occurs
    ]
    table("per class", ("class", "kind", "IoU", "PQ", "SQ", "RQ", "VPQ", "AQ", "TP", "FP", "FN"), classes, digits=1)


def compare(reports: Mapping[str, Report]) -> None:
    """Several predictions side by side."""
    first = next(iter(reports.values()))
    table(_title(first), ("prediction", *METRICS), [(n, *_figures(r)) for n, r in reports.items()], digits=1)
    shown = [name for name in first.classes if any(r.classes[name].occurs for r in reports.values())]
    kinds = {name: "thing" if first.classes[name].is_thing else "stuff" for name in shown}
    rows = [(name, kinds[name], *_percent(*(r.classes[name].pq for r in reports.values()))) for name in shown]
    table("PQ per class", ("class", "kind", *reports), rows, digits=1)


def _figures(quality: Quality) -> tuple[float | int | None, ...]:
    """In the order of METRICS."""
    one, pq = quality.identity, quality.pq
    shares = (quality.stq, quality.aq, quality.sq, quality.vpq.all, pq.all, pq.things, pq.stuff, quality.miou)
    identities = (one.idf1, one.hota, one.mota) if one else (float("nan"),) * 3
    return *_percent(*shares, *(quality.vc[n] for n in (8, 16)), *identities), one.switches if one else None


def _percent(*values: float) -> tuple[float | None, ...]:
    return tuple(None if v != v else 100 * v for v in values)


def _title(report: Report) -> str:
    rules = report.protocols
    named = report.rules.name if len(set(rules.values())) == 1 else ", ".join(f"{rules[m]} ({m})" for m in rules)
    if report.rules.smallest:
        named += f", {report.rules.smallest}"
    return f"protocol {named}, taxonomy {report.taxonomy}, in percent"


def _timeline(found: Found) -> dict[str, list[float]]:
    timeline: dict[str, list[float]] = {}
    for sequence, _, quality in found:
        timeline.setdefault(sequence, []).append(quality)
    return timeline


def _remark(reports: Mapping[str, Report]) -> None:
    remarks = {report.void_note for report in reports.values()}
    if any(report.identity is None for report in reports.values()):
        remarks.add(f"IDF1, HOTA, MOTA and IDSW were left out: {INSTALL}")
    for remark in sorted(filter(None, remarks)):
        note(remark)
