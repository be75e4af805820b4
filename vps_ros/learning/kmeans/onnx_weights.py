"""Reads the weights of a k-means mask transformer from a model file of `vps-ros export`.

In such a file, batch normalisation is folded into the convolutions, some matrices are transposed, and the names of the
parameters are missing. A network of the same architecture with known weights is exported to find which tensor is which
parameter. Batch normalisation is then initialised so that the outputs for the first training images do not change.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning.export.graphs import trace
from vps_ros.learning.export.onnx_file import OUTPUTS
from vps_ros.learning.export.verify import TOLERANCE, probes
from vps_ros.learning.kmeans.architecture import Architecture
from vps_ros.learning.kmeans.export import Deployed, compare
from vps_ros.learning.kmeans.model import KMeansMaskTransformer
from vps_ros.learning.training.initial_weights import ModelFile

ROW = 0.08
"""Root mean square of the weights of a convolution before normalisation: a free choice, about that after Muon."""


class Unfolded(KMeansMaskTransformer):
    """A model read from a file; `unknown` has the names of parameters for training only, which the file lacks."""

    unknown: frozenset[str] = frozenset()

    def training_state(self, images: Iterable[Tensor]) -> dict[str, Tensor]:
        """The parameters that the file has, after `normalise`; images as there."""
        normalise(self, images)
        return {name: value for name, value in self.state_dict().items() if name not in self.unknown}


def from_onnx(given: ModelFile) -> Unfolded:
    """The model of an ONNX file, with identity normalisation.

    Raises InputError when the file is not an export of this release's k-means mask transformer.
    """
    path, file, card, architecture = given.path, given.file, given.card, given.recipe.model
    assert isinstance(architecture, Architecture)
    model = Unfolded(architecture, card.taxonomy.isthing).eval()
    deployed = Deployed(model, card.input).eval()
    known = _make_known(model)
    frames = model.frames = 1 if card.clip is None else card.clip.length
    image = torch.zeros(frames, card.input.height, card.input.width, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        trace(deployed, image, Path(folder) / "known.onnx", OUTPUTS)
        probe = onnx.load(str(Path(folder) / "known.onnx"))
    foreign = InputError(f"{path}: its graph is not what this release exports; start from the run's checkpoint instead")
    pairs = _pairs(probe, file)
    if pairs is None:
        raise foreign
    found: dict[str, Tensor] = {}
    for mark, value in pairs:
        for name, weight in known.items():
            found_value = _as(mark, value, weight)
            if found_value is not None:
                found[name] = torch.from_numpy(found_value)
    model.load_state_dict(found, strict=False)
    model.unknown = frozenset(n for n in known if n not in found)
    images = probes(card.input.height, card.input.width, frames)
    if not all(one.largest <= TOLERANCE for one in compare(deployed, path, images)):
        raise foreign
    return model


def _make_known(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Sets random weights and identity normalisation; returns the parameters that a file can have, by name."""
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.zero_()
                m.running_var.fill_(1 - m.eps)
                m.weight.fill_(1)
    identity = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    return {n: p.detach().numpy() for n, p in model.named_parameters() if n not in identity}


def _pairs(probe: onnx.ModelProto, file: onnx.ModelProto) -> list[tuple[NDArray, NDArray]] | None:
    """The constant inputs of both graphs, node by node; None if the graphs differ."""
    tables = [{i.name: i for i in m.graph.initializer} for m in (probe, file)]
    result = []
    # The exporter stores equal constants once; the others are Identity nodes.
    kept: list[list[onnx.NodeProto]] = []
    for model, table in zip((probe, file), tables, strict=True):
        kept.append([])
        for node in model.graph.node:
            if node.op_type == "Identity" and node.input[0] in table:
                table[node.output[0]] = table[node.input[0]]
            else:
                kept[-1].append(node)
    kinds = [[(n.op_type, len(n.input)) for n in nodes] for nodes in kept]
    if kinds[0] != kinds[1]:
        return None
    for a, b in zip(*kept, strict=True):
        for x, y in zip(a.input, b.input, strict=True):
            if (x in tables[0]) != (y in tables[1]):
                return None
            if x in tables[0]:
                result.append((numpy_helper.to_array(tables[0][x]), numpy_helper.to_array(tables[1][y])))
    return result


def _as(mark: NDArray, value: NDArray, weight: NDArray) -> NDArray | None:
    """`value` in the shape of `weight`, if `mark` equals that weight or its transpose; else None."""
    if mark.size != weight.size or mark.shape != value.shape:
        return None
    if np.allclose(mark.ravel(), weight.ravel(), rtol=1e-4, atol=1e-6):
        return value.reshape(weight.shape).copy()
    if mark.ndim == 2 and np.allclose(mark.T.ravel(), weight.ravel(), rtol=1e-4, atol=1e-6):
        return np.ascontiguousarray(value.T).reshape(weight.shape)
    return None


@torch.no_grad()
def normalise(model: KMeansMaskTransformer, images: Iterable[Tensor]) -> None:
    """Sets the statistics of identity normalisation from images, and its weights so that the outputs stay the same.

    Afterwards the model computes the same in eval mode, and about the same in training mode. The rows of each preceding
    convolution are scaled to one size, since the effective learning rate depends on it; normalisation cancels this.
    """
    sums: dict[nn.Module, Tensor] = {}

    def add(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].double()
        counted = torch.stack([x.new_ones(x.shape[1]) * x[:, 0].numel(), x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])
        sums[layer] = sums.get(layer, 0) + counted

    blocks = [m for m in model.modules() if isinstance(m, nn.Sequential) and _is_normalised(m)]
    hooks = [block[1].register_forward_pre_hook(add) for block in blocks]
    for batch in images:
        model(batch)
    for hook in hooks:
        hook.remove()
    for conv, norm in ((block[0], block[1]) for block in blocks):
        count, total, squares = sums[norm]
        mean, var = total / count, (squares / count - (total / count).square()).clamp(min=0)
        rows = conv.weight.flatten(1).double()
        scale = ROW / rows.square().mean(1).sqrt().clamp(min=1e-8)
        conv.weight.mul_(scale.view(-1, 1, 1, 1))
        norm.running_mean.copy_(mean * scale)
        norm.running_var.copy_(var * scale.square())
        norm.weight.copy_((var * scale.square() + norm.eps).sqrt() / scale)
        norm.bias.add_(mean)


def _is_normalised(block: nn.Sequential) -> bool:
    return len(block) > 1 and isinstance(block[0], nn.Conv2d) and isinstance(block[1], nn.BatchNorm2d)
