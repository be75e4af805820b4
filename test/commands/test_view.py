"""`vps-ros view`, and `--view` of `vps-ros replay`: from files to recordings of the viewer."""

import json
import socket

import cv2
import numpy as np
import pytest

from support.bags import START, TENTH, TYPES, drive, write
from support.depth import CALIBRATION, DEPTH_TOPIC, FIRST, STANDING, VELOCITY, depth_drive, metres_of
from support.labelled_bags import stamp, truth_bag, writing
from support.worlds import CAR_ID, ROAD_ID, SKY_ID, colour_model, picture
from vps_ros.commands.main import main

pytest.importorskip("rerun", reason="needs rerun-sdk (extra view)")
from support.rrd import maps, read  # noqa: E402
from support.tf import odometry


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return colour_model(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture
def vps_ros(capsys):
    def run(*arguments):
        code = main([*map(str, arguments)])
        return code, capsys.readouterr().err

    return run


def truth(index):
    """Ground truth of support.bags.drive."""
    image = picture({0: (4 + 4 * index, 40), 1: (76, 36)})
    semantic = np.full(image.shape[:2], ROAD_ID, np.uint8)
    semantic[:32] = SKY_ID
    instance = np.zeros(image.shape[:2], np.uint16)
    for number, paint in ((1, (255, 0, 0)), (2, (0, 255, 0))):
        square = (image == paint).all(2)
        semantic[square], instance[square] = CAR_ID, number
    return semantic, instance


def test_a_bag_is_tracked_and_shown(vps_ros, tmp_path, model):
    bag = write(tmp_path / "drive", drive())
    figures = tmp_path / "figures.json"
    code, shown = vps_ros("view", bag, "--save", tmp_path / "a.rrd", "--model", model, "--json", figures)
    assert code == 0, shown
    assert json.loads(figures.read_text()) == {"file": {"shown": 6, "dropped": 0, "problem": None}}
    found = read(tmp_path / "a.rrd")
    assert found["/camera/boxes"]["Boxes2D:labels"][-1] == ["car 1", "car 2"]
    assert len(found["/camera/image"]["EncodedImage:blob"]) == 6
    assert "/truth" not in found


def test_a_result_is_shown_with_the_images_and_the_ground_truth_of_its_drive(vps_ros, tmp_path, model):
    bag = write(tmp_path / "drive", drive())
    assert vps_ros("replay", bag, "-o", tmp_path / "out.mcap", "--model", model)[0] == 0
    gt = truth_bag(tmp_path / "gt.mcap", {i: truth(i) for i in range(6)})
    save = "--save", tmp_path / "a.rrd", "--force"
    code, shown = vps_ros("view", tmp_path / "out.mcap", "--images", bag, "--gt", gt, *save)
    assert code == 0, shown
    found = read(tmp_path / "a.rrd")
    assert len(found["/camera/image"]["EncodedImage:blob"]) == len(maps(found["/camera/panoptic"])) == 6
    # The masks of the model have a quarter of the resolution: only edges differ.
    assert all((one > 0).mean() < 0.05 for one in maps(found["/errors/map"]))
    assert maps(found["/truth/panoptic"])[2][41, 13] == 20

    code, shown = vps_ros("view", tmp_path / "out.mcap", *save)
    assert code == 0
    assert "name the recording with --images" in shown
    assert "/camera/image" not in read(tmp_path / "a.rrd")


def in_3d(path):
    """Of a recording: labels and centres of the boxes, velocities, and numbers of points of each frame."""
    found = read(path)
    boxes = found["/space/boxes"]
    points = found.get("/space/points", {}).get("Points3D:positions", [])
    return boxes["Boxes3D:labels"], boxes["Boxes3D:centers"], [len(one) for one in points]


def test_a_result_is_shown_in_3d_with_and_without_depth_images(vps_ros, tmp_path, model):
    bag, result = write(tmp_path / "drive", depth_drive()), tmp_path / "out.mcap"
    assert vps_ros("replay", bag, "-o", result, "--model", model, "--depth", DEPTH_TOPIC)[0] == 0
    save = "--save", tmp_path / "a.rrd", "--force"
    assert vps_ros("view", result, *save)[0] == 0
    labels, centres, points = in_3d(tmp_path / "a.rrd")
    assert labels == [["car 1", "car 2"]] * 6
    assert np.allclose(centres[0], (FIRST, STANDING), atol=0.02)
    assert points == []
    arrows = read(tmp_path / "a.rrd")["/space/velocities"]["Arrows3D:vectors"]
    assert np.allclose(arrows[-1], ((VELOCITY, 0, 0), (0, 0, 0)), atol=0.3)

    # The depth topic of the bag with the images is found; --depth names another one or a folder.
    code, shown = vps_ros("view", result, "--images", bag, *save)
    assert (code, f"depth: {DEPTH_TOPIC}" in shown) == (0, True)
    assert in_3d(tmp_path / "a.rrd") == (labels, centres, [96 * 64] * 6)
    code, shown = vps_ros("view", result, "--images", bag, "--depth", "/nothing", *save)
    assert (code, "no topic /nothing of depth images" in shown) == (2, True)


def test_a_result_in_another_frame_is_shown_as_the_camera_sees_it_by_the_tf_of_the_bag(vps_ros, tmp_path, model):
    bag, result = write(tmp_path / "drive", [*depth_drive(), *odometry(6)]), tmp_path / "out.mcap"
    depth = "--depth", DEPTH_TOPIC, "--objects-frame", "odom"
    assert vps_ros("replay", bag, "-o", result, "--model", model, *depth)[0] == 0
    save = "--save", tmp_path / "a.rrd", "--force"
    for flags in ([result, "--images", bag], [bag, "--objects-frame", "odom", "--model", model]):
        code, shown = vps_ros("view", *flags, *save)
        assert (code, "without depth" in shown) == (0, False)
        _, centres, points = in_3d(tmp_path / "a.rrd")
        assert points == [96 * 64] * 6
        assert np.allclose(centres[-1][1], STANDING, atol=0.05)
        # Over ground, what stays before the camera drives ahead with it.
        arrows = read(tmp_path / "a.rrd")["/space/velocities"]["Arrows3D:vectors"]
        assert np.allclose(arrows[-1][1], (0, 0, 1), atol=0.2)
    other = write(tmp_path / "other", depth_drive())
    code, shown = vps_ros("view", result, "--images", other, *save)
    assert (code, "6 frame(s) without depth: " in shown, "has no topic of TF" in shown) == (0, True, True)


def test_a_result_without_objects_in_3d_gets_them_from_a_folder(vps_ros, tmp_path, model):
    bag, result, depth = write(tmp_path / "drive", drive()), tmp_path / "out.mcap", tmp_path / "depth"
    assert vps_ros("replay", bag, "-o", result, "--model", model)[0] == 0
    depth.mkdir()
    for index in range(1, 6):
        np.save(depth / f"{START + index * TENTH}.npy", metres_of(index))
    calibration = tmp_path / "camera.yaml"
    calibration.write_text(CALIBRATION)
    flags = "--images", bag, "--depth", depth, "--camera-info", calibration, "--save", tmp_path / "a.rrd"
    code, shown = vps_ros("view", result, *flags)
    assert code == 0, shown
    assert "1 frame(s) without depth: " in shown
    labels, centres, points = in_3d(tmp_path / "a.rrd")
    assert (labels, points) == ([["car 1", "car 2"]] * 5, [96 * 64] * 5)
    assert np.allclose(centres[0][1], STANDING, atol=0.02)


def test_a_recording_with_depth_is_tracked_and_shown_in_3d(vps_ros, tmp_path, model):
    bag = write(tmp_path / "drive", depth_drive())
    assert vps_ros("view", bag, "--save", tmp_path / "a.rrd", "--model", model)[0] == 0
    assert in_3d(tmp_path / "a.rrd")[0] == [["car 1", "car 2"]] * 6


def test_the_folder_of_a_demo_is_shown_with_all_of_its_parts(vps_ros, tmp_path, model):
    folder = tmp_path / "demo"
    with writing(folder / "drive.mcap") as bag:
        bag.names()
        for index, (_, _, image) in enumerate(drive()):
            bag.ids(index, *truth(index))
            bag.bag.write_raw(
                "/camera/image_raw", image.__msgtype__, TYPES.serialize_cdr(image, image.__msgtype__), stamp(index)
            )
    assert vps_ros("replay", folder / "drive.mcap", "-o", folder / "tracked.mcap", "--model", model)[0] == 0
    code, shown = vps_ros("view", folder, "--save", tmp_path / "a.rrd")
    assert code == 0, shown
    found = read(tmp_path / "a.rrd")
    assert len(found["/camera/image"]["EncodedImage:blob"]) == len(maps(found["/errors/map"])) == 6


def test_a_folder_of_images_with_a_data_set_as_ground_truth(vps_ros, tmp_path, model):
    from vps_ros.datasets.kitti_step import map_path, save_map

    (tmp_path / "images").mkdir()
    for index in range(3):
        image = picture({0: (4 + 4 * index, 40), 1: (76, 36)})
        cv2.imwrite(str(tmp_path / "images" / f"{index:06d}.png"), image[..., ::-1])
        path = map_path(tmp_path / "gt", "0000", f"{index:06d}")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_map(path, *truth(index))
    gt = "--gt", tmp_path / "gt", "--taxonomy", "cityscapes"
    code, shown = vps_ros("view", tmp_path / "images", *gt, "--save", tmp_path / "a.rrd", "--model", model)
    assert code == 0, shown
    assert len(maps(read(tmp_path / "a.rrd")["/errors/map"])) == 3
    code, shown = vps_ros("view", tmp_path / "images", *gt, "--sequence", "7", "--save", tmp_path / "b.rrd")
    assert code == 2
    assert "no sequence 7; there are 0000" in shown


def test_a_replay_shows_what_it_writes(vps_ros, tmp_path, model):
    bag = write(tmp_path / "drive", drive())
    figures, save = tmp_path / "figures.json", ("--save", tmp_path / "a.rrd")
    code, shown = vps_ros("replay", bag, "-o", tmp_path / "a.mcap", "--model", model, *save, "--json", figures)
    assert code == 0, shown
    assert json.loads(figures.read_text())["viewer"] == {"file": {"shown": 6, "dropped": 0, "problem": None}}
    assert vps_ros("replay", bag, "-o", tmp_path / "b.mcap", "--model", model)[0] == 0
    assert (tmp_path / "a.mcap").read_bytes() == (tmp_path / "b.mcap").read_bytes()
    assert len(read(tmp_path / "a.rrd")["/plots/latency/track"]["Scalars:scalars"]) == 6


def test_a_replay_goes_on_without_its_viewer(vps_ros, tmp_path, model, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    bag = write(tmp_path / "drive", drive())
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]
        for number, (flags, reason) in enumerate(
            [
                (["--view"], "no display"),
                (["--web", "--port", port], f"port {port}"),
                (["--connect", "rerun+http://127.0.0.1:9/proxy"], "no viewer answers"),
            ]
        ):
            output = tmp_path / f"{number}.mcap"
            code, shown = vps_ros("replay", bag, "-o", output, "--model", model, *flags)
            assert code == 0
            assert output.exists()
            assert reason in next(line for line in shown.splitlines() if line.startswith("warning: "))


def test_wrong_sources_are_one_line(vps_ros, tmp_path, model):
    damaged = tmp_path / "old.rrd"
    damaged.write_bytes(b"RRF1" + bytes(50))
    save = "--save", tmp_path / "a.rrd"
    cases = [
        (["view"], "give a source"),
        (["view", "drive.mcap", "--live", "/image"], "give a source"),
        (["view", tmp_path / "none.mp4", *save], "none.mp4: no such file"),
        (["view", damaged, "--web"], "cannot be read by this version"),
        (["view", damaged, *save], "is a recording already"),
        (["view", tmp_path / "none.rrd", "--web"], "no such file"),
        (["view", "0", "--port", "70000"], "--port 70000"),
        (["replay", "x.mcap", "-o", tmp_path / "o.mcap", "--gt", "y.mcap"], "--gt: the ground truth is shown"),
    ]
    for arguments, words in cases:
        code, shown = vps_ros(*arguments)
        assert code == 2, arguments
        assert words in shown.strip().splitlines()[-1]
    assert not (tmp_path / "a.rrd").exists()


def test_ground_truth_with_other_stamps_is_reported(vps_ros, tmp_path, model):
    bag = write(tmp_path / "drive", drive())
    gt = truth_bag(tmp_path / "gt.mcap", {100: truth(0)})
    code, shown = vps_ros("view", bag, "--gt", gt, "--save", tmp_path / "a.rrd", "--model", model)
    assert code == 0
    assert "no frame has ground truth" in shown
