"""`vps-ros adapt`: a small model adapted to unlabelled recordings."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np

from vps_ros.adaptation.steps import (
    CLIP,
    Plan,
    check_classes,
    choose,
    label,
    model_key,
    name_of,
    observe,
    seconds_per_frame,
    start,
)
from vps_ros.adaptation.training import Budget, export, fine_tune, recipe_of, train_trackers
from vps_ros.bag_pairs import open_bags
from vps_ros.commands.console import note, progress, table, warn
from vps_ros.commands.replay import replay_source
from vps_ros.config import Config
from vps_ros.datasets.formats import DATA_SETS
from vps_ros.datasets.images import load_image
from vps_ros.drawing.colors import paint_map
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.folders import evaluate_pairs, load_pair
from vps_ros.evaluation.report import Entry, Picture, write_html
from vps_ros.files import model_path, refuse_folder, shipped_models, write_json
from vps_ros.learning import Reporter, require_training
from vps_ros.reading import read_size
from vps_ros.recording.bag import Bag, is_bag
from vps_ros.recording.frames import open_frames
from vps_ros.recording.labels import find_label_topics
from vps_ros.taxonomy import CITYSCAPES

DESCRIPTION = """\
Adapt a small model to unlabelled recordings of one domain: a camera, a town, a season. The most informative frames
(novel content, flicker, disagreement of teacher and student) are labelled by a teacher, with its results for mirrored,
smaller and enlarged views, and with identities of the complete recording. The student is trained on them and on
generated streets, thresholds are tuned, the learned weights of the trackers are trained again, and the quality before
and after is reported on recordings that are held back.

It first prints its plan. An interrupted run continues with the same arguments; its files are in WORK."""
EXAMPLES = [
    "vps-ros adapt monday.mcap tuesday.mcap friday.mcap -o city.onnx --teacher large.onnx --minutes 60",
    "vps-ros adapt drives/*.mcap -o city.onnx --plan",
    "vps-ros adapt drives/*.mcap -o city.onnx --start runs/streets-s --labels labels/ --hold-back 2",
]
_PICTURES = 6
_SECONDS_PER_DRIVE = 2.5
"""Of rendering a generated drive of six frames, on one core."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("drives", nargs="+", metavar="DRIVE", help="bags, videos or folders of images; two at least")
    parser.add_argument("-o", "--output", required=True, metavar="M.onnx", help="the adapted model")
    parser.add_argument("--topic", help="image topic of the bags, if they have several")
    parser.add_argument("--student", default="streets-s", metavar="M", help="model before (default: streets-s)")
    parser.add_argument(
        "--start",
        default="streets-s-float",
        metavar="RUN",
        help="initial weights: a training run, a checkpoint, or an exported model with float weights, of the student "
        "(default: streets-s-float)",
    )
    parser.add_argument("--teacher", metavar="M", help="model that labels (default: the student, with several views)")
    parser.add_argument("--labels", metavar="DIR", help="labels made by people, as `vps-ros label export` writes them")
    parser.add_argument("--labels-format", choices=DATA_SETS, default="kitti-step", help="default: kitti-step")
    parser.add_argument(
        "--hold-back", type=int, metavar="N", help="number of last drives, for the report (default: a fifth)"
    )
    parser.add_argument("--clips", type=int, default=100, help=f"clips of {CLIP} frames to label (default: 100)")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training (default: 60)")
    parser.add_argument("--steps", type=int, default=0, help="of training, instead of minutes")
    parser.add_argument("--streets", type=float, default=0.4, help="share of generated streets, 0..1 (default: 0.4)")
    parser.add_argument(
        "--streets-drives", type=int, default=20, metavar="N", help="generated drives of each scenario (default: 20)"
    )
    parser.add_argument("--size", metavar="WxH", help="input of the network (default: that of --start)")
    parser.add_argument("--int8", action="store_true", help="integer convolutions, for CPUs; calibrated on the drives")
    parser.add_argument("--no-trackers", action="store_true", help="leave out the weights of instance and hybrid")
    parser.add_argument("--work", metavar="DIR", help="working folder (default: the output's name with .adapt)")
    parser.add_argument("--plan", action="store_true", help="print the plan only")
    parser.add_argument("--json", metavar="F", help="also write the quality before and after as JSON")
    parser.add_argument("--force", action="store_true", help="replace an output that exists")


def run(args: argparse.Namespace) -> int:
    output = refuse_folder(args.output, args.force)
    work = Path(args.work or output.with_suffix(".adapt"))
    teacher = args.teacher or args.student
    budget = _budget(args)
    drives, held = _split(args)
    require_training("adapt")
    _check_labels(args)
    plan = Plan(drives, held, args.topic or "", model_key(args.student), model_key(teacher), args.clips)
    labels = {"format": args.labels_format, "root": args.labels, "split": "", "name": "labels"} if args.labels else None
    terms = f"labels by {model_path(teacher).stem}: see the terms of that model"
    weights = str(model_path(args.start)) if args.start in shipped_models() else args.start
    content = recipe_of(weights, output.stem, work / "data", terms, budget, labels)
    _print_plan(plan, args.student, teacher, budget)
    if args.plan:
        return 0
    start(work, plan)
    reporter = Reporter(progress, note)
    observed = observe(work, plan, args.student, teacher, progress)
    label(work, plan, teacher, observed, progress)
    if not fine_tune(work, content, reporter):
        return 130
    chosen = choose(plan, observed)[0]
    names = [name_of(drive, i) for i, drive in enumerate((*plan.drives, *plan.held_back))]
    images = [load_image(work / "tracked" / names[r] / "images" / f"{f:06d}.jpg") for r, f in chosen[:: 2 * CLIP]]
    export(work, output, images if args.int8 else [], reporter)
    if not args.no_trackers:
        note(f"{train_trackers(work, output, budget, reporter)}: learned weights of the trackers instance and hybrid")
    return _report(args, plan, work, output, teacher)


def _budget(args: argparse.Namespace) -> Budget:
    if args.steps < 0:
        raise InputError(f"--steps {args.steps}: cannot be negative; 0 trains for --minutes")
    if args.minutes <= 0 or args.clips < 1 or args.streets_drives < 1:
        raise InputError("--minutes, --clips and --streets-drives must be above 0")
    if not 0 <= args.streets < 1:
        raise InputError(f"--streets {args.streets:g}: give a share in 0..1, below 1")
    size = read_size(args.size, "--size") if args.size else None
    return Budget(args.minutes, args.steps, args.streets, args.streets_drives, size=size)


def _split(args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    drives = [str(Path(drive).resolve()) for drive in args.drives]
    if len(set(drives)) != len(drives):
        raise InputError("a drive is named twice; the quality would be measured on what was learned")
    count = max(1, len(drives) // 5) if args.hold_back is None else args.hold_back
    if not 1 <= count < len(drives):
        raise InputError(f"{len(drives)} drive(s) with {count} held back; give more drives, at least two")
    return tuple(drives[:-count]), tuple(drives[-count:])


def _check_labels(args: argparse.Namespace) -> None:
    if args.labels:
        DATA_SETS[args.labels_format].truth(args.labels, None)


def _print_plan(plan: Plan, student: str, teacher: str, budget: Budget) -> None:
    segmenters = check_classes(dict.fromkeys((teacher, student)))
    counts, first = [], None
    for drive in (*plan.drives, *plan.held_back):
        with open_frames(drive, topic=plan.topic or None) as source:
            counts.append(source.count or 0)
            first = first or next(iter(islice(source.frames(), 1)))
    assert first is not None
    each = seconds_per_frame(segmenters, first)
    held = sum(counts[len(plan.drives) :])
    frames, labelled = sum(counts), CLIP * plan.clips + plan.held_back_frames
    rendering = 8 * budget.drives * _SECONDS_PER_DRIVE / 60 / budget.workers
    rows = [
        ("observe all frames by teacher and student", frames, each * frames / 60),
        (f"label the chosen frames by {model_path(teacher).stem}", labelled, 4 * each * labelled / 60),
        ("render generated streets, unless they exist", 8 * 6 * budget.drives, rendering),
        (f"train, {budget.steps} steps" if budget.steps else "train", None, 0.0 if budget.steps else budget.minutes),
        ("report on held-back drives", 3 * held, 3 * each * held / 60),
    ]
    table(
        f"plan: {len(plan.drives)} drives, {len(plan.held_back)} held back",
        ("step", "frames", "minutes"),
        [*rows, ("all", None, sum(row[2] for row in rows))],
        digits=1,
    )


def _report(args: argparse.Namespace, plan: Plan, work: Path, output: Path, teacher: str) -> int:
    models = {"before": args.student, "after": str(output)}
    evaluators = {name: Evaluator(CITYSCAPES) for name in models}
    timelines: dict[str, dict[str, list[float]]] = {name: {} for name in models}
    pictures: list[Picture] = []
    against = set()
    for number, drive in enumerate(plan.held_back):
        bags = {}
        truth = _has_truth(drive)
        against.add("ground truth" if truth else f"labels of {model_path(teacher).stem}")
        for name, model in {**models, **({} if truth else {"teacher": teacher})}.items():
            bags[name] = work / "report" / f"{name}-{number}.mcap"
            with open_frames(drive, topic=plan.topic or None) as source:
                replay_source(source, Config(model=model), bags[name], None, True)
        panels: dict[int, dict[str, np.ndarray]] = {}
        for name in models:
            with open_bags(drive if truth else bags["teacher"], bags[name], taxonomy=CITYSCAPES, warn=warn) as pairs:
                shown = set(
                    np.linspace(0, len(pairs) - 1, max(1, _PICTURES // len(plan.held_back))).astype(int).tolist()
                )
                values = timelines[name].setdefault(Path(drive).stem, [])
                for i, (pair, quality) in enumerate(evaluate_pairs(pairs, evaluators[name])):
                    values.append(quality.pq)
                    if i in shown:
                        gt, pred = load_pair(pair)
                        panels.setdefault(i, {"reference": paint_map(CITYSCAPES, *gt)})[name] = paint_map(
                            CITYSCAPES, *pred
                        )
        pictures += [Picture(found, f"{Path(drive).stem}, frame {i}") for i, found in sorted(panels.items())]
    reports = {name: evaluator.result() for name, evaluator in evaluators.items()}
    reference = " and ".join(sorted(against))
    page = work / "report.html"
    entries = [Entry(name, report, timelines[name]) for name, report in reports.items()]
    write_html(page, entries, pictures, f"{output.name} on held-back drives", {"compared with": reference})
    rows = [(name, *(100 * value for value in (r.stq, r.aq, r.sq, r.pq.all, r.miou))) for name, r in reports.items()]
    table(f"held-back drives, compared with {reference}", ("model", "STQ", "AQ", "SQ", "PQ", "mIoU"), rows, digits=1)
    if args.json:
        write_json(args.json, {"compared_with": reference, **{name: r.to_json() for name, r in reports.items()}})
    if reports["after"].stq < reports["before"].stq:
        warn("the adapted model is worse than the one before; use more drives, clips or minutes, or a better teacher")
    note(f"{output}: {output.stat().st_size / 1e6:.1f} MB; pictures: {page}; training: {work}")
    return 0


def _has_truth(drive: str) -> bool:
    if not is_bag(Path(drive)):
        return False
    with Bag(drive) as bag:
        return bool(find_label_topics(bag))
