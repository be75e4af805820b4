"""Bags between this package and `ros2 bag`: info, play and record."""

import json
import re
import sys

import cv2
import numpy as np
import pytest

from support import SUPPORT
from support.bags import START, TENTH, TOPIC, TYPES, drive, jpeg, raw, write
from support.ros_workspace import contents, needs_ros, needs_rosbag2
from support.worlds import colour_model, picture
from vps_ros.commands.main import main


def played(workspace, path, out, late=None):
    """What rclpy subscribers hear while `ros2 bag play` plays the bag."""
    types, messages = contents(path)
    topics = {topic: (types[topic], len(messages[topic])) for topic in messages}
    arguments = [path, out, json.dumps(topics), *([late] if late else [])]
    done = workspace.run(sys.executable, SUPPORT / "ros_listener.py", *arguments)
    assert done.returncode == 0, done.stdout
    return json.loads(out.read_text())


@needs_ros
@needs_rosbag2
@pytest.mark.slow
@pytest.mark.parametrize("output", ["file.mcap", "folder"])
def test_ros2_bag_info_reads_our_bags(workspace, replayed, output):
    shown = workspace.ros2("bag", "info", output, cwd=replayed).stdout
    rows = re.findall(r"Topic: (\S+) \| Type: (\S+) \| Count: (\d+) \| Serialization Format: (\S+)", shown)
    assert sorted(rows) == [
        ("/vps/detections", "vision_msgs/msg/Detection2DArray", "6", "cdr"),
        ("/vps/label_info", "vision_msgs/msg/LabelInfo", "1", "cdr"),
        ("/vps/panoptic", "sensor_msgs/msg/Image", "6", "cdr"),
        ("/vps/segments", "vps_ros/msg/PanopticSegments", "6", "cdr"),
        ("/vps/tracks", "vps_ros/msg/TrackedObjects", "6", "cdr"),
    ]
    assert re.search(r"Messages:\s+25\b", shown)
    assert float(re.search(r"Duration:\s+([\d.]+)", shown)[1]) == 0.5
    for name, stamp in (("Start", START), ("End", START + 5 * TENTH)):
        seconds, nanoseconds = re.search(rf"{name}:.*\((\d+)\.(\d+)\)", shown).groups()
        assert int(seconds) * 10**9 + int(nanoseconds.ljust(9, "0")) == stamp


@needs_ros
@needs_rosbag2
@pytest.mark.slow
@pytest.mark.parametrize("output", ["file.mcap", "folder"])
def test_ros2_bag_play_publishes_what_we_wrote(workspace, replayed, output, tmp_path):
    received = played(workspace, replayed / output, tmp_path / "received.json", late="/vps/label_info")
    _, written = contents(replayed / output)
    assert {topic: len(messages) for topic, messages in received.items()} == {
        "/vps/detections": 6,
        "/vps/label_info": 1,
        "/vps/panoptic": 6,
        "/vps/segments": 6,
        "/vps/tracks": 6,
    }
    assert received == written


@needs_ros
@needs_rosbag2
@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--compressed",), ("--storage", "sqlite3")], ids=" ".join)
def test_ros2_bag_play_publishes_packed_images(workspace, flags, tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(4):
        assert cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), picture({0: (8 * i, 40)})[:, :, ::-1])
    assert main(["pack", str(tmp_path / "images"), "-o", str(tmp_path / "bag"), *flags]) == 0
    received = played(workspace, tmp_path / "bag", tmp_path / "received.json")
    topic = f"{TOPIC}/compressed" if "--compressed" in flags else TOPIC
    assert received == contents(tmp_path / "bag")[1]
    for i, message in enumerate(received[topic]):
        data = np.array(message["data"], np.uint8)
        pixels = (
            cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1] if "--compressed" in flags else data.reshape(64, 96, 3)
        )
        assert np.array_equal(pixels, picture({0: (8 * i, 40)}))


# Messages that find the line to the compressor full are not recorded: it must hold them all.
ZSTD = ["--compression-format", "zstd", "--compression-queue-size", "100", "--compression-mode"]
RECORDINGS = {
    "mcap": ["-s", "mcap"],
    "mcap-chunks": ["-s", "mcap", "--storage-preset-profile", "zstd_fast"],
    "mcap-file": ["-s", "mcap", *ZSTD, "file"],
    "mcap-message": ["-s", "mcap", *ZSTD, "message"],
    "sqlite": ["-s", "sqlite3"],
    "sqlite-file": ["-s", "sqlite3", *ZSTD, "file"],
    "sqlite-message": ["-s", "sqlite3", *ZSTD, "message"],
}


@pytest.fixture(scope="module")
def recorded(workspaces, tmp_path_factory):
    """Recordings, by `ros2 bag record`, of one drive that rclpy publishes raw and compressed."""
    folder = tmp_path_factory.mktemp("recorded")
    messages = [*drive(6), *drive(6, f"{TOPIC}/compressed", jpeg)]
    given = {
        f"m{i}": np.frombuffer(TYPES.serialize_cdr(m, m.__msgtype__), np.uint8) for i, (_, _, m) in enumerate(messages)
    }
    topics, types = [topic for topic, _, _ in messages], [message.__msgtype__ for _, _, message in messages]
    np.savez(folder / "messages.npz", topics=topics, types=types, **given)
    arguments = [folder / "messages.npz", folder, json.dumps(RECORDINGS)]
    done = workspaces("plain").run(sys.executable, SUPPORT / "ros_recorder.py", *arguments)
    assert done.returncode == 0, done.stdout
    return folder


@needs_ros
@needs_rosbag2
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", "compressed"])
@pytest.mark.parametrize("name", RECORDINGS)
def test_replay_reads_what_ros2_bag_record_wrote(recorded, name, kind, tmp_path, capsys):
    topic, make = (TOPIC, raw) if kind == "raw" else (f"{TOPIC}/compressed", jpeg)
    model = colour_model(tmp_path / "colours.onnx")
    written = write(tmp_path / "written", drive(6, topic, make))
    for bag, output in ((recorded / name, "recorded.mcap"), (written, "expected.mcap")):
        assert main(["replay", str(bag), "-o", str(tmp_path / output), "--model", str(model), "--topic", topic]) == 0
        assert "skipped" not in capsys.readouterr().err
    assert contents(tmp_path / "recorded.mcap") == contents(tmp_path / "expected.mcap")
    assert len(contents(tmp_path / "recorded.mcap")[1]["/vps/tracks"]) == 6
