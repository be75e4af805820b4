"""A small network of the ONNX contract, which finds what is darker and what is brighter than grey 128."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.segmenters import load_segmenter
from vps_ros.segmenters.model_card import METADATA_KEY, InputSpec, ModelCard, Thresholds
from vps_ros.taxonomy import ClassInfo, Taxonomy

TAXONOMY = Taxonomy("two", (ClassInfo(0, "dark", False, (0, 0, 0)), ClassInfo(1, "bright", True, (255, 255, 255))))
HEIGHT, WIDTH = 16, 32
CARD = ModelCard("threshold", TAXONOMY, InputSpec(HEIGHT, WIDTH), "softmax_queries", Thresholds(overlap=0.5))
TYPES = {"f": TensorProto.FLOAT, "u8": TensorProto.UINT8, "i32": TensorProto.INT32, "i64": TensorProto.INT64}


class Model:
    """A network of two queries: one claims what is darker than grey 128, the other what is brighter."""

    def __init__(self):
        self.card = CARD.to_json()
        self.inputs = {"image": ("u8", [1, HEIGHT, WIDTH, 3])}
        self.outputs = {
            "class_logits": ("f", [1, 2, 3]),
            "mask_logits": ("f", [1, 2, HEIGHT, WIDTH]),
            "query_embeddings": ("f", [1, 2, 4]),
        }
        self.constants = {
            "grey": np.float32(127.5),
            "sign": np.array([-1, 1], np.float32).reshape(1, 2, 1, 1),
            "classes": np.array([[[9, 0, 0], [0, 9, 0]]], np.float32),
            "appearance": np.eye(2, 4, dtype=np.float32)[None],
            "channels": np.array([3], np.int64),
            "middle": np.array([1], np.int64),
        }
        self.nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float"], ["mean"], axes=[3], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "middle"], ["one"]),
            helper.make_node("Sub", ["one", "grey"], ["centred"]),
            helper.make_node("Mul", ["centred", "sign"], ["mask_logits"]),
            helper.make_node("Identity", ["classes"], ["class_logits"]),
            helper.make_node("Identity", ["appearance"], ["query_embeddings"]),
        ]

    def replace(self, output, *nodes):
        """Other nodes in place of the one that makes an output."""
        self.nodes = [node for node in self.nodes if output not in node.output] + list(nodes)
        return self

    def save(self, folder):
        values = [
            [helper.make_tensor_value_info(name, TYPES[kind], shape) for name, (kind, shape) in which.items()]
            for which in (self.inputs, self.outputs)
        ]
        constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "graph", *values, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if self.card is not None:
            helper.set_model_props(model, {METADATA_KEY: self.card})
        path = folder / "model.onnx"
        onnx.save(model, path)
        return path


def load(path, **parameters):
    return load_segmenter(Config(model=str(path), threads=1, **parameters))


def refusal(path, **parameters):
    with pytest.raises(InputError) as caught:
        load(path, **parameters)
    message = str(caught.value)
    assert "\n" not in message
    return message


def halves(height, width):
    """Left half black, right half white."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 255
    return image
