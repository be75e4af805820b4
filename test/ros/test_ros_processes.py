"""The node in a process of its own, its launch files, and the commands that need no ROS beside it."""

import importlib.util
import itertools
import signal
import sys
import time

import pytest

from support import ROOT
from support.bags import START, TENTH, TOPIC, drive, jpeg, plain, raw, write
from support.ros_workspace import contents
from support.worlds import picture

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from rclpy.utilities import get_rmw_implementation_identifier  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from support.ros_session import PATIENCE, wait  # noqa: E402
from vps_ros.config import Config, LiveConfig, NodeConfig, parameters  # noqa: E402
from vps_ros.messages.panoptic import nanoseconds  # noqa: E402

COMPRESSED = "sensor_msgs/msg/CompressedImage"


def node_of(process, *arguments):
    return process(sys.executable, ROOT / "scripts" / "vps", "--ros-args", *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_process_works_and_ends_cleanly(ros, model, process, number):
    vps = node_of(process, "-r", f"image:={TOPIC}", "-p", f"model:={model}")
    tracks = ros.listen("/vps/tracks")
    camera = ros.camera(TOPIC).matched()
    # Discovery takes time: the first frames may be lost.
    for count in itertools.count():
        camera.send(raw(picture({0: (8, 40)}), START + count * TENTH))
        time.sleep(0.1)
        if tracks:
            break
    assert ros.state() == "active"
    vps.send_signal(number)
    assert vps.wait(PATIENCE) == 0, vps.log.read_text()
    assert "Traceback" not in vps.log.read_text()


@pytest.mark.slow
def test_without_autostart_the_node_waits(ros, model, process):
    node_of(process, "-p", f"model:={model}", "-p", "autostart:=false")
    assert ros.state() == "unconfigured"
    ros.run()
    assert ros.state() == "active"


@pytest.mark.slow
def test_the_file_of_defaults_is_accepted(ros, process):
    vps = node_of(process, "--params-file", ROOT / "config" / "vps.yaml", "-p", "autostart:=false")
    assert ros.state() == "unconfigured"
    for kind in (Config, LiveConfig, NodeConfig):
        for p in parameters(kind):
            expected = False if p.name == "autostart" else list(p.default) if p.type is tuple else p.default
            assert ros.get(p.name) == expected, p.name
    vps.send_signal(signal.SIGINT)
    assert vps.wait(PATIENCE) == 0
    assert "unknown parameter" not in vps.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("model:=/no/such.onnx", ["/no/such.onnx"]),
        ("thing_threshold:=7.0", ["thing_threshold", "7.0"]),
        ("tracker:=magic", ["tracker", "'magic' is not one of"]),
        ("cameras:=front", ["cameras", "STRING_ARRAY"]),
        ("config:=/no/such.yaml", ["config", "--params-file /no/such.yaml"]),
    ],
)
def test_a_process_that_cannot_start_ends_with_2_and_the_reason(process, parameter, words):
    vps = node_of(process, "-p", parameter)
    assert vps.wait(PATIENCE) == 2
    for word in words:
        assert word in vps.log.read_text()
    assert "Traceback" not in vps.log.read_text()


@pytest.mark.parametrize(
    ("content", "words"), [(None, ["Error opening YAML file"]), ("memory_tau: 60\n", ["ros__parameters", "`/**:`"])]
)
def test_a_parameter_file_that_cannot_be_read_is_one_line(process, tmp_path, content, words):
    file = tmp_path / "parameters.yaml"
    if content is not None:
        file.write_text(content)
    vps = node_of(process, "--params-file", file)
    assert vps.wait(PATIENCE) == 2
    # rcl itself logs a line before.
    (line,) = [line for line in vps.log.read_text().splitlines() if "[rcl]" not in line]
    assert str(file) in line
    for word in words:
        assert word in line


@pytest.mark.slow
def test_a_killed_node_can_be_started_again(ros, model, process):
    tracks = ros.listen("/vps/tracks")
    camera = ros.camera("/image")
    stamp = START
    for _ in range(2):
        vps = node_of(process, "-p", f"model:={model}")
        camera.matched()
        before = len(tracks)
        while len(tracks) < before + 3:
            stamp += TENTH
            camera.send(raw(picture({0: (8, 40)}), stamp))
            time.sleep(0.05)
        vps.kill()
        vps.wait()
        wait(lambda: not camera.listeners, "the end of the node")
    assert {o.track_id for o in tracks[-1].objects} == {1}


@pytest.mark.slow
def test_the_launch_file_tracks_a_camera(ros, model, process):
    """The one of the sourced workspace."""
    options = [f"image:={TOPIC}/compressed", f"model:={model}"]
    launched = process("ros2", "launch", "vps_ros", "vps.launch.py", *options)
    camera = ros.camera(f"{TOPIC}/compressed", kind=COMPRESSED).matched()
    tracks = ros.listen("/vps/tracks").matched()
    for count in itertools.count():
        camera.send(jpeg(picture({0: (8, 40)}), START + count * TENTH))
        time.sleep(0.1)
        if tracks:
            break
    launched.send_signal(signal.SIGINT)
    assert launched.wait(PATIENCE) == 0
    assert "process has finished cleanly" in launched.log.read_text()


@pytest.mark.skipif(importlib.util.find_spec("ros2bag") is None, reason="rosbag2 is not installed")
@pytest.mark.slow
def test_a_bag_goes_through_the_node_and_its_results_are_recorded(model, process, tmp_path):
    bag, out = write(tmp_path / "bag", drive(20)), tmp_path / "out"
    options = [f"bag:={bag}", f"output:={out}", f"topic:={TOPIC}", f"model:={model}", "node:=true"]
    launched = process("ros2", "launch", "vps_ros", "replay.launch.py", *options)
    assert launched.wait(PATIENCE) == 0, launched.log.read_text()
    found = contents(out)[1]
    assert found.keys() == {f"/vps/{name}" for name in ("tracks", "segments", "detections", "panoptic", "label_info")}
    # In real time a frame may give way to a newer one.
    assert found["/vps/tracks"]
    assert {o["track_id"] for m in found["/vps/tracks"] for o in m["objects"]} == {1, 2}


# Together with the commands that need no ROS

needs_dds = pytest.mark.skipif(
    importlib.util.find_spec("cyclonedds") is None, reason='cyclonedds is missing; pip install "vps_ros[live]"'
)


def without_ros(process, *arguments):
    return process(sys.executable, "-m", "vps_ros.commands.main", *arguments)


@needs_dds
@pytest.mark.slow
def test_the_node_tracks_what_play_publishes(ros, model, process, tmp_path):
    bag = write(tmp_path / "bag", drive(6))
    # Best effort, the first image may come before the two have found each other.
    ros.node(f"image:={TOPIC}", model=model, reliability="reliable")
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    player = without_ros(process, "play", bag, "--rate", "0.2")
    assert player.wait(PATIENCE) == 0, player.log.read_text()
    assert [nanoseconds(m.header.stamp) for m in tracks.until(6)] == [START + i * TENTH for i in range(6)]
    assert [{o.track_id for o in m.objects} for m in tracks] == [{1, 2}] * 6


@needs_dds
@pytest.mark.slow
def test_live_and_the_node_publish_the_same_messages(ros, model, process):
    """The same frames through both, side by side."""
    ros.node(f"image:={TOPIC}", model=model)
    ros.run()
    options = ["--image", TOPIC, "--model", model, "--name", "bare", "--reliability", "reliable"]
    live = without_ros(process, "live", *options)
    names = ("tracks", "segments", "detections", "panoptic")
    received = {(node, name): ros.listen(f"/{node}/{name}").matched() for node in ("vps", "bare") for name in names}
    camera = ros.camera(TOPIC)
    wait(lambda: camera.listeners == 2, "both")
    # Nothing tells this process whether the other one has found all that listens here.
    time.sleep(1)
    for count, (_, _, message) in enumerate(drive(4), 1):
        camera.send(message)
        for messages in received.values():
            messages.until(count)
    for name in names:
        assert [plain(m) for m in received["bare", name]] == [plain(m) for m in received["vps", name]]
    labels = [ros.listen(f"/{node}/label_info", latched=True).until(1)[0].class_map for node in ("vps", "bare")]
    assert [plain(c) for c in labels[0]] == [plain(c) for c in labels[1]]
    if get_rmw_implementation_identifier() == "rmw_cyclonedds_cpp":
        # Others tell requests by what cyclonedds shows nobody.
        assert ros.call(Trigger, "/bare/reset_tracks").success
    live.send_signal(signal.SIGINT)
    assert live.wait(PATIENCE) == 0, live.log.read_text()
