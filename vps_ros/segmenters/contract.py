"""What a model says of itself: the JSON in the ONNX file's metadata entry `vps_ros`."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from vps_ros.errors import InputError
from vps_ros.taxonomy import Taxonomy

CONTRACT_VERSION = 1
METADATA_KEY = "vps_ros"
MASK_ACTIVATIONS = ("softmax_queries", "sigmoid")
MODES = ("mask_wise", "pixel_wise", "argmax")
_REMEDY = "export the model again with `vps-ros export`"


@dataclass(frozen=True)
class InputSpec:
    """The network's input. `keep_aspect`: scale to fit, pad right and bottom; otherwise stretch to the size.

    Attributes:
        height, width: pixels.
        mean, std: of the normalisation inside the graph, in 0..255; for information only.
        align_corners: masks are brought back to the camera image with the outer pixels' centres on the outer nodes'
            (sides of 2^n k + 1, as kMaX-DeepLab's), not with half-pixel centres.
        fill: colour of the padding; the mean, rounded, where it is None.
    """

    height: int
    width: int
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    keep_aspect: bool = False
    align_corners: bool = False
    fill: tuple[int, int, int] | None = None

    @property
    def padding(self) -> tuple[int, int, int]:
        """Colour of the padding, RGB in 0..255."""
        red, green, blue = (int(round(min(max(value, 0), 255))) for value in self.fill or self.mean)
        return red, green, blue


@dataclass(frozen=True)
class Thresholds:
    """Post-processing of one model (kMaX-DeepLab's names and defaults for Cityscapes); see postprocess.py.

    Attributes:
        thing, stuff: least class score.
        overlap: share of a mask that must be left to it, more than; not used for pixel-wise softmax.
        mask: least mask probability of a pixel, in mode argmax times the class score.
        class_exponent, mask_exponent: order of pasting is class^a * mask^b, descending.
        thing_area, stuff_area: smallest segment, in pixels of the network's input.
        mode: one of MODES; argmax is for sigmoid masks only.
        things_first: things are pasted before stuff, whatever their rank (Panoptic FPN).
        mask_grid: side of the square that mask logits are brought to, bilinearly, before mode argmax; 0: none.
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
    mask_grid: int = 0
    things_first: bool = False


@dataclass(frozen=True)
class ModelCard:
    """Everything that travels with a model besides its weights.

    Attributes:
        camera: (height, width) of the images that a segment_map made inside the graph is for, without padding; None
            where it covers the whole input of the network.
    """

    name: str
    taxonomy: Taxonomy
    input: InputSpec
    mask_activation: str = "softmax_queries"
    thresholds: Thresholds = Thresholds()
    source: str = ""
    camera: tuple[int, int] | None = None

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
            }
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> ModelCard:
        """Raises InputError that names the file (`where`) and the part that is missing or wrong."""
        try:
            card = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: metadata {METADATA_KEY!r} is not JSON ({error}); {_REMEDY}") from None
        if not isinstance(card, dict):
            raise InputError(f"{where}: metadata {METADATA_KEY!r} is not a JSON object; {_REMEDY}")
        for part in ("contract", "name", "taxonomy", "input", "mask_activation", "thresholds"):
            if part not in card:
                raise InputError(f"{where}: metadata {METADATA_KEY!r} lacks {part!r}; {_REMEDY}")
        if card["contract"] != CONTRACT_VERSION:
            raise InputError(
                f"{where}: contract {card['contract']!r}, this release reads {CONTRACT_VERSION}; {_REMEDY}"
            )
        if card["mask_activation"] not in MASK_ACTIVATIONS:
            raise InputError(
                f"{where}: mask_activation {card['mask_activation']!r} is not one of {', '.join(MASK_ACTIVATIONS)}"
            )
        if not isinstance(card["taxonomy"], list) or not card["taxonomy"]:
            raise InputError(f"{where}: metadata part 'taxonomy' is not a list of classes; {_REMEDY}")
        limits = _read(Thresholds, card["thresholds"], where, "thresholds")
        if limits.mode == "argmax" and card["mask_activation"] != "sigmoid":
            raise InputError(f"{where}: metadata thresholds.mode argmax goes with sigmoid masks only; {_REMEDY}")
        name = str(card["name"])
        try:
            taxonomy = Taxonomy.from_json(str(card.get("taxonomy_name", name)), card["taxonomy"])
        except InputError as error:
            raise InputError(f"{where}: metadata: {error}") from None
        return cls(
            name,
            taxonomy,
            _read(InputSpec, card["input"], where, "input"),
            card["mask_activation"],
            limits,
            str(card.get("source", "")),
            _camera(card.get("camera"), where),
        )


def _camera(sides: object, where: str) -> tuple[int, int] | None:
    if sides is None:
        return None
    if not isinstance(sides, list) or len(sides) != 2 or not all(type(n) is int and n > 0 for n in sides):
        raise InputError(f"{where}: metadata part 'camera' cannot be {sides!r}; {_REMEDY}")
    return sides[0], sides[1]


def _read(kind: type, values: object, where: str, part: str):
    if not isinstance(values, dict):
        raise InputError(f"{where}: metadata part {part!r} is not an object; {_REMEDY}")
    known = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := set(values) - set(known):
        raise InputError(f"{where}: metadata part {part!r} has unknown {', '.join(sorted(unknown))}; {_REMEDY}")
    for name, f in known.items():
        if name not in values and f.default is dataclasses.MISSING:
            raise InputError(f"{where}: metadata {part}.{name} is missing; {_REMEDY}")
    read = {}
    for name, value in values.items():
        value = tuple(value) if isinstance(value, list) else value
        if not _sound(name, value, str(known[name].type)):
            raise InputError(f"{where}: metadata {part}.{name} cannot be {value!r}; {_REMEDY}")
        read[name] = value
    return kind(**read)


def _sound(name: str, value: Any, annotation: str) -> bool:
    """Whether a field read from JSON has its declared type and a value that post-processing can work with."""
    if annotation == "bool":
        return isinstance(value, bool)
    if annotation == "str":
        return value in MODES
    if annotation.startswith("tuple"):
        if value is None:
            return annotation.endswith("None")
        return isinstance(value, tuple) and len(value) == 3 and all(_finite(v) for v in value)
    if annotation == "int":
        return isinstance(value, int) and not isinstance(value, bool) and value >= (name in ("height", "width"))
    return _finite(value) and (0 <= value <= 1 or (name.endswith("_exponent") and value >= 0))


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
