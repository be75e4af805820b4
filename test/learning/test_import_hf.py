"""Checkpoints that transformers saved become models whose segments are those of transformers' own post-processing."""

import inspect
import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
pytest.importorskip("transformers", reason="transformers is of the [train] extra")
onnx = pytest.importorskip("onnx", reason="onnx is of the [train] extra")

from onnx import numpy_helper  # noqa: E402

from benchmarks._scene import street  # noqa: E402
from support import hf_checkpoints  # noqa: E402
from support.hf_checkpoints import HEIGHT, MODELS, SQUARE, WIDTH, one_thread, picture, save  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.config import Config  # noqa: E402
from vps_ros.frame import Frame  # noqa: E402
from vps_ros.learning.export import verify  # noqa: E402
from vps_ros.learning.export.onnx_file import OUTPUTS  # noqa: E402
from vps_ros.learning.hf.checkpoint import open_checkpoint  # noqa: E402
from vps_ros.learning.hf.classes import classes_of  # noqa: E402
from vps_ros.learning.hf.export import TASK, DeployedCheckpoint, WithFixedAttention  # noqa: E402
from vps_ros.learning.hf.families import FAMILIES  # noqa: E402
from vps_ros.online import OnlinePanoptic  # noqa: E402
from vps_ros.segmenters import load_segmenter, postprocess  # noqa: E402
from vps_ros.segmenters.model_card import InputSpec  # noqa: E402
from vps_ros.segmenters.preprocess import fit, prepare  # noqa: E402
from vps_ros.taxonomies import ALL  # noqa: E402
from vps_ros.taxonomy import CITYSCAPES  # noqa: E402

TAXONOMY = {
    "mask2former": "cityscapes",
    "maskformer": "coco-panoptic",
    "detr": "coco-panoptic",
    "eomt": "ade20k",
    "oneformer": "cityscapes",
}
SHARE = 0.999
"""Of the pixels that must be those of transformers."""


@pytest.fixture(scope="module", params=MODELS)
def imported(request, tmp_path_factory):
    """A saved checkpoint, and the model file that the command made of it."""
    folder = tmp_path_factory.mktemp(request.param)
    with one_thread():
        model, processor = save(request.param, folder / "checkpoint")
        path = folder / "model.onnx"
        assert main(["export", "--from", "hf", str(folder / "checkpoint"), "-o", str(path)]) == 0
        model.config.use_auxiliary_loss = request.param == "mask2former"
        segmenter = load_segmenter(Config(model=str(path), threads=1))
        yield SimpleNamespace(name=request.param, model=model, processor=processor, path=path, segmenter=segmenter)


def outputs_for(one, image):
    """What the network gives for an image of its own input's size, through transformers' own processor."""
    if one.name == "oneformer":
        inputs = one.processor(image, task_inputs=["panoptic"], return_tensors="pt")
        inputs = {"pixel_values": inputs["pixel_values"], "task_inputs": tokens(one)}
    else:
        inputs = {"pixel_values": one.processor(images=image, return_tensors="pt")["pixel_values"]}
    with torch.no_grad():
        return one.model(**inputs)


def tokens(one):
    found = hf_checkpoints.tokenizer()([TASK], padding="max_length", max_length=77, return_tensors="pt")
    return found["input_ids"] * found["attention_mask"]


def theirs(one, outputs, size, **thresholds):
    """Segment of each pixel, 0 for none, and the class id of each segment 1.., stuff of one class being one segment.

    Segments are asked for unfused, and fused here: where transformers fuses them, the number that it gives the next
    segment may be one that it has given before.
    """
    processor = one.processor
    if one.name == "oneformer":
        # OneFormer's is the same but for its upsampling by torchvision, which is not needed for anything else here.
        processor = hf_checkpoints.MaskFormerImageProcessorPil()
    if one.name != "eomt":
        thresholds["label_ids_to_fuse"] = set()
    (found,) = processor.post_process_panoptic_segmentation(outputs, target_sizes=[size], **thresholds)
    taxonomy = one.segmenter.taxonomy
    drawn, segments, classes = found["segmentation"].numpy().astype(int), np.zeros(size, int), []
    for info in found["segments_info"]:
        c = taxonomy.by_id[info["label_id"]] if one.name == "detr" else taxonomy.classes[info["label_id"]]
        if c.isthing or c.id not in classes:
            classes.append(c.id)
            number = len(classes)
        else:
            number = classes.index(c.id) + 1
        segments[drawn == info["id"]] = number
    return segments, classes


def theirs_at_camera(one, outputs, where, **thresholds):
    """The same decided at the network's input, each pixel of the camera taking the nearest of its pixels."""
    segments, classes = theirs(one, outputs, where.resized, **thresholds)
    return segments[where.nearest(0)][:, where.nearest(1)], classes


def share_alike(ours, segments, classes):
    """Share of the pixels that lie in the same segment of the same class, or in none, in both."""
    pairs = np.zeros((len(ours) + 1, len(classes) + 1), np.int64)
    np.add.at(pairs, (ours.map.ravel(), segments.ravel()), 1)
    void = pairs[0, 0]
    pairs = pairs[1:, 1:] * (ours.class_ids[:, None] == np.array(classes, int)[None])
    return (void + pairs[linear_sum_assignment(-pairs)].sum()) / segments.size


def size_of(one):
    return (SQUARE, SQUARE) if one.name == "eomt" else (HEIGHT, WIDTH)


LOOSE = {"threshold": 0.3, "mask_threshold": 0.4, "overlap_mask_area_threshold": 0.3}
EXACT = {"overlap_mask_area_threshold": 0.8 + 1e-6}
"""Their own, but that a share of exactly 4/5, which in float32 is above 0.8, is not more than that."""
LOOSE_HERE = Config(thing_threshold=0.3, stuff_threshold=0.3, mask_threshold=0.4, overlap_threshold=0.3)


# On these images, noise of 1e-4 of the range of the outputs changes no class and less than 0.4 % of the pixels.
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_segments_are_those_of_transformers(imported, seed):
    """With the thresholds of both as they are, and with looser ones, by which more of random masks stay."""
    image, size = picture(*size_of(imported), seed), size_of(imported)
    outputs = outputs_for(imported, image)
    imported.segmenter.configure(Config())
    ours, (segments, classes) = imported.segmenter(image), theirs(imported, outputs, size)
    assert share_alike(ours, segments, classes) >= SHARE
    imported.segmenter.configure(LOOSE_HERE)
    ours, (segments, classes) = imported.segmenter(image), theirs(imported, outputs, size, **LOOSE)
    assert len(classes) >= 4, "weights that say nothing compare nothing"
    assert share_alike(ours, segments, classes) >= SHARE
    np.testing.assert_array_equal(np.sort(ours.class_ids), np.sort(classes))


@pytest.mark.slow
@pytest.mark.parametrize("camera", [(250, 417), (81, 60)])
def test_so_they_are_at_the_size_of_the_camera(imported, camera):
    """Masks brought to another size; the image is resized by us for both, since Pillow and OpenCV do so differently.

    EoMT's processor pads, so that its image keeps its size in the input.
    """
    if imported.name == "eomt":
        camera = {250: (96, 128), 81: (128, 75)}[camera[0]]
    image = picture(*camera, 4)
    where = fit(imported.segmenter.card.input, *camera)
    outputs = outputs_for(imported, image if imported.name == "eomt" else prepare(image, where, (0, 0, 0))[0])
    for config, given, least in ((Config(), EXACT, 1), (LOOSE_HERE, LOOSE, 2)):
        imported.segmenter.configure(config)
        ours = imported.segmenter(image)
        segments, classes = theirs_at_camera(imported, outputs, where, **given)
        assert len(classes) >= least
        assert share_alike(ours, segments, classes) >= SHARE


@pytest.mark.parametrize("camera", [(375, 1242), (1080, 1920), (300, 300)])
@pytest.mark.parametrize("name", ["mask2former", "maskformer", "eomt"])
def test_masks_of_a_street_make_the_same_segments(name, camera):
    """Smooth masks of 26 objects at stride 4, as trained networks give them, without a network."""
    spec = InputSpec(640, 640, keep_aspect=name == "eomt")
    tensors = street((160, 160))
    outputs = SimpleNamespace(
        class_queries_logits=torch.from_numpy(tensors["class_logits"]),
        masks_queries_logits=torch.from_numpy(tensors["mask_logits"]),
    )
    processor = {
        "mask2former": hf_checkpoints.Mask2FormerImageProcessorPil,
        "maskformer": hf_checkpoints.MaskFormerImageProcessorPil,
        "eomt": hf_checkpoints.EomtImageProcessorPil,
    }[name]()
    one = SimpleNamespace(name=name, processor=processor, segmenter=SimpleNamespace(taxonomy=CITYSCAPES))
    limits = FAMILIES[name].limits
    where = fit(spec, *camera)
    ours = postprocess.from_logits(tensors, where, CITYSCAPES, limits, "sigmoid")
    segments, classes = theirs_at_camera(one, outputs, where)
    assert len(classes) >= 4
    assert share_alike(ours, segments, classes) >= SHARE


@pytest.mark.slow
def test_the_card_says_what_the_checkpoint_does(imported):
    card, processor = imported.segmenter.card, imported.processor
    known = ALL[TAXONOMY[imported.name]]
    assert card.taxonomy.classes == known.classes
    assert (card.input.height, card.input.width) == size_of(imported)
    np.testing.assert_allclose(card.input.mean, np.array(processor.image_mean) * 255)
    np.testing.assert_allclose(card.input.std, np.array(processor.image_std) * 255)
    defaults = inspect.signature(type(processor).post_process_panoptic_segmentation).parameters
    limits = card.thresholds
    assert (limits.thing, limits.stuff) == (defaults["threshold"].default,) * 2
    assert (limits.mask, limits.overlap) == (
        defaults["mask_threshold"].default,
        defaults["overlap_mask_area_threshold"].default,
    )
    assert card.mask_activation == "sigmoid"
    source = json.loads(card.source)
    assert source["checkpoint"] == card.name == "checkpoint"
    assert FAMILIES[imported.name].name in source["from"]


@pytest.mark.slow
def test_inspect_explains_it(imported, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["inspect", str(imported.path)]) == 0
    told = capsys.readouterr().out
    for word in (
        "source checkpoint",
        FAMILIES[imported.name].name,
        TAXONOMY[imported.name],
        "sigmoid",
        "threshold overlap",
        "1x20x",
    ):
        assert word in told


@pytest.mark.slow
def test_decisions_at_the_border_do_not_count_as_differences(imported, tmp_path):
    """A file that attends where masks exceed a little more than one half, and one where they exceed 0.9."""
    family = FAMILIES[imported.name]
    if family.decides is None:
        pytest.skip("attends everywhere")
    spec = imported.segmenter.card.input
    c = open_checkpoint(str(imported.path.parent / "checkpoint"))
    task = c.tokens(TASK, 77) if family.task else None
    network = DeployedCheckpoint(imported.model, family, classes_of(c), spec, task).eval()
    found = {}
    for threshold in (0.505, 0.9):
        graph = onnx.load(str(imported.path))
        graph.graph.initializer.append(numpy_helper.from_array(np.float32(threshold), "border"))
        for node in graph.graph.node:
            if node.op_type == "Less":
                node.input[1] = "border"
        path = tmp_path / "m.onnx"
        onnx.save(graph, path)
        images = verify.probes(spec.height, spec.width)
        plain = verify.differences(network, path, images, OUTPUTS)
        found[threshold] = WithFixedAttention(network, path, *family.decides(imported.model)).differences(images)
        assert max(one.largest for one in plain) > verify.TOLERANCE
        assert max(one.largest for one in found[threshold][:-1]) < verify.TOLERANCE
    near, far = (found[t][-1] for t in (0.505, 0.9))
    assert (near.name, 0 < near.largest < verify.TOLERANCE) == ("attention", True)
    verify.require_close(found[0.505], "x")
    with pytest.raises(RuntimeError, match="differs from torch in attention"):
        verify.require_close(found[0.9], "x")


@pytest.mark.slow
def test_half_precision(imported, tmp_path, capsys):
    """Verified by the command itself; weights take half the room, inputs and outputs stay what they are."""
    path = tmp_path / "half.onnx"
    with one_thread():
        assert (
            main(["export", "--from", "hf", str(imported.path.parent / "checkpoint"), "-o", str(path), "--fp16"]) == 0
        )
    assert "mask_logits: at most" in capsys.readouterr().err
    graph = onnx.load(str(path)).graph
    sizes = dict.fromkeys((onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT), 0)
    for tensor in graph.initializer:
        sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    assert sizes[onnx.TensorProto.FLOAT] < 0.01 * sizes[onnx.TensorProto.FLOAT16]
    assert [o.type.tensor_type.elem_type for o in graph.output] == [onnx.TensorProto.FLOAT] * 3
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    half = load_segmenter(Config(model=str(path), threads=1))
    assert half(picture(*size_of(imported), 1)).map.shape == size_of(imported)


@pytest.mark.slow
def test_its_queries_serve_the_trackers(imported):
    """Two frames of a picture that moves a little: the pipeline takes the model as any other."""
    pipeline = OnlinePanoptic(Config(model=str(imported.path), threads=1, confirm_hits=1))
    for i in range(2):
        image = np.roll(picture(*size_of(imported), 3), 2 * i, axis=1)
        found = pipeline.step(Frame(image, i * 10**8))
    assert found.map.shape == image.shape[:2]
    assert {s.segment_id for s in found.segments} == set(np.unique(found.map).tolist()) - {0}
    assert all((s.track_id > 0) == s.is_thing for s in found.segments)


@pytest.mark.slow
def test_every_tensor_has_its_type_and_size(imported):
    graph = onnx.load(str(imported.path)).graph
    shapes = {
        v.name: (v.type.tensor_type.elem_type, [d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in (*graph.input, *graph.output)
    }
    height, width = size_of(imported)
    wide = {"detr": 64}.get(imported.name, 32)
    assert shapes == {
        "image": (onnx.TensorProto.UINT8, [1, height, width, 3]),
        "class_logits": (onnx.TensorProto.FLOAT, [1, 20, len(imported.segmenter.taxonomy) + 1]),
        "mask_logits": (onnx.TensorProto.FLOAT, [1, 20, height // 4, width // 4]),
        "query_embeddings": (onnx.TensorProto.FLOAT, [1, 20, wide]),
    }
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
