"""Checkpoints of transformers for semantic and instance segmentation: results are those of its own post-processing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
pytest.importorskip("transformers", reason="transformers is of the [train] extra")
pytest.importorskip("onnx", reason="onnx is of the [train] extra")

from torch.nn import functional as F  # noqa: E402

from benchmarks._scene import street  # noqa: E402
from support import hf_checkpoints  # noqa: E402
from support.hf_checkpoints import HEIGHT, SQUARE, WIDTH, change, one_thread, picture, save  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.config import Config  # noqa: E402
from vps_ros.learning.hf.families import FAMILIES  # noqa: E402
from vps_ros.segmenters import load_segmenter, postprocess  # noqa: E402
from vps_ros.segmenters.model_card import InputSpec  # noqa: E402
from vps_ros.segmenters.preprocess import fit  # noqa: E402
from vps_ros.taxonomy import CITYSCAPES, VOID_ID, Taxonomy  # noqa: E402

SEED = 1


def imported(folder, name, *options, split=False):
    """Model and processor of transformers, and the segmenter that the command made of them."""
    with one_thread():
        model, processor = save(name, folder / "checkpoint")
        if split:
            # As in the public checkpoints of EoMT for semantic segmentation.
            processor.do_split_image, processor.do_pad = True, False
            processor.size = {"shortest_edge": SQUARE, "longest_edge": None}
            processor.save_pretrained(folder / "checkpoint")
        path = folder / "model.onnx"
        assert main(["export", "--from", "hf", str(folder / "checkpoint"), "-o", str(path), *map(str, options)]) == 0
        model.config.use_auxiliary_loss = name == "mask2former"
    parameters = Config(model=str(path), threads=1, stuff_area=0).segmenter_parameters
    return SimpleNamespace(name=name, model=model, processor=processor, path=path, segmenter=load_segmenter(parameters))


def outputs_for(one, image):
    found = one.processor(images=image, return_tensors="pt")
    with torch.no_grad():
        outputs = one.model(pixel_values=found["pixel_values"])
    outputs["patch_offsets"] = found.get("patch_offsets")
    return outputs


def class_map(segmentation):
    return np.append(VOID_ID, segmentation.class_ids)[segmentation.map]


@pytest.mark.parametrize("name, options", [("segformer", ()), ("upernet", ()), ("maskformer", ("--task", "semantic"))])
def test_semantic_classes_are_those_of_transformers(tmp_path, name, options):
    one = imported(tmp_path, name, *options, "--components", 1)
    image = picture(HEIGHT, WIDTH, SEED)
    (expected,) = one.processor.post_process_semantic_segmentation(outputs_for(one, image), [(HEIGHT, WIDTH)])
    classes = one.segmenter.taxonomy.ids[expected.numpy()]
    assert len(np.unique(classes)) >= 5, "weights that say nothing compare nothing"
    # Where no query has a mask, sums near 1e-6 decide.
    assert (class_map(one.segmenter(image)) == classes).mean() > (0.98 if options else 0.999)


@pytest.mark.slow
def test_a_batch_of_cameras(tmp_path):
    """The command compares a batch with single images; here, images of other sizes too."""
    segmenter = imported(tmp_path, "segformer", "--batch", "--components", 1).segmenter
    images = [picture(HEIGHT, WIDTH, 1), picture(80, 200, 2)]
    alone = [segmenter(image) for image in images]
    segmenter.run_ahead(images)
    for one, image in zip(alone, images, strict=True):
        assert (class_map(segmenter(image)) == class_map(one)).mean() > 0.999


@pytest.mark.slow
def test_semantic_mask2former(tmp_path):
    """Its masks are resized to 384 x 384 before they are summed."""
    one = imported(tmp_path, "mask2former", "--task", "semantic")
    assert not one.segmenter.taxonomy.isthing.all()
    assert [o.name for o in one.segmenter._session._session.get_outputs()] == ["class_logits", "mask_logits"]
    image = picture(HEIGHT, WIDTH, SEED)
    (expected,) = one.processor.post_process_semantic_segmentation(outputs_for(one, image), [(HEIGHT, WIDTH)])
    taxonomy = one.segmenter.taxonomy
    classes = np.where(taxonomy.isthing, VOID_ID, taxonomy.ids)[expected.numpy()]
    # Things are void, because --components was not given.
    assert set(np.unique(classes)) > {VOID_ID}
    assert (class_map(one.segmenter(image)) == classes).mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("size", [(2 * SQUARE, SQUARE), (SQUARE, SQUARE + 64), (2 * SQUARE + 64, SQUARE)])
def test_windows_of_semantic_eomt(tmp_path, size):
    """Its processor divides a wide or high image into squares, and joins their results; here the graph does so."""
    one = imported(tmp_path, "eomt", "--size", "{}x{}".format(*size), "--components", 1, split=True)
    image = picture(size[1], size[0], SEED)
    outputs = outputs_for(one, image)
    assert len(outputs["patch_offsets"]) == -(-max(size) // SQUARE)
    # Probabilities are enlarged after the sum over queries; transformers enlarges the logits before, which for the
    # noisy masks of random weights is not the same.
    p = F.interpolate(outputs.masks_queries_logits.sigmoid(), size=(SQUARE, SQUARE), mode="bilinear")
    outputs.masks_queries_logits = p.logit(1e-6)
    (expected,) = one.processor.post_process_semantic_segmentation(outputs, [size[::-1]])
    classes = one.segmenter.taxonomy.ids[expected.numpy()]
    assert len(np.unique(classes)) >= 5
    assert (class_map(one.segmenter(image)) == classes).mean() > 0.99


@pytest.mark.parametrize("name", ["mask2former", "maskformer", "eomt"])
def test_instances_are_those_of_transformers(name):
    """Smooth masks of 26 objects at stride 4, as trained networks give them, without a network.

    Masks may overlap in transformers; ours are pasted in the order of the score, and dropped below half.
    """
    size = (320, 320)
    tensors = street((80, 80))
    processor = {
        "mask2former": hf_checkpoints.Mask2FormerImageProcessorPil,
        "maskformer": hf_checkpoints.MaskFormerImageProcessorPil,
        "eomt": hf_checkpoints.EomtImageProcessorPil,
    }[name]()
    outputs = SimpleNamespace(
        class_queries_logits=torch.from_numpy(tensors["class_logits"]),
        masks_queries_logits=torch.from_numpy(tensors["mask_logits"]),
    )
    theirs = []
    if name == "eomt":
        # Its segments cover each other in the order of the queries: each is asked for alone.
        for query in range(tensors["class_logits"].shape[1]):
            one = SimpleNamespace(
                class_queries_logits=outputs.class_queries_logits[:, query, None],
                masks_queries_logits=outputs.masks_queries_logits[:, query, None],
            )
            square = {"shortest_edge": size[0], "longest_edge": size[0]}
            (found,) = processor.post_process_instance_segmentation(one, [size], size=square)
            theirs += [(i["label_id"], i["score"], found["segmentation"].numpy() >= 0) for i in found["segments_info"]]
    else:
        if name == "maskformer":
            # It enlarges binary masks, without interpolation.
            outputs.masks_queries_logits = F.interpolate(outputs.masks_queries_logits, size=size, mode="bilinear")
        (found,) = processor.post_process_instance_segmentation(outputs, target_sizes=[size], return_binary_maps=True)
        rows = zip(found["segments_info"], found["segmentation"].numpy(), strict=True)
        theirs = [(i["label_id"], i["score"], mask > 0) for i, mask in rows]
    things = Taxonomy("things", tuple(replace(c, isthing=True) for c in CITYSCAPES.classes))
    limits, where = FAMILIES[name].instance_limits, fit(InputSpec(*size), *size)
    ours = postprocess.from_logits(tensors, where, things, limits, "sigmoid")
    free, kept = np.ones(size, bool), []
    for label, score, mask in sorted(theirs, key=lambda one: -one[1]):
        left = mask & free
        if left.sum() > 0.5 * mask.sum():
            kept.append((things.ids[label], score, left))
            free &= ~left
    assert len(kept) == len(ours.class_ids) >= 10
    assert sorted(number for number, *_ in kept) == sorted(ours.class_ids.tolist())
    # Mask2Former's masks go through a grid of 384 x 384, which changes small ones.
    large = [one for one in kept if one[2].sum() > 1000]
    assert len(large) >= 8
    for number, score, mask in large:
        overlaps = [
            ((ours.map == i + 1) & mask).sum() / ((ours.map == i + 1) | mask).sum()
            for i in range(len(kept))
            if ours.class_ids[i] == number and abs(ours.scores[i] - score) < 0.02
        ]
        assert max(overlaps) > 0.9


@pytest.mark.slow
def test_a_checkpoint_for_instances(tmp_path):
    one = imported(tmp_path, "maskformer", "--task", "instance")
    taxonomy, limits = one.segmenter.taxonomy, one.segmenter.thresholds
    assert taxonomy.isthing.all() and [c.name for c in taxonomy.classes] == list(one.model.config.id2label.values())
    assert (limits.mode, limits.mask_exponent, limits.rank_threshold) == ("mask_wise", 1.0, True)
    image = picture(HEIGHT, WIDTH, SEED)
    outputs, ours = outputs_for(one, image), one.segmenter(image)
    (found,) = one.processor.post_process_instance_segmentation(outputs, target_sizes=[(HEIGHT, WIDTH)])
    best = max(found["segments_info"], key=lambda i: i["score"])
    assert ours.class_ids[0] == taxonomy.ids[best["label_id"]]
    assert ours.scores[0] == pytest.approx(best["score"], abs=1e-3)


def test_what_the_task_is(tmp_path, capsys):
    from vps_ros.learning.hf.checkpoint import open_checkpoint
    from vps_ros.learning.hf.families import task_of

    def task(name, kind, processor="{}", choice=None):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "preprocessor_config.json").write_text(processor)
        return task_of(open_checkpoint(str(folder)), FAMILIES[kind], choice)

    assert task("mask2former-coco-instance", "mask2former") == "instance"
    assert task("mask2former-city-semantic", "mask2former") == "semantic"
    assert task("mask2former-city-semantic", "mask2former", choice="panoptic") == "panoptic"
    assert task("panoptic-from-semantic", "mask2former") == "panoptic"
    assert task("mine", "mask2former") == "panoptic"
    assert task("mine", "segformer") == "semantic"
    assert task("mine", "eomt", '{"do_split_image": true}') == "semantic"


def test_classes_of_an_unknown_data_set(tmp_path):
    """For semantic segmentation the names say what is a thing; for instance segmentation everything is."""
    from vps_ros.learning.hf.checkpoint import open_checkpoint
    from vps_ros.learning.hf.classes import classes_of

    (tmp_path / "config.json").write_text('{"id2label": {"0": "field", "1": "cow", "2": "barn"}}')
    checkpoint = open_checkpoint(str(tmp_path))
    for task, things in (("semantic", (1,)), ("instance", (0, 1, 2))):
        assert classes_of(checkpoint, task=task).taxonomy.thing_ids == things


def test_what_is_refused(tmp_path, capsys):
    with one_thread():
        save("segformer", tmp_path / "net")
    for options, message in (
        (["--task", "panoptic"], "--task panoptic: SegFormer is imported for semantic segmentation"),
        (["--size", "100x64"], "SegFormer takes multiples of 32"),
        (["--taxonomy", "ade20k"], "--taxonomy ade20k: has 150 classes"),
    ):
        assert main(["export", "--from", "hf", str(tmp_path / "net"), "-o", str(tmp_path / "m.onnx"), *options]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "m.onnx").exists()
    with one_thread():
        save("eomt", tmp_path / "net2")
    change(tmp_path / "net2" / "preprocessor_config.json", do_split_image=True)
    assert (
        main(["export", "--from", "hf", str(tmp_path / "net2"), "-o", str(tmp_path / "m.onnx"), "--size", "256x96"])
        == 2
    )
    assert f"position embeddings for a shorter side of {SQUARE}" in capsys.readouterr().err
