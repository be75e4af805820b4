"""What an ONNX file says of itself, whether or not it keeps the contract."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import onnxruntime as ort

from vps_ros.errors import InputError
from vps_ros.segmenters.failures import explain, first_line
from vps_ros.segmenters.model_card import METADATA_KEY, ModelCard
from vps_ros.shipped import model_path

_QUIET = 3


@dataclass(frozen=True)
class Tensor:
    """An input or output; `shape` as text, with names for free dimensions."""

    name: str
    type: str
    shape: str


@dataclass(frozen=True)
class ModelDescription:
    """An ONNX file. `card` is None, and `problem` says why, when its metadata is not that of the contract.

    Attributes:
        size: bytes.
        providers: of this machine's ONNX Runtime, that it could run on.
    """

    path: str
    size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    providers: tuple[str, ...]
    card: ModelCard | None
    problem: str

    def to_json(self) -> dict[str, Any]:
        card = json.loads(self.card.to_json()) if self.card is not None else None
        tensors = {"inputs": [t.__dict__ for t in self.inputs], "outputs": [t.__dict__ for t in self.outputs]}
        return {"kind": "model", **self.__dict__, **tensors, "card": card}


def describe_model(name: str) -> ModelDescription:
    """Reads a shipped model's name or a path; raises InputError when it is no ONNX file."""
    path = model_path(name)
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    # Only its description is wanted: optimising the graph would take most of the time.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's exceptions share no base below Exception, and any of them means that the file is no use.
    except Exception as error:
        why = explain(error, ("cpu",)) or f"ONNX Runtime cannot load it ({first_line(error)}); give an ONNX file"
        raise InputError(f"{path}: {why}") from None
    card, problem = None, ""
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        if METADATA_KEY not in metadata:
            raise InputError(
                f"{path}: has no metadata {METADATA_KEY!r}; add it with `vps-ros export {path} -o OUT.onnx`"
            )
        card = ModelCard.from_json(metadata[METADATA_KEY], str(path))
    except InputError as error:
        problem = str(error)
    return ModelDescription(
        str(path),
        path.stat().st_size,
        tuple(_tensor(t) for t in session.get_inputs()),
        tuple(_tensor(t) for t in session.get_outputs()),
        tuple(ort.get_available_providers()),
        card,
        problem,
    )


def _tensor(t: Any) -> Tensor:
    return Tensor(t.name, t.type.removeprefix("tensor(").removesuffix(")"), "x".join(str(d) for d in t.shape))
