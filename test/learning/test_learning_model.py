"""The network, its export, and the file that ships."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.segmenters.model_card import METADATA_KEY, InputSpec, ModelCard
from vps_ros.taxonomy import CITYSCAPES

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
onnx = pytest.importorskip("onnx", reason="onnx is of the [train] extra")

from vps_ros.learning.data.entries import StreetsData  # noqa: E402
from vps_ros.learning.export import onnx_file as exporting  # noqa: E402
from vps_ros.learning.export.graphs import trace  # noqa: E402
from vps_ros.learning.export.verify import TOLERANCE  # noqa: E402
from vps_ros.learning.kinds import kind_for  # noqa: E402
from vps_ros.learning.kmeans.architecture import Architecture  # noqa: E402
from vps_ros.learning.kmeans.model import KMeansMaskTransformer, assign  # noqa: E402
from vps_ros.learning.recipe import Phase, Recipe, Schedule  # noqa: E402
from vps_ros.learning.training import checkpoint  # noqa: E402
from vps_ros.learning.training.initial_weights import load_initial_weights  # noqa: E402

SMALL = Architecture(queries=8, channels=(16, 16, 16, 16), depths=(1, 1, 1, 1), query_dim=16, mask_dim=16, heads=2)
CARD = ModelCard("small", CITYSCAPES, InputSpec(64, 96))


def weights(path):
    """The metadata and the outputs of a model file for one random image."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, session.get_inputs()[0].shape).astype(np.uint8)
    names = [o.name for o in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, {"image": image}), strict=True))
    return session.get_modelmeta().custom_metadata_map[METADATA_KEY], outputs


def test_every_prediction_has_its_stride():
    a = replace(SMALL, layers=(1, 2, 1))
    output = KMeansMaskTransformer(a)(torch.randn(2, 3, 64, 96))
    assert output.final.classes.shape == (2, 8, 20) and output.final.masks.shape == (2, 8, 16, 24)
    assert [tuple(p.masks.shape[2:]) for p in output.layers] == [(2, 3), (4, 6), (4, 6), (8, 12)]
    assert output.embeddings.shape == (2, 8, 64) and output.semantic.shape == (2, 19, 16, 24)
    assert torch.allclose(output.pixels.norm(dim=1), torch.ones(2, 16, 24), atol=1e-4)


def test_a_chosen_quarter_has_the_mask_that_stride_2_has_there():
    torch.manual_seed(0)
    model = KMeansMaskTransformer(replace(SMALL, detail=8)).eval()
    image, choice = torch.randn(2, 3, 64, 96), torch.randint(0, 4, (2, 16, 24))
    whole, part = model(image).final.masks, model(image, choice).final.masks
    assert whole.shape == (2, 8, 32, 48) and part.shape == (2, 8, 16, 24)
    for b, y, x in np.ndindex(2, 16, 24):
        k = int(choice[b, y, x])
        assert torch.allclose(part[b, :, y, x], whole[b, :, 2 * y + k // 2, 2 * x + k % 2], atol=1e-5)


def test_each_pixel_goes_to_one_query_even_when_two_are_equal():
    masks = torch.tensor([[[[3.0, 1.0, 2.0]], [[3.0, 5.0, 0.0]]]])
    assert assign(masks).tolist() == [[[1, 0, 1], [0, 1, 0]]]


def test_every_weight_learns():
    torch.manual_seed(0)
    model = KMeansMaskTransformer(replace(SMALL, detail=8))
    output = model(torch.randn(2, 3, 64, 96))
    terms = [output.final.classes, output.final.masks, output.embeddings, output.semantic, output.offsets]
    terms += [t for p in output.layers for t in p]
    sum(t.square().sum() for t in terms).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("detail", [0, 8])
def test_export_computes_what_torch_does_and_carries_its_card(tmp_path, detail):
    torch.manual_seed(0)
    model = KMeansMaskTransformer(replace(SMALL, detail=detail)).eval()
    path = tmp_path / "small.onnx"
    assert exporting.export(model, CARD, path) <= TOLERANCE
    text, outputs = weights(path)
    assert ModelCard.from_json(text, "test") == CARD
    assert {n: v.shape for n, v in outputs.items()} == {
        "class_logits": (1, 8, 20),
        "mask_logits": (1, 8, 32, 48) if detail else (1, 8, 16, 24),
        "query_embeddings": (1, 8, 64),
    }


def test_a_model_that_computes_something_else_is_not_written(tmp_path):
    """The graph that is written is another model's."""
    torch.manual_seed(0)
    model, other = (KMeansMaskTransformer(SMALL).eval() for _ in range(2))

    def write(deployed, image, draft):
        trace(exporting.Deployed(other, CARD.input).eval(), image, draft, exporting.OUTPUTS)

    path = tmp_path / "small.onnx"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError, match="small.onnx: ONNX Runtime differs from torch in class_logits by"):
        exporting.export(model, CARD, path, write)
    assert path.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == ["small.onnx"]


@pytest.mark.parametrize(
    "card, message",
    [
        (replace(CARD, input=InputSpec(65, 96)), "96x65: both sides must be multiples of 32"),
        (replace(CARD, taxonomy=replace(CITYSCAPES, classes=CITYSCAPES.classes[:5])), "5 classes in the card, 19"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(card, message, tmp_path):
    with pytest.raises(InputError, match=message):
        exporting.export(KMeansMaskTransformer(SMALL), card, tmp_path / "m.onnx")


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of a small model with random weights."""
    recipe = Recipe(
        "small",
        StreetsData(("cruise",), size=(96, 64)),
        Schedule((Phase(1.0, (96, 64), 2),), steps=1),
        model=SMALL,
    )
    model = KMeansMaskTransformer(SMALL)
    state = model.state_dict()
    path = tmp_path / "run" / checkpoint.FILE
    checkpoint.save(path, recipe=recipe.to_mapping(), step=3, model=state, ema=state, optimizer={}, log=[])
    return path


def test_export_command(saved, tmp_path, capsys):
    path = tmp_path / "m.onnx"
    assert main(["export", str(saved.parent), "-o", str(path)]) == 0
    card = ModelCard.from_json(weights(path)[0], "test")
    source = json.loads(card.source)
    assert (card.name, card.input.height, card.input.width) == ("small", 64, 96)
    assert source["step"] == 3 and source["recipe"]["model"]["queries"] == 8
    assert main(["export", str(saved), "-o", str(path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["export", str(saved), "-o", str(path), "--force", "--size", "128x64"]) == 0
    assert weights(path)[1]["mask_logits"].shape == (1, 8, 16, 32)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda p: p.unlink(), "no such checkpoint"),
        (lambda p: p.write_bytes(p.read_bytes()[:500]), "not a readable checkpoint"),
        (
            lambda p: torch.save({"recipe": Path(p)}, p),
            "or one with code in it, which is never executed); give the folder",
        ),
        (lambda p: torch.save({"weights": 1}, p), "not a checkpoint of `vps-ros train`"),
        (lambda p: torch.save({**torch.load(p), "format": 99}, p), "format 99, this release reads 1"),
        (lambda p: torch.save({**torch.load(p), "ema": {}}, p), "weights do not fit its recipe"),
        (lambda p: torch.save({**torch.load(p), "recipe": {"name": "x"}}, p), "lacks 'data'"),
    ],
)
def test_a_bad_checkpoint_is_one_line(saved, tmp_path, capsys, damage, message):
    damage(saved)
    assert main(["export", str(saved), "-o", str(tmp_path / "m.onnx")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "m.onnx").exists()


def test_bad_size(saved, tmp_path, capsys):
    for text in ("640", "axb", "96x65"):
        assert main(["export", str(saved), "-o", str(tmp_path / "m.onnx"), "--size", text]) == 2
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.parametrize(
    "name, width, height", [("streets-s", 768, 224), ("streets-s-float", 768, 224), ("city-s", 640, 320)]
)
def test_shipped_models_keep_their_promises(name, width, height):
    path = files("vps_ros") / "weights" / f"{name}.onnx"
    assert path.stat().st_size <= 20_000_000
    text, outputs = weights(path)
    card = ModelCard.from_json(text, str(path))
    assert (card.name, card.taxonomy, card.mask_activation) == (name, CITYSCAPES, "sigmoid")
    assert card.thresholds.things_first and (card.input.width, card.input.height) == (width, height)
    assert {n: v.shape for n, v in outputs.items()} == {
        "class_logits": (1, 64 + 50, 20),
        "mask_logits": (1, 64 + 50, height // 4, width // 4),
        "query_embeddings": (1, 64 + 50, 64),
    }
    assert all(np.isfinite(v).all() for v in outputs.values())
    terms = json.loads(card.source)["terms"]
    assert "generated streets: no restriction" in terms
    assert ("non-commercial" in terms) == (name == "city-s")


@pytest.fixture
def trained(saved):
    """An exported file whose normalisation was not trivial, and the model it came from."""
    torch.manual_seed(1)
    model, recipe, step = checkpoint.restore(saved)
    with torch.no_grad():
        for p in model.parameters():
            # As training leaves them: no two alike.
            p.add_(0.1 * torch.randn_like(p))
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.running_mean.normal_()
                m.running_var.uniform_(0.5, 2)
    path = saved.parent / "trained.onnx"
    exporting.export(model, exporting.model_card(kind_for(recipe), recipe, step), path)
    return path, model


def begin_with(model, path, images):
    """As a recipe with this start does."""
    data, schedule = StreetsData(("cruise",), size=(96, 64)), Schedule((Phase(1.0, (96, 64), 2),), steps=1)
    recipe = Recipe("next", data, schedule, start=str(path), model=model.architecture)
    return load_initial_weights(model, kind_for(recipe), recipe, images)


def test_a_model_file_is_read_back_into_a_model_that_learns_on(trained):
    path, source = trained
    images = [torch.randn(2, 3, 64, 96) for _ in range(3)]
    model = KMeansMaskTransformer(replace(SMALL, detail=8))
    torch.nn.init.zeros_(model.detail.out.weight)
    fresh = begin_with(model, path, images)
    assert {n.split(".")[0] for n in fresh} == {"detail", "semantic_head", "offset_head", "layers"}
    assert all("class_head" in n for n in fresh if n.startswith("layers"))
    with torch.no_grad():
        wanted = source(images[0]).final
        got = model.eval()(images[0]).final
        # In training, normalisation takes the batch's own statistics: those it was given, when it is the same batch.
        alone = KMeansMaskTransformer(SMALL)
        begin_with(alone, path, images[:1])
        learning = alone.train()(images[0]).final
    assert torch.allclose(got.classes, wanted.classes, atol=2e-3)
    assert torch.allclose(got.masks[..., ::2, ::2], wanted.masks, atol=2e-3)
    assert torch.allclose(learning.masks, wanted.masks, atol=2e-2)


def test_what_is_no_model_file_is_no_start(trained, tmp_path):
    model = KMeansMaskTransformer(SMALL)
    (tmp_path / "text.onnx").write_text("no model")
    for name, message in (("text.onnx", "not a model file"), ("none.onnx", "no such file")):
        with pytest.raises(InputError, match=message):
            begin_with(model, tmp_path / name, [])
    other, plain = onnx.load(str(trained[0])), onnx.load(str(trained[0]))
    del other.graph.node[5]
    # A convolution without the bias that the exporter writes.
    del next(node for node in plain.graph.node if node.op_type == "Conv" and len(node.input) == 3).input[2]
    for graph in (other, plain):
        onnx.save(graph, str(tmp_path / "other.onnx"))
        with pytest.raises(InputError, match="start from the run's checkpoint"):
            begin_with(model, tmp_path / "other.onnx", [])


def test_a_model_file_is_exported_again_for_another_size(trained, tmp_path):
    path, model = trained
    wide = tmp_path / "wide.onnx"
    assert main(["export", str(path), "-o", str(wide), "--size", "160x96"]) == 0
    text, outputs = weights(wide)
    card, before = ModelCard.from_json(text, "test"), ModelCard.from_json(weights(path)[0], "test")
    assert (card.input.width, card.input.height) == (160, 96) and outputs["mask_logits"].shape == (1, 8, 24, 40)
    assert card.thresholds == before.thresholds and card.source == before.source
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3)).astype(np.uint8)
    with torch.no_grad():
        expected = exporting.Deployed(model, card.input).eval()(torch.from_numpy(image))
    assert np.allclose(outputs["mask_logits"], expected[1], atol=5e-3)
