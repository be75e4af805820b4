"""A little world of coloured squares, and a real ONNX model that knows its colours."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from vps_ros.clips import ClipSpec
from vps_ros.segmenters.model_card import METADATA_KEY, InputSpec, ModelCard, Thresholds
from vps_ros.taxonomy import CITYSCAPES

ROAD, SKY = (128, 128, 128), (0, 0, 255)
PAINTS = ((255, 0, 0), (0, 255, 0), (255, 255, 0), (255, 0, 255))
ROAD_ID, SKY_ID, CAR_ID = 0, 10, 13
_COLOURS = (ROAD, SKY, *PAINTS)
_CLASSES = (ROAD_ID, SKY_ID, *(CAR_ID for _ in PAINTS))


def picture(squares: dict[int, tuple[int, int]], size: tuple[int, int] = (96, 64), side: int = 16) -> np.ndarray:
    """uint8 [H, W, 3]: sky above, road below, and for each paint a square whose top left corner is (x, y)."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2], image[height // 2 :] = SKY, ROAD
    for paint, (x, y) in squares.items():
        image[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)] = PAINTS[paint]
    return image


def slow_model(path: Path, seconds: float = 0.08) -> Path:
    """A `colour_model` that takes at least so long for an image on this machine."""
    image = np.zeros((1, 64, 96, 3), np.uint8)
    rounds, took = 8, 0.0
    while took < seconds:
        rounds *= 2
        session = onnxruntime.InferenceSession(str(colour_model(path, rounds=rounds)))
        took = math.inf
        for _ in range(3):
            began = time.perf_counter()
            session.run(None, {"image": image})
            took = min(took, time.perf_counter() - began)
    return path


def colour_model(
    path: Path,
    size: tuple[int, int] = (96, 64),
    poison: float | None = None,
    card: bool = True,
    rounds: int = 0,
    side: int = 256,
    recurrent: bool = False,
    clip: ClipSpec | None = None,
    kernels: bool = False,
) -> Path:
    """Writes a model of the contract whose queries are the colours above; `poison` is added to its masks.

    It first multiplies square matrices of `side` rows, `rounds` times, to be as slow as a test needs; but an image
    that is grey, with which a network is warmed up, takes no time. A recurrent one counts its images. With `clip` it
    takes clips; each colour is a tube. With `kernels` its masks are the product of kernels and features.
    """
    frames = 1 if clip is None else clip.length
    width, height = size
    colours = np.array(_COLOURS, np.float32) / 255
    # -|x - c|^2 without the |x|^2 that all queries share: linear in x, so one convolution tells the nearest colour.
    weight = (40 * 2 * colours)[:, :, None, None].astype(np.float32)
    bias = (-40 * (colours**2).sum(1)).astype(np.float32)
    if poison is not None:
        bias = bias + np.float32(poison)
    queries = len(_COLOURS)
    logits = np.full((1, queries, len(CITYSCAPES) + 1), -6, np.float32)
    logits[0, range(queries), _CLASSES] = 6
    embeddings = np.eye(queries, 8, dtype=np.float32)[None]
    constants = {
        "weight": weight,
        "bias": bias,
        "scale": np.float32(1 / 255),
        "logits": logits,
        "embeddings": embeddings,
    }
    if kernels:
        constants["kernels"] = np.concatenate([weight[:, :, 0, 0], bias[:, None]], 1)[None].astype(np.float32)
        constants["colours"] = np.eye(4, 3, dtype=np.float32)[:, :, None, None]
        constants["one"] = np.array([0, 0, 0, 1], np.float32)
    nodes, constants = _toil(rounds, side, constants) if rounds else ([], constants)
    nodes += [
        helper.make_node("Cast", ["image"], ["bare" if rounds else "float"], to=TensorProto.FLOAT),
        *([helper.make_node("Add", ["bare", "nothing"], ["float"])] if rounds else []),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        *(
            [
                helper.make_node("Conv", ["small", "colours", "one"], ["mask_features"]),
                helper.make_node("Identity", ["kernels"], ["mask_kernels"]),
            ]
            if kernels
            else [helper.make_node("Conv", ["small", "weight", "bias"], ["mask_logits"])]
        ),
        helper.make_node("Identity", ["logits"], ["class_logits"]),
        helper.make_node("Identity", ["embeddings"], ["query_embeddings"]),
    ]
    count = []
    if recurrent:
        nodes.append(helper.make_node("Add", ["state_count", "scale"], ["next_state_count"]))
        count = [
            helper.make_tensor_value_info(f"{which}state_count", TensorProto.FLOAT, [1]) for which in ("", "next_")
        ]
    masks = helper.make_tensor_value_info("mask_logits", TensorProto.FLOAT, [frames, queries, height // 4, width // 4])
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [frames, height, width, 3]), *count[:1]],
        [
            *count[1:],
            helper.make_tensor_value_info("class_logits", TensorProto.FLOAT, list(logits.shape)),
            *(
                [
                    helper.make_tensor_value_info("mask_kernels", TensorProto.FLOAT, [1, queries, 4]),
                    helper.make_tensor_value_info("mask_features", TensorProto.FLOAT, [1, 4, height // 4, width // 4]),
                ]
                if kernels
                else [masks]
            ),
            helper.make_tensor_value_info("query_embeddings", TensorProto.FLOAT, list(embeddings.shape)),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card:
        about = ModelCard(
            "colours",
            CITYSCAPES,
            InputSpec(height, width),
            "softmax_queries",
            Thresholds(thing=0.5, stuff=0.3, overlap=0.5, mask=0.4),
            "made by a test",
            clip=clip,
        )
        helper.set_model_props(model, {METADATA_KEY: about.to_json()})
    onnx.save(model, path)
    return path


def _toil(rounds: int, side: int, constants: dict) -> tuple[list, dict]:
    """Nodes that take a long time to say `nothing`, a zero that no optimiser can know beforehand."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [side, side]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [side, side]),
        ],
    )
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "grey"], ["off"]),
        helper.make_node("Abs", ["off"], ["far"]),
        helper.make_node("Clip", ["far", "zero", "one"], ["share"]),
        helper.make_node("Mul", ["share", "most"], ["many"]),
        helper.make_node("Cast", ["many"], ["rounds"], to=TensorProto.INT64),
        helper.make_node("Expand", ["mean", "square"], ["start"]),
        helper.make_node("Loop", ["rounds", "yes", "start"], ["end"], body=body),
        helper.make_node("ReduceMean", ["end"], ["something"], keepdims=0),
        helper.make_node("Mul", ["something", "zero"], ["nothing"]),
    ]
    more = {
        "square": np.array([side, side], np.int64),
        "grey": np.float32(127),
        "one": np.float32(1),
        "most": np.float32(rounds),
        "yes": np.array(True),
        "zero": np.float32(0),
    }
    return nodes, {**constants, **more}
