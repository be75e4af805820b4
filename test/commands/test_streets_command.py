"""`vps-ros synth`: folders and bags that other commands read, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from vps_ros.commands.main import main
from vps_ros.datasets.kitti_step import list_images, list_maps, load_map
from vps_ros.datasets.streets import drive
from vps_ros.taxonomy import CITYSCAPES

SMALL = "160x64"


def test_a_kitti_step_folder_holds_the_drives(tmp_path):
    out = tmp_path / "streets"
    assert main(["synth", "-o", str(out), "--sequences", "2", "--frames", "2", "--size", SMALL, "--seed", "3"]) == 0
    maps, images = list_maps(out), list_images(out)
    assert {k: list(v) for k, v in maps.items()} == {k: list(v) for k, v in images.items()}
    assert list(maps) == ["0000", "0001"] and list(maps["0000"]) == ["000000", "000001"]
    for sequence, name, seed in (("0000", "cruise", 3), ("0001", "crowd", 4)):
        for f, path in zip(drive(name, seed, 2, (160, 64)), maps[sequence].values(), strict=True):
            semantic, instance = load_map(path)
            assert np.array_equal(semantic, f.semantic) and np.array_equal(instance, f.instance)
        calibration = json.loads((out / "calib" / f"{sequence}.json").read_text())
        assert calibration["scenario"] == name and calibration["seed"] == seed
        assert np.allclose(calibration["camera_matrix"], f.camera)
        assert calibration["stamps_ns"][1] == f.frame.stamp


def test_a_bag_holds_images_calibration_and_truth(tmp_path):
    out = tmp_path / "night.mcap"
    assert (
        main(["synth", "-o", str(out), "--format", "bag", "--frames", "2", "--size", SMALL, "--scenario", "night"]) == 0
    )
    expected = list(drive("night", 0, 2, (160, 64)))
    with AnyReader([out]) as bag:
        found: dict[str, list] = {}
        for connection, stamp, data in bag.messages():
            message = bag.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((stamp, message))
    truth = {"/ground_truth/panoptic_ids", "/ground_truth/label_info"}
    assert set(found) == {"/camera/image_raw", "/camera/camera_info", *truth}
    ((_, names),) = found["/ground_truth/label_info"]
    assert {c.class_id: c.class_name for c in names.class_map} == {c.id: c.name for c in CITYSCAPES.classes}
    for i, f in enumerate(expected):
        stamp, image = found["/camera/image_raw"][i]
        assert stamp == f.frame.stamp and image.header.frame_id == "camera"
        assert np.array_equal(image.data.reshape(64, 160, 3), f.frame.image)
        _, info = found["/camera/camera_info"][i]
        assert np.allclose(info.k.reshape(3, 3), f.camera) and (info.width, info.height) == (160, 64)
        _, truth = found["/ground_truth/panoptic_ids"][i]
        ids = truth.data.view(np.int32).reshape(64, 160)
        assert truth.encoding == "32SC1"
        assert np.array_equal(ids // 1_000_000, f.semantic) and np.array_equal(ids % 1_000_000, f.instance)


def test_several_bags_go_into_a_folder(tmp_path):
    out = tmp_path / "bags"
    assert main(["synth", "-o", str(out), "--format", "bag", "--sequences", "2", "--frames", "1", "--size", SMALL]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["0000.mcap", "0001.mcap"]


@pytest.mark.parametrize(
    "extra, part",
    [
        (["--size", "640"], "WIDTHxHEIGHT"),
        (["--size", "8x8"], "8x8"),
        (["--scenario", "motorway"], "choose one of cruise"),
        (["--frames", "-1"], "at least 1"),
        (["--sequences", "0"], "at least 1"),
        (["--seed", "-4"], "negative"),
        (["--format", "bag", "--sequences", "2", "-o", "two.mcap"], "one drive"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(extra, part, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["synth", "-o", "out", *extra]) == 2
    error = capsys.readouterr().err.strip()
    assert part in error and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists_needs_force(tmp_path, capsys):
    out = tmp_path / "streets"
    plain = ["synth", "-o", str(out), "--frames", "1", "--size", SMALL]
    assert main(plain) == 0
    before = sorted(p.relative_to(out) for p in out.rglob("*"))
    assert main(plain) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*plain, "--force", "--seed", "9"]) == 0
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == before
    assert json.loads((out / "calib" / "0000.json").read_text())["seed"] == 9
