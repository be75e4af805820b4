"""What a model says of itself: the JSON in the ONNX file's metadata entry `vps_ros`."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

from vps_ros.errors import InputError
from vps_ros.taxonomy import Taxonomy

CONTRACT_VERSION = 1
METADATA_KEY = "vps_ros"
MASK_ACTIVATIONS = ("softmax_queries", "sigmoid")
MODES = ("mask_wise", "pixel_wise")


@dataclass(frozen=True)
class InputSpec:
    """The network's input. `keep_aspect`: scale to fit, pad right and bottom; otherwise stretch to the size.

    Attributes:
        height, width: pixels.
        mean, std: of the normalisation inside the graph, in 0..255; for information only.
    """

    height: int
    width: int
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    keep_aspect: bool = False


@dataclass(frozen=True)
class Thresholds:
    """Post-processing of one model (kMaX-DeepLab's names and defaults for Cityscapes).

    Attributes:
        thing, stuff: least class score.
        overlap: least share of a mask that is still free when it is pasted.
        mask: least mask probability of a pixel.
        class_exponent, mask_exponent: order of pasting is class^a * mask^b, descending.
        thing_area, stuff_area: smallest segment, in pixels of the network's input.
        mode: one of MODES.
    """

    thing: float = 0.5
    stuff: float = 0.3
    overlap: float = 0.9
    mask: float = 0.4
    class_exponent: float = 1.0
    mask_exponent: float = 0.0
    thing_area: int = 0
    stuff_area: int = 0
    mode: str = "mask_wise"


@dataclass(frozen=True)
class ModelCard:
    """Everything that travels with a model besides its weights."""

    name: str
    taxonomy: Taxonomy
    input: InputSpec
    mask_activation: str = "softmax_queries"
    thresholds: Thresholds = Thresholds()
    source: str = ""

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
            }
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> ModelCard:
        """Raises InputError that names the file (`where`) and the part that is missing or wrong."""
        remedy = "export the model again with `vps-ros export`"
        try:
            card = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: metadata {METADATA_KEY!r} is not JSON ({error}); {remedy}") from None
        if not isinstance(card, dict):
            raise InputError(f"{where}: metadata {METADATA_KEY!r} is not a JSON object; {remedy}")
        for part in ("contract", "name", "taxonomy", "input", "mask_activation", "thresholds"):
            if part not in card:
                raise InputError(f"{where}: metadata {METADATA_KEY!r} lacks {part!r}; {remedy}")
        if card["contract"] != CONTRACT_VERSION:
            raise InputError(f"{where}: contract {card['contract']!r}, this release reads {CONTRACT_VERSION}; {remedy}")
        if card["mask_activation"] not in MASK_ACTIVATIONS:
            raise InputError(
                f"{where}: mask_activation {card['mask_activation']!r} is not one of {', '.join(MASK_ACTIVATIONS)}"
            )
        name = str(card["name"])
        return cls(
            name,
            Taxonomy.from_json(str(card.get("taxonomy_name", name)), card["taxonomy"]),
            _read(InputSpec, card["input"], where, "input"),
            card["mask_activation"],
            _read(Thresholds, card["thresholds"], where, "thresholds"),
            str(card.get("source", "")),
        )


def _read(kind: type, values: object, where: str, part: str):
    if not isinstance(values, dict):
        raise InputError(f"{where}: metadata part {part!r} is not an object")
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := set(values) - known:
        raise InputError(f"{where}: metadata part {part!r} has unknown {', '.join(sorted(unknown))}")
    try:
        read = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise InputError(f"{where}: metadata part {part!r}: {error}") from None
    for f in dataclasses.fields(kind):
        value = getattr(read, f.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}: metadata {part}.{f.name} is {value}")
    if isinstance(read, Thresholds) and read.mode not in MODES:
        raise InputError(f"{where}: thresholds.mode {read.mode!r} is not one of {', '.join(MODES)}")
    return read
