"""The recipes in the source tree: each is read, and learns for some steps on a small data set in its true layout."""

import json
from pathlib import Path

import onnxruntime
import pytest
import yaml
from training_folders import SIZE, build

from vps_ros.commands.main import main
from vps_ros.segmenters.contract import METADATA_KEY, ModelCard

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning import checkpoint  # noqa: E402
from vps_ros.learning.data import FolderData  # noqa: E402
from vps_ros.learning.reading import kind_of  # noqa: E402
from vps_ros.learning.recipe import Recipe  # noqa: E402

FOLDER = Path(__file__).resolve().parent.parent / "config" / "train"
RECIPES = sorted(p.name for p in FOLDER.glob("*.yaml") if kind_of(p) == "model")
SMALL = {"queries": 8, "channels": [16] * 4, "depths": [0] * 4, "query_dim": 16, "mask_dim": 16, "heads": 2}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_read_back_as_it_was_written(name):
    recipe = Recipe.from_yaml(FOLDER / name)
    assert Recipe.from_mapping(json.loads(json.dumps(recipe.to_mapping())), "again") == recipe


def example(name, root, **change):
    """The recipe on a small data set, for two steps of one worker."""
    content = yaml.safe_load((FOLDER / name).read_text())
    phases = [{"until": 1.0, "size": list(SIZE), "pairs": 2}]
    content["data"] |= {"root": str(root), "size": list(SIZE), "validation_frames": 2}
    content["schedule"] |= {"steps": 2, "phases": phases, "workers": 1, "log_every": 1}
    return content | change


@pytest.mark.parametrize("name", [n for n in RECIPES if n in ("cityscapes-vps.yaml", "vipseg.yaml")])
def test_a_recipe_for_a_data_set_learns_and_is_exported(name, tmp_path):
    form = Recipe.from_yaml(FOLDER / name).data.format
    root = build(form, tmp_path / "data")
    content = example(name, root, start="")
    content["model"] |= SMALL
    path, run, model = tmp_path / "r.yaml", tmp_path / "run", tmp_path / "m.onnx"
    path.write_text(yaml.safe_dump(content))
    assert main(["train", "--config", str(path), "-o", str(run)]) == 0
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in log] == [1, 2, 2] and set(log[-1]["validation"]) >= {"pq", "miou"}
    assert main(["export", str(run), "-o", str(model), "--tune"]) == 0
    meta = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"]).get_modelmeta()
    card = ModelCard.from_json(meta.custom_metadata_map[METADATA_KEY], "test")
    recipe = Recipe.from_mapping(json.loads(card.source)["recipe"], "card")
    assert recipe == Recipe.from_mapping(content, "test"), "the model says how it was trained"
    assert card.taxonomy == recipe.data.taxonomy
    assert (card.input.width, card.input.height, card.input.keep_aspect) == (*SIZE, recipe.data.keep_aspect)


def test_the_shipped_model_is_taught_further_on_kitti_step(tmp_path, monkeypatch, capsys):
    """With its true start: every weight that a model file holds goes on."""
    content = example("kitti-step.yaml", build("kitti-step", tmp_path / "data"))
    content["data"]["validation_split"] = ""
    path, run = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(FOLDER.parent.parent)
    assert main(["train", "--config", str(path), "-o", str(run)]) == 0
    said = capsys.readouterr().err
    assert "weights of vps_ros/weights/streets-s.onnx; begin anew: " in said
    assert "backbone" not in said and "predictor.kernel_head" not in said
    assert checkpoint.load(run)["step"] == 2
    assert isinstance(checkpoint.restore(run)[1].data, FolderData)
    assert main(["export", str(run), "-o", str(tmp_path / "m.onnx"), "--tune"]) == 2
    assert "names no validation_split; leave --tune out" in capsys.readouterr().err
