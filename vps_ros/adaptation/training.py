"""The training of `vps-ros adapt`: a recipe made from that of the start, training, export with tuned thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vps_ros.adaptation.steps import CLIP, DATA_SET
from vps_ros.datasets.streets import SCENARIOS
from vps_ros.errors import InputError
from vps_ros.files import atomic_write, fingerprint
from vps_ros.learning import Reporter
from vps_ros.segmenters.model_card import Thresholds

RECIPE, RUN = "recipe.yaml", "run"
RECORDINGS = "recordings"
"""Entry of the recipe with the labelled frames of the drives."""


@dataclass(frozen=True)
class Budget:
    """What the training may use.

    Attributes:
        minutes: of training; not used if `steps` is above 0.
        steps: of the optimiser, instead of minutes; the result does not depend on the speed of the machine then.
        streets: share of the pairs that are of generated streets, 0..1.
        style: share of these that get the colours of a frame of the recordings, and other changes of style.
        drives: generated drives of each scenario.
        learning_rate: at its peak; lower than that of a training from nothing.
        size: width and height of the network's input; None for that of the start.
        workers: processes.
        drives_folder: of rendered drives.
    """

    minutes: float
    steps: int = 0
    streets: float = 0.4
    style: float = 0.7
    drives: int = 20
    learning_rate: float = 0.0004
    size: tuple[int, int] | None = None
    workers: int = 2
    drives_folder: str = ".drives"


def recipe_of(start: str, name: str, data: Path, terms: str, budget: Budget, labels: dict[str, Any] | None) -> dict:
    """The content of a recipe for `vps-ros train`.

    Args:
        start: a run's folder, a checkpoint, or an exported model with float weights.
        name: of the new model.
        data: folder of the labelled frames.
        terms: of use of their labels.
        labels: a further entry of `data`, with labels made by people; None without any.

    Raises InputError when training cannot start from `start`.
    """
    from vps_ros.learning.kmeans.architecture import Architecture
    from vps_ros.learning.training.initial_weights import trained

    recipe = trained(start).recipe
    size = budget.size or recipe.data.size
    content = recipe.to_mapping()
    streets = {
        "format": "streets",
        "scenarios": list(SCENARIOS),
        "drives": budget.drives,
        "balanced": budget.drives,
        "frames": 6,
        "size": list(size),
        "validation_drives": 1,
        "validation_frames": 1,
        "weight": budget.streets,
        "style": budget.style,
        "style_of": RECORDINGS,
        "folder": budget.drives_folder,
    }
    own = {
        "format": DATA_SET,
        "name": RECORDINGS,
        "root": str(data),
        "size": list(size),
        "gap": CLIP - 1,
        "weight": 1 - budget.streets,
        "terms": terms,
        "partial": True,
    }
    schedule = {
        **({"steps": budget.steps} if budget.steps else {"minutes": budget.minutes}),
        "phases": [{"until": 1.0, "size": list(size), "pairs": 4}],
        "learning_rate": budget.learning_rate,
        "warmup": 0.05,
        "constant": 0.3,
        "workers": budget.workers,
        "threads": 1,
        "validate_every": 500,
    }
    entries = [own, streets] + ([{**labels, "size": list(size), "validation_split": ""}] if labels else [])
    content |= {"name": name, "start": start, "data": entries, "schedule": schedule, "learned_before": []}
    # Donors name data of the start's recipe.
    content["augmentation"] |= {"donors": [], "paste": 0.0}
    if Path(start).suffix == ".onnx" and isinstance(recipe.model, Architecture):
        # A model file lacks these heads; with random weights, their gradients damage the features that they share.
        content["losses"] |= {"semantic": 0.0, "offset": 0.0, "layer_classes": 0.0}
    return content


def fine_tune(work: Path, content: dict, reporter: Reporter) -> bool:
    """Trains in WORK/run, or continues there; False when it was interrupted.

    Raises InputError when WORK has another recipe.
    """
    from vps_ros.learning.recipe import Recipe
    from vps_ros.learning.training import checkpoint
    from vps_ros.learning.training.loop import train

    recipe = Recipe.from_mapping(content, "recipe of adapt")
    path, run = work / RECIPE, work / RUN
    text = yaml.safe_dump(content, sort_keys=False)
    if path.is_file() and path.read_text() != text:
        raise InputError(f"{path}: is the recipe of other arguments; repeat them to continue, or choose another --work")
    with atomic_write(path) as draft:
        draft.write_text(text)
    return not train(recipe, run, (run / checkpoint.FILE).is_file(), reporter).interrupted


def weights_key(start: str) -> str:
    """Changes with the weights of a run, a checkpoint or a model file."""
    from vps_ros.learning.training import checkpoint

    path = Path(start)
    return fingerprint(path / checkpoint.FILE if path.is_dir() else path)[:12]


def thresholds_of(student: Path, kind: str) -> Thresholds | None:
    """Of the student's file; None where it is not of `vps-ros export`, or a model of another kind."""
    from vps_ros.learning.training.initial_weights import read_model_file

    try:
        given = read_model_file(student)
    except InputError:
        return None
    return given.card.thresholds if given.recipe.model.kind == kind else None


def teacher_of(
    start: str, student: Path, images: Sequence[NDArray[np.uint8]], size: tuple[int, int], output: Path
) -> None:
    """Writes the start as a model with the statistics of the recordings, a better teacher than the start itself.

    Args:
        start: as in `recipe_of`.
        student: model file, whose thresholds the teacher gets when the start has none.
        images: uint8 [H, W, 3] RGB of the recordings.
        size: width and height of the network's input.
    """
    from vps_ros.learning.data.streets import street_frames
    from vps_ros.learning.export.onnx_file import model_card
    from vps_ros.learning.kinds import kind_for
    from vps_ros.learning.training.initial_weights import trained
    from vps_ros.learning.training.statistics import adapt_statistics, prepared

    model, recipe, step, limits = trained(start)
    limits = limits or thresholds_of(student, recipe.model.kind)
    kind = kind_for(recipe)
    card = model_card(kind, recipe, step, recipe.model.INPUT_SIZES.nearest(size), limits)
    if Path(start).suffix == ".onnx":
        # A model file lacks the statistics that it was trained with; those of streets replace them.
        model.training_state(prepared(list(street_frames()), card.input))
    adapt_statistics(model, kind, images, card.input)
    with atomic_write(output) as draft:
        kind.export(model, card, draft)


def export(work: Path, output: Path, student: Path, size: tuple[int, int], int8: list[Any], reporter: Reporter) -> None:
    """Writes the trained model with the thresholds that are best on the held-back frames.

    Args:
        student: model file, with whose thresholds the search begins.
        size: width and height of the network's input, which may differ from that of the training.
        int8: images for the calibration of integer convolutions; empty for float weights.
    """
    from vps_ros.learning.data.sources import source_of
    from vps_ros.learning.export.int8 import quantise
    from vps_ros.learning.export.onnx_file import model_card
    from vps_ros.learning.kinds import kind_for
    from vps_ros.learning.training.initial_weights import trained
    from vps_ros.learning.training.validation import predict, tune

    model, recipe, step, _ = trained(work / RUN)
    kind = kind_for(recipe)
    frames = source_of(recipe.data).validation(reporter)
    card = model_card(kind, recipe, step, recipe.model.INPUT_SIZES.nearest(size))
    predictions = list(predict(kind, model, frames, card.input))
    first = thresholds_of(student, recipe.model.kind) or kind.thresholds
    limits, report = tune(predictions, reporter, recipe.data.taxonomy, kind.activation, first)
    reporter.note(f"PQ {report.pq.all:.3f} against the teacher's labels of held-back frames, with tuned thresholds")
    with atomic_write(output) as draft:
        kind.export(model, dataclasses.replace(card, thresholds=limits), draft)
        if int8:
            same = quantise(draft, int8, str(output))
            reporter.note(f"int8: {100 * same:.1f} % of the pixels of {len(int8)} frames keep their class")


def train_trackers(work: Path, output: Path, budget: Budget, reporter: Reporter) -> Path:
    """Learned weights of the trackers instance and hybrid for the new model, beside it.

    They are learned on generated streets, whose identities are exact. Those of the hierarchical tracker do not depend
    on the model.
    """
    import shutil

    from vps_ros.learning.data.entries import StreetsData
    from vps_ros.learning.tracking.hybrid import TrackerRecipe, train_tracker
    from vps_ros.trackers.learned import weights_path

    data = StreetsData(tuple(SCENARIOS), drives=budget.drives, frames=6, folder=budget.drives_folder)
    validation = dataclasses.replace(data, seed=800_500, validation_seed=0, drives=1, frames=40)
    shutil.rmtree(work / "trackers", ignore_errors=True)
    recipe = TrackerRecipe("tracker", str(output), data, validation, processes=budget.workers)
    made = train_tracker(recipe, work / "trackers", reporter)
    target = weights_path(output)
    with atomic_write(target) as draft:
        shutil.copyfile(made, draft)
    return target
