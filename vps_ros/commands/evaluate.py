"""`vps-ros evaluate`: all metrics of a data set."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.commands.console import note, progress, table
from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.kitti_step import Sequences, list_images
from vps_ros.drawing.palette import paint_map
from vps_ros.drawing.sheet import contact_sheet
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator, FrameQuality, Report
from vps_ros.evaluation.folders import FramePair, evaluate_pairs, load_pair, pair_frames
from vps_ros.evaluation.protocols import PROTOCOLS
from vps_ros.evaluation.report import Picture, write_html
from vps_ros.output import refuse_existing, write_json
from vps_ros.taxonomy import TAXONOMIES, Taxonomy

DESCRIPTION = "Measure predicted panoptic video against ground truth: STQ, AQ, SQ, PQ and mIoU."
EXAMPLES = [
    "vps-ros evaluate --format kitti-step --gt kitti-step/ --pred mine/ --split val",
    "vps-ros evaluate --format kitti-step --taxonomy cityscapes --gt streets/ --pred tracked/ --json figures.json",
    "vps-ros evaluate --format kitti-step --gt kitti-step/panoptic_maps/val --pred mine/ --html report.html --jobs 8",
    "vps-ros evaluate --format vipseg --gt VIPSeg_720P/ --split val --pred mine/ --json figures.json",
]
WORST = 6
"""Frames that the report shows."""
STRETCH = 10
"""Frames of a video of which it shows the worst at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", required=True, choices=FORMATS, help="how both folders are laid out and coded; see docs/datasets.md"
    )
    parser.add_argument("--gt", required=True, metavar="DIR", help="ground truth: the data set's folder")
    parser.add_argument(
        "--pred", required=True, metavar="DIR", help="predictions, as the data set's benchmark takes them"
    )
    parser.add_argument("--split", help="take only this split of the data set (train, val)")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="whose rules of STQ (default: the benchmark's own)")
    parser.add_argument(
        "--taxonomy",
        choices=TAXONOMIES,
        help="which classes are things, for kitti-step: kitti-step person and car (the benchmark's, the default), "
        "cityscapes every road user (the generated streets and the shipped model)",
    )
    parser.add_argument("--allow-missing", action="store_true", help="count frames that one side lacks as void")
    parser.add_argument("--json", metavar="F", help="also write the figures as JSON")
    parser.add_argument("--html", metavar="F", help="also write a page with tables, plots and the worst frames")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="threads; 0 takes one for each core (default)")
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")


def run(args: argparse.Namespace) -> int:
    if args.jobs < 0:
        raise InputError(f"--jobs {args.jobs}: cannot be negative; 0 takes one for each core")
    for output in (args.json, args.html):
        if output:
            refuse_existing(output, args.force)
    form = FORMATS[args.format]
    taxonomy = TAXONOMIES[args.taxonomy] if args.taxonomy else form.taxonomy
    pairs = pair_frames(args.gt, args.pred, args.split, args.allow_missing, form)
    evaluator = Evaluator(taxonomy, args.protocol or form.protocol)
    worst = _Worst(WORST)
    timeline: dict[str, list[float]] = {}
    done = evaluate_pairs(pairs, evaluator, args.jobs or os.cpu_count() or 1)
    for pair, quality in progress(done, "evaluate", len(pairs)):
        if args.html:
            values = timeline.setdefault(pair.sequence, [])
            worst.offer(pair, len(values), quality)
            values.append(quality.pq)
    report = evaluator.result()
    if args.json:
        write_json(args.json, report.to_json())
    if args.html:
        pictures = _pictures(worst.taken(), taxonomy, args.gt, args.split)
        title = f"{Path(args.pred).resolve().name} against {Path(args.gt).resolve().name}"
        write_html(args.html, report, title=title, timeline=timeline, pictures=pictures)
    if args.allow_missing:
        absent = sum(pair.gt is None or pair.pred is None for pair in pairs)
        note(f"{absent} frame(s) that one side lacks were counted as void")
    show(report)
    if report.void_note:
        note(report.void_note)
    return 0


def show(report: Report) -> None:
    """The figures as tables for people, in percent."""
    sequences = [
        (name, s.frames, s.tubes, *_percent(s.stq, s.aq, s.sq, s.pq.all, s.pq.things, s.pq.stuff, s.miou))
        for name, s in report.sequences.items()
    ]
    total = _percent(report.stq, report.aq, report.sq, report.pq.all, report.pq.things, report.pq.stuff, report.miou)
    if len(sequences) > 1:
        sequences.append(("all", report.frames, report.tubes, *total))
    columns = ("sequence", "frames", "tubes", "STQ", "AQ", "SQ", "PQ", "things", "stuff", "mIoU")
    table(f"protocol {report.protocol}, taxonomy {report.taxonomy}, in percent", columns, sequences, digits=1)
    classes = [
        (name, "thing" if c.is_thing else "stuff", *_percent(c.iou, c.pq, c.sq, c.rq, c.aq), c.tp, c.fp, c.fn)
        for name, c in report.classes.items()
        if c.occurs
    ]
    table("per class", ("class", "kind", "IoU", "PQ", "SQ", "RQ", "AQ", "TP", "FP", "FN"), classes, digits=1)


def _percent(*values: float) -> tuple[float | None, ...]:
    return tuple(None if v != v else 100 * v for v in values)


class _Worst:
    """Keeps frames of lowest PQ, at most one of each STRETCH: the next frame of a video mostly looks the same."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._of_stretch: dict[tuple[str, int], tuple[float, FramePair]] = {}

    def offer(self, pair: FramePair, index: int, quality: FrameQuality) -> None:
        """`index` counts the frames of the sequence."""
        stretch = pair.sequence, index // STRETCH
        # Written so that NaN, a frame where nothing is labelled, is never the worst.
        if quality.pq < self._of_stretch.get(stretch, (math.inf, pair))[0]:
            self._of_stretch[stretch] = quality.pq, pair
            if len(self._of_stretch) > self._size:
                del self._of_stretch[max(self._of_stretch, key=lambda s: self._of_stretch[s][0])]

    def taken(self) -> list[tuple[float, FramePair]]:
        return sorted(self._of_stretch.values(), key=lambda one: one[0])


def _pictures(
    worst: Sequence[tuple[float, FramePair]], taxonomy: Taxonomy, gt_root: str, split: str | None
) -> list[Picture]:
    images = _images(gt_root, split)
    pictures = []
    for quality, pair in worst:
        gt, pred = load_pair(pair)
        rows = [paint_map(taxonomy, *gt), paint_map(taxonomy, *pred)]
        photo = pair.gt.image if pair.gt and pair.gt.image else images.get(pair.sequence, {}).get(pair.frame)
        camera = _camera(photo, rows[0].shape)
        rows = rows if camera is None else [camera, *rows]
        names = "ground truth, prediction" if camera is None else "camera, ground truth, prediction"
        caption = f"Among the worst: {pair.name}, PQ {100 * quality:.1f} (from above: {names})"
        pictures.append(Picture(contact_sheet(rows, 1), caption))
    return pictures


def _images(root: str, split: str | None) -> Sequences:
    """The camera images beside the ground truth; a report does without them where there are none."""
    folder = Path(root)
    for home in (folder, *folder.resolve().parents[:2]):
        if (home / "images").is_dir():
            try:
                return list_images(home, split if (home / "images" / (split or "")).is_dir() else None)
            except InputError:
                return {}
    return {}


def _camera(path: Path | None, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    image = cv2.imread(str(path)) if path else None
    return image[..., ::-1] if image is not None and image.shape == shape else None
