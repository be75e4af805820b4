"""Images of several cameras in one run of the network: each gets the result that it gets alone."""

import numpy as np
import onnx
import pytest

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


def export(path, *options):
    return main(["export", "--from", "onnx", str(path), "-o", str(path.parent / "m.onnx"), "--batch", *options])


def test_what_is_refused(batched, tmp_path, capsys):
    recurrent = colour_model(tmp_path / "recurrent.onnx", recurrent=True)
    # A network whose graph names the batch of 1: it takes the mean over all images.
    model = onnx.load(str(tmp_path / "one.onnx"))
    for node in model.graph.node:
        if node.output[0] == "small":
            node.output[0] = "each"
    mean = onnx.helper.make_node("ReduceMean", ["each"], ["small"], axes=[0], keepdims=1)
    model.graph.node.insert([n.output[0] for n in model.graph.node].index("each") + 1, mean)
    onnx.save(model, str(tmp_path / "mean.onnx"))
    for path, options, message in (
        (recurrent, [], "--batch is for models without recurrent state"),
        (batched, [], "--batch: its input has the size batch already"),
        (tmp_path / "mean.onnx", [], "leave --batch out"),
        (tmp_path / "one.onnx", ["--postprocess", "graph"], "leave out --postprocess graph"),
    ):
        assert export(path, *options) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert message in error[-1] and not (tmp_path / "m.onnx").exists()
