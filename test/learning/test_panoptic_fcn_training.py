"""PanopticFCN from a recipe: trained, begun from another run, exported and run, by the commands themselves."""

import json

import numpy as np
import pytest
import yaml

from support import ROOT
from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.datasets.streets import drive
from vps_ros.online import OnlinePanoptic
from vps_ros.segmenters import load_segmenter

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
pytest.importorskip("onnx", reason="onnx is of the [train] extra")

from support.fcn_small import checkpoint as published  # noqa: E402
from support.fcn_small import published_architecture, thin  # noqa: E402
from vps_ros.learning.data.targets import Targets  # noqa: E402
from vps_ros.learning.kinds import kind_for  # noqa: E402
from vps_ros.learning.panoptic_fcn import kind as panoptic_fcn  # noqa: E402
from vps_ros.learning.panoptic_fcn.architecture import LossWeights  # noqa: E402
from vps_ros.learning.recipe import Recipe  # noqa: E402
from vps_ros.learning.training.initial_weights import load_initial_weights  # noqa: E402

SIZE = (128, 64)
SMALL = {
    "kind": "panoptic-fcn",
    "backbone": "efficientnet-lite0",
    "channels": [16, 16, 16, 16],
    "heads": 2,
    "width": 32,
    "strides": [8, 16],
    "sizes": [[1, 48], [32, 2048]],
    "position_convs": 1,
    "kernel_convs": 1,
    "feature_convs": 1,
    "feature_channels": 16,
    "norm": "batch",
    "feature_norm": "batch",
    "coordinates": "added",
    "positions": 2,
    "things": 8,
    "embedding_dim": 16,
}


@pytest.fixture(autouse=True)
def random_backbone(monkeypatch):
    """The package with ImageNet weights need not be there."""
    monkeypatch.setattr(panoptic_fcn.PanopticFCNKind, "load_pretrained", lambda self, network: None)


def recipe_of(folder, stuff="semantic", **more):
    return {
        "name": "small-fcn",
        "data": {"scenarios": ["cruise"], "drives": 1, "frames": 3, "size": list(SIZE), "folder": str(folder)}
        | {"validation_frames": 1, "processes": 1},
        "schedule": {"steps": 2, "phases": [{"until": 1.0, "size": list(SIZE), "pairs": 2}], "workers": 1}
        | {"log_every": 1, "validate_every": 2},
        "model": SMALL | {"stuff": stuff, "norm": "batch" if stuff == "semantic" else "group"},
    } | more


def test_the_recipes_that_come_along():
    recipe = Recipe.from_yaml(ROOT / "config" / "train" / "panoptic-fcn.yaml")
    assert (recipe.model.kind, recipe.model.stuff, recipe.losses) == ("panoptic-fcn", "semantic", LossWeights())
    assert Recipe.from_mapping(json.loads(json.dumps(recipe.to_mapping())), "again") == recipe
    kind = kind_for(recipe)
    assert kind.max_segments == recipe.model.things + 11 and kind.activation == "sigmoid"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"losses": {"dice": 1.0}}, "losses: unknown entry 'dice'"),
        ({"model": SMALL | {"stuff": "semantik"}}, "model.stuff: 'semantik'; there are kernels, semantic"),
        ({"model": SMALL | {"strides": [8]}}, "model.sizes: 2 ranges for 1 strides"),
        ({"start": "nowhere.pth"}, "nowhere.pth: no such file"),
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path, capsys, change, message):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tmp_path, **change)))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("stuff", ["semantic", "kernels"])
def test_from_a_recipe_to_tracked_frames(tmp_path, capsys, stuff):
    config, run, path = tmp_path / "r.yaml", tmp_path / "run", tmp_path / "m.onnx"
    config.write_text(yaml.safe_dump(recipe_of(tmp_path / "drives", stuff)))
    assert main(["train", "--config", str(config), "-o", str(run)]) == 0
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    terms = [entry for entry in log if "total" in entry]
    assert [entry["step"] for entry in terms] == [1, 2]
    own = {"semantic"} if stuff == "semantic" else {"region", "stuff_mask"}
    assert {"position", "mask", "track", "track_aux"} | own <= terms[0].keys()
    assert all(np.isfinite(entry["total"]) for entry in terms) and any("validation" in entry for entry in log)
    capsys.readouterr()
    assert main(["export", str(run), "-o", str(path), "--size", "160x64"]) == 0
    assert "largest difference from torch" in capsys.readouterr().err
    segmenter = load_segmenter(Config(model=str(path), threads=1))
    assert (segmenter.card.mask_activation, segmenter.card.thresholds.mode) == ("sigmoid", "mask_wise")
    pipeline = OnlinePanoptic(Config(model=str(path), threads=1), segmenter)
    frames = list(drive("cruise", seed=1, frames=2, size=(200, 80)))
    hosts = [pipeline.step(one.frame).map for one in frames]
    assert all(one.shape == (80, 200) for one in hosts)
    # The same with post-processing inside, and in 8 bits.
    for name, more in (("graph", ["--postprocess", "graph", "--camera", "200x80"]), ("int8", ["--int8"])):
        other = tmp_path / f"{name}.onnx"
        capsys.readouterr()
        assert main(["export", "--from", "onnx", str(path), "-o", str(other), *more]) == 0
        if name == "graph":
            assert "100.000 % of the pixels of a frame equal those of the host" in capsys.readouterr().err
        pipeline = OnlinePanoptic(Config(model=str(other), threads=1))
        assert pipeline.step(frames[0].frame).map.shape == (80, 200)


def network_and_batch(tmp_path):
    kind = kind_for(Recipe.from_mapping(recipe_of(tmp_path), "test"))
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(0, 0.5, (4, 3, 64, 128)).astype(np.float32))
    segments = torch.from_numpy(rng.integers(-1, 3, (4, 4, 8))).repeat_interleave(4, 1).repeat_interleave(4, 2)
    classes = torch.tensor([[13, 11, 0]]).expand(4, -1)
    semantic = torch.where(segments < 0, -1, classes[0][segments.clamp(min=0)])
    return (
        kind,
        kind.build().train(),
        images,
        Targets(segments, classes, torch.tensor([[5, 6, 0]]).expand(4, -1), semantic),
    )


def test_mixed_precision_learns_the_same(tmp_path):
    """The forward pass in bfloat16 gives about the loss of float32, and finite gradients everywhere."""
    kind, network, images, targets = network_and_batch(tmp_path)
    totals = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = kind.forward(network, images, None)
        total, _ = kind.loss(network, output, targets, torch.Generator())
        total.backward()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
        totals.append(total.item())
    assert totals[1] == pytest.approx(totals[0], rel=0.05)


def test_weights_of_classes_are_told_from_others(tmp_path):
    kind = kind_for(Recipe.from_mapping(recipe_of(tmp_path), "test"))
    state = kind.build().state_dict()
    assert {n for n in state if kind.has_class_rows(n)} == {n for n, v in state.items() if v.shape[:1] == (19,)}
    assert {n for n in state if kind.has_partial_class_rows(n)} == {n for n, v in state.items() if v.shape[:1] == (8,)}


def test_a_published_checkpoint_as_the_start(tmp_path, monkeypatch):
    thin(monkeypatch)
    path = tmp_path / "city.pth"
    published(path, published_architecture())
    given = recipe_of(tmp_path, "kernels", start=str(path))
    given["model"] = {"kind": "panoptic-fcn", "position_convs": 1, "things": 8}
    recipe = panoptic_fcn.complete(Recipe.from_mapping(given, "test"))
    # What the file tells is as in the file, the rest as in the recipe.
    assert (recipe.model.width, recipe.model.position_convs, recipe.model.things) == (32, 3, 8)
    kind = kind_for(recipe)
    network = kind.build()
    fresh = load_initial_weights(network, kind, recipe, [])
    assert {name.split(".")[0] for name in fresh} == {"embedding_head"}
    tensors = torch.load(path, weights_only=True)["model"]
    assert torch.equal(network.position_head.class_head.weight, tensors["position_head.out_inst.weight"])
