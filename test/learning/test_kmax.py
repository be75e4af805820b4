"""kMaX-DeepLab against what the published code computes, and its checkpoints.

kmax_reference.json was made by the code of bytedance/kmax-deeplab: hashes of the names and shapes of every tensor of
its models, and outputs of small ones with the weights of kmax_small.py. Features of Axial-ResNet are deeplab2's.
"""

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from support import SUPPORT, kmax_small  # noqa: E402
from vps_ros.errors import InputError  # noqa: E402
from vps_ros.learning.kmax.architecture import BACKBONES, Architecture, published  # noqa: E402
from vps_ros.learning.kmax.checkpoint import infer_architecture, load, published_names  # noqa: E402
from vps_ros.learning.kmax.layers import AxisAttention, DropPath  # noqa: E402
from vps_ros.learning.kmax.model import KMaxDeepLab, KMeansLayer, void_prior  # noqa: E402

REFERENCE = json.loads((SUPPORT / "kmax_reference.json").read_text())


def shapes_of(a):
    """Published name -> shape, of a network of this architecture."""
    with torch.device("meta"):
        state = KMaxDeepLab(a).state_dict()
    names = published_names(state, a.backbone.kind)
    assert len(names) == len(state)
    return {name: tuple(state[ours].shape) for name, ours in names.items()}


def part_of(name):
    first, second, *rest = name.split(".")
    if first == "backbone":
        return first
    return f"{second}.{rest[0]}" if second == "predictor" else second


@pytest.mark.parametrize("which", REFERENCE["tensors"])
def test_every_published_tensor_has_its_place(which):
    parts = {}
    for name, shape in shapes_of(published(*which.split())).items():
        parts.setdefault(part_of(name), []).append(f"{name} {' '.join(map(str, shape))}")
    found = {
        part: [len(lines), hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]]
        for part, lines in parts.items()
    }
    assert found == REFERENCE["tensors"][which]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("data", ["coco", "cityscapes", "ade20k"])
def test_the_architecture_is_told_by_the_tensors(data, backbone):
    a = published(data, backbone)
    found = infer_architecture(shapes_of(a), "file")
    assert found.backbone_name == backbone
    # How much training left out is in no tensor.
    told = {**vars(a), "drop_path": found.drop_path, "backbone": found.backbone}
    assert Architecture(**told) == found
    assert (found.backbone.depths, found.backbone.widths) == (a.backbone.depths, a.backbone.widths)


def test_masks_are_at_stride_2_with_the_stem_of_axial_resnet_only():
    """The published ResNet and ConvNeXt have stems at stride 4."""
    strides = {n: published("cityscapes", n).mask_stride for n in BACKBONES}
    assert strides == {**dict.fromkeys(BACKBONES, 4), "axial-resnet50": 2}
    assert published("coco", "axial-resnet50").mask_stride == 4


def sampled(output):
    """The values that the reference holds."""
    values = {
        "classes": output.final.classes[:, ::2],
        "masks": output.final.masks[:, ::2, ::3, ::5],
        "pixels": output.final.pixels[:, ::32, ::4, ::8],
        "embeddings": output.embeddings[:, ::3, ::32],
    }
    if output.semantic is not None:
        step = (4, 4) if output.semantic.shape[2] > 3 else (1, 2)
        values["semantic"] = output.semantic[:, ::2, :: step[0], :: step[1]]
    return values | {f"layer {i}": layer.masks[:, ::2, ::2, ::3] for i, layer in enumerate(output.layers)}


@pytest.mark.parametrize("which", REFERENCE["outputs"])
def test_outputs_are_those_of_the_published_code(which):
    kind, stages = which.split()
    model = kmax_small.network(kmax_small.architecture(kind, int(stages)))
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    images = torch.from_numpy(np.random.RandomState(1).random_sample((2, 3, 33, 65)) * 2 - 1)
    # Training first: it moves the statistics that the evaluation normalises with.
    for mode in ("train", "eval"):
        with torch.no_grad():
            output = model.train(mode == "train")(images)
        expected = REFERENCE["outputs"][which][mode]
        expected |= {f"layer {i}": values for i, values in enumerate(expected.pop("layers", []))}
        found = sampled(output)
        assert set(expected) <= set(found)
        assert mode == "eval" or set(expected) == set(found)
        for name, values in expected.items():
            # The void prior is float32 in the published code.
            np.testing.assert_allclose(found[name].flatten().numpy(), values, rtol=2e-6, atol=2e-6, err_msg=name)
        if mode == "train":
            assert len(output.final.masks.argmax(1).unique()) > 1


def test_features_of_axial_resnet_are_those_of_deeplab2():
    model = kmax_small.network(kmax_small.architecture("axial_resnet", 5, dim=32))
    images = torch.from_numpy(np.random.RandomState(1).random_sample((2, 3, 33, 65)) * 2 - 1)
    with torch.no_grad():
        features = model.backbone(images)
    for i, (name, values) in enumerate(REFERENCE["axial_resnet"].items()):
        step = 2 ** (4 - i)
        found = features[name][:, :: features[name].shape[1] // 4, :: max(1, step // 2 + 1), ::step]
        np.testing.assert_allclose(found.flatten().numpy(), values, rtol=2e-6, atol=2e-6, err_msg=name)


def test_position_sensitive_attention_by_its_definition():
    """Wang et al., 2020, equation 5, with batch normalisation of each similarity, written out place by place."""
    torch.manual_seed(0)
    heads, key, value, n = 2, 4, 8, 5
    layer = AxisAttention(3, key, value, heads).double().eval()
    for norm in (layer.qkv_norm, layer.similarity_norm, layer.retrieved_norm):
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 1.5)
    x = torch.randn(1, 3, n, dtype=torch.float64)
    q, k, v = (part[0] for part in layer.qkv_norm(layer.qkv(x)).split([key, key, value], 1))
    tables = [t.detach() for t in (layer.query_positions, layer.key_positions, layer.value_positions)]

    def normalised(norm, channel, number):
        scale = norm.weight[channel] / torch.sqrt(norm.running_var[channel] + 1e-3)
        return (number - norm.running_mean[channel]) * scale + norm.bias[channel]

    expected = torch.zeros(value, n, dtype=torch.float64)
    for h in range(heads):
        kk, vv = slice(h * 2, h * 2 + 2), slice(h * 4, h * 4 + 4)
        for here in range(n):
            logits = []
            for there in range(n):
                rq, rk, _ = (t[254 + there - here] for t in tables)
                terms = (q[kk, here] @ k[kk, there], q[kk, here] @ rq, k[kk, there] @ rk)
                logits.append(sum(normalised(layer.similarity_norm, i * heads + h, t) for i, t in enumerate(terms)))
            weight = torch.stack(logits).softmax(0)
            content = sum(weight[m] * v[vv, m] for m in range(n))
            place = sum(weight[m] * tables[2][254 + m - here] for m in range(n))
            for j in range(4):
                c = h * 4 + j
                both = normalised(layer.retrieved_norm, c, content[j])
                expected[c, here] = both + normalised(layer.retrieved_norm, value + c, place[j])
    torch.testing.assert_close(layer(x)[0].detach(), expected.detach())


def test_a_query_is_moved_by_the_sum_of_its_pixels():
    """Doubling the map doubles the sums: nothing is divided by the number of pixels."""
    torch.manual_seed(0)
    layer = KMeansLayer(kmax_small.architecture("convnext", dim=16), 8).eval()
    seen = []
    layer.centre_norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    queries, feature = torch.randn(1, 16, 8), torch.randn(1, 8, 3, 4)
    with torch.no_grad():
        _, prediction = layer(queries, feature)
        values = layer.pixel_value(layer.pixel_in(torch.nn.functional.gelu(feature)))[0].flatten(1)
        layer.fixed_assignment = torch.zeros(1, 1, 12, dtype=torch.int64)
        layer(queries, feature)
    best = prediction.masks[0].flatten(1).argmax(0)
    for query in range(8):
        torch.testing.assert_close(seen[0][0, :, query], values[:, best == query].sum(1))
    torch.testing.assert_close(seen[1][0, :, 0], values.sum(1))
    assert not seen[1][0, :, 1:].any()


def test_a_query_without_evidence_is_void():
    logits = torch.zeros(19 + 1)
    logits[-1] = void_prior(19)
    assert logits.softmax(0)[-1].item() == pytest.approx(0.9)


@pytest.mark.parametrize(("kind", "stages", "cells"), [("convnext", 5, (17, 33)), ("axial_resnet", 5, (33, 65))])
def test_sizes_of_a_forward_pass(kind, stages, cells):
    model = KMaxDeepLab(kmax_small.architecture(kind, stages, dim=32)).eval()
    with torch.no_grad():
        output = model(torch.rand(2, 3, 65, 129))
    assert output.final.classes.shape == (2, 8, 6)
    assert output.final.masks.shape == (2, 8, *cells)
    assert output.embeddings.shape == (2, 8, 32)
    assert [tuple(layer.masks.shape[2:]) for layer in output.layers] == [(3, 5), (5, 9), (9, 17)]
    torch.testing.assert_close(output.final.pixels.norm(dim=1), torch.ones(2, *cells))
    assert output.semantic is None


def test_drop_path_keeps_the_mean_and_rests_in_evaluation():
    torch.manual_seed(0)
    ones, drop = torch.ones(4000, 2, 3), DropPath(0.25)
    dropped = drop(ones)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped.flatten(1).std(1) == 0).all()
    assert dropped.mean().item() == pytest.approx(1, abs=4 * math.sqrt(1 / 3 / 4000))
    assert drop.eval()(ones) is ones


@pytest.fixture(scope="module")
def tensors():
    return kmax_small.published(kmax_small.network(kmax_small.architecture("convnext", dim=16)))


class TestCheckpoints:
    def save(self, folder, content):
        path = folder / "kmax.pth"
        torch.save(content, path)
        return path

    def refusal(self, path):
        with pytest.raises(InputError) as caught:
            load(path)
        message = str(caught.value)
        assert message.startswith(str(path))
        assert "\n" not in message
        return message

    def test_weights_are_taken_over(self, tmp_path, tensors):
        model = load(self.save(tmp_path, {"model": tensors, "iteration": 149999}))
        assert not model.training
        assert replace(model.architecture, drop_path=0.0) == kmax_small.architecture("convnext", dim=16)
        image = torch.rand(1, 3, 33, 65)
        expected = kmax_small.network(model.architecture).float()
        with torch.no_grad():
            assert torch.equal(model(image).final.masks, expected(image).final.masks)

    def test_half_precision_and_what_detectron2_adds(self, tmp_path, tensors):
        """Normalisation of images, which is the same for all, may be there; counters may be missing."""
        given = {n: t.half() for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
        given |= {name: torch.full((3, 1, 1), 127.5) for name in ("pixel_mean", "pixel_std")}
        model = load(self.save(tmp_path, given))
        assert {t.dtype for n, t in model.state_dict().items() if "tracked" not in n} == {torch.float32}
        torch.testing.assert_close(
            model.centres, tensors["sem_seg_head.predictor._cluster_centers.weight"].half().float()
        )

    def test_files_that_are_none(self, tmp_path):
        assert "no such checkpoint" in self.refusal(tmp_path / "absent.pth")
        assert "no such checkpoint" in self.refusal(tmp_path)
        path = tmp_path / "text.pth"
        path.write_text("weights")
        assert "not a readable checkpoint" in self.refusal(path)
        assert "no `model`" in self.refusal(self.save(tmp_path, {"model": {"a": 1}}))
        assert "no `model`" in self.refusal(self.save(tmp_path, [torch.zeros(1)]))

    def test_a_file_cut_short(self, tmp_path, tensors):
        path = self.save(tmp_path, {"model": tensors})
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "not a readable checkpoint" in self.refusal(path)

    def test_checkpoints_of_something_else(self, tmp_path):
        other = {"model": {"backbone.bottom_up.res2.0.conv1.weight": torch.zeros(1)}}
        assert "its backbone is unknown" in self.refusal(self.save(tmp_path, other))
        backbone = {"backbone.stem.conv1.weight": torch.zeros(64, 3, 7, 7)}
        assert "lacks sem_seg_head.predictor._cluster_centers" in self.refusal(self.save(tmp_path, backbone))

    @pytest.mark.parametrize("missing", ["backbone.stages.2.1.norm.bias", "sem_seg_head.predictor._predcitor."])
    def test_what_is_missing_is_named(self, tmp_path, tensors, missing):
        given = {n: t for n, t in tensors.items() if not n.startswith(missing)}
        assert missing in self.refusal(self.save(tmp_path, {"model": given}))

    def test_what_is_left_over_is_named(self, tmp_path, tensors):
        given = {**tensors, "backbone.norm5.weight": torch.zeros(3), "sem_seg_head.more": torch.zeros(3)}
        message = self.refusal(self.save(tmp_path, {"model": given}))
        assert "2 tensors left over (backbone.norm5.weight, sem_seg_head.more)" in message

    def test_a_tensor_of_another_shape(self, tmp_path, tensors):
        name = "sem_seg_head.pixel_decoder._stages.0._blocks.0._attention._width_axis._value_rpe._embeddings.weight"
        given = {**tensors, name: tensors[name][:-2]}
        message = self.refusal(self.save(tmp_path, {"model": given}))
        assert f"{name} has shape [507, 8], this network's has [509, 8]" in message

    def test_weights_that_are_no_numbers(self, tmp_path, tensors):
        name = "backbone.downsample_layers.0.0.bias"
        given = {**tensors, name: torch.full_like(tensors[name], math.nan)}
        assert f"{name} holds NaN" in self.refusal(self.save(tmp_path, {"model": given}))
