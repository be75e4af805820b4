"""Import of a published kMaX-DeepLab checkpoint as a verified model file of the ONNX contract.

A k-means layer assigns each pixel to its best query. Where two queries are nearly equal, torch and ONNX Runtime may
choose differently because of rounding, and all later values differ by much more than rounding. For verification, torch
therefore uses the assignments that the file computed. Each of them must be among the best by torch's own logits, and
the remaining outputs must agree within the tolerance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vps_ros.clips import ClipSpec
from vps_ros.learning import SILENT, Reporter
from vps_ros.learning.export import graphs, verify
from vps_ros.learning.export.onnx_file import OUTPUTS, Deployed
from vps_ros.learning.export.published import Report, source_json, taxonomy_with, write_verified
from vps_ros.learning.export.verify import Difference, differences, node_outputs
from vps_ros.learning.kmax.architecture import SPAN, Architecture
from vps_ros.learning.kmax.checkpoint import NAME, load
from vps_ros.learning.kmax.model import KMeansLayer
from vps_ros.segmenters.model_card import InputSpec, ModelCard, Thresholds

LARGEST = 16 * (SPAN - 1) + 1
"""Longest side: axial attention has position embeddings for SPAN cells at stride 16."""
SQUARE = (1281, 1281)


@dataclass(frozen=True)
class DataSet:
    """Settings of the published models of a data set.

    Attributes:
        taxonomy: name in vps_ros.taxonomies; its classes are in the order of the class logits.
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
"""Thresholds from the configurations of kmax-deeplab, smallest areas from those of deeplab2."""
OTHER = Thresholds(0.7, 0.7, 0.5, 0.4, 1.0, 0.0)
"""Thresholds for other data: the defaults of deeplab2."""
FILL = (255, 0, 255)
"""Colour of the padding; the graph detects the padding by it."""


class Padded(Deployed):
    """The network with the interface of the contract.

    It was trained with padding of 0 after normalisation, which no 8-bit grey value gives. Rows and columns in which
    every pixel is FILL are therefore set to 0.
    """

    def __init__(self, model: nn.Module, spec: InputSpec) -> None:
        super().__init__(model, spec)
        self.register_buffer("fill", torch.tensor(FILL, dtype=torch.float32))

    def normalised(self, image: Tensor) -> Tensor:
        differs = (image.to(torch.float32) - self.fill).abs().amax(3)
        inside = (differs.amax(2) > 0)[:, None, :, None] & (differs.amax(1) > 0)[:, None, None, :]
        return super().normalised(image) * inside


def import_checkpoint(
    checkpoint: str | Path,
    path: str | Path,
    size: tuple[int, int] | None = None,
    half: bool = False,
    taxonomy: str | None = None,
    reporter: Reporter = SILENT,
    clip: ClipSpec | None = None,
) -> Report:
    """Writes a verified model file of the contract.

    Args:
        size: width and height of the input; by default that of the published models of the data set.
        half: compute in float16; the types of inputs and outputs do not change.
        taxonomy: see vps_ros.taxonomies.load_taxonomy; by default determined by the number of classes.
        clip: the file takes clips, with the weights of the checkpoint.

    Raises InputError when the checkpoint cannot be used, its classes are unknown, or the size is not possible;
    RuntimeError when the outputs of ONNX Runtime differ from torch.
    """
    if size is not None:
        Architecture.INPUT_SIZES.require(size, NAME, LARGEST)
    model = load(checkpoint)
    name = Path(checkpoint).name
    card = dataclasses.replace(card_of(model.architecture, name, size, half, taxonomy), clip=clip)
    model.frames = 1 if clip is None else clip.length
    graphs.require_size(model, name)
    spec, a = card.input, model.architecture
    reporter.note(
        f"{name}: kMaX-DeepLab, {a.backbone_name}, {a.queries} queries, {a.classes} classes of {card.taxonomy.name}"
    )
    network = Padded(model, spec).eval()
    images = verify.probes(spec.height, spec.width, model.frames)
    images[-1][:, -spec.height // 8 :] = images[-1][:, :, -spec.width // 8 :] = FILL
    return write_verified(network, card, path, name, images, reporter, compare=compare, half=half, exact=sums)


def card_of(
    a: Architecture,
    checkpoint: str,
    size: tuple[int, int] | None = None,
    half: bool = False,
    taxonomy: str | None = None,
) -> ModelCard:
    """The model card of a checkpoint; arguments and errors as in import_checkpoint."""
    names = [d.taxonomy for d in DATA_SETS]
    classes = taxonomy_with(f"{a.classes} classes", lambda t: f"{len(t)} classes", names, checkpoint, taxonomy)
    data = next((d for d in DATA_SETS if d.taxonomy == classes.name), DataSet("", SQUARE, OTHER))
    width, height = size or data.size
    source = source_json(
        f"{NAME} (bytedance/kmax-deeplab)", half, checkpoint=checkpoint, architecture=dataclasses.asdict(a)
    )
    return ModelCard(
        f"kmax-{a.backbone_name}-{classes.name}",
        classes,
        InputSpec(height, width, keep_aspect=True, fill=FILL, align_corners=True),
        "softmax_queries",
        data.thresholds,
        source,
    )


def sums(graph: onnx.ModelProto) -> list[str]:
    """Names of nodes whose results may overflow float16: sums over the pixels of a query, and of squared features."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = [node.name for node in graph.graph.node if node.op_type == "ReduceL2"]
    ahead = [reader for node in graph.graph.node if node.op_type == "ArgMax" for reader in readers[node.output[0]]]
    while ahead:
        node = ahead.pop()
        found.append(node.name)
        # After normalisation, values are in the range of float16.
        if node.op_type != "BatchNormalization":
            ahead += [reader for name in node.output for reader in readers.get(name, [])]
    return found


class WithFixedAssignments(nn.Module):
    """A network, uint8 [1, H, W, 3] to a tuple of outputs, that uses the pixel assignments of a model file.

    Args:
        network: has one k-means layer for each ArgMax node of the file, in the same order.
        path: the model file.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        super().__init__()
        self.network, self._path = network, path
        # Distance of the assigned query's logit from the largest logit of the pixel; see Difference.
        self._largest, self._squares, self._power = 0.0, 0.0, 0.0
        self.layers = [m for m in network.modules() if isinstance(m, KMeansLayer)]
        self._assignments = node_outputs(path, "ArgMax", onnx.TensorProto.INT64)

    def differences(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
        """Differences of the outputs, for the same assignments, and of the assignments themselves."""
        found = differences(self, self._path, images, OUTPUTS)
        typical = (self._squares / max(self._power, 1e-12)) ** 0.5
        return (*found, Difference("assignments", self._largest, typical))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        chosen = self._assignments(image)
        if len(chosen) != len(self.layers):
            raise RuntimeError(f"{self._path}: {len(chosen)} assignments, {len(self.layers)} k-means layers")
        with fix_assignments(self.layers, chosen), self._with_hooks():
            return self.network(image)

    @contextmanager
    def _with_hooks(self) -> Iterator[None]:
        hooks = [layer.register_forward_hook(self._record_distance) for layer in self.layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _record_distance(self, layer: nn.Module, _: tuple, found: tuple) -> None:
        masks = found[1].masks.flatten(2)
        distance = masks.max(1).values - masks.gather(1, layer.fixed_assignment)[:, 0]
        self._largest = max(self._largest, float(distance.max() / masks.abs().max().clamp(min=1e-6)))
        self._squares += float(distance.square().mean())
        self._power += float(masks.square().mean())


def compare(network: nn.Module, path: Path, images: Sequence[NDArray[np.uint8]]) -> tuple[Difference, ...]:
    """The differences of a model file from its network, which uses the assignments of the file."""
    return WithFixedAssignments(network, path).differences(images)


@contextmanager
def fix_assignments(layers: Sequence[nn.Module], chosen: Sequence[Tensor]) -> Iterator[None]:
    """Within this context, k-means layers use the given assignments: int64 [B, 1, h * w], the query of each pixel."""
    for layer, one in zip(layers, chosen, strict=True):
        layer.fixed_assignment = one
    try:
        yield
    finally:
        for layer in layers:
            layer.fixed_assignment = None
