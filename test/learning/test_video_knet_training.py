"""Video K-Net from a recipe: trained, resumed, begun from another run, exported and run, by the commands themselves."""

import dataclasses
import json

import numpy as np
import pytest
import yaml

from support import ROOT
from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.datasets.streets import drive
from vps_ros.errors import InputError
from vps_ros.online import OnlinePanoptic
from vps_ros.segmenters import load_segmenter

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
pytest.importorskip("onnx", reason="onnx is of the [train] extra")

from vps_ros.learning import SILENT  # noqa: E402
from vps_ros.learning.data.sources import source_of  # noqa: E402
from vps_ros.learning.data.targets import Targets  # noqa: E402
from vps_ros.learning.kinds import kind_for  # noqa: E402
from vps_ros.learning.recipe import Recipe  # noqa: E402
from vps_ros.learning.training import checkpoint  # noqa: E402
from vps_ros.learning.training.initial_weights import load_initial_weights  # noqa: E402
from vps_ros.learning.training.validation import predict, tune  # noqa: E402
from vps_ros.learning.video_knet.architecture import LossWeights  # noqa: E402

SIZE = (128, 64)


def recipe_of(folder, **more):
    return {
        "name": "small-knet",
        "data": {"scenarios": ["cruise"], "drives": 1, "frames": 3, "size": list(SIZE), "folder": str(folder)}
        | {"validation_frames": 1, "processes": 1},
        "schedule": {"steps": 2, "phases": [{"until": 1.0, "size": list(SIZE), "pairs": 2}], "workers": 1}
        | {"log_every": 1, "validate_every": 2},
        "model": {"kind": "video-knet", "queries": 6, "channels": [16, 16, 16, 16], "depths": [0, 1, 1, 1], "dim": 32}
        | {"stages": 2, "heads": 2},
    } | more


def test_the_recipes_that_come_along():
    recipe = Recipe.from_yaml(ROOT / "config" / "train" / "video-knet.yaml")
    assert (recipe.model.kind, recipe.model.dim, recipe.losses) == ("video-knet", 128, LossWeights())
    assert Recipe.from_mapping(json.loads(json.dumps(recipe.to_mapping())), "again") == recipe
    kind = kind_for(recipe)
    assert kind.max_segments == 64 + 11 and kind.activation == "sigmoid"
    of_clips = Recipe.from_yaml(ROOT / "config" / "train" / "video-knet-vis.yaml")
    assert (of_clips.model.kind, of_clips.model.backbone, of_clips.clip) == ("video-knet", "efficientnet-lite0", 2)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"losses": {"mask_id": 1.0}}, "losses: unknown entry 'mask_id'; did you mean mask?"),
        ({"model": {"kind": "video-knt"}}, "model: unknown kind 'video-knt'; did you mean video-knet?"),
        ({"model": {"kind": "video-knet", "detail": 8}}, "model: unknown entry 'detail'"),
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path, capsys, change, message):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_of(tmp_path, **change)))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_from_a_recipe_to_tracked_frames(tmp_path, capsys):
    config, run, path = tmp_path / "r.yaml", tmp_path / "run", tmp_path / "m.onnx"
    config.write_text(yaml.safe_dump(recipe_of(tmp_path / "drives")))
    assert main(["train", "--config", str(config), "-o", str(run)]) == 0
    recipe = recipe_of(tmp_path / "drives")
    recipe["schedule"]["steps"] = 3
    config.write_text(yaml.safe_dump(recipe))
    assert main(["train", "--config", str(config), "-o", str(run), "--resume"]) == 0
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    terms = [entry for entry in log if "total" in entry]
    assert [entry["step"] for entry in terms] == [1, 2, 3]
    assert {"classes", "mask", "dice", "rank", "semantic", "track", "track_aux", "final_dice"} <= terms[0].keys()
    assert all(np.isfinite(entry["total"]) for entry in terms) and any("validation" in entry for entry in log)
    # Another run goes on from it, with kernels of its own where the sizes differ.
    other = recipe_of(tmp_path / "drives", name="other", start=str(run))
    other["model"]["queries"] = 7
    config.write_text(yaml.safe_dump(other))
    assert main(["train", "--config", str(config), "-o", str(tmp_path / "other")]) == 0
    capsys.readouterr()

    assert main(["export", str(run), "-o", str(path), "--size", "160x64"]) == 0
    assert "largest difference from torch" in capsys.readouterr().err
    segmenter = load_segmenter(Config(model=str(path), threads=1))
    assert (segmenter.card.mask_activation, segmenter.card.thresholds.mode) == ("sigmoid", "pixel_wise")
    assert segmenter.card.input.width == 160 and json.loads(segmenter.card.source)["recipe"]["name"] == "small-knet"
    pipeline = OnlinePanoptic(Config(model=str(path), tracker="quasi_dense", threads=1), segmenter)
    for one in drive("cruise", seed=1, frames=3, size=(200, 80)):
        assert pipeline.step(one.frame).map.shape == (80, 200)
    # With the thresholds that --tune finds, and its post-processing inside.
    tuned = tmp_path / "tuned.onnx"
    more = ["--size", "160x64", "--tune", "--postprocess", "graph", "--camera", "200x80"]
    assert main(["export", str(run), "-o", str(tuned), *more]) == 0
    said = capsys.readouterr().err
    assert "on validation frames" in said and "100.000 % of the pixels of a frame equal those of the host" in said
    model, trained, _ = checkpoint.restore(run)
    kind, frames = kind_for(trained), source_of(trained.data).validation(SILENT)
    predictions = list(predict(kind, model, frames, segmenter.card.input))
    found, _ = tune(predictions, activation=kind.activation, limits=kind.thresholds)
    inside = load_segmenter(Config(model=str(tuned), threads=1))
    assert inside.card.thresholds == found
    assert inside.recurrent and inside.card.camera == (80, 200)
    pipeline = OnlinePanoptic(Config(model=str(tuned), tracker="quasi_dense", threads=1), inside)
    for one in drive("cruise", seed=1, frames=3, size=(200, 80)):
        assert pipeline.step(one.frame).map.shape == (80, 200)
    capsys.readouterr()
    # A model file of it cannot be taken apart again; its checkpoint can be exported.
    assert main(["export", str(path), "-o", str(tmp_path / "again.onnx")]) == 2
    error = capsys.readouterr().err
    assert "start from the run's checkpoint instead" in error and error.count("\n") == 1


@pytest.mark.parametrize("backbone", ["residual", "efficientnet-lite0"])
def test_a_run_of_streets_gives_backbone_and_pixel_decoder(tmp_path, backbone):
    path, sizes = tmp_path / checkpoint.FILE, {"queries": 6, "channels": [16] * 4, "depths": [0, 1, 1, 1], "heads": 2}
    start = Recipe.from_mapping(recipe_of(tmp_path, model={**sizes, "backbone": backbone}), "start")
    state = kind_for(start).build().state_dict()
    checkpoint.save(path, recipe=start.to_mapping(), step=3, model=state, ema=state, optimizer={}, log=[])
    content = recipe_of(tmp_path, start=str(tmp_path))
    content["model"]["backbone"] = backbone
    recipe = Recipe.from_mapping(content, "test")
    kind = kind_for(recipe)
    network = kind.build()
    fresh = load_initial_weights(network, kind, recipe, ())
    loaded = network.state_dict()
    assert not [n for n in fresh if n.startswith(("pyramid.backbone.", "pyramid.pixel_decoder."))]
    assert fresh and all(torch.equal(loaded[f"pyramid.{n}"], state[n]) for n in state if f"pyramid.{n}" in loaded)
    # The other direction has no such rule.
    checkpoint.save(path, recipe=recipe.to_mapping(), step=3, model=loaded, ema=loaded, optimizer={}, log=[])
    back = dataclasses.replace(start, start=str(tmp_path))
    with pytest.raises(InputError, match="holds a model of kind video-knet, the recipe's is streets"):
        load_initial_weights(kind_for(back).build(), kind_for(back), back, ())


def test_mixed_precision_learns_the_same(tmp_path):
    """The forward pass in bfloat16 gives about the loss of float32, and finite gradients everywhere."""
    recipe = Recipe.from_mapping(recipe_of(tmp_path), "test")
    kind = kind_for(recipe)
    torch.manual_seed(0)
    network = kind.build().train()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(0, 0.5, (4, 3, 64, 128)).astype(np.float32))
    segments = torch.from_numpy(rng.integers(-1, 3, (4, 4, 8))).repeat_interleave(4, 1).repeat_interleave(4, 2)
    classes = torch.tensor([[13, 11, 0]]).expand(4, -1)
    semantic = torch.where(segments < 0, -1, classes[0][segments.clamp(min=0)])
    targets = Targets(segments, classes, torch.tensor([[5, 6, 0]]).expand(4, -1), semantic)
    totals = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            seen = kind.forward(network, images, None)
        total, parts = kind.loss(network, seen, targets, torch.Generator())
        total.backward()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
        assert all(not value.requires_grad for value in parts.values())
        totals.append(total.item())
    assert totals[1] == pytest.approx(totals[0], rel=0.05)


def test_weights_of_classes_are_told_from_others(tmp_path):
    kind = kind_for(Recipe.from_mapping(recipe_of(tmp_path), "test"))
    network = kind.build()
    has_class_rows = {n for n, v in network.state_dict().items() if v.shape[:1] == (19,)}
    assert {n for n in network.state_dict() if kind.has_class_rows(n)} == has_class_rows and len(has_class_rows) == 6


def test_a_checkpoint_comes_back(tmp_path):
    recipe = Recipe.from_mapping(recipe_of(tmp_path), "test")
    state = kind_for(recipe).build().state_dict()
    path = tmp_path / checkpoint.FILE
    checkpoint.save(path, recipe=recipe.to_mapping(), step=3, model=state, ema=state, optimizer={}, log=[])
    network, read, step = checkpoint.restore(path)
    assert step == 3 and read == recipe
    assert all(torch.equal(v, state[n]) for n, v in network.state_dict().items())
