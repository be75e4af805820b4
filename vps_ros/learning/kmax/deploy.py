"""From a published kMaX-DeepLab checkpoint to a model file that is verified."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from torch import Tensor, nn

from vps_ros import __version__
from vps_ros.errors import InputError
from vps_ros.files import atomic_write
from vps_ros.learning import graphs, verify
from vps_ros.learning.export import OUTPUTS, Deployed
from vps_ros.learning.kmax.architecture import SPAN, Architecture
from vps_ros.learning.kmax.assignments import AsAssigned
from vps_ros.learning.kmax.checkpoint import load
from vps_ros.learning.voice import SILENT, Voice
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds
from vps_ros.taxonomies import ALL
from vps_ros.taxonomies.chosen import chosen
from vps_ros.taxonomy import Taxonomy

LARGEST = 16 * (SPAN - 1) + 1
"""Longest side: axial attention runs at stride 16, and has positions for so many cells."""
SQUARE = (1281, 1281)


@dataclass(frozen=True)
class DataSet:
    """What a data set's published models are run with.

    Attributes:
        taxonomy: of vps_ros.taxonomies, its classes in the order of the class logits.
        size: width and height of the input.
    """

    taxonomy: str
    size: tuple[int, int]
    thresholds: Thresholds


DATA_SETS = (
    DataSet("cityscapes", (2049, 1025), Thresholds(0.5, 0.3, 0.9, 0.4, 1.0, 0.0, 256, 2048)),
    DataSet("coco-panoptic", SQUARE, Thresholds(0.7, 0.5, 0.8, 0.4, 1.0, 1.0, 400, 6400)),
    DataSet("ade20k", SQUARE, Thresholds(0.4, 0.4, 0.8, 0.4, 1.0, 1.0)),
)
"""Thresholds as in the configurations of kmax-deeplab, least areas as in those of deeplab2."""
OTHER = Thresholds(0.7, 0.7, 0.5, 0.4, 1.0, 0.0)
"""For other data: the defaults of deeplab2."""


FILL = (255, 0, 255)
"""Colour of the padding, by which the graph knows it."""


class Padded(Deployed):
    """The network as the contract wants it.

    It was trained with padding of 0 after normalisation, which no grey of 8 bits is. So rows and columns that are FILL
    from end to end become 0.
    """

    def __init__(self, model: nn.Module, spec: InputSpec) -> None:
        super().__init__(model, spec)
        self.register_buffer("fill", torch.tensor(FILL, dtype=torch.float32))

    def normalised(self, image: Tensor) -> Tensor:
        differs = (image.to(torch.float32) - self.fill).abs().amax(3)
        inside = (differs.amax(2) > 0)[:, None, :, None] & (differs.amax(1) > 0)[:, None, None, :]
        return super().normalised(image) * inside


class Report(NamedTuple):
    """What was written: its card, and how far it is from torch."""

    card: ModelCard
    differences: tuple[verify.Difference, ...]


def import_checkpoint(
    checkpoint: str | Path,
    path: str | Path,
    size: tuple[int, int] | None = None,
    half: bool = False,
    taxonomy: str | None = None,
    voice: Voice = SILENT,
) -> Report:
    """Writes a model file of the contract, whole or not at all.

    Args:
        size: width and height of the input; by default those that the data set's models are run with.
        half: compute in float16; inputs and outputs stay as they are.
        taxonomy: see vps_ros.taxonomies.chosen; by default told by the number of classes.

    Raises InputError when the checkpoint cannot be used, its classes are not known, or it cannot have this size;
    RuntimeError when ONNX Runtime computes something else.
    """
    if size is not None:
        check_size(size)
    model = load(checkpoint)
    name = Path(checkpoint).name
    card = card_of(model.architecture, name, size, half, taxonomy)
    graphs.require_room(model, name)
    spec, a = card.input, model.architecture
    voice.note(
        f"{name}: kMaX-DeepLab, {a.backbone_name}, {a.queries} queries, {a.classes} classes of {card.taxonomy.name}"
    )
    network = Padded(model, spec).eval()
    images = verify.probes(spec.height, spec.width)
    images[-1][:, -spec.height // 8 :] = images[-1][:, :, -spec.width // 8 :] = FILL
    with atomic_write(path) as draft:
        voice.note(f"tracing it for {spec.width}x{spec.height}")
        graphs.trace(network, torch.from_numpy(images[0]), draft, OUTPUTS)
        graph = graphs.fold(draft)
        graphs.save(graphs.halved(graph, sums(graph)) if half else graph, card, draft)
        voice.note(f"comparing ONNX Runtime with torch on {len(images)} images")
        found = AsAssigned(network, draft).differences(images)
        verify.demand(found, name, half)
    return Report(card, found)


def card_of(
    a: Architecture,
    checkpoint: str,
    size: tuple[int, int] | None = None,
    half: bool = False,
    taxonomy: str | None = None,
) -> ModelCard:
    """What the model file of a checkpoint says of itself; arguments and errors as above."""
    classes = _classes(a.classes, checkpoint, taxonomy)
    data = next((d for d in DATA_SETS if d.taxonomy == classes.name), DataSet("", SQUARE, OTHER))
    width, height = size or data.size
    source = {
        "imported_by": f"vps-ros {__version__}",
        "from": "kMaX-DeepLab (bytedance/kmax-deeplab)",
        "checkpoint": checkpoint,
        "architecture": dataclasses.asdict(a),
        "precision": "float16" if half else "float32",
    }
    return ModelCard(
        f"kmax-{a.backbone_name}-{classes.name}",
        classes,
        InputSpec(height, width, keep_aspect=True, fill=FILL, align_corners=True),
        "softmax_queries",
        data.thresholds,
        json.dumps(source),
    )


def sums(graph: onnx.ModelProto) -> list[str]:
    """Nodes whose results may exceed what float16 holds: sums over all pixels of a query, and of squared features."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = [node.name for node in graph.graph.node if node.op_type == "ReduceL2"]
    ahead = [reader for node in graph.graph.node if node.op_type == "ArgMax" for reader in readers[node.output[0]]]
    while ahead:
        node = ahead.pop()
        found.append(node.name)
        # Normalisation brings sums back to a size that float16 holds.
        if node.op_type != "BatchNormalization":
            ahead += [reader for name in node.output for reader in readers.get(name, [])]
    return found


def check_size(size: tuple[int, int]) -> None:
    """Raises InputError for a width or height that is not a multiple of 32 plus one, or too large."""
    sides = Architecture.SIDES
    if sides.take(size) and max(size) <= LARGEST:
        return
    near = [max(round((side - sides.plus) / sides.multiple), 1) * sides.multiple + sides.plus for side in size]
    raise InputError(
        "--size {}x{}: sides of kMaX-DeepLab are {}, up to {}; try {}x{}".format(
            *size, sides, LARGEST, *(min(side, LARGEST) for side in near)
        )
    )


def _classes(count: int, checkpoint: str, choice: str | None) -> Taxonomy:
    if choice is not None:
        taxonomy = chosen(choice)
        if len(taxonomy) != count:
            raise InputError(f"--taxonomy {choice}: has {len(taxonomy)} classes, and {checkpoint} has {count}")
        return taxonomy
    known = [ALL[d.taxonomy] for d in DATA_SETS if len(ALL[d.taxonomy]) == count]
    if not known:
        raise InputError(
            f"{checkpoint}: {count} classes, which are not those of {', '.join(d.taxonomy for d in DATA_SETS)}; "
            "name them with --taxonomy"
        )
    return known[0]
