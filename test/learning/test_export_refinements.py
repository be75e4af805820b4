"""`vps-ros export --postprocess graph`, `--int8` and `--build-engine`, by the command on real files."""

import re
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.segmenters import load_segmenter, model_path
from vps_ros.segmenters.model_card import METADATA_KEY, describe_model
from vps_ros.trackers.learned import LearnedParameters, load_learned

pytest.importorskip("torch", reason="torch is of the [train] extra")
onnx = pytest.importorskip("onnx", reason="onnx is of the [train] extra")
from vps_ros.learning.data.streets import street_frames  # noqa: E402
from vps_ros.learning.export import int8  # noqa: E402

SHIPPED = str(model_path("streets-s-float"))


@pytest.fixture(scope="module")
def frame():
    return next(street_frames(1, 1))


def export(*arguments):
    return main(["export", "--from", "onnx", *map(str, arguments)])


def test_post_processing_moves_into_the_graph(tmp_path, capsys, frame):
    path = tmp_path / "graph.onnx"
    assert export(SHIPPED, "-o", path, "--postprocess", "graph", "--camera", "640x192") == 0
    said = capsys.readouterr().err
    share = float(re.search(r"([\d.]+) % of the pixels of a frame equal those of the host", said)[1])
    assert share >= 99.99
    found = describe_model(str(path))
    assert [t.name for t in found.outputs] == ["segment_map", "slot_class", "slot_score", "query_embeddings"]
    size = found.card.input
    assert (found.outputs[0].type, found.outputs[0].shape) == ("uint8", f"1x{size.height}x{size.width}")
    assert found.card.camera == (192, 640)
    host, graph = (load_segmenter(Config(model=name, threads=1))(frame) for name in (SHIPPED, str(path)))
    assert (host.map == graph.map).mean() >= 0.9999
    assert host.class_ids.tolist() == graph.class_ids.tolist()
    np.testing.assert_allclose(host.embeddings, graph.embeddings, atol=1e-4)
    assert "graph.tracker.npz: the learned weights of its trackers" in said
    learned = [load_learned(LearnedParameters(), name) for name in (SHIPPED, str(path))]
    assert learned[0].fusion == learned[1].fusion and learned[1].about["model"] == "graph"


def test_int8(tmp_path, frame):
    """Two frames calibrate well enough to see that the file is whole and means the same."""
    path = tmp_path / "small.onnx"
    shutil.copyfile(SHIPPED, path)
    same = int8.quantise(path, [frame, frame[:, ::-1].copy()], "small")
    assert same > 0.9
    assert path.stat().st_size < 0.8 * model_path(SHIPPED).stat().st_size
    before, after = (describe_model(str(p)) for p in (SHIPPED, path))
    assert after.card == replace(before.card, name="streets-s-float-int8") and after.outputs == before.outputs
    # Older releases of ONNX Runtime refuse newer operator sets, also those that no node uses.
    assert {one.domain for one in onnx.load(str(path)).opset_import} == {""}
    assert len(load_segmenter(Config(model=str(path)))(frame)) > 3
    assert list(tmp_path.iterdir()) == [path]


def written(path, kind, operator="Conv", domain=""):
    """A file with the shipped model's card and one operator, whose weights are of this kind."""
    image, weight = (onnx.helper.make_tensor_value_info(n, kind, [1, 1, 1, 1]) for n in "xy")
    value = onnx.helper.make_tensor("w", kind, [1, 1, 1, 1], [1.0])
    node = onnx.helper.make_node(operator, ["x", "w"], ["y"], domain=domain)
    graph = onnx.helper.make_graph([node], "g", [image], [weight], [value])
    opsets = [onnx.helper.make_opsetid(d, v) for d, v in (("", 17), ("com.foo", 1))]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.helper.set_model_props(model, {METADATA_KEY: describe_model(SHIPPED).card.to_json()})
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    ("kind", "operator", "message"),
    [
        (onnx.TensorProto.FLOAT, "MatMul", "x: has no convolutions; --int8 quantises only those"),
        (onnx.TensorProto.FLOAT16, "Conv", "x: its convolutions are float16, for GPUs; export it without --fp16"),
    ],
)
def test_int8_of_what_cannot_be_quantised(tmp_path, kind, operator, message):
    path = written(tmp_path / "m.onnx", kind, operator)
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        int8.quantise(path, [], "x")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_model_is_not_quantised_twice(tmp_path, capsys):
    """The shipped streets-s has integer convolutions."""
    path = tmp_path / "m.onnx"
    assert export(model_path("streets-s"), "-o", path, "--int8") == 2
    error = capsys.readouterr().err
    assert "is quantised already" in error and not path.exists()


def test_an_operator_that_nobody_has(tmp_path, capsys):
    odd = written(tmp_path / "odd.onnx", onnx.TensorProto.FLOAT, "Bar", "com.foo")
    assert export(odd, "-o", tmp_path / "out" / "m.onnx", "--postprocess", "graph") == 2
    error = capsys.readouterr().err
    assert "has no operator com.foo:Bar on cpu; export the model without it" in error and error.count("\n") == 1
    assert not any((tmp_path / "out").iterdir())


def test_once_is_enough_and_what_was_there_before_stays(tmp_path, capsys):
    path, graph = tmp_path / "kept" / "m.onnx", tmp_path / "graph.onnx"
    path.parent.mkdir()
    path.write_bytes(b"before")
    assert export(SHIPPED, "-o", graph, "--postprocess", "graph") == 0
    assert export(graph, "-o", path, "--postprocess", "graph", "--force") == 2
    assert "lacks the output 'class_logits'" in capsys.readouterr().err
    assert path.read_bytes() == b"before" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--camera", "640x192"], "--camera is the size of a segment_map"),
        (["--postprocess", "graph", "--camera", "640"], "--camera '640': write it as WIDTHxHEIGHT"),
        (["--postprocess", "graph", "--camera", "0x9"], "--camera '0x9': write it as WIDTHxHEIGHT"),
        (["--size", "704x224"], "--from onnx: --size goes with --from vps and"),
    ],
)
def test_what_does_not_go_together(tmp_path, capsys, arguments, message):
    assert export(SHIPPED, "-o", tmp_path / "m.onnx", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_not_a_model_of_the_contract(tmp_path, capsys):
    (tmp_path / "odd.onnx").write_bytes(b"odd")
    assert export(tmp_path / "odd.onnx", "-o", tmp_path / "m.onnx") == 2
    assert "ONNX Runtime cannot load it" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.skipif(
    "TensorrtExecutionProvider" in onnxruntime.get_available_providers(), reason="needs a machine without TensorRT"
)
def test_an_engine_needs_tensorrt(tmp_path, capsys):
    assert export(SHIPPED, "-o", tmp_path / "m.onnx", "--build-engine") == 2
    assert "provider tensorrt is not available here (there is: cpu)" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()
