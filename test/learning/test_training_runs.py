"""How a run goes: parts of a batch, precision, devices, memory that is full, logs, and weights of other classes."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest

from support.training_folders import SIZE, build
from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from support import toy_kind  # noqa: E402
from vps_ros.learning import kinds as models  # noqa: E402
from vps_ros.learning.data.sources import Folders  # noqa: E402
from vps_ros.learning.kinds import kind_for  # noqa: E402
from vps_ros.learning.recipe import Recipe  # noqa: E402
from vps_ros.learning.training import checkpoint  # noqa: E402
from vps_ros.learning.training import loop as training  # noqa: E402
from vps_ros.learning.training.initial_weights import load_initial_weights  # noqa: E402
from vps_ros.learning.training.loop import LOST_STEPS, Run  # noqa: E402
from vps_ros.learning.training.optimizer import (  # noqa: E402
    Optimizers,  # noqa: E402
    Precision,
    device_of,
)

SMALL = {
    "queries": 8,
    "channels": [16, 16, 16, 16],
    "depths": [0, 0, 0, 0],
    "query_dim": 16,
    "mask_dim": 16,
    "heads": 2,
}


def recipe_of(root, form="kitti-step", model=None, **schedule):
    data = {"format": form, "root": str(root), "size": list(SIZE), "validation_frames": 2}
    schedule = {"steps": 4, "phases": [{"until": 1.0, "size": list(SIZE), "pairs": 2}], "workers": 1} | schedule
    return {"name": "small", "data": data, "schedule": schedule, "model": SMALL | (model or {})}


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    return build("kitti-step", tmp_path_factory.mktemp("kitti"))


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(models.KINDS, "streets", "support.toy_kind")
    monkeypatch.setattr(toy_kind.ToyKind, "fails", None)
    return toy_kind.ToyKind


def finished(folder, content, resume=False):
    recipe = Recipe.from_mapping(content, "test")
    run, source = Run(recipe, folder, resume), Folders(recipe.data)
    run.train(source.training(), source.validation())
    return run


def weights(run):
    return {**run.model.state_dict(), **{f"ema.{n}": v for n, v in run.average.module.state_dict().items()}}


def test_a_batch_in_parts_teaches_what_the_whole_does(toy, kitti, tmp_path):
    """Where no statistics of the batch are in the way, the gradient of the whole is the mean of its parts'."""
    phases = [{"until": 1.0, "size": list(SIZE), "pairs": 4}]
    content = {n: recipe_of(kitti, phases=phases, precision="float32", accumulate=n) for n in (1, 2, 4)}
    runs = [finished(tmp_path / str(n), c) for n, c in content.items()]
    for other in runs[1:]:
        for name, value in weights(runs[0]).items():
            assert torch.allclose(value, weights(other)[name], atol=1e-6), name
    assert not torch.equal(runs[0].model.head.weight, toy(runs[0].recipe).build().head.weight)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(kitti, tmp_path, precision):
    """With parts, several loaders, pasting, and the scale of float16's gradients."""
    phases = [{"until": 1.0, "size": list(SIZE), "pairs": 2}]
    content = recipe_of(kitti, phases=phases, precision=precision, accumulate=2, loaders=3, log_every=1)
    content["augmentation"] = {"paste": 0.5}
    whole = finished(tmp_path / "whole", content)
    part = Run(Recipe.from_mapping(content, "test"), tmp_path / "part", False)
    learn = part.learn
    part.learn = lambda batch: (part.interrupt() if part.step == 1 else None, learn(batch))[1]
    part.train(Folders(part.recipe.data).training(), [])
    assert part.step == 2 and part.interrupted
    again = finished(tmp_path / "part", content, resume=True)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name
    terms = [[e["total"] for e in run.log if "total" in e] for run in (whole, again)]
    assert terms[0] == terms[1] and np.isfinite(terms[0]).all()
    assert bool(checkpoint.load(tmp_path / "part")["precision"]) == (precision == "float16")


def test_gradients_of_float16_come_back_to_their_size_and_an_overflow_is_left_out():
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizers = Optimizers(torch.optim.SGD([parameter], 1.0))
    precision = Precision("float16", torch.device("cpu"))
    precision.backward(parameter.sum() * 0.5)
    assert parameter.grad.item() > 1000
    precision.unscale(optimizers)
    assert parameter.grad.item() == 0.5
    precision.update()
    before = precision.state_dict()["scale"]
    optimizers.zero_grad()
    precision.backward(parameter.sum() * torch.inf)
    precision.unscale(optimizers)
    assert not torch.isfinite(parameter.grad).all()
    precision.update()
    assert precision.state_dict()["scale"] == before / 2


@pytest.mark.parametrize(
    "schedule, message",
    [
        ({"device": "tpu"}, "device 'tpu'; write auto, cpu, cuda or cuda:1"),
        ({"device": "meta"}, "device 'meta'; training runs on cpu and cuda"),
        ({"device": "cuda:99"}, "device 'cuda:99', but torch finds"),
        ({"precision": "int8"}, "precision 'int8'; there are bfloat16, float16, float32"),
        ({"accumulate": 3}, "1 workers of 1 threads share 2 pairs, each in 3 parts"),
        ({"loaders": 0}, "workers, threads, loaders and accumulate are at least 1"),
    ],
)
def test_a_bad_schedule_is_one_line(kitti, tmp_path, capsys, schedule, message):
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(recipe_of(kitti, **schedule)))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_device_is_the_gpu_where_there_is_one():
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu") == torch.device("cpu")


def test_recipes_of_earlier_releases_say_bfloat16(kitti):
    for said, precision in ((True, "bfloat16"), (False, "float32")):
        assert Recipe.from_mapping(recipe_of(kitti, bfloat16=said), "").schedule.precision == precision


def test_memory_that_is_full_is_one_line_and_keeps_the_checkpoint(toy, kitti, tmp_path, capsys, monkeypatch):
    path, run = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(json.dumps(recipe_of(kitti, save_minutes=0.0, accumulate=2)))
    monkeypatch.setattr(toy, "fails", (5, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")))
    assert main(["train", "--config", str(path), "-o", str(run)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "out of memory at step 2, with 2 pairs of 128x64 in 2 part(s); raise `accumulate`, or lower" in error
    assert checkpoint.load(run)["step"] == 2
    monkeypatch.setattr(toy, "fails", None)
    assert main(["train", "--config", str(path), "-o", str(run), "--resume"]) == 0
    assert checkpoint.load(run)["step"] == 4


def test_gradients_that_are_no_numbers_end_training_with_one_line(toy, kitti, tmp_path, capsys, monkeypatch):
    """Some are left out, as where float16 overflows; when none is a number any more, learning on is of no use."""
    path, run, loss = tmp_path / "r.yaml", tmp_path / "run", toy.loss
    path.write_text(json.dumps(recipe_of(kitti, steps=LOST_STEPS + 20, save_minutes=0.0)))
    seen = []

    def broken(self, *args):
        total, terms = loss(self, *args)
        seen.append(len(seen))
        return total * (torch.nan if seen[-1] in (2, 3) or seen[-1] >= 5 else 1), terms

    monkeypatch.setattr(toy, "loss", broken)
    assert main(["train", "--config", str(path), "-o", str(run)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"NaN or infinite in {LOST_STEPS} steps, up to step {LOST_STEPS + 4}; lower `learning_rate`" in error
    content = checkpoint.load(run)
    assert all(torch.isfinite(v).all() for v in content["model"].values())


def test_the_log_for_tensorboard_is_written_or_its_lack_is_told(toy, kitti, tmp_path, capsys):
    path, run = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(json.dumps(recipe_of(kitti, log_every=1, validate_every=2)))
    code = main(["train", "--config", str(path), "-o", str(run), "--tensorboard"])
    if importlib.util.find_spec("tensorboard") is None:
        error = capsys.readouterr().err
        assert code == 2 and "--tensorboard needs tensorboard; pip install tensorboard" in error
        assert error.count("\n") == 1 and not run.exists()
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    log = [json.loads(line) for line in (run / training.LOG).read_text().splitlines()]
    written = [(e.step, e.value) for e in events.Scalars("training/total")]
    assert written == [(e["step"], pytest.approx(e["total"])) for e in log if "total" in e]
    assert {e.step for e in events.Scalars("validation/pq")} == {2, 4}


def test_weights_decay_norms_do_not_and_a_part_learns_slower():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Embedding(3, 4))
    groups = Optimizers.adamw(model, 1.0, 0.1, lambda name: 0.5 if name.startswith("0") else 1.0).parts[0].param_groups
    found = {(g["weight_decay"], g["rate"]): sum(p.numel() for p in g["params"]) for g in groups}
    assert found == {(0.1, 0.5): 16, (0.0, 0.5): 4, (0.0, 1.0): 8 + 12}
    optimizers = Optimizers.adamw(model, 1.0, 0.1, lambda name: 0.5 if name.startswith("0") else 1.0)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizers.step(0.01)
    moved = {n: (before[n] - p.detach()).abs().max().item() for n, p in model.named_parameters()}
    assert moved["0.bias"] == pytest.approx(0.005, rel=1e-3) and moved["1.bias"] == pytest.approx(0.01, rel=1e-3)


def test_rows_of_classes_go_by_their_names(kitti, tmp_path, capsys):
    """Weights for the 19 street classes, for one of seven of them under other ids."""
    first = finished(tmp_path / "streets", recipe_of(kitti, steps=1))
    root = build("motchallenge-step", tmp_path / "mot")
    content = recipe_of(root, "motchallenge-step") | {"start": str(tmp_path / "streets")}
    content["data"] |= {"validation_split": "test"}
    recipe = Recipe.from_mapping(content, "test")
    kind = kind_for(recipe)
    network = kind.build()
    assert load_initial_weights(network, kind, recipe, []) == []
    theirs = first.average.module.state_dict()
    names = [c.name for c in CITYSCAPES.classes]
    rows = [names.index(c.name) for c in recipe.data.taxonomy.classes]
    for name, value in network.state_dict().items():
        wanted = theirs[name]
        if "class_head" in name:
            wanted = wanted[[*rows, -1]]
        elif "semantic_head" in name:
            wanted = wanted[rows]
        assert torch.equal(value, wanted), name


def test_classes_that_the_start_does_not_know_are_told(kitti, tmp_path, capsys):
    finished(tmp_path / "streets", recipe_of(kitti, steps=1))
    root = build("vipseg", tmp_path / "vipseg")
    content = recipe_of(root, "vipseg", steps=1) | {"start": str(tmp_path / "streets")}
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(content))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    # Known are wall, pole, road, building, sky, car, bus, truck, bicycle, motorcycle, traffic light, person and train.
    assert (
        "lacks 111 of the 124 classes of vipseg (ceiling, door, stair, ladder, ...)" in error
        and "write `new_classes: true`" in error
    )
    assert not (tmp_path / "run").exists()
    path.write_text(json.dumps(content | {"new_classes": True}))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 0
    assert "randomly initialised: " in capsys.readouterr().err


def test_a_run_goes_on_with_the_model_it_began_with_only(kitti, tmp_path):
    finished(tmp_path / "run", recipe_of(kitti, steps=1))
    recipe = Recipe.from_mapping(recipe_of(kitti, steps=2), "test")
    assert Run(recipe, tmp_path / "run", True).step == 1
    other = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, queries=12))
    with pytest.raises(InputError, match="was trained with another model"):
        Run(other, tmp_path / "run", True)
