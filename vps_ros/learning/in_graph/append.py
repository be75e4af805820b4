"""Moves post-processing into a model: from outputs of logits to outputs of segments, verified on a frame."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import helper

from vps_ros.errors import InputError
from vps_ros.files import atomic_write
from vps_ros.learning.data.streets import street_frames
from vps_ros.learning.in_graph import claims
from vps_ros.learning.in_graph.nodes import FLOAT, INT32, UINT8, Nodes, Value, opset_of, rename
from vps_ros.learning.in_graph.ranking import Ranking, rank
from vps_ros.learning.in_graph.upsampling import BUDGET, Field
from vps_ros.segmenters.model_card import METADATA_KEY, REMEDY, ModelCard
from vps_ros.segmenters.onnx_segmenter import OnnxSegmenter
from vps_ros.segmenters.preprocess import Fit, fit
from vps_ros.segmenters.segmenter import SegmenterParameters

LOGITS = ("class_logits", "mask_logits", "query_embeddings")
_PREFIX = "postprocess/"
_OPSET = 16
"""The first whose ScatterElements can add."""
_ON_HOST = "leave --postprocess graph out"
SHARE = 0.9999
"""Smallest share of pixels that must be equal to post-processing on the host."""


def append(model: onnx.ModelProto, camera: tuple[int, int] | None, where: str, budget: int = BUDGET) -> None:
    """Appends post-processing with the thresholds of the model card to a network. Changes `model`.

    Args:
        model: with the outputs of LOGITS, or with mask_kernels and mask_features instead of mask_logits.
        camera: (height, width) of the camera images; segment_map covers their part of the input. None: all of the
            input.
        where: the model's name in errors.
        budget: most elements of an intermediate tensor.

    Raises InputError when the model does not follow the contract, has dynamic shapes, or needs `camera`.
    """
    properties = {p.key: p for p in model.metadata_props}
    if METADATA_KEY not in properties:
        raise InputError(f"{where}: has no metadata {METADATA_KEY!r}; {REMEDY}")
    card = ModelCard.from_json(properties[METADATA_KEY].value, where)
    _require_supported(model, card, camera, where)
    opset = opset_of(model)
    if any(o.name == "mask_features" for o in model.graph.output):
        _multiply_masks(model, opset, where)
    outputs = {o.name: o for o in model.graph.output}
    if missing := [name for name in LOGITS if name not in outputs]:
        raise InputError(f"{where}: lacks the output {missing[0]!r} (it has {', '.join(sorted(outputs))}); {REMEDY}")
    shapes = {name: _shape(outputs[name], where) for name in LOGITS}
    nodes = Nodes(opset, _PREFIX)
    given = []
    for name in LOGITS:
        rename(model.graph, name, f"{_PREFIX}{name}")
        given.append(Value(nodes, f"{_PREFIX}{name}", outputs[name].type.tensor_type.elem_type).cast(FLOAT))
    camera = camera or (card.input.height, card.input.width)
    fitted = fit(card.input, *camera)
    # Pixels are assigned at the resolution of the network's input; the host resizes the map to the camera image.
    results = _results(nodes, given, shapes, card, fitted._replace(camera=fitted.resized), budget)
    kept = [o for o in model.graph.output if o.name not in LOGITS]
    _extend(model.graph, nodes, [*results, *kept])
    properties[METADATA_KEY].value = dataclasses.replace(card, camera=camera).to_json()
    onnx.checker.check_model(model)


def _require_supported(model: onnx.ModelProto, card: ModelCard, camera: tuple[int, int] | None, where: str) -> None:
    """Raises InputError where the graph cannot do what the host does."""
    outputs, limits = {o.name for o in model.graph.output}, card.thresholds
    if card.clip is not None:
        raise InputError(f"{where}: takes clips, whose masks become segments on the host, frame by frame; {_ON_HOST}")
    if (opset := opset_of(model)) < _OPSET:
        raise InputError(f"{where}: is of ONNX opset {opset}; post-processing in the graph needs {_OPSET} or newer")
    if card.input.keep_aspect and camera is None:
        raise InputError(
            f"{where}: pads the camera image, so that post-processing in the graph needs its size; pass --camera"
        )
    if "query_embeddings" not in outputs or limits.components or not (limits.drop_void and limits.stuff_overlap):
        raise InputError(
            f"{where}: imported without query embeddings; such a model has its post-processing on the host only, "
            f"{_ON_HOST}"
        )
    if limits.rank_threshold:
        raise InputError(f"{where}: has thresholds of ranks, which only the host supports; {_ON_HOST}")
    if "query_boxes" in outputs:
        raise InputError(f"{where}: its masks end at query_boxes, which only the host supports; {_ON_HOST}")


def _extend(graph: onnx.GraphProto, nodes: Nodes, outputs: list[onnx.ValueInfoProto]) -> None:
    """Adds nodes behind those of the graph, and replaces its outputs."""
    del graph.output[:]
    graph.output.extend(outputs)
    graph.node.extend(nodes.nodes)
    graph.initializer.extend(nodes.constants.values())


def _multiply_masks(model: onnx.ModelProto, opset: int, where: str) -> None:
    """Replaces the outputs mask_kernels and mask_features by their products, mask_logits."""
    nodes, factors = Nodes(opset, "masks/"), ("mask_kernels", "mask_features")
    outputs = {o.name: o for o in model.graph.output}
    (_, queries, depth), (_, _, height, width) = (_shape(outputs[name], where) for name in factors)
    kernels, features = (Value(nodes, n, outputs[n].type.tensor_type.elem_type).cast(FLOAT) for n in factors)
    masks = nodes.op("MatMul", kernels, features.reshape(1, depth, height * width), type=FLOAT)
    masks = masks.reshape(1, queries, height, width)
    nodes.nodes.append(helper.make_node("Identity", [masks.name], ["mask_logits"], "masks/out"))
    kept = [o for o in model.graph.output if o.name not in factors]
    made = helper.make_tensor_value_info("mask_logits", FLOAT, [1, queries, height, width])
    _extend(model.graph, nodes, [*kept, made])


def _results(
    nodes: Nodes, given: list[Value], shapes: dict[str, list[int]], card: ModelCard, where: Fit, budget: int
) -> list[onnx.ValueInfoProto]:
    classes, masks, embeddings = given
    limits, sigmoid = card.thresholds, card.mask_activation == "sigmoid"
    queries, height, width = shapes["mask_logits"][1:]
    shape = queries, height, width
    ranking = rank(classes, masks, shape, card.taxonomy, limits, sigmoid)
    ranked = masks if not sigmoid and limits.mode != "mask_wise" else masks.take(ranking.order, axis=1)
    field = Field(ranked, shape, where, budget)
    if limits.mode == "mask_wise":
        found = claims.mask_wise(field, ranking, limits, sigmoid)
    elif not sigmoid:
        found = claims.softmax_pixel_wise(field, ranking, limits)
    elif limits.mode == "pixel_wise":
        found = claims.sigmoid_pixel_wise(field, ranking, limits)
    else:
        found = claims.argmax(_products(field, ranking, limits.mask_grid), ranking, limits)
    result = claims.slots(found, ranking, queries, where, limits)
    # NaN or infinite outputs become NaN scores, for which the host drops the frame.
    faulty = [~(x.apply("Abs") < np.inf) for x in given]
    faulty = [f.cast(INT32).max(*range(len(shapes[name]))) for f, name in zip(faulty, LOGITS, strict=True)]
    broken = (faulty[0] + faulty[1] + faulty[2]) > 0
    dimensions = shapes["query_embeddings"][2]
    outputs = {
        "segment_map": (result.map, UINT8, [1, *where.camera]),
        "slot_class": (result.column, INT32, [1, queries]),
        "slot_score": (broken.choose(np.float32(np.nan), result.score), FLOAT, [1, queries]),
        "query_embeddings": (embeddings.take(result.query, axis=1), FLOAT, [1, queries, dimensions]),
    }
    for name, (value, _, _) in outputs.items():
        nodes.nodes.append(helper.make_node("Identity", [value.name], [name], f"{_PREFIX}{name}_out"))
    return [helper.make_tensor_value_info(name, kind, shape) for name, (_, kind, shape) in outputs.items()]


def _products(field: Field, ranking: Ranking, side: int) -> Field:
    """Class score times mask probability of each query, on the mask grid or resized to `side` x `side`."""
    maps, shape = field.maps, field.shape
    if side:
        shape = (shape[0], side, side)
        maps = maps.nodes.op("Resize", maps, None, None, np.array([1, *shape], np.int64), type=FLOAT, mode="linear")
    maps = maps.sigmoid() * ranking.class_score.reshape(1, shape[0], 1, 1)
    return dataclasses.replace(field, maps=maps, shape=shape)


def _shape(output: onnx.ValueInfoProto, where: str) -> list[int]:
    shape = [d.dim_value for d in output.type.tensor_type.shape.dim]
    if not shape or not all(shape):
        raise InputError(f"{where}: output {output.name!r} has no fixed shape; {REMEDY}")
    return shape


def move_into_graph(path: Path, camera: tuple[int, int] | None, name: str) -> float:
    """Changes the file and returns the share of equal pixels with post-processing on the host, for one street frame.

    Args:
        camera: (height, width) of the images that segment_map is for; None: the size of the network's input.
        name: of the file, for errors.

    Raises InputError when post-processing cannot be moved into this file; RuntimeError when the results differ, which
    leaves the file unchanged.
    """
    model = onnx.load(str(path))
    append(model, camera, name)
    with atomic_write(path) as draft:
        onnx.save(model, str(draft))
        host, graph = (OnnxSegmenter(file, SegmenterParameters()) for file in (path, draft))
        assert graph.card.camera is not None
        height, width = graph.card.camera
        image = cv2.resize(next(street_frames(1, 1)), (width, height), interpolation=cv2.INTER_LINEAR)
        same = float((host(image).map == graph(image).map).mean())
        if same < SHARE:
            raise RuntimeError(
                f"{name}: with post-processing in the graph, only {100 * same:.3f} % of the pixels of a frame equal "
                "those of the host"
            )
    return same
