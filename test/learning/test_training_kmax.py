"""Fine-tuning kMaX-DeepLab from a checkpoint as it is published, with small random weights."""

import json

import numpy as np
import onnxruntime
import pytest
import yaml

from support.training_folders import build
from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.segmenters.model_card import METADATA_KEY, ModelCard
from vps_ros.taxonomy import CITYSCAPES, MOTCHALLENGE_STEP

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning.data.sources import Folders  # noqa: E402
from vps_ros.learning.kmax.architecture import Architecture, BackboneSpec  # noqa: E402
from vps_ros.learning.kmax.checkpoint import published_names  # noqa: E402
from vps_ros.learning.kmax.kind import complete  # noqa: E402
from vps_ros.learning.kmax.model import KMaxDeepLab  # noqa: E402
from vps_ros.learning.recipe import Recipe  # noqa: E402
from vps_ros.learning.training import checkpoint  # noqa: E402
from vps_ros.learning.training.loop import Run  # noqa: E402

SIZE = [97, 65]
SMALL = Architecture(
    BackboneSpec("resnet", (1, 1, 1, 1), (32, 64, 128, 256)),
    classes=19,
    queries=8,
    blocks=(1, 1, 1, 1),
    channels=(32, 16, 8, 8),
    layers=(1, 1, 1),
    dim=32,
    heads=2,
    semantic="head",
)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint of the 19 classes of Cityscapes, by the published names, and the network it is of."""
    torch.manual_seed(3)
    network = KMaxDeepLab(SMALL)
    state = network.state_dict()
    path = tmp_path_factory.mktemp("published") / "kmax.pth"
    torch.save({"model": {name: state[ours] for name, ours in published_names(state, "resnet").items()}}, path)
    return path, state


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    return build("motchallenge-step", tmp_path_factory.mktemp("mot"))


def recipe_of(root, start, **change):
    """Seven of the classes, under other ids."""
    data = {"format": "motchallenge-step", "root": str(root), "size": SIZE, "validation_split": "test"}
    phases = [{"until": 1.0, "size": SIZE, "pairs": 1}]
    schedule = {"steps": 2, "phases": phases, "workers": 1, "log_every": 1, "learning_rate": 1e-4}
    recipe = {"name": "small", "data": data | {"validation_frames": 1}, "schedule": schedule, "start": str(start)}
    return recipe | {"model": {"kind": "kmax"}} | change


def test_a_published_checkpoint_learns_on_is_resumed_and_exported(start, streets, tmp_path, capsys):
    path, run, model = tmp_path / "r.yaml", tmp_path / "run", tmp_path / "m.onnx"
    path.write_text(yaml.safe_dump(recipe_of(streets, start[0])))
    recipe = Recipe.from_mapping(recipe_of(streets, start[0]), "test")
    part = Run(recipe, tmp_path / "part", False)
    clips = Folders(recipe.data).training()
    part.load_initial_weights(clips)
    rows = [[c.name for c in CITYSCAPES.classes].index(c.name) for c in MOTCHALLENGE_STEP.classes]
    for name, value in part.model.segmenter.state_dict().items():
        wanted = start[1][name]
        if "class_head" in name:
            wanted = wanted[[*rows, -1]]
        elif name.startswith("semantic.2."):
            wanted = wanted[rows]
        assert torch.equal(value, wanted), name
    learn = part.learn
    part.learn = lambda batch: (part.interrupt(), learn(batch))[1]
    part.train(clips, [])
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "part"), "--resume"]) == 0
    assert main(["train", "--config", str(path), "-o", str(run)]) == 0
    whole, again = (checkpoint.load(folder) for folder in (run, tmp_path / "part"))
    for name, value in whole["model"].items():
        assert torch.equal(value, again["model"][name]), name
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert np.isfinite([e["total"] for e in log if "total" in e]).all() and "validation" in log[-1]

    assert main(["export", str(run), "-o", str(model)]) == 0
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    card = ModelCard.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY], "test")
    assert card.taxonomy == MOTCHALLENGE_STEP and card.mask_activation == "softmax_queries"
    assert card.input.align_corners and (card.input.width, card.input.height) == tuple(SIZE)
    outputs = session.run(None, {"image": np.zeros((1, 65, 97, 3), np.uint8)})
    assert [o.shape for o in outputs] == [(1, 8, 8), (1, 8, 17, 25), (1, 8, 64)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": {"kind": "kmax", "backbone": "resnet51"}, "start": ""}, "'resnet51'; there are resnet50, convnext"),
        ({"model": {"kind": "kmax", "backbone": "convnext-tiny"}}, "has the backbone resnet-1-1-1-1, the recipe's"),
        (
            {"model": {"kind": "kmax", "architecture": {"semantic": "all"}}},
            "model.architecture.semantic: 'all' is not one of none, head, decoder",
        ),
        ({"model": {"kind": "kmax", "queries": 3}}, "model: unknown entry 'queries'"),
        ({"start": "nowhere.pth"}, "nowhere.pth: no such file; the recipe's `start`"),
        ({"start": "m.onnx"}, "start from the checkpoint of the run"),
        ({"start": __file__}, "not a readable checkpoint"),
    ],
)
def test_what_is_wrong_is_one_line(start, streets, tmp_path, capsys, change, message):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_of(streets, start[0]) | change))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
    assert not (tmp_path / "run").exists()


def test_sides_are_a_multiple_of_32_plus_one(start, streets):
    content = recipe_of(streets, start[0])
    content["schedule"]["phases"][0]["size"] = [96, 64]
    with pytest.raises(InputError, match="a phase of size 96x64 with 1 pairs; sides must be multiples of 32 plus 1"):
        Recipe.from_mapping(content, "test")


def test_a_run_of_another_kind_is_no_start(start, streets, tmp_path):
    content = recipe_of(streets, "", model={"queries": 8, "channels": [16] * 4, "depths": [0] * 4, "heads": 2})
    content["data"]["size"] = content["schedule"]["phases"][0]["size"] = [96, 64]
    run = Run(Recipe.from_mapping(content, "test"), tmp_path / "run", False)
    run.save()
    with pytest.raises(InputError, match="holds a model of kind streets, not kmax"):
        complete(Recipe.from_mapping(recipe_of(streets, tmp_path / "run"), "test"))
