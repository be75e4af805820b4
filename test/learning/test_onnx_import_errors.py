"""ONNX files that are something else than the command expects: one line that says what, and the next command."""

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch", reason="torch is of the [train] extra")

from support.onnx_networks import network  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.config import Config  # noqa: E402
from vps_ros.segmenters import load_segmenter  # noqa: E402

SIZE = 64
IMAGE = (1, 3, SIZE, SIZE)
NAMES = {"names": "{0: 'person', 1: 'bicycle', 2: 'car'}"}
MASKS = np.full((1, 2, 16, 16), 5.0)
# 84 candidates of strides 8, 16 and 32; 3 classes, 2 prototypes.
LAYOUTS = {
    "v8": ({"output0": np.zeros((1, 9, 84)), "output1": MASKS}, "YOLO v8 to v12 with masks", "--from yolo"),
    "v5": ({"output0": np.zeros((1, 252, 10)), "output1": MASKS}, "YOLO v5 or v7 with masks", "--from yolo"),
    "v10": ({"output0": np.zeros((1, 300, 8)), "output1": MASKS}, "YOLO v10 or v26 with masks", "--from yolo"),
    "v8 boxes": ({"output0": np.zeros((1, 7, 84))}, "detects boxes only", "yolo11n-seg"),
    "v10 boxes": ({"output0": np.zeros((1, 300, 6))}, "detects boxes only", "yolo11n-seg"),
    "rfdetr": (
        {"dets": np.zeros((1, 5, 4)), "labels": np.zeros((1, 5, 91)), "masks": np.zeros((1, 5, 16, 16))},
        "RF-DETR Seg",
        "--from rfdetr",
    ),
    "rfdetr boxes": ({"dets": np.zeros((1, 5, 4)), "labels": np.zeros((1, 5, 91))}, "boxes only", "RF-DETR Seg"),
    "logits": ({"logits": np.zeros((1, 19, 16, 16))}, "semantic segmentation with 19 classes", "--from semantic"),
    "last": ({"logits": np.zeros((1, 64, 64, 5))}, "semantic segmentation with 5 classes", "--from semantic"),
    "map": ({"classes": np.zeros((1, 64, 64), np.int64)}, "a class map", "--from semantic"),
    "queries": (
        {"logits": np.zeros((1, 5, 4)), "pred_masks": np.zeros((1, 5, 16, 16))},
        "network of transformers",
        "--from hf",
    ),
    "classifier": ({"scores": np.zeros((1, 1000))}, "of no layout that can be imported", "vps-ros export --help"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_inspect_and_replay_name_the_next_command(tmp_path, capsys, monkeypatch, name):
    outputs, what, command = LAYOUTS[name]
    monkeypatch.setenv("COLUMNS", "300")
    path = network(tmp_path / "net.onnx", IMAGE, outputs)
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr()
    assert what in printed.err and command in printed.err
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    assert main(["replay", str(tmp_path), "-o", str(tmp_path / "o.mcap"), "--model", str(path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and what in error[0] and command in error[0]


@pytest.mark.parametrize("name", ["v8", "v5", "v10", "rfdetr", "logits", "map"])
def test_the_command_that_is_named_works(tmp_path, capsys, name):
    outputs = dict(LAYOUTS[name][0])
    if name == "logits":
        # Logits of noise, so that they are not taken for probabilities.
        outputs["logits"] = np.random.default_rng(0).normal(size=(1, 19, 16, 16))
    if name == "rfdetr":
        outputs |= {key: outputs[key] - 5 for key in ("labels", "masks")}
    path = network(tmp_path / "net.onnx", IMAGE, outputs, metadata={} if name == "rfdetr" else NAMES)
    main(["inspect", str(path)])
    line = "".join(capsys.readouterr().err.split("\n"))
    words = line.split("`")[1].replace("OUT.onnx", str(tmp_path / "m.onnx")).replace("NAME|FILE", "cityscapes").split()
    assert main([str(path) if "net.onnx" in word else word for word in words[1:]]) == 0
    load_segmenter(Config(model=str(tmp_path / "m.onnx")).segmenter_parameters)


def export(path, *options):
    return main(["export", str(path), "-o", str(path.parent / "m.onnx"), *map(str, options)])


@pytest.mark.parametrize(
    "origin, name, message",
    [
        ("yolo", "logits", "--from semantic"),
        ("yolo", "rfdetr", "--from rfdetr"),
        ("yolo", "classifier", "of no layout that can be imported"),
        ("rfdetr", "v8", "--from yolo"),
        ("semantic", "v8", "--from yolo"),
        ("semantic", "v5", "--from yolo"),
        ("semantic", "v10 boxes", "boxes only"),
        ("semantic", "rfdetr", "--from rfdetr"),
        ("semantic", "classifier", "of no layout that can be imported"),
    ],
)
def test_a_network_of_another_kind(tmp_path, capsys, origin, name, message):
    path = network(tmp_path / "net.onnx", IMAGE, LAYOUTS[name][0], metadata=NAMES)
    classes = ["--classes", "cityscapes"] if origin == "semantic" else []
    assert export(path, "--from", origin, *classes) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1 and not (tmp_path / "m.onnx").exists()


def test_a_class_map_of_fractions(tmp_path, capsys):
    path = network(tmp_path / "net.onnx", IMAGE, {"depth": np.full((1, 32, 32), 0.5)})
    assert export(path, "--from", "semantic", "--classes", "cityscapes") == 2
    assert "are no class indices (as 0.5)" in capsys.readouterr().err and not (tmp_path / "m.onnx").exists()


def test_a_class_map_beside_the_logits(tmp_path):
    """Some networks have both, or a map of confidence."""
    outputs = {"out": np.random.default_rng(0).normal(size=(1, 19, 16, 16)), "confidence": np.full((1, 16, 16), 0.5)}
    path = network(tmp_path / "net.onnx", IMAGE, outputs)
    assert export(path, "--from", "semantic", "--classes", "cityscapes") == 0


def test_a_class_name_twice(tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("road\nsky\nroad")
    path = network(tmp_path / "net.onnx", IMAGE, {"out": np.zeros((1, 3, 16, 16))})
    assert export(path, "--from", "semantic", "--classes", tmp_path / "classes.txt") == 2
    assert "has 'road' more than once" in capsys.readouterr().err


def test_scores_that_are_logits(tmp_path, capsys):
    rows = np.zeros((1, 9, 84))
    rows[0, 4:7] = np.random.default_rng(0).normal(-4, 3, (3, 84))
    path = network(tmp_path / "net.onnx", IMAGE, {"output0": rows, "output1": MASKS}, metadata=NAMES)
    assert export(path, "--from", "yolo") == 2
    error = capsys.readouterr().err.strip()
    assert "so logits instead of probabilities" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("output", ["labels", "masks"])
def test_logits_that_are_probabilities(tmp_path, capsys, output):
    rng = np.random.default_rng(0)
    outputs = {
        "dets": np.full((1, 5, 4), 0.5),
        "labels": rng.normal(-3, 2, (1, 5, 91)),
        "masks": rng.normal(-3, 2, (1, 5, 16, 16)),
    }
    outputs[output] = 1 / (1 + np.exp(-outputs[output]))
    path = network(tmp_path / "net.onnx", IMAGE, outputs)
    assert export(path, "--from", "rfdetr") == 2
    error = capsys.readouterr().err.strip()
    assert f"its output {output} is probabilities" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_semantic_networks_with_a_softmax(tmp_path, layout):
    """They give the classes that they give without it."""
    logits = np.random.default_rng(0).normal(0, 4, (1, 3, 16, 16))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    (tmp_path / "classes.txt").write_text("road\nsky\nbuilding")
    found = []
    for file, values in (("logits", logits), ("softmax", p)):
        values = values if layout == "nchw" else values.transpose(0, 2, 3, 1)
        path = network(tmp_path / f"{file}.onnx", IMAGE, {"out": values})
        assert export(path, "--from", "semantic", "--classes", tmp_path / "classes.txt", "--force") == 0
        segmenter = load_segmenter(Config(model=str(tmp_path / "m.onnx"), stuff_area=0).segmenter_parameters)
        segmentation = segmenter(np.full((SIZE, SIZE, 3), 90, np.uint8))
        found.append(np.append(255, segmentation.class_ids)[segmentation.map])
    assert (found[0] == found[1]).mean() > 0.999 and len(np.unique(found[0])) == 3
