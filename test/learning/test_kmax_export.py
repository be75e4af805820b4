"""`vps-ros export --from kmax`: published checkpoints, small and random, to model files that segment as torch does."""

import dataclasses
import json
from collections import Counter

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from torch.nn.functional import interpolate  # noqa: E402

from benchmarks._scene import street  # noqa: E402
from support import kmax_small  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.config import Config  # noqa: E402
from vps_ros.errors import InputError  # noqa: E402
from vps_ros.learning.export import verify  # noqa: E402
from vps_ros.learning.kmax.architecture import BACKBONES, Architecture  # noqa: E402
from vps_ros.learning.kmax.export import (  # noqa: E402
    FILL,
    LARGEST,
    Padded,
    WithFixedAssignments,
    card_of,
    fix_assignments,
    import_checkpoint,
)
from vps_ros.segmenters import load_segmenter  # noqa: E402
from vps_ros.segmenters.model_card import InputSpec, Thresholds  # noqa: E402
from vps_ros.segmenters.postprocess import from_logits  # noqa: E402
from vps_ros.segmenters.preprocess import fit, prepare  # noqa: E402
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP  # noqa: E402

WIDTH, HEIGHT = 129, 65


def picture(height, width, seed=0):
    """uint8 [height, width, 3] of soft patches."""
    rng = np.random.default_rng(seed)
    patches = torch.from_numpy(rng.uniform(0, 255, (1, 3, 5, 9)))
    return (
        interpolate(patches, (height, width), mode="bicubic")[0].permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy()
    )


@pytest.fixture(scope="module")
def model():
    """Cityscapes in small; masks that differ from place to place, and queries that are sure of a class.

    The residual branches are weak: with those of unit size, 50 layers enlarge rounding a thousand times.
    """
    torch.manual_seed(0)
    model = kmax_small.network(kmax_small.architecture("resnet", 5, dim=32, classes=19, queries=12)).float()
    for name, module in model.named_modules():
        if name.endswith("expand.norm"):
            module.weight.data *= 0.3
    images = torch.stack([torch.from_numpy(picture(HEIGHT, WIDTH, seed)) for seed in range(4)])
    kmax_small.calibrate(model, images.permute(0, 3, 1, 2) / 127.5 - 1)
    model.predictor.class_head.weight.data *= 12
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The model file of its checkpoint."""
    folder = tmp_path_factory.mktemp("kmax")
    torch.save({"model": kmax_small.published(model)}, folder / "kmax_r50.pth")
    size = f"{WIDTH}x{HEIGHT}"
    arguments = ["export", "--from", "kmax", str(folder / "kmax_r50.pth"), "-o", str(folder / "kmax.onnx")]
    assert main([*arguments, "--size", size]) == 0
    return folder / "kmax.onnx"


def published_result(tensors, where, limits):
    """The post-processing of the published code, [H, W] class + 100 * number of the camera, and near ties.

    The camera's pixels take what the nearest of the input's pixels has. A near tie is a pixel where the probability
    of a mask is within 1e-4 of the threshold: there the result depends on rounding.
    """
    height, width = where.camera
    classes, masks = (torch.from_numpy(tensors[name]) for name in ("class_logits", "mask_logits"))
    masks = interpolate(masks, where.input, mode="bilinear", align_corners=True)
    masks = masks[0, :, : where.resized[0], : where.resized[1]].softmax(0)
    score, column = classes[0].softmax(1)[:, :-1].max(1)
    result, segments, stuff = np.zeros(where.resized, int), 0, {}
    for q in score.argsort(descending=True, stable=True).tolist():
        c = int(column[q])
        thing = bool(CITYSCAPES.isthing[c])
        mask = (masks[q] > limits.mask).numpy()
        free = mask & (result == 0)
        if score[q] <= (limits.thing if thing else limits.stuff) or free.sum() <= limits.overlap * mask.sum():
            continue
        if thing or c not in stuff:
            segments += 1
            stuff[c] = segments
        result[free] = 1 + c + 100 * (segments if thing else stuff[c])
    near = ((masks - limits.mask).abs() < 1e-4).any(0).numpy()
    rows, columns = (
        np.floor(np.arange(n) * (m - 1) / (n - 1) + 0.5).astype(int)
        for n, m in zip((height, width), where.resized, strict=True)
    )
    return result[rows][:, columns], near[rows][:, columns]


def require_same_segments(found, expected, near):
    """The same pixels make a segment, whatever its number, and have its class."""
    pairs = Counter(zip(found.map[~near].tolist(), expected[~near].tolist(), strict=True))
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs), pairs
    assert len(found) == len(np.unique(expected[expected > 0]))
    assert (np.append(0, found.class_ids + 1)[found.map] == expected % 100)[~near].all()


@pytest.mark.parametrize("camera", [(65, 129), (90, 120), (50, 200), (375, 742)])
@pytest.mark.parametrize("limits", [Thresholds(0.3, 0.3, 0.5, 0.4, 1.0, 0.0), Thresholds(0.5, 0.3, 0.9, 0.4, 1.0, 0.0)])
def test_segments_are_those_of_the_published_post_processing(camera, limits):
    """Of cameras that fill the input, and that leave a part of it below or at the right empty.

    The logits are the same on every machine: smooth masks of 26 queries, as trained networks give them.
    """
    where = fit(InputSpec(HEIGHT, WIDTH, keep_aspect=True, align_corners=True), *camera)
    tensors = street((17, 33))
    expected, near = published_result(tensors, where, limits)
    assert near.mean() < 0.002
    assert len(np.unique(expected)) >= 5
    require_same_segments(from_logits(tensors, where, CITYSCAPES, limits, "softmax_queries"), expected, near)


@pytest.mark.parametrize("camera", [(HEIGHT, WIDTH), (375, 742)])
def test_the_model_file_segments_a_picture(exported, camera):
    """As the published post-processing of its own outputs does, from the padded image on."""
    limits = Thresholds(0.0, 0.0, 0.5, 0.2, 1.0, 0.0)
    segmenter = load_segmenter(Config(model=str(exported), threads=1))
    segmenter.thresholds = limits
    image = picture(*camera, seed=1)
    where = fit(InputSpec(HEIGHT, WIDTH, keep_aspect=True, align_corners=True), *camera)
    # Of the same session: another may round in another way, and then assign other pixels to a query.
    outputs = {name: values.copy() for name, values in segmenter._session.run(prepare(image, where, FILL)).items()}
    expected, near = published_result(outputs, where, limits)
    assert len(np.unique(expected[~near])) >= 2
    require_same_segments(segmenter(image), expected, near)


def test_padding_is_nothing_to_the_network(model):
    """Zero after normalisation, as in training; a pixel that happens to have its colour stays what it is."""
    image = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    image[:, 40:] = image[:, :, 100:] = image[:, 7, 5] = FILL
    x = Padded(model, InputSpec(HEIGHT, WIDTH)).normalised(torch.from_numpy(image))
    assert not x[:, :, 40:].any()
    assert not x[:, :, :, 100:].any()
    assert x[0, :, 7, 5].tolist() == [1, -1, 1]
    assert (x[0, :, 8, :100] == -1).all()


def test_outputs_and_card(model, exported):
    segmenter = load_segmenter(Config(model=str(exported), threads=1))
    card = segmenter.card
    assert card.name == "kmax-resnet-3-4-6-3-cityscapes"
    assert card.taxonomy == CITYSCAPES
    assert card.input == InputSpec(HEIGHT, WIDTH, keep_aspect=True, fill=FILL, align_corners=True)
    assert card.mask_activation == "softmax_queries"
    assert card.thresholds == Thresholds(0.5, 0.3, 0.9, 0.4, 1.0, 0.0, 256, 2048)
    source = json.loads(card.source)
    assert source["checkpoint"] == "kmax_r50.pth"
    assert source["architecture"]["queries"] == 12
    graph = onnx.load(str(exported)).graph
    shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output}
    assert shapes == {"class_logits": [1, 12, 20], "mask_logits": [1, 12, 17, 33], "query_embeddings": [1, 12, 32]}
    image = picture(HEIGHT, WIDTH)[None]
    outputs = verify.open_session(exported).run(None, {"image": image})
    deployed = WithFixedAssignments(model, exported)
    chosen = deployed._assignments(torch.from_numpy(image))
    with torch.no_grad(), fix_assignments(deployed.layers, chosen):
        expected = model(torch.from_numpy(image).permute(0, 3, 1, 2) / 127.5 - 1)
    for found, one in zip(outputs, (expected.final.classes, expected.final.masks, expected.embeddings), strict=True):
        np.testing.assert_allclose(found, one.numpy(), atol=2e-3 * float(one.abs().max()))


def test_the_file_is_held_to_its_own_assignments(model, exported):
    """A file of other weights is told from rounding by both: what it computes, and what it chooses."""
    images = verify.probes(HEIGHT, WIDTH)[:1]
    spec = InputSpec(HEIGHT, WIDTH)
    found = WithFixedAssignments(Padded(model, spec).eval(), exported).differences(images)
    assert [one.name for one in found] == ["class_logits", "mask_logits", "query_embeddings", "assignments"]
    verify.require_close(found, "the same")
    assert all(layer.fixed_assignment is None for layer in model.layers)
    other = kmax_small.network(model.architecture).float()
    found = WithFixedAssignments(Padded(other, spec).eval(), exported).differences(images)
    assert min(one.largest for one in found) > 0.05
    with pytest.raises(RuntimeError, match="nothing was written"):
        verify.require_close(found, "another")


def test_half_precision(tmp_path):
    """Sums over pixels stay in float32; the rest is float16, inputs and outputs as they were."""
    checkpoint, path = tmp_path / "kmax.pth", tmp_path / "half.onnx"
    model = kmax_small.network(kmax_small.architecture("convnext", dim=32, classes=19))
    torch.save({"model": kmax_small.published(model)}, checkpoint)
    report = import_checkpoint(checkpoint, path, (65, 65), half=True)
    assert max(one.typical for one in report.differences) < verify.HALF_TOLERANCE
    graph = onnx.load(str(path)).graph
    assert {o.type.tensor_type.elem_type for o in graph.output} == {onnx.TensorProto.FLOAT}
    kept = {i.name for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    normalised = [n for n in graph.node if n.op_type == "BatchNormalization" and n.input[1] in kept]
    assert len(normalised) == len(model.layers)
    assert sum(i.data_type == onnx.TensorProto.FLOAT16 for i in graph.initializer) > 100


@pytest.mark.parametrize(
    ("size", "near"),
    [
        ((640, 192), "641x193"),
        ((641, 192), "641x193"),
        ((1, 1), "33x33"),
        ((0, 65), "33x65"),
        ((9999, 65), f"{LARGEST}x65"),
    ],
)
def test_sizes_that_cannot_be(size, near):
    with pytest.raises(InputError, match=f"multiples of 32 plus 1.*try {near}"):
        Architecture.INPUT_SIZES.require(size, "kMaX-DeepLab", LARGEST)
    Architecture.INPUT_SIZES.require(tuple(int(side) for side in near.split("x")), "kMaX-DeepLab", LARGEST)


def test_a_bad_command_leaves_nothing(tmp_path, capsys):
    path = tmp_path / "kmax.onnx"
    for checkpoint, options, told in (
        ("absent.pth", [], "no such checkpoint"),
        ("absent.pth", ["--size", "640x192"], "try 641x193"),
        ("absent.pth", ["--tune"], "--tune goes with --from vps only"),
    ):
        assert main(["export", "--from", "kmax", str(tmp_path / checkpoint), "-o", str(path), *options]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backbone", BACKBONES)
def test_cards_of_the_published_data_sets(backbone):
    spec = BACKBONES[backbone]
    coco = card_of(Architecture(spec), "a.pth")
    assert (coco.name, len(coco.taxonomy), coco.input.width) == (f"kmax-{backbone}-coco-panoptic", 133, 1281)
    assert coco.thresholds == Thresholds(0.7, 0.5, 0.8, 0.4, 1.0, 1.0, 400, 6400)
    ade = card_of(Architecture(spec, 150), "a.pth", (641, 641))
    assert (ade.taxonomy.name, ade.input.width, ade.thresholds.thing_area) == ("ade20k", 641, 0)
    city = card_of(Architecture(spec, 19), "a.pth")
    assert (city.taxonomy, city.input.height, city.input.width) == (CITYSCAPES, 1025, 2049)


def test_classes_of_other_data(tmp_path):
    a = dataclasses.replace(Architecture(), classes=2)
    with pytest.raises(InputError, match="a.pth: 2 classes.*name them with --taxonomy"):
        card_of(a, "a.pth")
    with pytest.raises(InputError, match="--taxonomy cityscapes: has 19 classes, and a.pth has 2"):
        card_of(a, "a.pth", taxonomy="cityscapes")
    with pytest.raises(InputError, match="--taxonomy roads: no such data set"):
        card_of(a, "a.pth", taxonomy="roads")
    mine = tmp_path / "yard.json"
    mine.write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        card_of(a, "a.pth", taxonomy=str(mine))
    entries = [{"id": i, "name": n, "isthing": bool(i), "color": [i, 2, 3]} for i, n in enumerate(("floor", "crate"))]
    mine.write_text(json.dumps(entries))
    card = card_of(a, "a.pth", taxonomy=str(mine))
    assert [c.name for c in card.taxonomy.classes] == ["floor", "crate"]
    assert card.thresholds == Thresholds(0.7, 0.7, 0.5, 0.4)
    step = card_of(dataclasses.replace(a, classes=19), "a.pth", taxonomy="kitti-step")
    assert step.taxonomy == KITTI_STEP
