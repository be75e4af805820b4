"""Fine-tuning Mask2Former: from a folder that transformers saved to a model file, with small random weights."""

import json

import numpy as np
import onnxruntime
import pytest
import yaml

from support import ROOT
from support.training_folders import SIZE, build
from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.segmenters.model_card import METADATA_KEY, ModelCard
from vps_ros.taxonomy import KITTI_STEP

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
transformers = pytest.importorskip("transformers", reason="transformers is of the [train] extra")

from support.tiny_mask2former import save_tiny  # noqa: E402
from vps_ros.learning.data.sources import Folders  # noqa: E402
from vps_ros.learning.data.targets import Targets  # noqa: E402
from vps_ros.learning.kinds import kind_for  # noqa: E402
from vps_ros.learning.mask2former import complete  # noqa: E402
from vps_ros.learning.recipe import Recipe  # noqa: E402
from vps_ros.learning.training import checkpoint  # noqa: E402
from vps_ros.learning.training.loop import Run  # noqa: E402


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    return build("kitti-step", tmp_path_factory.mktemp("kitti"))


def example(kitti, start, **schedule):
    """The recipe in the source tree, on a small data set for two steps."""
    content = yaml.safe_load((ROOT / "config/train/mask2former-kitti-step.yaml").read_text())
    content["data"] |= {"root": str(kitti), "size": list(SIZE), "validation_frames": 1}
    content["schedule"] |= {"steps": 2, "phases": [{"until": 1.0, "size": list(SIZE), "pairs": 2}], "accumulate": 2}
    content["schedule"] |= {"log_every": 1} | schedule
    return content | {"start": str(start)}


def targets_of(segments, classes, tracks):
    classes, tracks = (torch.tensor(v + [-1] * (12 - len(v)))[None].repeat(2, 1) for v in (classes, tracks))
    return Targets(segments, classes, tracks.clamp(min=0), segments)


@pytest.fixture
def seen(kitti, start):
    """A kind, its network, and what it makes of two images."""
    recipe = complete(Recipe.from_mapping(example(kitti, start), "test"))
    kind = kind_for(recipe)
    torch.manual_seed(0)
    network = kind.build().eval()
    return kind, network, torch.randn(2, 3, 64, 128)


def test_the_start_says_the_network_its_input_and_its_classes(kitti, start, tmp_path):
    recipe = Recipe.from_mapping(example(kitti, start), "test")
    run = Run(recipe, tmp_path, False)
    run.load_initial_weights([])
    assert run.input_spec.mean == (127.5,) * 3 and run.input_spec.std == (63.75,) * 3
    assert run.kind.max_segments == 12 and run.recipe.model.config["hidden_dim"] == 32
    theirs = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(start).state_dict()
    mine = run.model.segmenter.state_dict()
    assert mine.keys() == theirs.keys() - {"criterion.empty_weight"}
    for name, value in mine.items():
        wanted = theirs[name]
        if "class_predictor" in name:
            wanted = torch.cat([wanted[:-1].flip(0), wanted[-1:]])
        assert torch.equal(value, wanted), name
    assert Recipe.from_mapping(json.loads(json.dumps(run.recipe.to_mapping())), "again") == run.recipe


def test_the_loss_is_that_of_transformers(seen):
    kind, network, images = seen
    segments = torch.zeros(2, 32, 64, dtype=torch.int64)
    segments[:, :10] = 1
    targets = targets_of(segments, [13, 11], [5, 6])
    torch.manual_seed(7)
    total, parts = kind.loss(network, kind.forward(network, images, None), targets, torch.Generator())
    labels = [torch.stack([(s == 0).float(), (s == 1).float()]) for s in segments]
    torch.manual_seed(7)
    theirs = network.segmenter(images, mask_labels=labels, class_labels=[torch.tensor([13, 11])] * 2)
    own = 0.25 * parts["track"] + parts["track_aux"]
    assert total.item() == pytest.approx(theirs.loss.item() + own.item(), rel=1e-4)
    assert parts["track"] > 0 and parts["loss_dice"] > 0


def test_void_teaches_no_mask(seen):
    kind, network, images = seen
    segments = torch.zeros(2, 32, 64, dtype=torch.int64)
    segments[:, :, 40:] = -1
    output = kind.forward(network, images, None)
    masks = output.final.masks.detach().requires_grad_()
    output = output._replace(final=output.final._replace(masks=masks), layers=[])
    kind.loss(network, output, targets_of(segments, [0], [0]), torch.Generator())[0].backward()
    assert masks.grad[..., :20].abs().sum() > 0
    assert masks.grad[..., 20:].abs().sum() == 0
    nothing = targets_of(torch.full_like(segments, -1), [], [])
    assert torch.isfinite(kind.loss(network, kind.forward(network, images, None), nothing, torch.Generator())[0])


def test_every_weight_learns(seen):
    kind, network, images = seen
    segments = torch.zeros(2, 32, 64, dtype=torch.int64)
    segments[:, 10:] = 1
    targets = targets_of(segments, [13, 11], [5, 6])
    kind.loss(network, kind.forward(network, images, None), targets, torch.Generator())[0].backward()
    unused = {n for n, p in network.named_parameters() if p.grad is None}
    assert all("encoder.swin.layernorm" in n for n in unused), "transformers' backbone has one that it does not use"
    rates = {g["rate"] for g in kind.optimizers(network).parts[0].param_groups}
    assert rates == {0.1, 1.0}


def test_a_run_is_resumed_exported_and_started_from(kitti, start, tmp_path, capsys):
    path, run = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(example(kitti, start)))
    assert main(["train", "--config", str(path), "-o", str(run)]) == 0
    assert "randomly initialised: embedding_head" in capsys.readouterr().err
    recipe = Recipe.from_mapping(example(kitti, start), "test")
    part = Run(recipe, tmp_path / "part", False)
    clips = Folders(recipe.data).training()
    part.load_initial_weights(clips)
    learn = part.learn
    part.learn = lambda batch: (part.interrupt(), learn(batch))[1]
    part.train(clips, [])
    assert part.step == 1
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "part"), "--resume"]) == 0
    whole, again = (checkpoint.load(folder) for folder in (run, tmp_path / "part"))
    for name, value in whole["ema"].items():
        assert torch.equal(value, again["ema"][name]), name

    model = tmp_path / "m.onnx"
    assert main(["export", str(run), "-o", str(model)]) == 0
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    card = ModelCard.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY], "test")
    assert (card.taxonomy, card.mask_activation, card.input.mean) == (KITTI_STEP, "sigmoid", (127.5,) * 3)
    assert json.loads(card.source)["recipe"]["start"] == str(start)
    outputs = session.run(None, {"image": np.zeros((1, 64, 128, 3), np.uint8)})
    assert [o.shape for o in outputs] == [(1, 12, 20), (1, 12, 16, 32), (1, 12, 64)]

    second = Run(Recipe.from_mapping(example(kitti, run), "test"), tmp_path / "second", False)
    second.load_initial_weights(clips)
    for name, value in second.model.state_dict().items():
        assert torch.equal(value, whole["ema"][name]), name
    with pytest.raises(InputError, match="use the run's checkpoint"):
        complete(Recipe.from_mapping(example(kitti, model), "test"))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": {"kind": "mask2former", "config": {"num_querys": 5}}}, "'num_querys' is no entry of transformers'"),
        ({"model": {"kind": "mask2former", "config": {"feature_size": 40}}}, "model.config: num_channels"),
        ({"model": {"kind": "mask2former", "queries": 5}}, "model: unknown entry 'queries'"),
        ({"model": {"kind": "mask3former"}}, "model: unknown kind 'mask3former'; did you mean mask2former?"),
        ({"losses": {"dice": 2.0}}, "losses: unknown entry 'dice'"),
        ({"start": "config"}, "config: has no config.json"),
    ],
)
def test_what_is_wrong_is_one_line(kitti, start, tmp_path, capsys, change, message):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(example(kitti, start) | {"start": ""} | change))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_architecture_is_refused(kitti, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "detr"}))
    with pytest.raises(InputError, match="holds a 'detr' model, and the recipe's is mask2former"):
        complete(Recipe.from_mapping(example(kitti, tmp_path), "test"))


def test_where_nothing_is_labelled_no_query_learns_its_class(seen):
    kind, network, images = seen
    segments = torch.full((2, 32, 64), -1)
    segments[0] = 0
    output = kind.forward(network, images, None)
    for unlabelled, taught in ((False, True), (True, False)):
        classes = output.final.classes.detach().requires_grad_()
        given = output._replace(final=output.final._replace(classes=classes), layers=[])
        targets = targets_of(segments, [0], [0])
        targets.classes[1], targets.tracks[1] = -1, 0
        targets = targets._replace(unlabelled=(segments < 0) & unlabelled)
        kind.loss(network, given, targets, torch.Generator())[0].backward(retain_graph=True)
        assert (classes.grad[0] != 0).any() and bool((classes.grad[1] != 0).any()) == taught
