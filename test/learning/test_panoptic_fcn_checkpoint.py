"""Checkpoints of dvlab-research/PanopticFCN: every tensor has its place, outputs are those of the released code."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from support import SUPPORT
from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.segmenters import load_segmenter

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
pytest.importorskip("onnx", reason="onnx is of the [train] extra")

from support.fcn_small import CITYSCAPES, checkpoint, picture, published_architecture, published_shapes, thin  # noqa: E402
from vps_ros.learning.panoptic_fcn.architecture import MEAN, Architecture  # noqa: E402
from vps_ros.learning.panoptic_fcn.checkpoint import infer_architecture, load  # noqa: E402
from vps_ros.taxonomies import ALL  # noqa: E402

REFERENCE = json.loads((SUPPORT / "fcn_reference.json").read_text())
"""Some numbers of the outputs that the released code gave, run outside of this project, for these weights and image."""
VARIANTS = {
    "plain": {},
    "deformable": {"deformable": True},
    "star": {"deformable": True, "feature_deformable": True, "feature_channels": 32},
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    thin(monkeypatch)


def some(tensor):
    """A few numbers of an output, as in the reference."""
    return tensor.flatten()[:: max(1, tensor.numel() // 5)][:5].tolist()


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_those_of_the_released_code(tmp_path, variant):
    path = tmp_path / "fcn.pth"
    checkpoint(path, published_architecture(**VARIANTS[variant]))
    model, taxonomy, _ = load(path)
    assert taxonomy is CITYSCAPES and not model.training
    with torch.no_grad():
        output = model(picture(96, 160) - torch.tensor(MEAN).view(1, 3, 1, 1))
    expected = REFERENCE[variant]
    close = {"rel": 1e-3, "abs": 1e-4}
    assert some(output.feature) == pytest.approx(expected["feature"], **close)
    for name in ("centres", "regions", "kernels"):
        for level, numbers in zip(getattr(output, name), expected[name], strict=True):
            assert some(level) == pytest.approx(numbers, **close)


def test_shapes_tell_the_architecture():
    a = Architecture(deformable=True, embedding_dim=0, classes=133)
    coco = ALL["coco-panoptic"]
    shapes = published_shapes(a, coco.isthing)
    assert shapes["position_head.out_inst.weight"] == (80, 256, 3, 3)
    assert shapes["position_head.out_sem.weight"] == (54, 256, 3, 3)
    assert shapes["position_head.position_head.position_head_head_3.offset_mask_conv.weight"] == (27, 256, 3, 3)
    assert shapes["kernel_head.kernel_head.kernel_head_head_1.weight"] == (256, 258, 3, 3)
    assert shapes["semantic_fpn.p5.4.norm.weight"] == (256,) and "semantic_fpn.p2.0.weight" in shapes
    assert shapes["thing_generator.embed_extractor.weight"] == (64, 256, 1, 1)
    found = infer_architecture(shapes, "test")
    assert (found.width, found.deformable, found.feature_deformable, found.feature_convs) == (256, True, False, 3)


def changed(tmp_path, change):
    path = tmp_path / "bad.pth"
    tensors = checkpoint(path, published_architecture())
    change(tensors)
    torch.save({"model": tensors}, path)
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("kernel_head.out_conv.bias"), "1 tensor missing (kernel_head.out_conv.bias)"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 tensor left over (extra)"),
        (lambda t: t.pop("position_head.out_inst.weight"), "it lacks position_head.out_inst.weight"),
        (lambda t: t.update({"backbone.fpn_output2.bias": torch.zeros(3)}), "backbone.fpn_output2.bias has shape [3]"),
        (lambda t: t["kernel_head.out_conv.bias"].fill_(np.nan), "kernel_head.out_conv.bias holds NaN or infinity"),
        (
            lambda t: t.update({"position_head.out_inst.weight": torch.zeros(7, 32, 3, 3)}),
            "7 things and 11 stuff classes",
        ),
    ],
)
def test_a_wrong_checkpoint_is_refused_in_one_line(tmp_path, capsys, change, message):
    path = changed(tmp_path, change)
    assert main(["export", "--from", "panopticfcn", str(path), "-o", str(tmp_path / "m.onnx")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "m.onnx").exists()


class Trap:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_arrays_are_read_and_code_is_not_run(tmp_path):
    tensors = checkpoint(tmp_path / "fcn.pth", published_architecture())
    path, trap = tmp_path / "fcn.pkl", tmp_path / "trap"
    arrays = {name: value.numpy() for name, value in tensors.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "someone"}, protocol=2))
    model = load(path).model
    assert torch.equal(model.kernel_head.out.bias, tensors["kernel_head.out_conv.bias"])
    for file in (path, tmp_path / "trap.pth"):
        file.write_bytes(pickle.dumps({"model": arrays, "other": Trap(trap)}))
        with pytest.raises(InputError, match="not a readable checkpoint"):
            load(file)
    assert not trap.exists()


def test_from_a_checkpoint_to_segments(tmp_path, capsys):
    source, path = tmp_path / "fcn.pth", tmp_path / "m.onnx"
    checkpoint(source, published_architecture(deformable=True))
    arguments = ["export", "--from", "panopticfcn", str(source), "-o", str(path)]
    assert main([*arguments, "--size", "160x90"]) == 2
    assert "multiples of 32" in capsys.readouterr().err
    assert main([*arguments, "--size", "160x96"]) == 0
    assert "largest difference from torch" in capsys.readouterr().err
    segmenter = load_segmenter(Config(model=str(path), threads=1))
    card = segmenter.card
    assert card.taxonomy.name == "cityscapes" and card.input.keep_aspect and card.thresholds.stuff_area == 2048
    image = picture(48, 80)[0].permute(1, 2, 0).numpy().astype(np.uint8)
    found = segmenter(image)
    # The mask kernel itself is the appearance for trackers.
    assert found.map.shape == (48, 80) and found.embeddings.shape[1] == 16
