"""`vps-ros evaluate`: all metrics of a data set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sized
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

from markupsafe import Markup

from vps_ros.bag_pairs import open_bags
from vps_ros.commands.console import note, progress, table, warn
from vps_ros.commands.options import add_minimum_size_flags, jobs_of
from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.labels import MinimumSize
from vps_ros.datasets.youtube_vis import edition, find_truth, load_results, load_truth
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator, Report
from vps_ros.evaluation.average_precision import AveragePrecision, TrackPrecision
from vps_ros.evaluation.identity import INSTALL
from vps_ros.evaluation.metric import DEFAULT, PROTOCOLS
from vps_ros.evaluation.page import UNKNOWN, Cell, Table, percent, plural, tables
from vps_ros.evaluation.page.pictures import Scores, lowest_pictures, moment
from vps_ros.evaluation.pairs import FramePair, evaluate_pairs, pair_frames
from vps_ros.evaluation.report import Entry, write_html, write_precision_html
from vps_ros.files import write_json
from vps_ros.recording.image_files import DEFAULT_HZ
from vps_ros.taxonomy import TAXONOMIES, Taxonomy

DESCRIPTION = "Measure predicted panoptic video against ground truth: STQ, VPQ, PQ, mIoU, VC, IDF1, HOTA, MOTA, IDSW."
EXAMPLES = [
    "vps-ros evaluate --format kitti-step --gt kitti-step/ --pred mine/ --split val",
    "vps-ros evaluate --format kitti-step --taxonomy cityscapes --gt streets/ --pred tracked/ --json figures.json",
    "vps-ros evaluate --format kitti-step --gt kitti-step/ --split val --pred mine/ --pred theirs/ --html report.html",
    "vps-ros evaluate --format vipseg --gt VIPSeg_720P/ --split val --pred mine/ --json figures.json --jobs 8",
    "vps-ros evaluate --format youtube-vis --gt ytvis_2019/ --split train --pred results.json",
    "vps-ros evaluate --format bag --gt drive.mcap --pred tracked.mcap",
    "vps-ros evaluate --format bag --gt drive.mcap --pred tracked.mcap --html report.html --overlay tracked.mp4",
]
BAG, TRACKS = "bag", "youtube-vis"
"""Formats other than folders of maps."""
RESULTS = "results.json"
"""The file in a folder of YouTube-VIS predictions."""
_FORMATS_OF_OPTIONS = {
    "gt_topic": (BAG,),
    "pred_topic": (BAG,),
    "split": (*FORMATS, TRACKS),
    "protocol": (*FORMATS, BAG),
    "taxonomy": (*FORMATS, BAG),
    "least_area": (*FORMATS, BAG),
    "least_height": (*FORMATS, BAG),
}
"""Option -> the formats that have it; other options apply to all formats."""


class Pairs(Sized, Iterable[FramePair], Protocol):
    """The frames of one prediction with their ground truth; can be iterated over repeatedly."""


class Source(NamedTuple):
    """The frames of each prediction by its name, their classes, and the protocol of the data set's benchmark."""

    pairs: Mapping[str, Pairs]
    taxonomy: Taxonomy
    protocol: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        required=True,
        choices=(*FORMATS, TRACKS, BAG),
        help="layout and coding of both; see docs/datasets.md",
    )
    parser.add_argument("--gt", required=True, metavar="PATH", help="ground truth: the data set's folder, or a bag")
    parser.add_argument(
        "--pred",
        required=True,
        action="append",
        metavar="PATH",
        help="predictions in the format of the data set's benchmark, or a bag (which may be that of the ground truth); "
        "repeat it to compare several side by side",
    )
    parser.add_argument("--split", help="use only this split of the data set (train, val)")
    parser.add_argument("--gt-topic", metavar="TOPIC", help="label topic of the ground truth, if the bag has several")
    parser.add_argument("--pred-topic", metavar="TOPIC", help="label topic of the predictions, if the bag has several")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, help="rules of which benchmark (default: that of the data set)"
    )
    parser.add_argument(
        "--taxonomy",
        choices=TAXONOMIES,
        help="which classes are things, for kitti-step: kitti-step person and car (the benchmark's, the default), "
        "cityscapes every road user (the generated streets and the shipped model); bags contain theirs",
    )
    add_minimum_size_flags(parser, "ignore true things")
    parser.add_argument(
        "--allow-missing", action="store_true", help="count frames that are missing on one side as void"
    )
    parser.add_argument("--json", metavar="F", help="also write the figures as JSON")
    parser.add_argument(
        "--html", metavar="F", help="also write a report with tables, plots and the frames of lowest PQ"
    )
    parser.add_argument(
        "--overlay",
        metavar="PATH",
        help="of the report: a video of `replay --overlay` to whose moments the pictures link, or a folder with one "
        "SEQUENCE.mp4 for each sequence",
    )
    parser.add_argument(
        "--hz", type=float, default=DEFAULT_HZ, help="of frames without stamps in that video (default: 10)"
    )
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="threads; 0: one for each core (default)")
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")


def run(args: argparse.Namespace) -> int:
    _check(args)
    names, smallest = names_of(args.pred), MinimumSize(args.least_area, args.least_height)
    if args.format == TRACKS:
        return _run_tracks(args, names)
    with ExitStack() as stack:
        source = _bags(args, names, stack) if args.format == BAG else _folders(args, names)
        reports, found = _measure(source, args.protocol, jobs_of(args), args.allow_missing, smallest)
        shown = []
        if args.html:
            moments = _moments(args, found) if args.overlay else {}
            shown = lowest_pictures(found, source.pairs, source.taxonomy, args.gt, args.split, smallest, moments)
        if args.json:
            write_json(args.json, to_json(reports))
        if args.html:
            entries = [Entry(n, r, {s: list(f.values()) for s, f in found[n].items()}) for n, r in reports.items()]
            write_html(args.html, entries, shown, title=_title_of(args, names))
    show(reports)
    _show_remarks(reports)
    return 0


def _moments(args: argparse.Namespace, found: Mapping[str, Scores]) -> dict[tuple[str, str], str]:
    """(sequence, frame) -> link to it in its overlay video, relative to the report.

    Raises InputError when a video is missing.
    """
    sequences = {name: list(frames) for scores in found.values() for name, frames in scores.items()}
    overlay, page = Path(args.overlay), Path(args.html).resolve().parent
    if not overlay.is_dir() and len(sequences) > 1:
        raise InputError(f"--overlay {overlay}: there are {len(sequences)} sequences; give a folder of SEQUENCE.mp4")
    links = {}
    for sequence, frames in sequences.items():
        video = overlay / f"{sequence}.mp4" if overlay.is_dir() else overlay
        if not video.is_file():
            raise InputError(f"{video}: no such video; write it with `vps-ros replay --overlay`")
        relative = os.path.relpath(video.resolve(), page)
        # The frames of bags are named by their stamps in seconds.
        begin = float(frames[0]) if args.format == BAG else 0.0
        for index, frame in enumerate(frames):
            seconds = float(frame) - begin if args.format == BAG else index / args.hz
            links[sequence, frame] = moment(relative, seconds)
    return links


def _run_tracks(args: argparse.Namespace, names: Mapping[str, str]) -> int:
    reports = _measure_tracks(args.gt, names, args.split)
    if args.json:
        write_json(args.json, to_json(reports))
    if args.html:
        write_precision_html(args.html, reports, _title_of(args, names))
    _show_tracks(reports)
    return 0


def _title_of(args: argparse.Namespace, names: Mapping[str, str]) -> str:
    return f"{', '.join(names)} against {Path(args.gt).resolve().name}"


def _check(args: argparse.Namespace) -> None:
    if args.overlay and not args.html:
        raise InputError("--overlay: the report links to it; add --html F")
    if not args.hz > 0:
        raise InputError(f"--hz {args.hz:g}: must be above 0")
    jobs_of(args)
    for option, formats in _FORMATS_OF_OPTIONS.items():
        if getattr(args, option) and args.format not in formats:
            flag = f"--{option.replace('_', '-')}"
            raise InputError(f"{flag}: does not apply to --format {args.format}; leave it out")


def _folders(args: argparse.Namespace, names: Mapping[str, str]) -> Source:
    form = FORMATS[args.format]
    taxonomy = TAXONOMIES[args.taxonomy] if args.taxonomy else form.taxonomy
    if [(c.id, c.name) for c in taxonomy.classes] != [(c.id, c.name) for c in form.taxonomy.classes]:
        raise InputError(f"--taxonomy {args.taxonomy}: has other classes than {form.name}; leave it out")
    # All folders are listed before the first is measured, so that missing frames are reported at once.
    pairs = {n: pair_frames(args.gt, pred, args.split, args.allow_missing, form) for n, pred in names.items()}
    return Source(pairs, taxonomy, form.protocol)


def _bags(args: argparse.Namespace, names: Mapping[str, str], stack: ExitStack) -> Source:
    taxonomy = TAXONOMIES.get(args.taxonomy)
    topics = args.gt_topic, args.pred_topic
    opened = {
        name: stack.enter_context(open_bags(args.gt, pred, *topics, taxonomy, args.allow_missing, warn))
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
) -> tuple[dict[str, Report], Mapping[str, Scores]]:
    reports: dict[str, Report] = {}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, pairs in source.pairs.items():
        evaluator = Evaluator(source.taxonomy, protocol or source.protocol, smallest=smallest)
        label = "evaluate" if len(source.pairs) == 1 else f"evaluate {name}"
        found[name], absent = {}, 0
        for pair, quality in progress(evaluate_pairs(pairs, evaluator, jobs), label, len(pairs)):
            found[name].setdefault(pair.sequence, {})[pair.frame] = quality.pq
            absent += pair.gt is None or pair.pred is None
        reports[name] = evaluator.result()
        if allow_missing:
            note(f"{name}: {absent} frame(s) that are missing on one side were counted as void")
    return reports, found


def names_of(folders: list[str]) -> dict[str, str]:
    """Unique name -> folder: its last path components, as few as possible. Raises InputError for duplicates."""
    paths = {folder: Path(folder).resolve() for folder in folders}
    if len(set(paths.values())) < len(folders):
        raise InputError("--pred: names one folder twice; give each once")
    for count in range(1, max(len(path.parts) for path in paths.values()) + 1):
        names = {"/".join(path.parts[-count:]): folder for folder, path in paths.items()}
        if len(names) == len(folders):
            break
    return names


def to_json(reports: Mapping[str, Report | TrackPrecision]) -> dict:
    """The figures of one prediction; of several, by their names."""
    figures = {name: report.to_json() for name, report in reports.items()}
    return {"predictions": figures} if len(figures) > 1 else next(iter(figures.values()))


def show(reports: Mapping[str, Report]) -> None:
    """Prints the figures in percent; several predictions side by side."""
    report = next(iter(reports.values()))
    rules = report.protocols
    named = report.rules.name if len(set(rules.values())) == 1 else ", ".join(f"{rules[m]} ({m})" for m in rules)
    smallest = f", {report.rules.smallest}" if report.rules.smallest else ""
    title = f"protocol {named}{smallest}, taxonomy {report.taxonomy}, in percent"
    if len(reports) > 1:
        _print(title, tables.compared_scores(reports))
        _print("PQ per class", tables.compared_classes(reports))
        return
    _print(title, tables.sequence_table(report))
    windows = {str(n): one for n, one in report.vpq.windows.items()} | {"mean": report.vpq}
    rows = [(n, *map(percent, (one.all, one.things, one.stuff))) for n, one in windows.items()]
    table("VPQ by frames of a window", ("frames", "all", "things", "stuff"), rows)
    _print("per class", tables.class_table(report))


def _print(title: str, found: Table) -> None:
    """Prints a table of the HTML report."""
    head, *rows = ([_text(cell) for cell in row] for row in (found.head, *found.rows, found.foot) if row)
    table(title, head, rows)


def _text(cell: Cell) -> str:
    text = cell.text.striptags() if isinstance(cell.text, Markup) else str(cell.text)
    # Characters of every terminal.
    return ("  " if cell.kind == "part" else "") + text.replace("−", "-").replace(UNKNOWN, "-")


def _show_remarks(reports: Mapping[str, Report]) -> None:
    remarks = {report.void_note for report in reports.values()}
    if any(report.identity is None for report in reports.values()):
        remarks.add(f"IDF1, HOTA, MOTA and IDSW were left out: {INSTALL}")
    for remark in sorted(filter(None, remarks)):
        note(remark)


def _measure_tracks(gt: str, predictions: Mapping[str, str], split: str | None) -> dict[str, TrackPrecision]:
    """AP and AR of each prediction of YouTube-VIS, by its name.

    Args:
        gt: the data set's folder, or its JSON.
        predictions: name -> results, or a folder that holds RESULTS.

    Raises:
        InputError: as the readers of `vps_ros.datasets.youtube_vis`, or the ground truth has no tracks.
    """
    path = Path(gt) if Path(gt).is_file() else find_truth(gt, split)
    taxonomy = edition(path)
    truth = load_truth(path, taxonomy)
    if not any(not track.crowd for video in truth for track in video.tracks):
        raise InputError(
            f"{path}: has no annotations to compare with; the benchmark does not publish those of all splits"
        )
    paths = {name: Path(pred) / RESULTS if Path(pred).is_dir() else Path(pred) for name, pred in predictions.items()}
    results = {name: load_results(one, truth, taxonomy) for name, one in paths.items()}
    reports = {}
    for name, videos in results.items():
        counts = AveragePrecision(taxonomy)
        label = "evaluate" if len(results) == 1 else f"evaluate {name}"
        for video, predicted in progress(zip(truth, videos, strict=True), label, len(truth)):
            counts.update(video, predicted)
        reports[name] = counts.result()
    return reports


def _show_tracks(reports: Mapping[str, TrackPrecision]) -> None:
    """Prints AP and AR in percent."""
    first = next(iter(reports.values()))
    counts = f"{plural(first.videos, 'video')}, {plural(first.tracks, 'true track')}"
    _print(f"protocol youtube-vis, taxonomy {first.taxonomy}, {counts}, in percent", tables.precision_table(reports))
    _print("per class" if len(reports) == 1 else "AP per class", tables.precision_classes(reports))
