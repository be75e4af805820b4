"""The metadata of model files (ONNX metadata entry `vps_ros`, JSON), and the description of any ONNX file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import onnxruntime as ort

from vps_ros.clips import ClipSpec
from vps_ros.errors import InputError
from vps_ros.files import model_path
from vps_ros.reading import read_as
from vps_ros.segmenters.recognise import NetworkOutput, import_command
from vps_ros.segmenters.runtime import SEVERITY_ERROR, explain_error, first_line
from vps_ros.taxonomy import Taxonomy

CONTRACT_VERSION = 1
METADATA_KEY = "vps_ros"
FLOW_KIND = "flow"
"""Entry `kind` of the metadata of a network for optical flow; that of a segmenter has no such entry."""
MASK_ACTIVATIONS = ("softmax_queries", "sigmoid")
MODES = ("mask_wise", "pixel_wise", "argmax")
REMEDY = "export the model again with `vps-ros export`"
_SHARE = {"low": 0, "high": 1}


@dataclass(frozen=True)
class InputSpec:
    """The network's input.

    Attributes:
        height, width: pixels.
        mean, std: of the normalisation inside the graph, in 0..255; for information only.
        keep_aspect: the image is scaled to fit, and padded at the right and below; otherwise it is stretched.
        align_corners: masks are resized to the camera image such that the centres of the outermost pixels coincide
            (kMaX-DeepLab, sides of 2^n k + 1); otherwise with half-pixel centres.
        fill: colour of the padding, RGB in 0..255; None: the mean.
    """

    height: int = field(metadata={"low": 1})
    width: int = field(metadata={"low": 1})
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    keep_aspect: bool = False
    align_corners: bool = False
    fill: tuple[float, float, float] | None = None

    @property
    def padding(self) -> tuple[int, int, int]:
        """Colour of the padding, RGB in 0..255."""
        red, green, blue = (int(round(min(max(value, 0), 255))) for value in self.fill or self.mean)
        return red, green, blue


@dataclass(frozen=True)
class Thresholds:
    """Parameters of post-processing (postprocess.py); the defaults are those of kMaX-DeepLab for Cityscapes.

    Attributes:
        thing, stuff: least class score.
        overlap: a mask is dropped unless more than this share of it stays visible; unused for pixel_wise softmax.
        mask: least mask probability of a pixel, in mode argmax times the class score.
        class_exponent, mask_exponent: a, b of the rank, class score^a * mask score^b.
        thing_area, stuff_area: smallest segment, in pixels of the network's input.
        mode: one of MODES; argmax is for sigmoid masks only.
        mask_grid: side of the square that mask logits are resized to, bilinearly, before mode argmax; 0: not resized.
        rank_threshold: `thing` and `stuff` are least ranks instead of least class scores.
        things_first: things are assigned before stuff, whatever their rank (Panoptic FPN).
        stuff_overlap: `overlap` applies to stuff, too; not in Panoptic FPN.
        drop_void: a query of sigmoid masks for which void is more probable than its best class is dropped.
        components: each connected component of a thing class is an object, for semantic segmentation networks.
    """

    thing: float = field(default=0.5, metadata=_SHARE)
    stuff: float = field(default=0.3, metadata=_SHARE)
    overlap: float = field(default=0.9, metadata=_SHARE)
    mask: float = field(default=0.4, metadata=_SHARE)
    class_exponent: float = field(default=1.0, metadata={"low": 0})
    mask_exponent: float = field(default=0.0, metadata={"low": 0})
    thing_area: int = field(default=0, metadata={"low": 0})
    stuff_area: int = field(default=0, metadata={"low": 0})
    mode: str = field(default="mask_wise", metadata={"choices": MODES})
    mask_grid: int = field(default=0, metadata={"low": 0})
    rank_threshold: bool = False
    things_first: bool = False
    stuff_overlap: bool = True
    drop_void: bool = True
    components: bool = False


@dataclass(frozen=True)
class ModelCard:
    """The metadata of a model.

    Attributes:
        name: of the model.
        taxonomy: classes, in the order of the class logits.
        mask_activation: softmax_queries (kMaX-DeepLab) or sigmoid (Mask2Former and similar models).
        source: how the model was trained or imported, and the terms of the data that it was trained on.
        camera: (height, width) of the images that a segment_map computed inside the graph is for, without padding; None
            where it covers the complete input of the network.
        clip: length and overlap of the clips that the network takes; None where it takes single images.
    """

    name: str
    taxonomy: Taxonomy
    input: InputSpec
    mask_activation: str = field(default="softmax_queries", metadata={"choices": MASK_ACTIVATIONS})
    thresholds: Thresholds = Thresholds()
    source: str = ""
    camera: tuple[int, int] | None = field(default=None, metadata={"low": 1})
    clip: ClipSpec | None = None

    def to_json(self) -> str:
        return json.dumps(
            {
                "contract": CONTRACT_VERSION,
                "name": self.name,
                "taxonomy_name": self.taxonomy.name,
                "taxonomy": self.taxonomy.to_json(),
                "input": dataclasses.asdict(self.input),
                "mask_activation": self.mask_activation,
                "thresholds": dataclasses.asdict(self.thresholds),
                "source": self.source,
                **({} if self.camera is None else {"camera": self.camera}),
                **({} if self.clip is None else {"clip": dataclasses.asdict(self.clip)}),
            }
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> ModelCard:
        """Reads the JSON of `to_json`; raises InputError that names the file (`where`) and the entry that is wrong."""
        if _is_flow(text):
            raise InputError(
                f"{where}: a network for optical flow, not a segmenter; give it as flow_model with flow raft"
            )
        return _read_card(cls._read, text, where)

    @classmethod
    def _read(cls, card: Any) -> ModelCard:
        _check_entries(card, ("contract", "name", "taxonomy", "input", "mask_activation", "thresholds"))
        if not isinstance(card["taxonomy"], list) or not card["taxonomy"]:
            raise InputError("taxonomy is not a list of classes")
        taxonomy = Taxonomy.from_json(str(card.get("taxonomy_name", card["name"])), card["taxonomy"])
        # Other entries are allowed, for other programs.
        known = {f.name: card[f.name] for f in dataclasses.fields(cls) if f.name in card}
        read = read_as(cls, {**known, "taxonomy": taxonomy})
        if read.thresholds.mode == "argmax" and read.mask_activation != "sigmoid":
            raise InputError("thresholds.mode: argmax needs sigmoid masks")
        if read.thresholds.components and read.clip is not None:
            raise InputError("clip: connected components (thresholds.components) have no tubes; remove one of the two")
        return read


@dataclass(frozen=True)
class FlowCard:
    """The metadata of a network for optical flow.

    Attributes:
        name: of the network.
        input: size of both images.
        updates: how often the network updates the flow.
        source: what the file was made from.
    """

    name: str
    input: InputSpec
    updates: int = field(metadata={"low": 1})
    source: str = ""

    def to_json(self) -> str:
        return json.dumps({"contract": CONTRACT_VERSION, "kind": FLOW_KIND, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str, where: str) -> FlowCard:
        """As ModelCard.from_json."""
        return _read_card(cls._read, text, where)

    @classmethod
    def _read(cls, card: Any) -> FlowCard:
        _check_entries(card, ("contract", "name", "input", "updates"))
        return read_as(cls, {f.name: card[f.name] for f in dataclasses.fields(cls) if f.name in card})


Card = TypeVar("Card", ModelCard, FlowCard)


def _read_card(read: Callable[[Any], Card], text: str, where: str) -> Card:
    try:
        return read(json.loads(text))
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: metadata {METADATA_KEY!r} is not JSON ({error}); {REMEDY}") from None
    except InputError as error:
        raise InputError(f"{where}: metadata {METADATA_KEY!r}: {error}; {REMEDY}") from None


def _check_entries(card: Any, entries: Sequence[str]) -> None:
    if not isinstance(card, dict):
        raise InputError("not a JSON object")
    for entry in entries:
        if entry not in card:
            raise InputError(f"lacks {entry!r}")
    if card["contract"] != CONTRACT_VERSION:
        raise InputError(f"contract {card['contract']!r}, this release reads {CONTRACT_VERSION}")


def read_card(session: ort.InferenceSession, where: str) -> ModelCard:
    """The card of a loaded segmenter; raises InputError when it is missing, wrong, or that of another kind of model."""
    text = _metadata(session)
    if not text:
        raise InputError(
            f"{where}: has no metadata {METADATA_KEY!r} (classes, input size, thresholds); "
            + _import_command(session, where)
        )
    return ModelCard.from_json(text, where)


def read_flow_card(session: ort.InferenceSession, where: str) -> FlowCard:
    """The card of a loaded network for optical flow; raises InputError as `read_card`."""
    text = _metadata(session)
    if not _is_flow(text):
        raise InputError(
            f"{where}: not a network for optical flow; "
            "make one with `vps-ros export --from raft CHECKPOINT -o OUT.onnx`"
        )
    return FlowCard.from_json(text, where)


def _metadata(session: ort.InferenceSession) -> str:
    return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "")


def _is_flow(metadata: str) -> bool:
    try:
        return json.loads(metadata)["kind"] == FLOW_KIND
    except (KeyError, TypeError, json.JSONDecodeError):
        return False


def _import_command(session: ort.InferenceSession, where: str) -> str:
    outputs = {o.name: NetworkOutput(o.shape, "int" in o.type) for o in session.get_outputs()}
    return import_command(session.get_inputs()[0].shape, outputs, session.get_modelmeta().custom_metadata_map, where)


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph; `shape` as text, with the names of dimensions that are not fixed."""

    name: str
    type: str
    shape: str


@dataclass(frozen=True)
class ModelDescription:
    """An ONNX file, whether or not it is a model of the contract.

    Attributes:
        size: bytes.
        providers: execution providers of the installed ONNX Runtime, by its own names.
        has_metadata: whether it has metadata of this package, right or wrong.
        card: of a segmenter or of a network for optical flow; None where the metadata is missing or wrong.
        problem: what is wrong with the metadata; empty where nothing is.
    """

    path: str
    size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    providers: tuple[str, ...]
    has_metadata: bool
    card: ModelCard | FlowCard | None
    problem: str

    def to_json(self) -> dict[str, Any]:
        card = json.loads(self.card.to_json()) if self.card is not None else None
        tensors = {"inputs": [t.__dict__ for t in self.inputs], "outputs": [t.__dict__ for t in self.outputs]}
        return {"kind": "model", **self.__dict__, **tensors, "card": card}


def describe_model(name: str) -> ModelDescription:
    """The description of a shipped model or of a file; raises InputError when it is not an ONNX file."""
    path = model_path(name)
    options = ort.SessionOptions()
    options.log_severity_level = SEVERITY_ERROR
    # Nothing is run: optimising the graph would take most of the time.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's exceptions have no common base below Exception; each of them means that the file cannot be used.
    except Exception as error:
        why = explain_error(error, ("cpu",)) or f"ONNX Runtime cannot load it ({first_line(error)}); give an ONNX file"
        raise InputError(f"{path}: {why}") from None
    card: ModelCard | FlowCard | None = None
    problem = ""
    try:
        card = read_flow_card(session, str(path)) if _is_flow(_metadata(session)) else read_card(session, str(path))
    except InputError as error:
        problem = str(error)
    return ModelDescription(
        str(path),
        path.stat().st_size,
        tuple(_tensor(t) for t in session.get_inputs()),
        tuple(_tensor(t) for t in session.get_outputs()),
        tuple(ort.get_available_providers()),
        bool(_metadata(session)),
        card,
        problem,
    )


def _tensor(t: Any) -> Tensor:
    return Tensor(t.name, t.type.removeprefix("tensor(").removesuffix(")"), "x".join(str(d) for d in t.shape))
