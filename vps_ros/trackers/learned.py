"""What the instance and hybrid trackers have learned for one model: a small file beside it.

The file is made by `vps-ros train` (learning/association.py); here it is read and used, with NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.shipped import fingerprint, model_path
from vps_ros.trackers.weights import Arrays, check_arrays, read_weights, write_weights

FORMAT = 1
SUFFIX = ".tracker.npz"
_ARRAYS = ("scale", "hidden", "hidden_bias", "out", "out_bias", "fusion", "bias")
_AGAIN = "give what `vps-ros train` writes for this model, or set tracker_weights to none"


@dataclass(frozen=True)
class Head:
    """Embeddings of the segmenter to vectors whose products say who is who (HybridTracker III-B, "fully connected").

    The vector of an embedding with direction u is scale * (u + out relu(hidden u + hidden_bias) + out_bias); without
    layers it is scale * u, so that products are cosines over a temperature.

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

    def __call__(self, embeddings: NDArray[np.float32], lengths: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [K, D] of embeddings [K, D] and their lengths [K]; those of length 0 are not to be used."""
        vectors = embeddings / np.maximum(lengths, np.float32(1e-12))[:, None]
        if self.hidden is not None and self.out is not None:
            vectors = vectors + np.maximum(vectors @ self.hidden.T + self.hidden_bias, 0) @ self.out.T + self.out_bias
        return vectors * np.float32(self.scale)


@dataclass(frozen=True)
class Fusion:
    """The 1x1 convolution that makes one matrix of two (HybridTracker III-D), and the sigmoid it was trained with.

    Attributes:
        pixel, instance: weights of the two matrices.
        bias: of the sum.
    """

    pixel: float = 4.5
    instance: float = 4.5
    bias: float = -5.0

    def __call__(self, pixel: NDArray[np.floating], instance: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability that two segments are one object, [M, K], of the Dice and the instance matrix."""
        return 1 / (1 + np.exp(-(self.pixel * pixel + self.instance * instance + self.bias)))


@dataclass(frozen=True)
class Learned:
    """A head and a fusion, and what they were learned for.

    Attributes:
        about: of a file: model (name), sha256 (of the model's file), embedding (its length), recipe, step. Empty for
            what was not learned: the embeddings as they are, and a fusion that weighs both matrices alike.
        where: the file, for messages.
    """

    head: Head
    fusion: Fusion = Fusion()
    about: dict[str, Any] = field(default_factory=dict)
    where: str = ""

    def describe(self, embeddings: NDArray[np.float32], lengths: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of the embeddings; raises InputError when the head is for embeddings of another length."""
        if self.about and embeddings.shape[1] != self.about["embedding"]:
            raise InputError(
                f"{self.where}: learned for the {self.about['embedding']} numbers of an embedding of model "
                f"{self.about['model']!r}, these segments have {embeddings.shape[1]}; set tracker_weights to none"
            )
        return self.head(embeddings, lengths)


def learned_for(config: Config) -> Learned:
    """What `config.tracker_weights` names: a file, "none", or "model", the file beside the model if there is one.

    Raises InputError when the file is damaged, or was learned for another model than `config.model`.
    """
    untrained = Learned(Head.identity(config.instance_temperature))
    if config.tracker_weights == "none":
        return untrained
    if config.tracker_weights == "model":
        model = model_path(config.model)
        path = weights_path(model)
        if not path.is_file():
            return untrained
    else:
        path, model = Path(config.tracker_weights).expanduser(), model_path(config.model)
    found = read(path)
    if fingerprint(model) != found.about["sha256"]:
        raise InputError(
            f"{path}: learned for model {found.about['model']!r} with the SHA-256 {found.about['sha256'][:12]}..., "
            f"but model is {model}, {fingerprint(model)[:12]}...; {_AGAIN}"
        )
    return found


def weights_path(model: Path) -> Path:
    """The place of what was learned for the model of that file."""
    return model.with_suffix(SUFFIX)


def read(path: Path) -> Learned:
    """Raises InputError when there is no such file, or it is damaged or none of ours."""
    about, a = read_weights(path, _ARRAYS, "a tracker", _AGAIN)
    _check(path, about, a)
    head = Head(float(a["scale"]), a["hidden"], a["hidden_bias"], a["out"], a["out_bias"])
    pixel, instance = a["fusion"].tolist()
    return Learned(head, Fusion(pixel, instance, float(a["bias"])), about, str(path))


def write(path: Path, learned: Learned) -> None:
    """Writes the file, whole or not at all."""
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


def hand_on(source: Path, target: Path) -> Path | None:
    """Gives the model file `target`, made of `source`, what was learned for that one; the file, None without any.

    For changes that leave the embeddings what they are, such as other number formats.
    """
    if not weights_path(source).is_file():
        return None
    learned = read(weights_path(source))
    if fingerprint(source) != learned.about["sha256"]:
        return None
    path = weights_path(target)
    write(path, replace(learned, about={**learned.about, "model": target.stem, "sha256": fingerprint(target)}))
    return path


def _check(path: Path, about: Any, arrays: Arrays) -> None:
    names = {"format", "model", "sha256", "embedding"}
    if not isinstance(about, dict) or not names <= set(about) or about["format"] != FORMAT:
        raise InputError(f"{path}: not weights of a tracker in format {FORMAT}; {_AGAIN}")
    width, hidden = about["embedding"], len(np.atleast_1d(arrays["hidden"]))
    shapes = ((), (hidden, width), (hidden,), (width, hidden), (width,), (2,), ())
    check_arrays(path, arrays, dict(zip(_ARRAYS, shapes, strict=True)), _AGAIN)
