"""ONNX graphs: tracing, constant folding, half precision, writing with the model card."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from vps_ros.errors import InputError
from vps_ros.learning.export.verify import open_session
from vps_ros.segmenters.model_card import METADATA_KEY, FlowCard, ModelCard

OPSET = 17
LARGEST = 2_000_000_000
"""Bytes that one ONNX file can hold, a little less than protobuf's limit."""
_FLOAT32_ONLY = ("GridSample",)
"""Operators that ONNX Runtime has on GPUs for float32 only, in addition to the list of the converter."""


def trace(
    network: nn.Module, image: Tensor, path: Path, outputs: Sequence[str], state: Mapping[str, Tensor] | None = None
) -> None:
    """Writes the graph for images of this size, without its card.

    Args:
        network: an image, and of a recurrent one its state behind it, to a tuple of the outputs and its next state.
        state: inputs by name; the names of the corresponding outputs have the prefix `next_`.
    """
    state = state or {}
    with torch.no_grad(), warnings.catch_warnings():
        # The tracer warns of sizes that become constants, which is intended, and of its deprecation.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (image, *state.values()),
            str(path),
            input_names=["image", *state],
            output_names=[*outputs, *(f"next_{name}" for name in state)],
            opset_version=OPSET,
            dynamo=False,
        )
        shapes = [tuple(one.shape) for one in network(image, *state.values())]
    _fix_output_shapes(path, shapes)


def _fix_output_shapes(path: Path, shapes: Sequence[tuple[int, ...]]) -> None:
    """Writes the shapes of the outputs into the file: the tracer does not infer all shapes after TopK."""
    model = onnx.load(str(path))
    for output, shape in zip(model.graph.output, shapes, strict=True):
        kind = output.type.tensor_type.elem_type
        output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, kind, shape))
    onnx.save(model, str(path))


def fold(path: Path) -> onnx.ModelProto:
    """The graph of a file after constant folding of sizes, position embeddings and sampling grids.

    Traced networks of transformers have thousands of nodes that compute sizes. After folding they are not computed at
    every start, and not rounded to float16. Raises InputError when ONNX Runtime lacks an operator.
    """
    folded = path.with_suffix(".folded.onnx")
    open_session(path, folded)
    graph = onnx.load(str(folded))
    folded.unlink()
    drop_unused_domains(graph)
    return graph


def drop_unused_domains(graph: onnx.ModelProto) -> None:
    """Removes unused operator sets: ONNX Runtime lists all that it has, and older releases refuse newer ones."""
    used = {node.domain for node in graph.graph.node}
    for i in reversed([i for i, one in enumerate(graph.opset_import) if one.domain not in used]):
        del graph.opset_import[i]


def halved(graph: onnx.ModelProto, exact: Sequence[str] = ()) -> onnx.ModelProto:
    """The graph in float16, with inputs and outputs as before, by the converter that comes with ONNX Runtime.

    `exact` names nodes that stay in float32.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with warnings.catch_warnings():
        # It warns of every constant outside of the range of float16; the result is compared with torch later.
        warnings.simplefilter("ignore")
        half = convert_float_to_float16(
            graph,
            keep_io_types=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_ONLY],
            node_block_list=list(exact),
        )
    # The converter appends casts at the end of the node list.
    OnnxModel.graph_topological_sort(half.graph)
    return half


def save(graph: onnx.ModelProto, card: ModelCard | FlowCard, path: Path) -> None:
    """Writes a checked graph with its card."""
    graph.metadata_props.add(key=METADATA_KEY, value=card.to_json())
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


def require_size(network: nn.Module, what: str) -> None:
    """Raises InputError when the weights of `what` are more than one ONNX file can hold."""
    size = sum(p.numel() * 4 for p in network.parameters())
    if size > LARGEST:
        raise InputError(f"{what}: {size / 1e9:.1f} GB of weights; an ONNX file holds {LARGEST / 1e9:g} GB")
