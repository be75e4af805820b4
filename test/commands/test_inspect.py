"""`vps-ros inspect`: what people and programs are told about bags and models."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from support.bags import START, TENTH, drive, jpeg, string, write
from support.threshold_model import HEIGHT, WIDTH, Model, refusal
from support.worlds import colour_model
from vps_ros.clips import ClipSpec
from vps_ros.commands.main import main
from vps_ros.segmenters import shipped_models


@pytest.fixture
def inspect(tmp_path, capsys, monkeypatch):
    """Runs the command; gives its exit code, what it told, and the JSON."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(path):
        code = main(["inspect", str(path), "--json", str(tmp_path / "f.json"), "--force"])
        told = capsys.readouterr()
        found = json.loads((tmp_path / "f.json").read_text()) if code == 0 else None
        return code, " ".join((told.out + told.err).split()), found

    return run


def test_a_bag(inspect, tmp_path):
    messages = [*drive(11), *drive(6, "/rear/image/compressed", jpeg), ("/chatter", START, string("a"))]
    code, told, found = inspect(write(tmp_path / "bag", messages))
    assert code == 0
    for word in ("/camera/image_raw", "/rear/image/compressed", "/chatter", "96x64 rgb8", "96x64 jpeg", "2023-11-14"):
        assert word in told
    assert "lost" not in told
    assert (found["kind"], found["storage"], found["messages"]) == ("bag", "mcap", 18)
    assert (found["start"], found["end"], found["duration"]) == (START, START + 10 * TENTH, 1.0)
    topics = {t["name"]: t for t in found["topics"]}
    assert topics["/camera/image_raw"]["hz"] == pytest.approx(10)
    assert topics["/chatter"]["hz"] is None
    assert topics["/chatter"]["type"] == "std_msgs/msg/String"
    assert found["losses"] == []


def test_a_bag_cut_off(inspect, tmp_path):
    folder = write(tmp_path / "bag", drive(40))
    (part,) = folder.glob("*.mcap")
    os.truncate(part, part.stat().st_size // 2)
    code, told, found = inspect(folder)
    assert code == 0
    assert "warning" in told
    assert "cut off" in told
    (topic,) = found["topics"]
    assert topic["count"] + topic["lost"] == 40
    assert topic["count"] > 10


def test_a_real_bag_of_which_parts_are_missing(inspect, realdata):
    code, told, found = inspect(realdata / "rosbags" / "soccer_goal")
    assert code == 0
    assert "12 of 13 files are missing" in told
    assert (found["topics"][0]["count"], found["topics"][0]["lost"]) == (2, 249)
    assert found["topics"][0]["picture"] == "640x480 rgb8"


def test_a_picture_that_cannot_be_read(inspect, tmp_path):
    messages = drive(2, make=jpeg)
    messages[0][2].data = messages[0][2].data[:40]
    _, told, found = inspect(write(tmp_path / "bag", messages))
    assert found["topics"][0]["picture"].startswith("JPEG")


def test_the_table_of_a_model_leaves_its_recipe_to_the_json(inspect):
    code, told, found = inspect("city-s")
    recipe = json.loads(found["card"]["source"])["recipe"]
    assert code == 0 and "source terms" in told and "MB, runs on cpu" in told
    assert "learning_rate" in recipe["schedule"] and "learning_rate" not in told
    # A model is given to others; where the data lay is of no use to them.
    assert "/" not in "".join(entry.get("root", "") for entry in recipe["data"])


def test_a_model(inspect, tmp_path):
    code, told, found = inspect(colour_model(tmp_path / "colours.onnx"))
    assert code == 0
    for word in ("class_logits", "mask_logits", "softmax_queries", "road", "threshold overlap", "cityscapes"):
        assert word in told
    assert found["kind"] == "model"
    assert [t["name"] for t in found["inputs"]] == ["image"]
    assert found["inputs"][0]["type"] == "uint8"
    assert found["card"]["contract"] == 1
    assert "CPUExecutionProvider" in found["providers"]


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_are_known_by_name(inspect, name):
    code, told, found = inspect(name)
    assert code == 0
    assert found["card"]["name"] == name
    assert found["problem"] == ""


def test_a_model_without_a_card_is_shown_with_a_warning(inspect, tmp_path):
    code, told, found = inspect(colour_model(tmp_path / "bare.onnx", card=False))
    assert code == 0
    assert "class_logits" in told
    assert "warning" in told
    assert "vps-ros export" in told
    assert found["card"] is None


def _classes_without_a_query(model):
    model.constants["classes"] = np.zeros((1, 5, 3), np.float32)
    model.outputs["class_logits"] = ("f", [1, "queries", 3])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: model.outputs.pop("mask_logits"), "lacks the output 'mask_logits'"),
        (lambda model: model.inputs.update(image=("f", [1, HEIGHT, WIDTH, 3])), "'image' is tensor(float), not"),
        (_classes_without_a_query, "output 'mask_logits' has shape [1, 2, 16, 32], not [1, 5, any, any]"),
        (lambda model: setattr(model, "card", model.card.replace("contract", "contact")), "lacks 'contract'"),
    ],
)
def test_a_model_that_replay_refuses_fails_with_the_same_line(tmp_path, change, words):
    model = Model()
    change(model)
    path = model.save(tmp_path)
    command = [sys.executable, "-m", "vps_ros.commands.main", "inspect", str(path), "--json", str(tmp_path / "f.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    refused = refusal(path)
    assert words in refused
    assert (done.returncode, done.stderr) == (2, f"vps-ros: {refused}\n")
    assert "class_logits" in done.stdout
    assert json.loads((tmp_path / "f.json").read_text())["problem"] == refused


@pytest.mark.parametrize("name", ["absent.mcap", "text.onnx", "text.mcap", "absent.onnx"])
def test_what_is_neither(inspect, tmp_path, name):
    if name.startswith("text"):
        (tmp_path / name).write_text("hello")
    code, told, _ = inspect(tmp_path / name)
    assert code == 2
    assert name in told


def test_a_model_for_clips(inspect, tmp_path):
    code, told, found = inspect(colour_model(tmp_path / "clips.onnx", clip=ClipSpec(3, 1)))
    assert code == 0
    assert "clip │ 3 frames, 1 of them overlapping; results at most 1 frame late" in told
    assert found["card"]["clip"] == {"length": 3, "overlap": 1}
