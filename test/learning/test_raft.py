"""RAFT: parts of the network by hand, published checkpoints, the model file, and trackers that use it."""

import json
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from support import SUPPORT
from support.trackers_scene import at, ids_of, tracker
from support.worlds import colour_model
from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.flow.flow import FlowParameters, make_flow
from vps_ros.flow.history import FlowHistory
from vps_ros.flow.raft import RaftFlow
from vps_ros.segmenters import load_segmenter
from vps_ros.trackers import TRACKERS, tracker_class

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")
onnx = pytest.importorskip("onnx", reason="onnx is of the [train] extra")

from support.raft_checkpoints import ARCHITECTURES, LAYOUTS, checkpoint, images  # noqa: E402
from vps_ros.learning.raft import network  # noqa: E402
from vps_ros.learning.raft.checkpoint import load  # noqa: E402
from vps_ros.learning.raft.network import STRIDE, Raft  # noqa: E402

WIDTH, HEIGHT, UPDATES = 96, 64, 2
REFERENCE = json.loads((SUPPORT / "raft_reference.json").read_text())
"""Some numbers of the flows that the released code gave, run outside of this project, for these weights and images."""


def as_input(image):
    """The network's input, float32 [1, 3, H, W], of an RGB image."""
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1


@pytest.fixture(scope="module")
def flow_model(tmp_path_factory):
    """The model file of a RAFT-S with random weights."""
    folder = tmp_path_factory.mktemp("raft")
    checkpoint(folder / "raft.pth", layout="princeton")
    assert export(folder / "raft.pth", folder / "raft.onnx") == 0
    return folder / "raft.onnx"


def export(source, target, *more):
    size = f"{WIDTH}x{HEIGHT}"
    return main(["export", "--from", "raft", str(source), "-o", str(target), "--size", size, "--updates", "2", *more])


def test_correlations_are_those_of_each_pair_of_cells():
    """Level 0 is the dot product over the root of the channels, level 1 its mean over 2x2 cells of the target."""
    source, target = torch.randn(2, 1, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    pyramid = network.correlation_pyramid(source, target)
    assert [tuple(p.shape) for p in pyramid] == [(128, 1, 8 >> i, 16 >> i) for i in range(4)]
    at = 3 * 16 + 5  # the cell of row 3, column 5
    assert float(pyramid[0][at, 0, 7, 2]) == pytest.approx(float(source[0, :, 3, 5] @ target[0, :, 7, 2]) / 2, abs=1e-5)
    block = [float(source[0, :, 3, 5] @ target[0, :, y, x]) / 2 for y in (2, 3) for x in (4, 5)]
    assert float(pyramid[1][at, 0, 1, 2]) == pytest.approx(np.mean(block), abs=1e-5)


def test_look_up_by_brute_force():
    """Bilinear, 0 outside; the window's first axis is x. The last level has one row only."""
    rng = np.random.default_rng(0)
    pyramid = [torch.from_numpy(rng.normal(size=(6, 1, 8 >> i, 16 >> i)).astype(np.float32)) for i in range(4)]
    places = torch.from_numpy(rng.uniform(-3, 18, (1, 2, 2, 3)).astype(np.float32))
    found = network.look_up(pyramid, places, 2).numpy()
    assert found.shape == (1, 4 * 25, 2, 3)

    def read(volume, x, y):
        total = 0.0
        for row in range(volume.shape[0]):
            for column in range(volume.shape[1]):
                total += volume[row, column] * max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
        return total

    for cell in range(6):
        x, y = places[0, :, cell // 3, cell % 3].tolist()
        expected = [
            read(volume[cell, 0].numpy(), x / 2**level + dx, y / 2**level + dy)
            for level, volume in enumerate(pyramid)
            for dx in range(-2, 3)
            for dy in range(-2, 3)
        ]
        np.testing.assert_allclose(found[0, :, cell // 3, cell % 3], expected, atol=1e-4)


def test_convex_upsampling():
    """A constant flow stays constant, in pixels; weight for one neighbour only takes the flow of that neighbour."""
    logits = torch.randn(1, 9 * STRIDE**2, 4, 5, generator=torch.Generator().manual_seed(0))
    constant = torch.tensor([1.5, -2.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    inner = network.convex_upsampling(constant, logits)[0, :, STRIDE:-STRIDE, STRIDE:-STRIDE]
    torch.testing.assert_close(inner, torch.tensor([12.0, -16.0]).view(2, 1, 1).expand_as(inner))
    flow = torch.arange(40.0).view(1, 2, 4, 5)
    logits = torch.zeros(1, 9, STRIDE, STRIDE, 4, 5)
    # Neighbour 5 is the one at the right; pixel (row 2, column 6) of each cell takes its flow.
    logits[:, 5, 2, 6] = 100
    found = network.convex_upsampling(flow, logits.flatten(1, 3))
    torch.testing.assert_close(found[0, 0, 2::STRIDE, 6::STRIDE][:, :4], 8 * flow[0, 0, :, 1:])
    # Outside of the image the flow is 0.
    torch.testing.assert_close(found[0, 0, 2::STRIDE, 6::STRIDE][:, 4], torch.zeros(4))


def test_padding_repeats_the_border():
    line = torch.arange(1.0, 14.0).view(1, 1, 1, 13)
    assert network.pad(line)[0, 0, 0].tolist() == [1, *range(1, 14), 13, 13]
    assert network.pad(line).shape == (1, 1, 8, 16)
    assert network.pad(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 64, 96)


@pytest.mark.parametrize("size", ARCHITECTURES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_flow_is_that_of_the_released_code(tmp_path, size, layout):
    """Sides of 131 and 149 pixels are padded; the reference has the padding of the release."""
    checkpoint(tmp_path / "raft.pth", size, layout)
    loaded = load(tmp_path / "raft.pth", 4)
    assert loaded.architecture is ARCHITECTURES[size] and not loaded.training
    with torch.no_grad():
        flow = loaded(*map(as_input, images(131, 149))).flatten()
    expected = REFERENCE[size]
    assert flow[:: flow.numel() // len(expected)][: len(expected)].tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("size", ARCHITECTURES)
def test_small_images_have_finite_flow(size):
    with torch.no_grad():
        flow = Raft(ARCHITECTURES[size], UPDATES).eval()(*torch.rand(2, 1, 3, 64, 67))
    assert flow.shape == (1, 2, 64, 67) and torch.isfinite(flow).all()


def test_sizes_of_the_published_networks():
    """The paper has 5.3 M and 1.0 M parameters; the exact numbers are those that torchvision documents."""
    counts = [sum(p.numel() for p in Raft(ARCHITECTURES[size]).parameters()) for size in ("large", "small")]
    assert counts == [5257536, 990162]


def test_the_model_file_gives_the_flow_of_torch(flow_model):
    first, second = images(HEIGHT, WIDTH)
    with torch.no_grad():
        expected = load(flow_model.with_name("raft.pth"), UPDATES)(as_input(first), as_input(second))
    flow = RaftFlow(flow_model, threads=1)(first, second)
    expected = expected[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(flow, expected, atol=2e-3 * np.abs(expected).max())


def test_history_uses_it_in_both_directions(flow_model):
    parameters = FlowParameters(flow="raft", flow_model=str(flow_model), flow_height=64, flow_threads=1)
    history, flow = FlowHistory.of(parameters), make_flow(parameters)
    older, newer = images(128, 160)
    assert history.push(older) == (64, 80)
    history.push(newer)
    older, newer = flow.shrink(older), flow.shrink(newer)
    np.testing.assert_array_equal(history.forward(), flow(older, newer))
    np.testing.assert_array_equal(history.backward(), flow(newer, older))


@pytest.fixture(scope="module")
def steady_model(tmp_path_factory):
    """The model file of a RAFT-S that always finds the flow (-9, 0) at its own size, 96x64."""

    def steady(tensors):
        tensors["update_block.flow_head.conv2.weight"].zero_()
        tensors["update_block.flow_head.conv2.bias"][:] = torch.tensor([-9 / STRIDE / UPDATES, 0])

    folder = tmp_path_factory.mktemp("steady")
    checkpoint(folder / "raft.pth", change=steady)
    assert export(folder / "raft.pth", folder / "raft.onnx") == 0
    return folder / "raft.onnx"


def test_flow_is_scaled_from_the_size_of_the_network(steady_model):
    """9 of 96 pixels are 12 of 128."""
    flow = RaftFlow(steady_model, threads=1)(*images(72, 128))
    np.testing.assert_allclose(flow, np.broadcast_to(np.float32([-12, 0]), (72, 128, 2)), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in TRACKERS if tracker_class(name).uses_flow])
def test_every_tracker_with_flow_takes_it(name, steady_model):
    """Two things as wide as they move in a frame; without their flow the second is where the first was."""
    with warnings.catch_warnings():
        # Not every tracker has learned weights.
        warnings.simplefilter("ignore", DeprecationWarning)
        track = tracker(name, flow="raft", flow_model=str(steady_model), flow_threads=1, tracker_weights="none")
    frames = [
        [at(20 + 12 * f, width=12, name=1, embedding=(1, 0)), at(8 + 12 * f, width=12, name=2, embedding=(0, 1))]
        for f in range(4)
    ]
    found = ids_of(track, frames)
    assert found == [found[0]] * 4
    np.testing.assert_allclose(track.flow.backward()[0, 0], [-12, 0], atol=1e-3)


def test_inspect_explains_it(flow_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["inspect", str(flow_model), "--json", str(tmp_path / "f.json")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("optical flow between two images", "2 images of 96x64", "updates", "raft-small", "raft.pth"):
        assert words in shown
    card = json.loads((tmp_path / "f.json").read_text())["card"]
    assert (card["kind"], card["updates"]) == ("flow", 2)
    assert (card["input"]["width"], card["input"]["height"]) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"flow": "raft"}, "flow raft needs flow_model"),
        ({"flow_model": "raft.onnx"}, "has no effect with flow dis"),
        ({"flow": "rafft"}, "did you mean raft?"),
    ],
)
def test_parameters_that_do_not_fit(values, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Config(**values)


def test_files_that_are_no_flow_model(flow_model, tmp_path):
    def refused(path, message):
        with pytest.raises(InputError, match=message) as raised:
            RaftFlow(path)
        assert "\n" not in str(raised.value)

    refused(tmp_path / "none.onnx", "no such file; give one that")
    (tmp_path / "text.onnx").write_text("text")
    refused(tmp_path / "text.onnx", "ONNX Runtime cannot load it")
    refused(colour_model(tmp_path / "colours.onnx"), "not a network for optical flow; make one with")
    changed = onnx.load(str(flow_model))
    card = json.loads(changed.metadata_props[0].value)
    for entry, value, message in (
        ("input", {"width": 128, "height": 64}, r"its input is .*not image uint8 \[2, 64, 128, 3\]"),
        ("updates", 0, "updates"),
    ):
        changed.metadata_props[0].value = json.dumps(card | {entry: value})
        onnx.save(changed, str(tmp_path / "changed.onnx"))
        refused(tmp_path / "changed.onnx", message)
        assert main(["inspect", str(tmp_path / "changed.onnx")]) == 2
    with pytest.raises(InputError, match="a network for optical flow, not a segmenter"):
        load_segmenter(Config(model=str(flow_model)).segmenter_parameters)


class Trap:
    """Would create a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, _: t.pop("feature_encoder.conv.bias"), "1 tensor missing (feature_encoder.conv.bias)"),
        (lambda t, _: t.update(extra=torch.zeros(1)), "1 tensor left over (extra)"),
        (lambda t, _: t.pop("update_block.flow_head.conv1.weight"), "not a checkpoint of RAFT, it lacks"),
        (
            lambda t, _: t.update({"feature_encoder.conv.bias": torch.zeros(3)}),
            "feature_encoder.conv.bias has shape [3], this network's has [128]",
        ),
        (lambda t, _: t["feature_encoder.conv.bias"].fill_(np.nan), "holds NaN or infinity"),
        (lambda t, trap: t.update(trap=Trap(trap)), "not a readable checkpoint"),
    ],
)
def test_a_wrong_checkpoint_is_refused_in_one_line(tmp_path, capsys, change, message):
    checkpoint(tmp_path / "bad.pth", change=lambda tensors: change(tensors, tmp_path / "trap"))
    assert export(tmp_path / "bad.pth", tmp_path / "m.onnx") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "m.onnx").exists() and not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--size", "96x40"], "at least 64 pixels on each side"),
        (["--updates", "0"], "--updates 0: give at least 1"),
        (["--postprocess", "graph"], "are for segmenters only"),
        (["--build-engine"], "are for segmenters only"),
        (["--batch"], "are for segmenters only"),
        (["--int8"], "--from raft: --int8 goes with"),
    ],
)
def test_options_that_do_not_fit(tmp_path, capsys, options, message):
    (tmp_path / "raft.pth").write_bytes(pickle.dumps({}))
    assert export(tmp_path / "raft.pth", tmp_path / "m.onnx", *options) == 2
    assert message in capsys.readouterr().err


def test_updates_belong_to_raft(tmp_path, capsys):
    assert main(["export", "streets-s", "-o", str(tmp_path / "m.onnx"), "--updates", "3"]) == 2
    assert "--updates goes with --from raft only" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--from", "onnx"]])
def test_a_flow_model_is_not_exported_as_a_segmenter(flow_model, tmp_path, capsys, options):
    assert main(["export", *options, str(flow_model), "-o", str(tmp_path / "m.onnx")]) == 2
    error = capsys.readouterr().err
    assert "raft.onnx: a network for optical flow" in error and error.count("\n") == 1
