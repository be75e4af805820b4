"""Initial weights of a run: from an earlier run, or from a model file that `vps-ros export` wrote."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning.kinds import Kind, Weights, module_of
from vps_ros.learning.recipe import Recipe
from vps_ros.learning.training import checkpoint
from vps_ros.segmenters.model_card import METADATA_KEY, ModelCard, Thresholds


class ModelFile(NamedTuple):
    """A model file, its card, and the recipe and the training step in the card."""

    path: Path
    file: onnx.ModelProto
    card: ModelCard
    recipe: Recipe
    step: int


def read_model_file(path: Path) -> ModelFile:
    """Raises InputError when the file is not one of `vps-ros export` with a recipe."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; `start` names a run's folder, a checkpoint or an ONNX file")
    try:
        file = onnx.load(str(path))
        if METADATA_KEY not in {p.key for p in file.metadata_props}:
            raise InputError(f"{path}: not a model of `vps-ros export`; import it with `vps-ros export --from NAME`")
        card = ModelCard.from_json({p.key: p.value for p in file.metadata_props}[METADATA_KEY], str(path))
        source = json.loads(card.source)
        return ModelFile(path, file, card, Recipe.from_mapping(source["recipe"], str(path)), int(source["step"]))
    except InputError:
        raise
    except Exception as error:  # protobuf and json raise many kinds, by where the damage is
        raise InputError(f"{path}: not a model file of `vps-ros export` ({type(error).__name__}: {error})") from None


class Trained(NamedTuple):
    """A trained network in eval mode, its recipe, its training step, and its tuned thresholds, if any."""

    model: nn.Module
    recipe: Recipe
    step: int
    limits: Thresholds | None


def trained(path: str | Path) -> Trained:
    """Reads a run's folder, a checkpoint or an exported ONNX file.

    Raises InputError for any other file, or none.
    """
    if Path(path).suffix != ".onnx":
        return Trained(*checkpoint.restore(path), None)
    given = read_model_file(Path(path))
    module = module_of(given.recipe)
    if not hasattr(module, "from_onnx"):
        raise InputError(f"{path}: a model of kind {given.recipe.model.kind}; start from the run's checkpoint instead")
    return Trained(module.from_onnx(given), given.recipe, given.step, given.card.thresholds)


def completed(recipe: Recipe) -> Recipe:
    """The recipe with the entries of its model that `start` determines.

    Raises InputError when `start` does not exist.
    """
    module = module_of(recipe)
    if hasattr(module, "complete"):
        recipe = module.complete(recipe)
    elif recipe.start and not Path(recipe.start).exists():
        raise InputError(f"{recipe.start}: no such file; the recipe's `start` names weights to begin with")
    return dataclasses.replace(recipe, learned_before=learned_before(recipe)) if recipe.start else recipe


def learned_before(recipe: Recipe) -> tuple[str, ...]:
    """One line for each data set that the weights of a recipe's `start` were trained on, with its terms of use."""
    start = Path(recipe.start)
    if start.suffix == ".onnx":
        return tuple(read_model_file(start).recipe.terms)
    file = start / checkpoint.FILE if start.is_dir() else start
    if file.is_file() and checkpoint.is_ours(file):
        return tuple(Recipe.from_mapping(checkpoint.load(file)["recipe"], recipe.start).terms)
    return (f"weights of {recipe.start}: see their terms",)


def weights_of(recipe: Recipe, images: Iterable[Tensor]) -> Weights:
    """The weights that a recipe's `start` names: a run's folder or its checkpoint, an ONNX file of `vps-ros export`, or
    a published checkpoint of the model's kind.

    Args:
        images: float32 [B, 3, H, W] in -1..1, as in training; only used for the batch normalisation of an ONNX file.

    Raises InputError when it is none of these.
    """
    module = module_of(recipe)
    foreign = module.foreign(recipe.start) if hasattr(module, "foreign") else None
    if foreign:
        return foreign
    model, source, _, _ = trained(recipe.start)
    state = model.training_state(images) if Path(recipe.start).suffix == ".onnx" else model.state_dict()
    return Weights(source.model.kind, state, tuple(c.name for c in source.data.taxonomy.classes))


def load_initial_weights(network: nn.Module, kind: Kind, recipe: Recipe, images: Iterable[Tensor]) -> list[str]:
    """Loads every weight of the recipe's `start` that fits into the network; returns the names of the others.

    Raises InputError when no weight fits, or classes are missing in `start`.
    """
    weights = weights_of(recipe, images)
    if weights.kind != recipe.model.kind:
        shared = getattr(kind, "shared_layers", {}).get(weights.kind)
        if shared is None:
            raise InputError(
                f"{recipe.start}: holds a model of kind {weights.kind}, the recipe's is {recipe.model.kind}; "
                "make them the same"
            )
        weights = weights._replace(state=_renamed(weights.state, shared))
    names = [c.name for c in recipe.data.taxonomy.classes]
    places = _places(weights.classes, names)
    unknown = [name for name, place in zip(names, places, strict=True) if place < 0]
    if unknown and not recipe.new_classes:
        some = ", ".join(unknown[:4]) + (", ..." if len(unknown) > 4 else "")
        raise InputError(
            f"{recipe.start}: lacks {len(unknown)} of the {len(names)} classes of "
            f"{recipe.data.taxonomy.name} ({some}); write `new_classes: true` to initialise these randomly"
        )
    mine = network.state_dict()
    fitting: dict[str, Tensor] = {}
    fresh = []
    same = [_plain(name) for name in weights.classes] == [_plain(name) for name in names]
    of_some = getattr(kind, "has_partial_class_rows", lambda name: False)
    for name, own in mine.items():
        given = weights.state.get(name) if same or not of_some(name) else None
        if given is not None and kind.has_class_rows(name):
            given = _rows(given, own, places, len(weights.classes))
            if unknown:
                fresh.append(name)
        if given is None or given.shape != own.shape:
            fresh.append(name)
        else:
            fitting[name] = given
    if not fitting:
        raise InputError(f"{recipe.start}: none of its weights fits this recipe's model")
    network.load_state_dict(fitting, strict=False)
    return fresh


def _renamed(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors whose names have one of the prefixes, with its replacement."""
    return {
        mine + name.removeprefix(theirs): value
        for name, value in state.items()
        for theirs, mine in prefixes.items()
        if name.startswith(theirs)
    }


def _places(theirs: Sequence[str], mine: Sequence[str]) -> list[int]:
    """Index of each class of this model among those of the start, by name; -1 for none."""
    known = {_plain(name): i for i, name in enumerate(theirs)}
    return [known.get(_plain(name), -1) for name in mine]


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _rows(given: Tensor, own: Tensor, places: list[int], classes: int) -> Tensor | None:
    """Rows of this model's classes, and of void, from the start; its own rows for classes that the start lacks."""
    void = len(own) == len(places) + 1
    if own.shape[1:] != given.shape[1:] or len(given) != classes + void:
        return None
    rows = own.detach().clone().to(given.device)
    for i, place in enumerate(places):
        if place >= 0:
            rows[i] = given[place]
    if void:
        rows[-1] = given[-1]
    return rows
