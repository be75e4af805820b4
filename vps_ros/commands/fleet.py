"""`vps-ros fleet`: the same work on many recordings, on the machines of a Ray cluster."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.adaptation.steps import (
    DATA,
    TEACHER,
    TRACKED,
    check_classes,
    choose,
    image_name,
    seconds_per_frame,
    spread,
    start,
)
from vps_ros.adaptation.training import weights_key
from vps_ros.commands.adapt import (
    STATISTICS_IMAGES,
    Training,
    add_options,
    held_back,
    plan_of,
    print_plan,
    train,
    training_of,
    with_own_teacher,
)
from vps_ros.commands.console import note, progress, table, warn
from vps_ros.commands.options import (
    add_labelled_hz_flag,
    add_minimum_size_flags,
    add_parameter_flags,
    config_from,
    labelled_hz_of,
)
from vps_ros.config import Config
from vps_ros.datasets.images import load_image
from vps_ros.errors import InputError
from vps_ros.evaluation.metric import DEFAULT, PROTOCOLS
from vps_ros.files import atomic_write, refuse_folder, write_json
from vps_ros.fleet.bags import StoredBag, find_bags
from vps_ros.fleet.cluster import Workers, cluster, process
from vps_ros.fleet.evaluate import Evaluate, Rules, merge, store_report
from vps_ros.fleet.label import Label
from vps_ros.fleet.observe import Observe, Sample, fetch_frames, observed_in, sampled_in
from vps_ros.fleet.replay import Replay
from vps_ros.fleet.storage import Store
from vps_ros.fleet.work import Item, Job, Outcome, forget, plan
from vps_ros.taxonomy import TAXONOMIES
from vps_ros.trackers.learned import weights_path

DESCRIPTION = (
    "Do the same with many recordings, on Ray: on this machine, or on the cluster at --address. A second run does what "
    "is missing; a recording that fails is listed and does not stop the others."
)
EXAMPLES = [
    "vps-ros fleet replay drives/ -o tracked/",
    "vps-ros fleet replay s3://fleet/june s3://fleet/july -o s3://fleet/tracked --address ray-head:6379",
    "vps-ros fleet evaluate s3://fleet/tracked --gt s3://fleet/labelled -o s3://fleet/report --address auto",
    "vps-ros fleet label s3://fleet/june -o s3://fleet/projects --address auto",
    "vps-ros fleet adapt s3://fleet/june -o s3://fleet/models/june.onnx --teacher large.onnx --address auto",
    "vps-ros fleet replay --help",
]

Outcomes = dict[str, Outcome]
"""Outcome of each bag, by its name."""
_SHOWN = 10
"""Drives in the table of the terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="work", metavar="WORK", required=True)
    replay = kinds.add_parser("replay", help="track every object of each bag; as `vps-ros replay`, with tables")
    _add_images(replay)
    replay.add_argument("--damaged", action="store_true", help="process what is left of damaged bags")
    add_parameter_flags(replay)
    replay.set_defaults(do=_replay)
    label = kinds.add_parser("label", help="make a labelling project of each bag; as `vps-ros label new`")
    _add_images(label)
    add_labelled_hz_flag(label)
    add_parameter_flags(label)
    label.set_defaults(do=_label)
    adapt = kinds.add_parser("adapt", help="adapt a small model to the bags; as `vps-ros adapt`")
    _add_common(adapt, "bags, or folders of bags; two bags at least: paths or URIs", "M.onnx", "the adapted model")
    adapt.add_argument("--topic", help="image topic, if the bags have several")
    add_options(adapt)
    adapt.set_defaults(do=_adapt)
    evaluate = kinds.add_parser(
        "evaluate", help="measure each bag against ground truth, merged, with one report; as `vps-ros evaluate`"
    )
    _add_common(evaluate, "bags with predictions, or folders of them: paths or URIs")
    evaluate.add_argument(
        "--gt", action="append", metavar="URI", help="bags of the same names with ground truth (default: the same bags)"
    )
    for side, what in (("gt", "ground truth"), ("pred", "predictions")):
        evaluate.add_argument(f"--{side}-topic", metavar="TOPIC", help=f"label topic of {what}, if bags have several")
    evaluate.add_argument("--protocol", choices=PROTOCOLS, default=DEFAULT, help=f"default: {DEFAULT}")
    evaluate.add_argument("--taxonomy", choices=TAXONOMIES, default="", help="default: that of the messages")
    add_minimum_size_flags(evaluate, "ignore true things")
    evaluate.add_argument(
        "--allow-missing", action="store_true", help="count frames that are missing on one side as void"
    )
    evaluate.set_defaults(do=_evaluate)


def _add_images(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, "bags, or folders of bags: paths or URIs (s3://, gs://, abfs://)")
    parser.add_argument("--topic", help="image topic, if the bags have several")


def _add_common(
    parser: argparse.ArgumentParser, inputs: str, output: str = "URI", what: str = "folder of the results"
) -> None:
    parser.add_argument("uris", nargs="+", metavar="URI", help=inputs)
    parser.add_argument("-o", "--output", required=True, metavar=output, help=f"{what}, a path or URI")
    parser.add_argument(
        "--address", metavar="RAY", help="cluster, HOST:PORT, ray://HOST:PORT or auto (default: Ray on this machine)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="0: as many as the cluster has room for (default)"
    )
    parser.add_argument(
        "--cpus",
        type=int,
        metavar="N",
        help="CPU cores of each worker (default: 1; without --address, bags that are fewer than the cores share them)",
    )
    parser.add_argument("--gpus", type=float, default=0, metavar="X", help="GPUs of each worker, as 0.5 (default: 0)")
    parser.add_argument("--json", metavar="F", help="also write the figures of all recordings as JSON")
    parser.add_argument("--force", action="store_true", help="replace results of other parameters, and F")


def run(args: argparse.Namespace) -> int:
    for flag, least in (("workers", 0), ("cpus", 1), ("gpus", 0)):
        value = getattr(args, flag)
        if value is not None and value < least:
            raise InputError(f"--{flag} {value:g}: must be at least {least}")
    outcomes: Outcomes = {}
    try:
        return args.do(args, outcomes)
    except (KeyboardInterrupt, SystemExit):
        # Bags whose results were stored meanwhile are not counted.
        done = sum(not one.error for one in outcomes.values())
        note(f"stopped; at least {done} bag(s) are done. The same command does the rest")
        raise


def _replay(args: argparse.Namespace, outcomes: Outcomes) -> int:
    job = Replay(config_from(args), args.topic, args.damaged)
    return _process(job, args, outcomes, ("frames", "tracks", "dropped"))


def _label(args: argparse.Namespace, outcomes: Outcomes) -> int:
    job = Label(config_from(args), args.topic, labelled_hz_of(args))
    return _process(job, args, outcomes, ("frames", "labelled", "tracks"))


def _process(job: Job, args: argparse.Namespace, outcomes: Outcomes, sums: Sequence[str]) -> int:
    bags, output = find_bags(args.uris), _output(args)
    _run(job, [Item(bag) for bag in bags.values()], output, args, outcomes)
    figures = [one.figures for one in outcomes.values() if not one.error]
    rows = [
        ("bags", str(len(figures))),
        ("failed", str(len(outcomes) - len(figures))),
        *((what, str(sum(one[what] for one in figures))) for what in sums),
    ]
    table(f"{len(bags)} bags -> {args.output}", ("figure", "value"), rows)
    return _finish(outcomes, args)


def _adapt(args: argparse.Namespace, outcomes: Outcomes) -> int:
    bags = find_bags(args.uris)
    held = held_back(len(bags), args.hold_back)
    above, _, file = args.output.rpartition("/")
    stem = file.removesuffix(".onnx")
    if stem in ("", file) or above.endswith(":/"):
        raise InputError(f"{args.output}: give a folder and the name of a model, which ends in .onnx")
    target = _output(args, args.output.removesuffix(file))
    if target.local:
        refuse_folder(target.local / file, args.force)
    elif target.size(file) is not None and not args.force:
        raise InputError(f"{args.output}: exists; pass --force to replace it, or choose another output")
    work = Path(args.work or (target.local or Path()) / f"{stem}.adapt")
    _output(args, str(work))
    training = training_of(args, work / file, work)
    segmenters = check_classes(dict.fromkeys((training.teacher, training.student)))
    observations = target.below(f"{stem}.observed")
    if not args.teacher:
        training = _with_own_teacher(training, list(bags.values())[:-held], observations, args)
    job = Observe(Config(model=training.student), Config(model=training.teacher), args.topic)
    _run(job, [Item(bag) for bag in bags.values()], observations, args, outcomes)
    done = [bag for bag in bags.values() if not outcomes[bag.name].error]
    try:
        plan = plan_of(args, [bag.where for bag in done], [bag.version for bag in done])
    except InputError as error:
        return _finish(outcomes, args, str(error))
    for name in sorted(bags.keys() - {bag.name for bag in done}):
        # The training may take hours; the list is repeated at its end.
        warn(f"{name}: {outcomes[name].error}")
    start(work, plan)
    observed = [observed_in(observations, bag.name) for bag in done]
    chosen, counts = choose(plan, observed), [len(one.flicker) for one in observed]
    wanted = [[f for drive, f in chosen if drive == r] for r in range(len(plan.drives))]
    wanted += spread(counts[len(plan.drives) :], plan.held_back_frames)
    if not (work / DATA).is_dir():
        for bag, name, frames in zip(done, plan.names, wanted, strict=True):
            fetch_frames(observations, bag.name, frames, work / TRACKED / name)
    r, f = chosen[0]
    each = seconds_per_frame(segmenters, load_image(work / TRACKED / plan.names[r] / image_name(f)))
    print_plan(plan, training, counts, each, done=True)
    quality = train(training, plan, observed, [(bag.name, bag.copied()) for bag in done[-len(plan.held_back) :]])
    if not quality:
        return 130
    # The model comes last: where it is, the rest is.
    for path, name in (
        (work / "report.html", f"{stem}.report.html"),
        *([(weights_path(training.output), weights_path(Path(file)).name)] if training.trackers else []),
        (training.output, file),
    ):
        target.put(path, name)
    note(f"{args.output}: stored")
    return _finish(outcomes, args, "the model was made without them; repair them and choose another --work", **quality)


def _with_own_teacher(
    training: Training, bags: Sequence[StoredBag], observations: Store, args: argparse.Namespace
) -> Training:
    """With the start as teacher, which gets the statistics of these bags; it is kept with the observations.

    Bags that are added or repaired later do not change it, since it decides all observations.
    """
    path, size = training.work / TEACHER, "x".join(map(str, training.size))
    name = f"{weights_key(training.recipe['start'])}-{size}.{TEACHER}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if observations.size(name) is not None:
        with atomic_write(path) as draft:
            observations.fetch(name, draft)
        return dataclasses.replace(training, teacher=str(path))
    chosen = [bags[i] for i in spread([len(bags)], STATISTICS_IMAGES)[0]]

    def images() -> list[NDArray[np.uint8]]:
        outcomes: Outcomes = {}
        job = Sample(-(-STATISTICS_IMAGES // len(chosen)), args.topic)
        _run(job, [Item(bag) for bag in chosen], observations, args, outcomes)
        sampled = [name for name, one in sorted(outcomes.items()) if not one.error]
        if not sampled:
            raise InputError(f"no bag can be read, such as {next(iter(outcomes.values())).error}")
        return [image for name in sampled for image in sampled_in(observations, name)]

    training = with_own_teacher(training, images)
    observations.put(path, name)
    return training


def _evaluate(args: argparse.Namespace, outcomes: Outcomes) -> int:
    names = [field.name for field in dataclasses.fields(Rules)]
    job = Evaluate(Rules(**{name: getattr(args, name) for name in names}))
    bags, output = find_bags(args.uris), _output(args)
    truths = find_bags(args.gt) if args.gt else bags
    items = [Item(bag, truths[name]) for name, bag in bags.items() if name in truths]
    _run(job, items, output, args, outcomes)
    if unused := sorted(truths.keys() - bags.keys()):
        warn(f"{len(unused)} bag(s) of the ground truth have no predictions, such as {unused[0]}; they are left out")
    for name in bags.keys() - truths.keys():
        outcomes[name] = Outcome(name, error=f"no bag of this name among the ground truth in {', '.join(args.gt)}")
    done = {name: one for name, one in sorted(outcomes.items()) if not one.error}
    if not done:
        return _finish(outcomes, args)
    report = merge(job, done, output)
    sequences = {sequence: name for name, one in done.items() for sequence in one.figures["sequences"]}
    failed = {name: one.error for name, one in outcomes.items() if one.error}
    store_report(report, sequences, failed, output)
    worst = sorted(report.sequences.items(), key=lambda one: one[1].stq)[:_SHOWN]
    scores = [score for score in report.scores() if not score.part_of]
    rows = [
        [name, quality.frames, *(s.value for s in quality.scores() if not s.part_of)]
        for name, quality in [("all", report), *worst]
    ]
    table(f"{len(done)} bags, the worst first -> {args.output}", ("drive", "frames", *(s.name for s in scores)), rows)
    for name, one in done.items():
        for line in one.figures["warnings"]:
            warn(f"{name}: {line}")
    return _finish(outcomes, args, metrics=report.to_json())


def _output(args: argparse.Namespace, uri: str | None = None) -> Store:
    """The store of results, by default at --output; raises InputError when a second run would take them as bags."""
    output = Store.at(args.output if uri is None else uri)
    for uri in (*args.uris, *(getattr(args, "gt", None) or ())):
        if Store.at(uri).holds(output):
            raise InputError(f"{output.where()}: is within the input {uri}; choose another output")
    return output


def _run(job: Job, items: Sequence[Item], output: Store, args: argparse.Namespace, outcomes: Outcomes) -> None:
    """Adds the outcomes of all items, also of those that were done before."""
    todo = plan(job, items, output)
    if todo.outdated and not args.force:
        raise InputError(
            f"{args.output}: {len(todo.outdated)} result(s) are of other parameters, another model or version, such as "
            f"{todo.outdated[0]}; pass --force to replace them, or choose another output"
        )
    outcomes |= {name: Outcome(name, figures) for name, figures in todo.done.items()}
    if todo.missing:
        output.check_writable()
        forget(job, todo.outdated, output)
        with cluster(args.address) as resources:
            note(
                f"{len(items)} bags, {len(todo.done)} of them done before; Ray with {resources.get('CPU', 0):g} cores, "
                f"{resources.get('GPU', 0):g} GPUs"
            )
            cores = 1 if args.address else cores_of_each(int(resources["CPU"]), len(todo.missing), args.workers)
            workers = Workers(args.workers, args.cpus or cores, args.gpus)
            with closing(process(job, todo.missing, output, workers)) as found:
                for one in progress(found, job.name, len(todo.missing)):
                    outcomes[one.name] = one


def cores_of_each(cores: int, bags: int, workers: int) -> int:
    """Cores of each worker on one machine, which few bags share; `workers` 0: as many as possible."""
    return max(1, cores // min(workers or cores, bags))


def _finish(
    outcomes: Outcomes,
    args: argparse.Namespace,
    remedy: str = "a second run tries them again",
    **figures: Any,
) -> int:
    """Lists what failed; the exit code."""
    outcomes = dict(sorted(outcomes.items()))
    failed = {name: one.error for name, one in outcomes.items() if one.error}
    if args.json:
        done = {name: dict(one.figures) for name, one in outcomes.items() if not one.error}
        write_json(args.json, {**figures, "bags": done, "failed": failed})
    for name, error in failed.items():
        warn(f"{name}: {error}")
    if any(one.defect for one in outcomes.values()):
        return 1
    if failed:
        raise InputError(f"{len(failed)} of {len(outcomes)} bags failed, see above; {remedy}")
    return 0
