"""Images of several cameras in one run of the network: each gets the result that it gets alone."""

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="torch is of the [train] extra")

from support.worlds import colour_model, picture
from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.segmenters import load_segmenter


@pytest.fixture
def batched(tmp_path):
    colour_model(tmp_path / "one.onnx")
    command = ["export", "--from", "onnx", tmp_path / "one.onnx", "-o", tmp_path / "batch.onnx", "--batch"]
    assert main([str(word) for word in command]) == 0
    return tmp_path / "batch.onnx"


def segmenter(path):
    return load_segmenter(Config(model=str(path)).segmenter_parameters)


def same(a, b):
    np.testing.assert_array_equal(a.map, b.map)
    np.testing.assert_array_equal(a.class_ids, b.class_ids)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    np.testing.assert_allclose(a.embeddings, b.embeddings, atol=1e-5)


def test_a_batch_and_single_images(batched, tmp_path):
    single, both = segmenter(tmp_path / "one.onnx"), segmenter(batched)
    assert both.batched and not single.batched
    # Cameras of different sizes.
    images = [picture({0: (8, 20)}), picture({1: (40, 30), 2: (70, 4)}), picture({0: (90, 40)}, size=(160, 96))]
    assert len({image.shape for image in images}) == 2
    for count in (2, 3, 1):
        both.run_ahead(images[:count])
        # In another order.
        for image in images[:count][::-1]:
            same(both(image), single(image))
    # An image that was not in the batch, and one again after its result has been used.
    both.run_ahead(images[:2])
    for image in (images[2], images[0], images[0], images[1]):
        same(both(image), single(image))


def spliced(path, output, *nodes, **constants):
    """Replaces the tensor `output` by the result of `nodes`, whose first input is "before"."""
    model = onnx.load(str(path))
    names = [node.output[0] for node in model.graph.node]
    model.graph.node[names.index(output)].output[0] = "before"
    for i, node in enumerate(nodes):
        model.graph.node.insert(names.index(output) + 1 + i, node)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v), k) for k, v in constants.items())
    onnx.save(model, str(path.parent / f"{output}.onnx"))
    return path.parent / f"{output}.onnx"


@pytest.mark.parametrize("kind", ["Slice", "ScatterElements"])
def test_a_network_with_the_batch_of_one_in_its_constants(tmp_path, kind):
    """As converters from TensorFlow slice all axes, and as quantisation folds indices and values."""
    path, make = colour_model(tmp_path / "one.onnx"), onnx.helper.make_node
    if kind == "Slice":
        node = make("Slice", ["before", "first", "last", "axes"], ["small"])
        ends = np.array([1, 3, 16, 24], np.int32)
        path = spliced(path, "small", node, first=np.zeros(4, np.int32), last=ends, axes=np.arange(4, dtype=np.int32))
    else:
        node = make("ScatterElements", ["before", "places", "values"], ["mask_logits"], axis=3)
        queries = len(onnx.numpy_helper.to_array(onnx.load(str(path)).graph.initializer[0]))
        places, values = np.zeros((1, queries, 16, 1), np.int64), np.full((1, queries, 16, 1), -50, np.float32)
        path = spliced(path, "mask_logits", node, places=places, values=values)
    assert export(path) == 0
    single, both = segmenter(path), segmenter(tmp_path / "m.onnx")
    images = [picture({0: (8, 20)}), picture({1: (40, 30), 2: (70, 4)}), picture({0: (2, 2)})]
    assert both.batched
    both.run_ahead(images)
    for image in images:
        same(both(image), single(image))
    assert kind == "Slice" or (single(images[0]).map[:, 0] == 0).all()


@pytest.mark.slow
def test_a_shipped_model_of_8_bits(tmp_path):
    """The export compares three images with each of them alone."""
    assert main(["export", "--from", "onnx", "streets-s", "-o", str(tmp_path / "m.onnx"), "--batch"]) == 0
    assert segmenter(tmp_path / "m.onnx").batched


def export(path, *options):
    return main(["export", "--from", "onnx", str(path), "-o", str(path.parent / "m.onnx"), "--batch", *options])


def test_what_is_refused(batched, tmp_path, capfd):
    recurrent = colour_model(tmp_path / "recurrent.onnx", recurrent=True)
    # A network whose graph names the batch of 1: it takes the mean over all images.
    mean = spliced(
        tmp_path / "one.onnx", "small", onnx.helper.make_node("ReduceMean", ["before"], ["small"], axes=[0], keepdims=1)
    )
    # A network that fails with several images.
    size = onnx.helper.make_node("Identity", ["one_image"], ["size"])
    reshape = onnx.helper.make_node("Reshape", ["before", "size"], ["float"])
    failing = spliced(tmp_path / "one.onnx", "float", size, reshape, one_image=[1, 64, 96, 3])
    for path, options, message in (
        (recurrent, [], "--batch is for models without recurrent state"),
        (batched, [], "--batch: its input has the size batch already"),
        (mean, [], "leave --batch out"),
        (failing, [], "takes one image only"),
        (tmp_path / "one.onnx", ["--postprocess", "graph"], "leave out --postprocess graph"),
    ):
        capfd.readouterr()
        assert export(path, *options) == 2
        (error,) = capfd.readouterr().err.strip().splitlines()
        assert message in error and not (tmp_path / "m.onnx").exists()
