"""Makes a model accept a batch of images of several cameras, and verifies that each gets its own result."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from vps_ros.errors import InputError
from vps_ros.learning.export.verify import TOLERANCE, open_session, probes
from vps_ros.segmenters.model_card import METADATA_KEY, ModelCard
from vps_ros.segmenters.runtime import first_line

_COUNT = 3
_AXIS = "batch"
_FATAL_ONLY = 4
_OF_ONE_IMAGE = re.compile(r"((things|stuff)/)*(decode|merge)/")
"""Names of the nodes that an import of another program's network, or a merge, adds behind the networks."""


def allow_batch(path: str | Path, where: str) -> None:
    """Replaces the model by one whose first dimension has no fixed size.

    The result for several images must be that of each image alone.

    Args:
        where: the name of the model in errors.

    Raises InputError when the model keeps state or a clip, or its results in a batch differ.
    """
    model = onnx.load(str(path))
    card = ModelCard.from_json(next(p.value for p in model.metadata_props if p.key == METADATA_KEY), where)
    if card.clip is not None:
        raise InputError(f"{where}: takes the frames of a clip of one camera in a run already; leave --batch out")
    if len(model.graph.input) > 1 or "segment_map" in {o.name for o in model.graph.output}:
        raise InputError(f"{where}: --batch is for models without recurrent state and without --postprocess graph")
    image = model.graph.input[0].type.tensor_type.shape.dim[0]
    if image.dim_value != 1:
        raise InputError(f"{where}: --batch: its input has the size {image.dim_value or image.dim_param} already")
    images = np.concatenate(probes(card.input.height, card.input.width))
    names = [output.name for output in model.graph.output]
    alone = [open_session(path).run(names, {"image": one[None]}) for one in images]
    for value in (model.graph.input[0], *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = _AXIS
    _scan(model)
    del model.graph.value_info[:]
    _free(model.graph)
    onnx.save(model, str(path))
    options = onnxruntime.RunOptions()
    # The exception has the text of the error.
    options.log_severity_level = _FATAL_ONLY
    try:
        together = open_session(path).run(names, {"image": images}, options)
    # ONNX Runtime's exceptions share no base below Exception.
    except Exception as error:
        raise InputError(
            f"{where}: its network takes one image only ({first_line(error)}); leave --batch out"
        ) from None
    for i, name in enumerate(names):
        expected = np.concatenate([one[i] for one in alone])
        if len(together[i]) == 1:
            # A constant, the same for all images.
            expected = expected[:1]
            model.graph.output[i].type.tensor_type.shape.dim[0].dim_value = 1
        off = np.abs(together[i] - expected).max() if together[i].shape == expected.shape else np.inf
        if not off <= TOLERANCE * max(np.abs(expected).max(), 1e-6):
            raise InputError(f"{where}: {name} of a batch is not that of each image; leave --batch out")
    onnx.save(model, str(path))


def _scan(model: onnx.ModelProto) -> None:
    """Moves the nodes behind the networks into a Scan over the images, if they choose objects or merge two networks.

    Non-maximum suppression, TopK and Gather are written for one image there. The networks run once for the batch.
    """
    graph = model.graph
    named = [node for node in graph.node if _OF_ONE_IMAGE.match(node.name)]
    if not any(node.op_type == "TopK" or "merge/" in node.name for node in named):
        return
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    inside: list[onnx.NodeProto] = []
    outside: list[onnx.NodeProto] = []
    made_inside = {name for node in named for name in node.output}
    varying = {graph.input[0].name}
    boundary: dict[str, None] = {}
    for node in graph.node:
        of_image = [name for name in node.input if name in varying]
        if of_image:
            varying.update(node.output)
        if made_inside.isdisjoint([*node.input, *node.output]):
            outside.append(node)
            continue
        inside.append(node)
        made_inside.update(node.output)
        boundary |= dict.fromkeys(name for name in of_image if name not in made_inside)
    results = [output for output in graph.output if output.name in made_inside]
    axis = numpy_helper.from_array(np.array([0], np.int64), f"{_AXIS}/axis")
    graph.initializer.append(axis)
    body, given, returned = [], [], []
    for name in boundary:
        given.append(helper.make_tensor_value_info(f"{name}/one", types[name], None))
        body.append(helper.make_node("Unsqueeze", [f"{name}/one", axis.name], [f"{name}/batch_of_one"]))
    new = {name: f"{name}/batch_of_one" for name in boundary} | {o.name: f"{o.name}/batch_of_one" for o in results}
    for node in inside:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        body.append(node)
    for output in results:
        body.append(helper.make_node("Squeeze", [new[output.name], axis.name], [f"{output.name}/one"]))
        returned.append(helper.make_tensor_value_info(f"{output.name}/one", output.type.tensor_type.elem_type, None))
    scan = helper.make_node(
        "Scan",
        list(boundary),
        [output.name for output in results],
        f"{_AXIS}/each",
        body=helper.make_graph(body, f"{_AXIS}/one", given, returned),
        num_scan_inputs=len(boundary),
    )
    del graph.node[:]
    graph.node.extend([*outside, scan])


def _free(graph: onnx.GraphProto) -> None:
    """Changes nodes that have the batch of 1 as a constant.

    The first of the sizes of a Reshape becomes "the rest", or "as in the input", that of a Resize the number of images.
    A constant that Concat or ScatterElements combines with other values is repeated for each image. A Slice of all
    axes, as networks of TensorFlow have them, takes all images.
    """
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    constants |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    count = f"{_AXIS}/count"
    nodes = [helper.make_node("Shape", [graph.input[0].name], [count], start=0, end=1)]

    def constant(name: str, values: NDArray) -> str:
        graph.initializer.append(numpy_helper.from_array(values.astype(np.int64), f"{_AXIS}/{name}"))
        return f"{_AXIS}/{name}"

    def with_count(name: str, rest: NDArray) -> str:
        nodes.append(helper.make_node("Concat", [count, constant(f"{name}/rest", rest)], [f"{_AXIS}/{name}"], axis=0))
        return f"{_AXIS}/{name}"

    for node in graph.node:
        name = node.output[0]
        if node.op_type == "Reshape" and node.input[1] in constants and node.input[0] not in constants:
            first, *rest = constants[node.input[1]].tolist()
            if first >= 1:
                node.input[1] = constant(name, np.array([0 if -1 in rest else -1, *rest]))
        elif node.op_type == "Resize" and len(node.input) > 3 and node.input[3] in constants:
            node.input[3] = with_count(name, constants[node.input[3]][1:])
        elif node.op_type == "Slice" and all(given in constants for given in node.input[1:]):
            starts, ends, *more = (constants[given].copy() for given in node.input[1:])
            first = (more[0] if more else np.arange(len(starts))) == 0
            # With one axis only, it may be the first size of a Shape.
            if len(starts) > 1 and (starts[first] == 0).all() and (ends[first] == 1).any():
                ends[first] = np.iinfo(ends.dtype).max
                for i, values in enumerate((starts, ends, *more), 1):
                    node.input[i] = constant(f"{name}/{i}", values)
        elif node.op_type in ("Concat", "ScatterElements") and any(a.name == "axis" and a.i for a in node.attribute):
            for i, given in enumerate(node.input):
                if given in constants and constants[given].shape[:1] == (1,):
                    sizes = with_count(f"{name}_{i}", np.ones(constants[given].ndim - 1))
                    nodes.append(helper.make_node("Expand", [given, sizes], [f"{sizes}/all"]))
                    node.input[i] = f"{sizes}/all"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
