"""What a model says of itself: the JSON in the ONNX file's metadata entry `vps_ros`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from vps_ros.errors import InputError
from vps_ros.reading import read_as
from vps_ros.taxonomy import Taxonomy

CONTRACT_VERSION = 1
METADATA_KEY = "vps_ros"
MASK_ACTIVATIONS = ("softmax_queries", "sigmoid")
MODES = ("mask_wise", "pixel_wise", "argmax")
_SHARE = {"low": 0, "high": 1}
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
    mask_activation: str = field(default="softmax_queries", metadata={"choices": MASK_ACTIVATIONS})
    thresholds: Thresholds = Thresholds()
    source: str = ""
    camera: tuple[int, int] | None = field(default=None, metadata={"low": 1})

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
        """Reads the JSON of `to_json`; raises InputError that names the file (`where`) and the entry that is wrong."""
        try:
            return cls._read(json.loads(text))
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: metadata {METADATA_KEY!r} is not JSON ({error}); {_REMEDY}") from None
        except InputError as error:
            raise InputError(f"{where}: metadata {METADATA_KEY!r}: {error}; {_REMEDY}") from None

    @classmethod
    def _read(cls, card: Any) -> ModelCard:
        if not isinstance(card, dict):
            raise InputError("not a JSON object")
        for entry in ("contract", "name", "taxonomy", "input", "mask_activation", "thresholds"):
            if entry not in card:
                raise InputError(f"lacks {entry!r}")
        if card["contract"] != CONTRACT_VERSION:
            raise InputError(f"contract {card['contract']!r}, this release reads {CONTRACT_VERSION}")
        if not isinstance(card["taxonomy"], list) or not card["taxonomy"]:
            raise InputError("taxonomy is not a list of classes")
        taxonomy = Taxonomy.from_json(str(card.get("taxonomy_name", card["name"])), card["taxonomy"])
        # Entries that this release does not know are for others.
        known = {f.name: card[f.name] for f in dataclasses.fields(cls) if f.name in card}
        read = read_as(cls, {**known, "taxonomy": taxonomy})
        if read.thresholds.mode == "argmax" and read.mask_activation != "sigmoid":
            raise InputError("thresholds.mode: argmax needs sigmoid masks")
        return read
