"""The recipes in the source tree: each is read, and those for data sets are run whole, in small.

Trained, stopped, resumed, exported and replayed. Of a recipe only what makes it large is changed: where the data lies,
the sizes of images and batches, the number of steps. The data is some made-up frames in the true layout, seen again
and again.
"""

import dataclasses
import importlib.util
import json
import os
import signal
import threading

import cv2
import numpy as np
import pytest
import yaml

from support import ROOT
from support.training_folders import FRAMES, SIZE, build, scene
from vps_ros.commands.main import main
from vps_ros.segmenters.model_card import describe_model

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
pytest.importorskip("transformers", reason="transformers is of the [train] extra")

from support.tiny_mask2former import save_tiny  # noqa: E402
from vps_ros.learning.data.entries import FolderData  # noqa: E402
from vps_ros.learning.recipe import Recipe, kind_of  # noqa: E402
from vps_ros.learning.training import checkpoint  # noqa: E402

FOLDER = ROOT / "config" / "train"
RECIPES = sorted(p.name for p in FOLDER.glob("*.yaml") if kind_of(p) == "model")
FOR_DATA_SETS = ("kitti-step.yaml", "cityscapes-vps.yaml", "vipseg.yaml", "mask2former-kitti-step.yaml")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_read_back_as_it_was_written(name):
    recipe = Recipe.from_yaml(FOLDER / name)
    assert Recipe.from_mapping(json.loads(json.dumps(recipe.to_mapping())), "again") == recipe


def in_small(name, folder, steps=12):
    """The recipe as it stands but for what makes it large. Two processes learn for the first one only."""
    content = yaml.safe_load((FOLDER / name).read_text())
    data, schedule = content["data"], content["schedule"]
    data |= {"root": str(build(data["format"], folder / "data")), "size": list(SIZE)}
    if name != FOR_DATA_SETS[0]:
        schedule["workers"] = 1
    for phase in schedule["phases"]:
        phase |= {"size": list(SIZE), "pairs": max(schedule.get("accumulate", 1), 2)}
    schedule |= {"steps": steps, "log_every": 1}
    if name.startswith("mask2former"):
        content["start"] = str(save_tiny(folder / "start"))
    return content


@pytest.fixture
def interrupt():
    """Sends SIGINT to this process once a file has so many lines, as Ctrl-C does while it is being watched."""
    over, threads = threading.Event(), []

    def watch(file, lines):
        while not over.wait(0.05):
            if file.is_file() and len(file.read_text().splitlines()) >= lines:
                os.kill(os.getpid(), signal.SIGINT)
                return

    def start(file, lines):
        threads.append(threading.Thread(target=watch, args=(file, lines)))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("name", FOR_DATA_SETS)
def test_from_a_recipe_to_a_tracked_drive(name, tmp_path, capsys, monkeypatch, interrupt):
    monkeypatch.chdir(FOLDER.parent.parent)
    content, config, run = in_small(name, tmp_path), tmp_path / "recipe.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(content))
    board = ["--tensorboard"] if importlib.util.find_spec("tensorboard") else []
    command = ["train", "--config", str(config), "-o", str(run), *board]
    interrupt(run / "log.jsonl", 3)
    assert main(command) == 130
    said = capsys.readouterr().err
    assert f"weights of {content['start']}" in said and "continue with --resume" in said
    assert 3 <= checkpoint.load(run)["step"] < 12
    assert main([*command, "--resume"]) == 0
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = {entry["step"]: entry["total"] for entry in log if "total" in entry}
    totals = np.array(list(losses.values()))
    assert list(losses) == list(range(1, 13))
    assert np.isfinite(totals).all() and totals[-4:].mean() < totals[:4].mean()
    assert log[-1]["step"] == 12 and set(log[-1]["validation"]) == {"pq", "pq_things", "pq_stuff", "miou"}
    assert not board or any((run / "tensorboard").iterdir())

    model, bag, tracked = (tmp_path / file for file in ("model.onnx", "drive.mcap", "tracked.mcap"))
    assert main(["export", str(run), "-o", str(model), "--tune"]) == 0
    card = describe_model(str(model)).card
    mine, source = Recipe.from_mapping(content, "mine"), json.loads(card.source)
    recorded = Recipe.from_mapping(source["recipe"], "recorded")
    # What the start says of the network is recorded as well.
    assert source["step"] == 12 and source["terms"] == "; ".join(recorded.terms) and recorded.learned_before
    assert dataclasses.replace(recorded, model=mine.model, learned_before=()) == mine
    assert card.taxonomy == mine.data.taxonomy
    assert (card.input.width, card.input.height, card.input.keep_aspect) == (*SIZE, mine.data.keep_aspect)

    (tmp_path / "pictures").mkdir()
    for i in range(FRAMES):
        cv2.imwrite(str(tmp_path / f"pictures/{i}.png"), scene(mine.data.format, 0, i).image[..., ::-1])
    assert main(["pack", str(tmp_path / "pictures"), "-o", str(bag)]) == 0
    figures = tmp_path / "figures.json"
    assert main(["replay", str(bag), "-o", str(tracked), "--model", str(model), "--json", str(figures)]) == 0
    assert json.loads(figures.read_text())["frames"] == FRAMES
    assert main(["inspect", str(tracked)]) == 0 and "/vps/panoptic" in capsys.readouterr().out


def test_the_shipped_model_is_taught_further_on_kitti_step(tmp_path, monkeypatch, capsys):
    """With its true start: every weight that a model file holds goes on."""
    content = in_small("kitti-step.yaml", tmp_path, steps=2)
    content["data"]["validation_split"], content["schedule"]["workers"] = "", 1
    path, run = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(FOLDER.parent.parent)
    assert main(["train", "--config", str(path), "-o", str(run)]) == 0
    said = capsys.readouterr().err
    assert "weights of vps_ros/weights/streets-s-float.onnx; randomly initialised: " in said
    assert "backbone" not in said and "predictor.kernel_head" not in said
    assert checkpoint.load(run)["step"] == 2
    assert isinstance(checkpoint.restore(run)[1].data, FolderData)
    assert main(["export", str(run), "-o", str(tmp_path / "m.onnx"), "--tune"]) == 2
    assert "the recipe has no validation_split; leave --tune out" in capsys.readouterr().err
