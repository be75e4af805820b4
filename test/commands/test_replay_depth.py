"""`vps-ros replay --depth`: objects in 3D and coloured points in the replayed bag."""

import json

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from support.bags import START, TENTH, write
from support.depth import (
    BACKGROUND,
    CALIBRATION,
    DEPTH_TOPIC,
    FAR,
    FIRST,
    NEAR,
    STANDING,
    VELOCITY,
    centre,
    cloud_points,
    depth_drive,
    metres_of,
)
from support.tf import OPTICAL, odometry
from support.worlds import CAR_ID, PAINTS, colour_model, picture
from vps_ros.commands.main import main
from vps_ros.messages.panoptic import nanoseconds
from vps_ros.recording.transforms import BagTransforms


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return colour_model(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture
def replay(model, tmp_path, capsys):
    """Runs the command in this process; gives its exit code, stderr, figures and the messages by topic."""

    def run(source, *flags):
        out, figures = tmp_path / "out.mcap", tmp_path / "f.json"
        command = ["replay", source, "-o", out, "--model", model, "--json", figures, "--force", *flags]
        code = main([*map(str, command)])
        found = {}
        if code == 0:
            with AnyReader([out]) as bag:
                for connection, _, data in bag.messages():
                    found.setdefault(connection.topic, []).append(bag.deserialize(data, connection.msgtype))
        return code, capsys.readouterr().err, json.loads(figures.read_text()) if code == 0 else {}, found

    return run


def check_objects(arrays, count):
    assert [nanoseconds(m.header.stamp) for m in arrays] == [START + i * TENTH for i in range(count)]
    for i, message in enumerate(arrays):
        assert message.header.frame_id == "camera"
        first, second = sorted(message.detections, key=lambda d: int(d.id))
        assert (first.id, second.id) == ("1", "2")
        assert centre(first) == pytest.approx((FIRST[0] + VELOCITY * i / 10, *FIRST[1:]), abs=0.1)
        assert centre(second) == pytest.approx(STANDING, abs=0.01)
        assert [first.bbox.size.x, first.bbox.size.y] == pytest.approx([0.64, 0.64])
        (result,) = first.results
        assert result.hypothesis.class_id == str(CAR_ID)
        assert result.pose.pose == first.bbox.center
        assert result.pose.covariance.reshape(6, 6)[range(3), range(3)].min() > 0


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_a_topic_of_depth_becomes_objects_in_3d(replay, tmp_path, encoding):
    bag = write(tmp_path / "bag", depth_drive(6, encoding))
    code, shown, figures, found = replay(bag, "--depth", DEPTH_TOPIC)
    assert (code, "without objects in 3D" in shown) == (0, False)
    check_objects(found["/vps/objects_3d"], 6)
    velocities = found["/vps/velocities_3d"]
    assert [m.header for m in velocities] == [m.header for m in found["/vps/objects_3d"]]
    order = [int(d.id) for d in found["/vps/objects_3d"][-1].detections]
    assert velocities[-1].track_ids.tolist() == order
    by_id = dict(zip(order, velocities[-1].velocities, strict=True))
    assert [by_id[1].x, by_id[1].z, by_id[2].x, by_id[2].z] == pytest.approx([VELOCITY, 0, 0, 0], abs=0.2)
    assert figures["depth"] == {"frames": 6, "objects": 12, "objects_without_depth": 0, "failures": {}}
    assert "/vps/panoptic_cloud" not in found


def test_without_depth_nothing_is_added(replay, tmp_path):
    bag = write(tmp_path / "bag", depth_drive(3))
    _, _, figures, found = replay(bag)
    assert "depth" not in figures
    assert "/vps/objects_3d" not in found


def test_a_folder_of_images_with_a_folder_of_depth(replay, tmp_path):
    for name in ("images", "depth"):
        (tmp_path / name).mkdir()
    for i in range(4):
        image = picture({0: (4 + 4 * i, 40), 1: (76, 36)})
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), image[..., ::-1])
        cv2.imwrite(str(tmp_path / "depth" / f"{i}.png"), np.round(metres_of(i) * 256).astype(np.uint16))
    (tmp_path / "depth" / "3.png").unlink()
    (tmp_path / "calibration.yaml").write_text(CALIBRATION)
    code, shown, figures, found = replay(
        tmp_path / "images", "--depth", tmp_path / "depth", "--depth-scale", 256, "--camera-info",
        tmp_path / "calibration.yaml",
    )  # fmt: skip
    assert code == 0
    assert len(found["/vps/tracks"]) == 4
    assert centre(found["/vps/objects_3d"][0].detections[0]) == pytest.approx(FIRST)
    assert "1 frame(s) without objects in 3D" in shown
    assert (figures["depth"]["frames"], sum(figures["depth"]["failures"].values())) == (3, 1)


def test_missing_intrinsics_are_reported_once_and_2d_continues(replay, tmp_path):
    bag = write(tmp_path / "bag", depth_drive(5, info=False))
    code, shown, figures, found = replay(bag, "--depth", DEPTH_TOPIC)
    assert code == 0
    assert len(found["/vps/tracks"]) == 5
    assert not {"/vps/objects_3d", "/vps/velocities_3d"} & found.keys()
    assert shown.count("no camera_info") == 1
    assert list(figures["depth"]["failures"].values()) == [5]
    assert (figures["frames"], figures["dropped"]) == (5, 0)


def test_the_cloud_has_colour_class_and_track_of_every_pixel(replay, tmp_path):
    bag = write(tmp_path / "bag", depth_drive(2))
    _, _, _, found = replay(bag, "--depth", DEPTH_TOPIC, "--cloud")
    clouds = found["/vps/panoptic_cloud"]
    assert len(clouds) == 2
    points = cloud_points(clouds[0])
    assert len(points) == clouds[0].width == 64 * 96
    assert {f.name for f in clouds[0].fields} == {"x", "y", "z", "rgb", "class", "track"}
    first = points[points["track"] == 1]
    # The model leaves out the corner pixels of a square.
    assert len(first) == 252
    assert set(first["class"]) == {CAR_ID}
    assert set(first["z"]) == {NEAR}
    red, green, blue = PAINTS[0]
    coloured = points[points["rgb"].view(np.uint32) == (red << 16 | green << 8 | blue)]
    assert len(coloured) == 256
    # The pixel at column 4, row 40.
    assert coloured["x"].min() == pytest.approx((4 - 47.5) / 100 * NEAR)
    assert coloured["y"].min() == pytest.approx((40 - 31.5) / 100 * NEAR)
    assert set(points["z"]) == {NEAR, FAR, BACKGROUND}


def test_objects_and_points_in_a_fixed_frame_by_the_tf_of_the_bag(replay, tmp_path):
    bag = write(tmp_path / "bag", [*depth_drive(8), *odometry(8)])
    code, _, figures, found = replay(bag, "--depth", DEPTH_TOPIC, "--cloud", "--objects-frame", "odom")
    assert (code, figures["depth"]["frames"], figures["depth"]["failures"]) == (0, 8, {})
    for i, message in enumerate(found["/vps/objects_3d"]):
        assert message.header.frame_id == "odom"
        (standing,) = [d for d in message.detections if d.id == "2"]
        x, y, z = STANDING
        # What stays at the same distance of the camera moves with it.
        assert centre(standing) == pytest.approx((z + i / 10, -x, 1.5 - y), abs=0.1)
        turn = standing.bbox.center.orientation
        assert (turn.x, turn.y, turn.z, turn.w) == pytest.approx(OPTICAL)
    velocities = found["/vps/velocities_3d"][-1]
    by_id = dict(zip(velocities.track_ids.tolist(), velocities.velocities, strict=True))
    assert (by_id[2].x, by_id[2].y, by_id[2].z) == pytest.approx((1, 0, 0), abs=0.1)
    assert by_id[1].y == pytest.approx(-VELOCITY, abs=0.3)
    cloud = found["/vps/panoptic_cloud"][-1]
    points = cloud_points(cloud)
    assert cloud.header.frame_id == "odom"
    assert set(points["x"][points["track"] == 2]) == {np.float32(FAR + 0.7)}


def test_frames_before_the_first_transform_have_no_objects_in_3d(replay, tmp_path):
    bag = write(tmp_path / "bag", [*depth_drive(5), *odometry(5, first=2)])
    code, shown, figures, found = replay(bag, "--depth", DEPTH_TOPIC, "--objects-frame", "odom")
    assert (code, len(found["/vps/tracks"]), len(found["/vps/objects_3d"])) == (0, 5, 3)
    assert "2 frame(s) without objects in 3D: no transform from 'camera' to 'odom': 'base' is in TF from" in shown
    assert list(figures["depth"]["failures"].values()) == [2]


@pytest.mark.parametrize(
    ("frame", "rows", "words"),
    [
        ("odom", [], "no topic of TF (tf2_msgs/msg/TFMessage), so that the frame odom is unknown"),
        ("odm", odometry(3), "TF has no frame 'odm'; its frames are base, camera, odom"),
    ],
)
def test_a_frame_that_the_bag_does_not_have(replay, tmp_path, frame, rows, words):
    bag = write(tmp_path / "bag", [*depth_drive(3), *rows])
    code, shown, _, _ = replay(bag, "--depth", DEPTH_TOPIC, "--objects-frame", frame)
    assert code == 2
    assert words in shown.strip().splitlines()[-1]
    assert not (tmp_path / "out.mcap").exists()


def test_the_same_bag_twice_gives_the_same_bytes(model, tmp_path):
    bag = write(tmp_path / "bag", depth_drive(4))
    for jobs in (1, 3):
        out = tmp_path / f"{jobs}.mcap"
        flags = ["--depth", DEPTH_TOPIC, "--cloud", "--jobs", str(jobs)]
        assert main(["replay", str(bag), "-o", str(out), "--model", str(model), *flags]) == 0
    assert (tmp_path / "1.mcap").read_bytes() == (tmp_path / "3.mcap").read_bytes()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cloud"], "--cloud needs --depth"),
        (["--camera-info", "x.yaml"], "--camera-info needs --depth"),
        (["--objects-frame", "odom"], "--objects-frame needs --depth"),
        (["--depth", "/no/such"], "no topic /no/such of depth images"),
        (["--depth", DEPTH_TOPIC, "--depth-slop", "-1"], "--depth-slop -1"),
        (["--depth", DEPTH_TOPIC, "--depth-scale", "0"], "--depth-scale 0"),
        (["--depth", DEPTH_TOPIC, "--camera-info", "absent.yaml"], "absent.yaml"),
    ],
)
def test_flags_that_cannot_be_used(replay, tmp_path, flags, words):
    code, shown, _, _ = replay(write(tmp_path / "bag", depth_drive(2)), *flags)
    assert code == 2
    assert words in shown.strip().splitlines()[-1]


def test_a_folder_of_images_has_no_topics(replay, tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "0.png"), picture({}))
    code, shown, _, _ = replay(tmp_path / "images", "--depth", "/camera/depth")
    assert (code, "only bags have topics of depth" in shown) == (2, True)
    code, shown, _, _ = replay(tmp_path / "images", "--depth", tmp_path / "images", "--objects-frame", "odom")
    assert (code, "only bags have TF" in shown) == (2, True)


def test_generated_streets_with_depth(replay, tmp_path):
    pytest.importorskip("panda3d")
    from vps_ros.datasets.streets import drive

    bag = tmp_path / "streets.mcap"
    size = ["--frames", "2", "--size", "160x96", "--scenario", "crowd"]
    assert main(["synth", "-o", str(bag), "--format", "bag", "--depth", *size]) == 0
    with AnyReader([bag]) as reader:
        topics = {c.topic: c.msgcount for c in reader.connections}
        images = [m for m in reader.messages() if m[0].topic == DEPTH_TOPIC]
        depth = reader.deserialize(images[0][2], images[0][0].msgtype)
    assert topics[DEPTH_TOPIC] == topics["/camera/depth/camera_info"] == topics["/tf"] == 2
    with BagTransforms(bag, "world") as transforms_of:
        poses = [f.pose for f in drive("crowd", 0, 2, (160, 96))]
        for i, pose in enumerate(poses):
            camera = transforms_of("camera", nanoseconds(depth.header.stamp) + i * TENTH)
            assert camera.translation == pytest.approx(pose[:3, 3])
            assert camera.rotation == pytest.approx(pose[:3, :3])
    assert depth.encoding == "32FC1"
    metres = depth.data.view(np.float32)
    assert np.isinf(metres).any() and np.isfinite(metres).any()
    assert main(["synth", "-o", str(tmp_path / "folder"), "--depth", *size]) == 0
    stored = np.load(tmp_path / "folder" / "depth" / "0000" / "000000.npy")
    assert np.array_equal(stored.ravel(), metres)
