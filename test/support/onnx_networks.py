"""ONNX files as other programs export them, whose outputs are given: tests know what each of them shows."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def network(path, shape, outputs, *, dtype=np.float32, metadata=None, opset=17, name="images", scaled=False):
    """A network that always gives these outputs.

    Args:
        shape: of the input; text for a dynamic size.
        outputs: arrays by name.
        dtype: of the input, and of float outputs.
        scaled: the outputs of each image of a batch are those given times the mean of this image.
    """
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("Cast", [name], ["as_float"], to=TensorProto.FLOAT)]
    # The mean times zero: every output depends on the image, as in a real network.
    nodes.append(helper.make_node("ReduceMean", ["as_float"], ["mean"], keepdims=0))
    weights = [numpy_helper.from_array(np.float32(0), "zero")]
    nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    if scaled:
        nodes.append(helper.make_node("ReduceMean", ["as_float"], ["of_each"], keepdims=0, axes=[1, 2, 3]))
    made = []
    for key, array in outputs.items():
        array = np.asarray(array)
        array = array.astype(dtype) if array.dtype.kind == "f" and dtype != np.uint8 else array
        of_array = helper.np_dtype_to_tensor_dtype(array.dtype)
        weights.append(numpy_helper.from_array(array, f"{key}_value"))
        nodes.append(helper.make_node("Cast", ["nothing"], [f"{key}_zero"], to=of_array))
        if scaled:
            weights.append(numpy_helper.from_array(np.array([-1] + [1] * (array.ndim - 1)), f"{key}_rank"))
            nodes.append(helper.make_node("Reshape", ["of_each", f"{key}_rank"], [f"{key}_factor"]))
            nodes.append(helper.make_node("Mul", [f"{key}_value", f"{key}_factor"], [key]))
        else:
            nodes.append(helper.make_node("Add", [f"{key}_value", f"{key}_zero"], [key]))
        made.append(helper.make_tensor_value_info(key, of_array, array.shape))
    graph = helper.make_graph(nodes, "network", [helper.make_tensor_value_info(name, kind, shape)], made, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return path
