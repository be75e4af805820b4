"""`vps-ros adapt`: a small model adapted to unlabelled recordings."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.adaptation.select import Observed
from vps_ros.adaptation.steps import (
    CLIP,
    DATA,
    TEACHER,
    TRACKED,
    Plan,
    check_classes,
    choose,
    count_frames,
    frames_at,
    image_name,
    input_size,
    label,
    label_held_back,
    model_key,
    observe,
    seconds_per_frame,
    spread,
    start,
)
from vps_ros.adaptation.training import Budget, export, fine_tune, recipe_of, teacher_of, train_trackers
from vps_ros.bag_pairs import open_bags
from vps_ros.commands.console import note, progress, table, warn
from vps_ros.commands.replay import Options, replay_source
from vps_ros.config import Config
from vps_ros.datasets.formats import DATA_SETS
from vps_ros.datasets.images import load_image
from vps_ros.drawing.colors import paint_map
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.pairs import evaluate_pairs, load_pair
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
STATISTICS_IMAGES = 48
"""For the statistics of the teacher, spread over the drives. Chosen."""
_SECONDS_PER_DRIVE = 2.5
"""Of rendering a generated drive of six frames, on one core."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("drives", nargs="+", metavar="DRIVE", help="bags, videos or folders of images; two at least")
    parser.add_argument("-o", "--output", required=True, metavar="M.onnx", help="the adapted model")
    parser.add_argument("--topic", help="image topic of the bags, if they have several")
    add_options(parser)
    parser.add_argument("--plan", action="store_true", help="print the plan only")
    parser.add_argument("--json", metavar="F", help="also write the quality before and after as JSON")
    parser.add_argument("--force", action="store_true", help="replace an output that exists")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that `vps-ros fleet adapt` has, too."""
    parser.add_argument("--student", default="streets-s", metavar="M", help="model before (default: streets-s)")
    parser.add_argument(
        "--start",
        default="streets-s-float",
        metavar="RUN",
        help="initial weights: a training run, a checkpoint, or an exported model with float weights, of the student "
        "(default: streets-s-float)",
    )
    parser.add_argument(
        "--teacher",
        metavar="M",
        help="model that labels (default: START with the statistics of the drives)",
    )
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
        "--style",
        type=float,
        default=0.7,
        metavar="P",
        help="share of the generated streets that get the colours of the recordings, 0..1 (default: 0.7)",
    )
    parser.add_argument(
        "--streets-drives", type=int, default=20, metavar="N", help="generated drives of each scenario (default: 20)"
    )
    parser.add_argument("--size", metavar="WxH", help="input of the network (default: that of --student)")
    parser.add_argument("--int8", action="store_true", help="integer convolutions, for CPUs; calibrated on the drives")
    parser.add_argument("--no-trackers", action="store_true", help="leave out the weights of instance and hybrid")
    parser.add_argument("--work", metavar="DIR", help="working folder (default: the output's name with .adapt)")


@dataclass(frozen=True)
class Training:
    """What decides the training, of `adapt` and of `fleet adapt`.

    Attributes:
        output: the new model, a file of this machine.
        recipe: content of that of `vps-ros train`.
    """

    output: Path
    work: Path
    student: str
    teacher: str
    budget: Budget
    recipe: dict[str, Any]
    int8: bool
    trackers: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the input of the new network."""
        return self.budget.size or input_size(self.student)


def training_of(args: argparse.Namespace, output: Path, work: Path) -> Training:
    """Raises InputError when the arguments of `add_options` are wrong, or training is impossible."""
    teacher, budget = args.teacher or args.student, _budget(args)
    require_training("adapt")
    if args.labels:
        DATA_SETS[args.labels_format].truth(args.labels, None)
    terms = f"labels by {model_path(teacher).stem}: see the terms of that model"
    labels = {"format": args.labels_format, "root": args.labels, "split": "", "name": "labels"} if args.labels else None
    weights = str(model_path(args.start)) if args.start in shipped_models() else args.start
    recipe = recipe_of(weights, output.stem, work / DATA, terms, budget, labels)
    return Training(output, work, args.student, teacher, budget, recipe, args.int8, not args.no_trackers)


def plan_of(args: argparse.Namespace, drives: Sequence[str], versions: Sequence[str] = ()) -> Plan:
    """The last drives are held back; raises InputError where too few are left."""
    held = held_back(len(drives), args.hold_back)
    models = (model_key(args.student), model_key(args.teacher or args.student))
    return Plan(
        tuple(drives[:-held]), tuple(drives[-held:]), args.topic or "", *models, args.clips, versions=tuple(versions)
    )


def held_back(drives: int, asked: int | None) -> int:
    """Number of drives that are held back; raises InputError when there are too few drives."""
    count = max(1, drives // 5) if asked is None else asked
    if not 1 <= count < drives:
        raise InputError(f"{drives} drive(s) with {count} held back; give more drives, at least two")
    return count


def run(args: argparse.Namespace) -> int:
    output = refuse_folder(args.output, args.force)
    drives = [str(Path(drive).resolve()) for drive in args.drives]
    if twice := [drive for drive, count in Counter(drives).items() if count > 1]:
        raise InputError(f"{twice[0]}: is named twice; the quality would be measured on what was learned")
    held_back(len(drives), args.hold_back)
    training = training_of(args, output, Path(args.work or output.with_suffix(".adapt")))
    plan = plan_of(args, drives)
    segmenters = check_classes(dict.fromkeys((training.teacher, training.student)))
    counts, image = [], None
    for drive in plan.recordings:
        with open_frames(drive, topic=plan.topic or None) as source:
            counts.append(count_frames(source))
            image = next(source.frames()).image if image is None else image
    assert image is not None
    print_plan(plan, training, counts, seconds_per_frame(segmenters, image))
    if args.plan:
        return 0
    start(training.work, plan)
    if not args.teacher:
        training = with_own_teacher(training, lambda: _images_of(plan, counts))
    observed = observe(training.work, plan, training.student, training.teacher, progress)
    label_held_back(training.work, plan, counts[len(plan.drives) :], training.teacher, progress)
    quality = train(training, plan, observed, [(Path(drive).stem, nullcontext(drive)) for drive in plan.held_back])
    if quality and args.json:
        write_json(args.json, quality)
    return 0 if quality else 130


def with_own_teacher(training: Training, images: Callable[[], Sequence[NDArray[np.uint8]]]) -> Training:
    """With the start as teacher, which gets the statistics of images of the recordings, in the working folder.

    Args:
        images: called unless the teacher exists; uint8 [H, W, 3] RGB.
    """
    path = training.work / TEACHER
    if not path.is_file():
        teacher_of(training.recipe["start"], model_path(training.student), images(), training.size, path)
    return replace(training, teacher=str(path))


def _images_of(plan: Plan, counts: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Images for the statistics of the recordings to learn from."""
    images: list[NDArray[np.uint8]] = []
    chosen = spread(counts[: len(plan.drives)], STATISTICS_IMAGES)
    for drive, indices in progress(zip(plan.drives, chosen, strict=True), "statistics of the drives", len(chosen)):
        with open_frames(drive, topic=plan.topic or None) as source:
            images += [frame.image for _, frame in frames_at(source, indices)]
    return images


def train(
    training: Training,
    plan: Plan,
    observed: list[Observed],
    held: Sequence[tuple[str, AbstractContextManager[str | Path]]],
) -> dict[str, Any]:
    """Labels the chosen frames, trains on them, exports the model, and measures it; empty when interrupted.

    Args:
        held: name and path of each recording that is held back.

    Returns:
        The quality before and after, as JSON.
    """
    work, output, reporter = training.work, training.output, Reporter(progress, note)
    label(work, plan, training.teacher, observed, progress)
    if not fine_tune(work, training.recipe, reporter):
        note(f"{work}: the training is not finished; the same command continues it")
        return {}
    chosen = choose(plan, observed)
    images = [load_image(work / TRACKED / plan.names[r] / image_name(f)) for r, f in chosen[:: 2 * CLIP]]
    int8 = images if training.int8 else []
    export(work, output, model_path(training.student), training.size, int8, reporter)
    if training.trackers:
        weights = train_trackers(work, output, training.budget, reporter)
        note(f"{weights}: learned weights of the trackers instance and hybrid")
    return _report(training, plan.topic or None, held)


def _budget(args: argparse.Namespace) -> Budget:
    if args.steps < 0:
        raise InputError(f"--steps {args.steps}: cannot be negative; 0 trains for --minutes")
    if args.minutes <= 0 or args.clips < 1 or args.streets_drives < 1:
        raise InputError("--minutes, --clips and --streets-drives must be above 0")
    if not 0 <= args.streets <= 1:
        raise InputError(f"--streets {args.streets:g}: give a share in 0..1")
    if not 0 <= args.style <= 1:
        raise InputError(f"--style {args.style:g}: give a share in 0..1")
    size = read_size(args.size, "--size") if args.size else None
    return Budget(args.minutes, args.steps, args.streets, args.style, args.streets_drives, size=size)


def print_plan(plan: Plan, training: Training, counts: Sequence[int], each: float, done: bool = False) -> None:
    """The table of steps with their minutes.

    Args:
        counts: frames of each recording.
        each: seconds of a network for a frame.
        done: the frames are observed already.
    """
    budget, teacher = training.budget, model_path(training.teacher).stem
    held = sum(counts[len(plan.drives) :])
    drives = counts[: len(plan.drives)]
    labelled, sampled = CLIP * min(plan.clips, sum(n // CLIP for n in drives)), min(plan.held_back_frames, held)
    observing = [
        ("observe the drives to learn from by teacher and student", sum(drives), 2 * each * sum(drives) / 60),
        (f"label frames of held-back drives by {teacher}", sampled, each * sampled / 60),
    ]
    rendering = 8 * budget.drives * _SECONDS_PER_DRIVE / 60 / budget.workers
    rows = [
        *([] if done else observing),
        (f"label the chosen frames by {teacher}", labelled, 4 * each * labelled / 60),
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


def _report(
    training: Training, topic: str | None, held: Sequence[tuple[str, AbstractContextManager[str | Path]]]
) -> dict[str, Any]:
    work, output, teacher = training.work, training.output, training.teacher
    models = {"before": training.student, "after": str(output)}
    evaluators = {name: Evaluator(CITYSCAPES) for name in models}
    timelines: dict[str, dict[str, list[float]]] = {name: {} for name in models}
    pictures: list[Picture] = []
    against = set()
    for number, (drive_name, opened) in enumerate(held):
        with opened as drive:
            bags = {}
            truth = _has_truth(drive)
            against.add("ground truth" if truth else f"labels of {model_path(teacher).stem}")
            for name, model in {**models, **({} if truth else {"teacher": teacher})}.items():
                bags[name] = work / "report" / f"{name}-{number}.mcap"
                with open_frames(drive, topic=topic) as source:
                    replay_source(source, Config(model=model), bags[name], Options(force=True))
            panels: dict[int, dict[str, np.ndarray]] = {}
            for name in models:
                with open_bags(
                    drive if truth else bags["teacher"], bags[name], taxonomy=CITYSCAPES, warn=warn
                ) as pairs:
                    count = max(1, _PICTURES // len(held))
                    shown = set(np.linspace(0, len(pairs) - 1, count).astype(int).tolist())
                    values = timelines[name].setdefault(drive_name, [])
                    for i, (pair, quality) in enumerate(evaluate_pairs(pairs, evaluators[name])):
                        values.append(quality.pq)
                        if i in shown:
                            gt, pred = load_pair(pair)
                            panels.setdefault(i, {"reference": paint_map(CITYSCAPES, *gt)})
                            panels[i][name] = paint_map(CITYSCAPES, *pred)
        pictures += [Picture(found, f"{drive_name}, frame {i}") for i, found in sorted(panels.items())]
    reports = {name: evaluator.result() for name, evaluator in evaluators.items()}
    reference = " and ".join(sorted(against))
    page = work / "report.html"
    entries = [Entry(name, report, timelines[name]) for name, report in reports.items()]
    write_html(page, entries, pictures, f"{output.name} on held-back drives", {"compared with": reference})
    rows = [(name, *(100 * value for value in (r.stq, r.aq, r.sq, r.pq.all, r.miou))) for name, r in reports.items()]
    table(f"held-back drives, compared with {reference}", ("model", "STQ", "AQ", "SQ", "PQ", "mIoU"), rows, digits=1)
    if reports["after"].stq < reports["before"].stq:
        warn("the adapted model is worse than the one before; use more drives, clips or minutes, or a better teacher")
    note(f"{output}: {output.stat().st_size / 1e6:.1f} MB; pictures: {page}; training: {work}")
    return {"compared_with": reference, **{name: r.to_json() for name, r in reports.items()}}


def _has_truth(drive: str | Path) -> bool:
    if not is_bag(Path(drive)):
        return False
    with Bag(drive) as bag:
        return bool(find_label_topics(bag))
