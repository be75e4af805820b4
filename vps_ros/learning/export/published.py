"""Import of checkpoints that other programs wrote: reading, checking, and writing a verified model file."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vps_ros import __version__
from vps_ros.errors import InputError
from vps_ros.files import atomic_write
from vps_ros.learning import Reporter
from vps_ros.learning.export import graphs, verify
from vps_ros.learning.export.onnx_file import OUTPUTS
from vps_ros.learning.training import checkpoint
from vps_ros.segmenters.model_card import FlowCard, ModelCard
from vps_ros.taxonomies import ALL, load_taxonomy
from vps_ros.taxonomy import Taxonomy

_NORMALISATION = ("pixel_mean", "pixel_std")
"""Of the image; detectron2's older models keep them, and they are the same for all."""
_ARRAYS = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}
"""What arrays are put together from, in modules of numpy."""


class _Arrays(pickle.Unpickler):
    """Reads arrays and plain containers; refuses all else, so that no code of the file runs."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in _ARRAYS:
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        if (module, name) == ("collections", "OrderedDict"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def read(path: str | Path, what: str) -> dict[str, Tensor]:
    """The tensors of a .pth or .pkl checkpoint by name, on the CPU; no code that a pickle names is run.

    Args:
        what: whose checkpoint is asked for, in the message.

    Raises InputError when there are none.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a file of {what}")
    try:
        if path.suffix == ".pkl":
            with open(path, "rb") as file:
                content = _Arrays(file, encoding="latin1").load()
        else:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # both raise many kinds, by where the damage is
        raise InputError(
            f"{path}: not a readable checkpoint ({checkpoint.reading_failure(error)}); give a file of {what}"
        ) from None
    tensors = content.get("model", content) if isinstance(content, dict) else None
    if isinstance(tensors, dict):
        tensors = {n: torch.from_numpy(t) if isinstance(t, np.ndarray) else t for n, t in tensors.items()}
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()) or not tensors:
        raise InputError(f"{path}: holds no `model` with tensors by name; `--from` says which program wrote it")
    return {str(name): t for name, t in tensors.items() if name not in _NORMALISATION}


def is_published(start: str) -> bool:
    """Whether a recipe's `start` is a checkpoint file that another program wrote.

    Raises InputError when there is no such file or folder.
    """
    path = Path(start)
    if not path.exists():
        raise InputError(f"{start}: no such file; the recipe's `start` names weights to begin with")
    return path.is_file() and path.suffix != ".onnx" and not checkpoint.is_ours(path)


def require_shape(shapes: Mapping[str, tuple[int, ...]], name: str, where: str, what: str) -> tuple[int, ...]:
    """The shape of a tensor of the file `where`; raises InputError when it is missing or empty."""
    if name not in shapes:
        raise InputError(f"{where}: not a checkpoint of {what}, it lacks {name}")
    if not shapes[name] or not all(shapes[name]):
        raise InputError(f"{where}: not a checkpoint of {what}, its {name} is empty")
    return shapes[name]


def require_same(wanted: Iterable[str], given: Iterable[str], where: str, what: str) -> None:
    """Raises InputError when the file `where` has more or fewer tensors than `what` has places for."""
    surplus, missing = sorted(set(given) - set(wanted)), sorted(set(wanted) - set(given))
    parts = [
        f"{len(names)} tensor{'s' * (len(names) > 1)} {which} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
        for names, which in ((surplus, "left over"), (missing, "missing"))
        if names
    ]
    if parts:
        raise InputError(f"{where}: not {what} as published: {'; '.join(parts)}")


def state_dict_of(
    values: Mapping[str, Tensor], expected: Mapping[str, Tensor], names: Mapping[str, str], where: str
) -> dict[str, Tensor]:
    """The values of the file `where` in the data types of a network's state dict.

    Args:
        values: by the network's names.
        expected: as `values`.
        names: the published name of each.

    Raises InputError for a tensor of another shape, or one that holds NaN or infinity.
    """
    for name, value in values.items():
        shape, own = list(value.shape), list(expected[name].shape)
        if shape != own:
            raise InputError(f"{where}: {names[name]} has shape {shape}, this network's has {own}")
        if not torch.isfinite(value).all():
            raise InputError(f"{where}: {names[name]} holds NaN or infinity; the training that wrote it went wrong")
    return {name: value.to(expected[name].dtype) for name, value in values.items()}


def taxonomy_with(
    classes: str, describe: Callable[[Taxonomy], str], candidates: Sequence[str], where: str, choice: str | None
) -> Taxonomy:
    """The taxonomy of the checkpoint `where`: the user's choice, or the first candidate with as many classes.

    Args:
        classes: the numbers of classes of the checkpoint, as `describe` writes them.
        candidates: names of vps_ros.taxonomies.
        choice: name or file of a taxonomy.

    Raises InputError when the numbers of classes differ.
    """
    if choice is not None:
        taxonomy = load_taxonomy(choice)
        if describe(taxonomy) != classes:
            raise InputError(f"--taxonomy {choice}: has {describe(taxonomy)}, and {where} has {classes}")
        return taxonomy
    for name in candidates:
        if describe(ALL[name]) == classes:
            return ALL[name]
    raise InputError(f"{where}: {classes}, which are not those of {', '.join(candidates)}; name them with --taxonomy")


def source_json(program: str, half: bool = False, **more: object) -> str:
    """The `source` of the model card of an import from this program."""
    source = {"imported_by": f"vps-ros {__version__}", "from": program, **more}
    return json.dumps(source | {"precision": "float16" if half else "float32"})


class Report(NamedTuple):
    """The result of an import: the model card, and the differences of each output from torch."""

    card: ModelCard | FlowCard
    differences: tuple[verify.Difference, ...]


Compare = Callable[[nn.Module, Path, Sequence[NDArray[np.uint8]]], Sequence[verify.Difference]]


def write_verified(
    network: nn.Module,
    card: ModelCard | FlowCard,
    path: str | Path,
    name: str,
    images: Sequence[NDArray[np.uint8]],
    reporter: Reporter,
    *,
    compare: Compare | None = None,
    half: bool = False,
    exact: Callable[..., Sequence[str]] = lambda graph: (),
    outputs: Sequence[str] = OUTPUTS,
) -> Report:
    """Traces a network to a model file, verifies the file, and then writes it atomically.

    Args:
        network: uint8 [1, H, W, 3], or [2, H, W, 3] for optical flow, to `outputs`.
        name: of the checkpoint, for messages.
        images: inputs for the comparison with torch.
        compare: how the file is compared, instead of verify.differences.
        half: compute in float16, except for the nodes whose names `exact` gives for the graph.
        outputs: names of the outputs; by default those of a segmenter.

    Raises InputError when ONNX Runtime lacks an operator, RuntimeError when its outputs differ from torch.
    """
    with atomic_write(path) as draft:
        reporter.note(f"tracing it for {card.input.width}x{card.input.height}")
        graphs.trace(network, torch.from_numpy(images[0]), draft, outputs)
        graph = graphs.fold(draft)
        graphs.save(graphs.halved(graph, exact(graph)) if half else graph, card, draft)
        reporter.note(f"comparing ONNX Runtime with torch on {len(images)} images")
        found = compare(network, draft, images) if compare else verify.differences(network, draft, images, outputs)
        verify.require_close(found, name, half)
    return Report(card, tuple(found))
