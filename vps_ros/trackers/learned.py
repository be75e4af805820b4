"""The learned weights of the instance and hybrid trackers: a small file beside the model that they are for.

`vps-ros train` (learning/tracking/matching.py) makes the file. Here it is read and used, with NumPy alone. The last
functions read and write files of weights of any tracker: named arrays and JSON metadata.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.files import atomic_write, fingerprint, model_path
from vps_ros.parameters import Parameters, parameter

Arrays = dict[str, NDArray[np.float32]]

FORMAT = 1
SUFFIX = ".tracker.npz"
_ARRAYS = ("scale", "hidden", "hidden_bias", "out", "out_bias", "fusion", "bias")
_REMEDY = "give what `vps-ros train` writes for this model, or set tracker_weights to none"


@dataclass(frozen=True)
class LearnedParameters(Parameters):
    """Where the weights come from."""

    tracker_weights: str = parameter(
        "model",
        "learned weights of the tracker: a file, none, or model (the file beside the model, if any)",
        source="made by `vps-ros train`",
    )
    instance_temperature: float = parameter(
        0.1,
        "temperature of the cosine of embeddings, if no weights were learned",
        low=1e-3,
        high=1e3,
        source="measured on generated streets (docs/benchmarks.md)",
    )


@dataclass(frozen=True)
class Head:
    """The fully connected layers that HybridTracker III-B puts on the segmenter's embeddings.

    The vector of an embedding with direction u is scale * (u + out relu(hidden u + hidden_bias) + out_bias). Without
    layers it is scale * u, so that dot products are cosines over a temperature.

    Attributes:
        scale: positive.
        hidden, hidden_bias: float32 [H, D], [H]; None without layers.
        out, out_bias: float32 [D, H], [D].
    """

    scale: float
    hidden: NDArray[np.float32] | None = None
    hidden_bias: NDArray[np.float32] | None = None
    out: NDArray[np.float32] | None = None
    out_bias: NDArray[np.float32] | None = None

    @classmethod
    def identity(cls, temperature: float) -> Head:
        return cls(temperature**-0.5)

    def __call__(self, embeddings: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [K, D] of embeddings [K, D] and their norms [K]; vectors of norm 0 must not be used."""
        vectors = embeddings / np.maximum(norms, np.float32(1e-12))[:, None]
        if self.hidden is not None and self.out is not None:
            vectors = vectors + np.maximum(vectors @ self.hidden.T + self.hidden_bias, 0) @ self.out.T + self.out_bias
        return vectors * np.float32(self.scale)


@dataclass(frozen=True)
class Fusion:
    """The 1x1 convolution that fuses the two matrices (HybridTracker III-D), and the sigmoid of its training.

    Attributes:
        pixel, instance: weights of the two matrices.
        bias: of the sum.
    """

    pixel: float = 4.5
    instance: float = 4.5
    bias: float = -5.0

    def __call__(self, pixel: NDArray[np.floating], instance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability [M, K] that two segments are one object, from the Dice and the instance matrix [M, K]."""
        return 1 / (1 + np.exp(-(self.pixel * pixel + self.instance * instance + self.bias)))


@dataclass(frozen=True)
class Learned:
    """Head and fusion, and the model that they were learned for.

    Attributes:
        about: of a file: model (name), sha256 (of the model's file), embedding (its length), recipe, step. Empty
            without training: the embeddings as they are, and a fusion that gives both matrices equal weight.
        where: the file, in error messages.
    """

    head: Head
    fusion: Fusion = Fusion()
    about: dict[str, Any] = field(default_factory=dict)
    where: str = ""

    def describe(self, embeddings: NDArray[np.float32], norms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of the embeddings, see `Head`; raises InputError when they have another length than in training."""
        if self.about and embeddings.shape[1] != self.about["embedding"]:
            raise InputError(
                f"{self.where}: learned for the {self.about['embedding']} numbers of an embedding of model "
                f"{self.about['model']!r}, these segments have {embeddings.shape[1]}; set tracker_weights to none"
            )
        return self.head(embeddings, norms)


def load_learned(parameters: LearnedParameters, model: str | None) -> Learned:
    """The weights that `tracker_weights` names: a file, "none", or "model", the file beside the model if there is one.

    Args:
        model: name or path of the model that makes the segmentations; None if no model does, and no file can fit it.

    Raises InputError when the file is damaged, or was learned for another model.
    """
    untrained = Learned(Head.identity(parameters.instance_temperature))
    if parameters.tracker_weights == "none" or (parameters.tracker_weights == "model" and model is None):
        return untrained
    if model is None:
        raise InputError(
            f"tracker_weights: {parameters.tracker_weights} is for one model, and there is none; {_REMEDY}"
        )
    file = model_path(model)
    path = weights_path(file)
    if parameters.tracker_weights != "model":
        path = Path(parameters.tracker_weights).expanduser()
    elif not path.is_file():
        return untrained
    found = read(path)
    if fingerprint(file) != found.about["sha256"]:
        raise InputError(
            f"{path}: learned for model {found.about['model']!r} with the SHA-256 {found.about['sha256'][:12]}..., "
            f"but model is {file}, {fingerprint(file)[:12]}...; {_REMEDY}"
        )
    return found


def weights_path(model: Path) -> Path:
    """Path of the weights for the model of that file."""
    return model.with_suffix(SUFFIX)


def read(path: Path) -> Learned:
    """Raises InputError when the file is missing or not a file of weights."""
    about, a = read_weights(path, _ARRAYS, "a tracker", _REMEDY)
    names = {"format", "model", "sha256", "embedding"}
    if not isinstance(about, dict) or not names <= set(about) or about["format"] != FORMAT:
        raise InputError(f"{path}: not weights of a tracker in format {FORMAT}; {_REMEDY}")
    width, hidden = about["embedding"], len(np.atleast_1d(a["hidden"]))
    shapes = ((), (hidden, width), (hidden,), (width, hidden), (width,), (2,), ())
    check_arrays(path, a, dict(zip(_ARRAYS, shapes, strict=True)), _REMEDY)
    head = Head(float(a["scale"]), a["hidden"], a["hidden_bias"], a["out"], a["out_bias"])
    pixel, instance = a["fusion"].tolist()
    return Learned(head, Fusion(pixel, instance, float(a["bias"])), about, str(path))


def write(path: Path, learned: Learned) -> None:
    """Writes the file atomically."""
    head, fusion = learned.head, learned.fusion
    arrays = {
        "scale": np.float32(head.scale),
        "hidden": head.hidden,
        "hidden_bias": head.hidden_bias,
        "out": head.out,
        "out_bias": head.out_bias,
        "fusion": np.array([fusion.pixel, fusion.instance], np.float32),
        "bias": np.float32(fusion.bias),
    }
    write_weights(path, learned.about, arrays)


def copy_learned(source: Path, target: Path) -> Path | None:
    """Copies the weights for the model file `source` to `target`, a model with the same embeddings; returns their path.

    For a model that was converted to another number format, for example. None if `source` has no weights.
    """
    if not weights_path(source).is_file():
        return None
    learned = read(weights_path(source))
    if fingerprint(source) != learned.about["sha256"]:
        return None
    path = weights_path(target)
    write(path, replace(learned, about={**learned.about, "model": target.stem, "sha256": fingerprint(target)}))
    return path


def read_weights(path: Path, names: tuple[str, ...], whose: str, remedy: str) -> tuple[Any, Arrays]:
    """The metadata of a file, and its arrays `names` as float32.

    Args:
        whose: the tracker that the weights are for, in error messages.
        remedy: what to do about a wrong file, in error messages.

    Raises InputError when there is no such file, or it is damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return json.loads(str(file["about"])), {name: file[name].astype(np.float32) for name in names}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise InputError(f"{path}: not weights of {whose} ({reason}); {remedy}") from None


def check_arrays(path: Path, arrays: Arrays, shapes: Mapping[str, tuple[int, ...]], remedy: str) -> None:
    """Raises InputError for an array with another shape, or with values that are not finite."""
    for name, shape in shapes.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise InputError(f"{path}: {name!r} is {list(arrays[name].shape)}, not finite {list(shape)}; {remedy}")


def write_weights(path: Path, about: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Writes the file atomically."""
    with atomic_write(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
