"""An ONNX network of another program: its input and outputs, and the model file with preprocessing and decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, compose, helper, version_converter

from vps_ros.errors import InputError
from vps_ros.files import atomic_write
from vps_ros.learning.in_graph.nodes import FLOAT, UINT8, Nodes, Value, opset_of
from vps_ros.learning.onnx_import.embedding import add_output
from vps_ros.segmenters.model_card import METADATA_KEY, InputSpec, ModelCard
from vps_ros.segmenters.recognise import NetworkOutput, Shape, finds_instances, import_command
from vps_ros.segmenters.segmenter import SegmenterParameters
from vps_ros.segmenters.session import Session

DEFAULT_SIZE = (640, 640)
"""Width and height of a network with dynamic input size, as in the usual exports of YOLO."""
OPSET, OLDEST_OPSET = 17, 16
"""Networks of an opset before OLDEST_OPSET are converted to OPSET."""
_PREFIX = "network/"
_FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
_TYPES: dict[int, type] = {**_FLOATS, TensorProto.UINT8: np.uint8}
_QUIET = 3
SLACK = 0.01
"""By how much a probability may exceed 0..1, for float16."""
Outputs = Mapping[str, Value]
Build = Callable[[Nodes, Outputs], dict[str, Value]]


@dataclass(frozen=True)
class Network:
    """A network with one image input of a fixed size and opset 16 or newer.

    Attributes:
        where: path, for messages.
        size: width and height of the input.
        channels_first: the input is [1, 3, H, W], otherwise [1, H, W, 3].
        input_type: element type of the input: float, float16 or uint8.
        shapes: of the outputs, by name.
        types: numpy dtypes of the outputs, by name.
        values: outputs for an image of noise, by name.
        metadata: of the file.
        features: name of the output with the features for embeddings; None: none.
    """

    where: str
    model: onnx.ModelProto
    size: tuple[int, int]
    channels_first: bool
    input_type: int
    shapes: dict[str, tuple[int, ...]]
    types: dict[str, np.dtype]
    values: dict[str, np.ndarray]
    metadata: dict[str, str]
    features: str | None = None

    @property
    def outputs(self) -> str:
        """The outputs with their shapes, for messages."""
        return ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())

    @property
    def remedy(self) -> str:
        """The kind of network that this probably is, and the command that imports it."""
        return import_command(*self._described(), self.where)

    @property
    def finds_instances(self) -> bool:
        """Whether it probably is YOLO or RF-DETR."""
        return finds_instances(*self._described())

    def _described(self) -> tuple[Shape, dict[str, NetworkOutput], dict[str, str]]:
        width, height = self.size
        outputs = {name: NetworkOutput(shape, self.types[name].kind in "iu") for name, shape in self.shapes.items()}
        return (1, 3, height, width), outputs, self.metadata


def open_network(path: str | Path, size: tuple[int, int] | None = None, features: str | None = None) -> Network:
    """Opens an ONNX file and fixes its input size.

    Args:
        size: width and height of the input, for networks with a dynamic size; DEFAULT_SIZE if None.
        features: a node or tensor inside of the graph that becomes an output.

    Raises InputError when the file is not an ONNX network with one image input, or cannot have this size.
    """
    where = str(path)
    model = load(path)
    metadata = {p.key: p.value for p in model.metadata_props}
    if METADATA_KEY in metadata:
        raise InputError(f"{where}: is already a model of vps-ros; use it as it is, or change it with --from onnx")
    weights = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs) or "none"
        raise InputError(f"{where}: needs exactly one input, the image, and has {names}")
    channels_first, size = _input_layout(inputs[0], size, where)
    kind = inputs[0].type.tensor_type.elem_type
    if kind not in _TYPES:
        name = TensorProto.DataType.Name(kind).lower()
        raise InputError(f"{where}: input {inputs[0].name!r} is {name}; float, float16 or uint8 is supported")
    if opset_of(model) < OLDEST_OPSET:
        model = at_opset(model, OPSET, where)
    shape = (1, 3, size[1], size[0]) if channels_first else (1, size[1], size[0], 3)
    image = next(i for i in model.graph.input if i.name == inputs[0].name)
    image.CopyFrom(helper.make_tensor_value_info(image.name, kind, shape))
    # Shapes that were computed for a dynamic size are not valid for the fixed one.
    del model.graph.value_info[:]
    if features is not None:
        features = add_output(model, features, where)
    found = _run(model, {image.name: _noise(shape).astype(_TYPES[kind])}, where)
    return Network(
        where,
        model,
        size,
        channels_first,
        kind,
        {name: value.shape for name, value in found.items()},
        {name: value.dtype for name, value in found.items()},
        found,
        metadata,
        features,
    )


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def are_probabilities(values: np.ndarray) -> bool:
    """Whether all values are in 0..1, up to rounding, and not all equal."""
    low, high = float(values.min()), float(values.max())
    return -SLACK <= low < high <= 1 + SLACK


def require_logits(network: Network, output: str) -> None:
    """Raises InputError when the values of an output are probabilities."""
    if are_probabilities(network.values[output]):
        raise InputError(
            f"{network.where}: its output {output} is probabilities (all values in 0..1), and logits are needed; "
            "export the network without sigmoid or softmax at its end"
        )


def load(path: str | Path) -> onnx.ModelProto:
    """Reads an ONNX file; raises InputError when it is missing or invalid."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; give an ONNX file")
    if Path(path).suffix in (".pt", ".pth", ".engine", ".tflite"):
        raise InputError(
            f"{path}: is not ONNX; export the network to ONNX first (Ultralytics: `yolo export model=... format=onnx`)"
        )
    try:
        model = onnx.load(str(path))
        _sort(model.graph)
        onnx.checker.check_model(model)
    # protobuf and the checker raise types without a common base.
    except Exception as error:
        raise InputError(f"{path}: not readable as ONNX ({_line(error)})") from None
    return model


def _sort(graph: onnx.GraphProto) -> None:
    """Puts each node behind those whose outputs it uses; Ultralytics' export in half precision does not."""
    made = {name for node in graph.node for name in node.output}
    ready: set[str] = {""}
    waiting, nodes = list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if all(name in ready or name not in made for name in _uses(node)):
                nodes.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            # A cycle, which the checker reports.
            return
        waiting = later
    del graph.node[:]
    graph.node.extend(nodes)


def _uses(node: onnx.NodeProto) -> list[str]:
    """Names of its inputs and of what its subgraphs take from outside."""
    inner = [_uses(n) for attribute in node.attribute for n in attribute.g.node]
    return [*node.input, *(name for names in inner for name in names)]


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _input_layout(value: onnx.ValueInfoProto, size: tuple[int, int] | None, where: str) -> tuple[bool, tuple[int, int]]:
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
    if len(dims) != 4 or dims[0] > 1 or 3 not in (dims[1], dims[3]):
        raise InputError(f"{where}: input {value.name!r} has shape {dims}; [1, 3, H, W] or [1, H, W, 3] is supported")
    channels_first = dims[1] == 3
    height, width = dims[2:] if channels_first else dims[1:3]
    fixed = (width, height)
    wanted = size or DEFAULT_SIZE
    chosen = (width or wanted[0], height or wanted[1])
    if size is not None and chosen != size:
        raise InputError(
            f"--size {size[0]}x{size[1]}: the input of {where} is fixed to {fixed[0]}x{fixed[1]}; leave --size out"
        )
    return channels_first, chosen


def at_opset(model: onnx.ModelProto, opset: int, where: str) -> onnx.ModelProto:
    """The model converted to an opset; raises InputError when that is not possible."""
    if opset_of(model) == opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # the converter raises RuntimeError and its own types
        raise InputError(
            f"{where}: is of ONNX opset {opset_of(model)} and cannot be converted to {opset} ({_line(error)}); export "
            f"it with opset {opset}"
        ) from None


def _run(model: onnx.ModelProto, inputs: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))
    # ONNX Runtime's exceptions share no base below Exception.
    except Exception as error:
        raise InputError(f"{where}: ONNX Runtime cannot run it at this size ({_line(error)})") from None


def write_model(network: Network, card: ModelCard, path: str | Path, build: Build) -> None:
    """Writes the network with preprocessing and decoding as a model of the ONNX contract.

    Args:
        card: its `input` has the normalisation, which is added unless the network takes uint8.
        build: makes the outputs of the contract from those of the network, which are float, or int64 for integers.

    Raises InputError when ONNX Runtime cannot run the model.
    """
    model = compose.add_prefix(network.model, _PREFIX)
    opset = opset_of(model)
    spec = card.input
    before, after = Nodes(opset, "preprocess/"), Nodes(opset, "decode/")
    weights = {i.name for i in model.graph.initializer}
    name = next(i.name for i in model.graph.input if i.name not in weights)
    before.nodes.append(helper.make_node("Identity", [_image(before, network, spec).name], [name], f"{name}_in"))
    outputs = {}
    for output, dtype in network.types.items():
        value = Value(after, f"{_PREFIX}{output}", helper.np_dtype_to_tensor_dtype(dtype))
        outputs[output] = value.cast(FLOAT if dtype.kind == "f" else TensorProto.INT64)
    made = build(after, outputs)
    finish(model, card, path, before, after, made)


def _image(nodes: Nodes, network: Network, spec: InputSpec) -> Value:
    image = Value(nodes, "image", UINT8)
    if network.input_type != TensorProto.UINT8:
        image = (image.cast(FLOAT) - nodes.value(np.float32(spec.mean))) / nodes.value(np.float32(spec.std))
    if network.channels_first:
        image = image.apply("Transpose", perm=[0, 3, 1, 2])
    return image.cast(network.input_type)


def finish(
    model: onnx.ModelProto,
    card: ModelCard,
    path: str | Path,
    before: Nodes,
    after: Nodes,
    outputs: Mapping[str, Value],
) -> None:
    """Puts nodes before and after those of a model, writes it with its card, and checks that it keeps the contract.

    Raises InputError when ONNX Runtime cannot run the model.
    """
    graph, spec = model.graph, card.input
    weights = {i.name for i in graph.initializer}
    kept = [i for i in graph.input if i.name in weights]
    nodes = [*before.nodes, *graph.node, *after.nodes]
    for name, value in outputs.items():
        nodes.append(helper.make_node("Identity", [value.name], [name], f"{name}_out"))
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("image", UINT8, (1, spec.height, spec.width, 3)))
    graph.input.extend(kept)
    graph.initializer.extend([*before.constants.values(), *after.constants.values()])
    graph.output.extend(helper.make_tensor_value_info(n, v.type, None) for n, v in outputs.items())
    del model.metadata_props[:]
    image = np.full((1, spec.height, spec.width, 3), 127, np.uint8)
    found = _run(model, {"image": image}, str(path))
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(n, v.type, found[n].shape) for n, v in outputs.items())
    model.metadata_props.add(key=METADATA_KEY, value=card.to_json())
    with atomic_write(path) as draft:
        onnx.checker.check_model(model)
        onnx.save(model, str(draft))
        Session(Path(draft), SegmenterParameters(providers=("cpu",)))
