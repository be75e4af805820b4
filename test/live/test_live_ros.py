"""`vps-ros live` with a real ROS 2: its tools show the node, its nodes exchange messages with it."""

import importlib.util
import re
import shutil
import subprocess

import pytest

MISSING = [tool for tool in ("ros2",) if shutil.which(tool) is None]
MISSING += [module for module in ("rclpy", "cyclonedds") if importlib.util.find_spec(module) is None]
if MISSING:
    pytest.skip(f"no ROS 2 to meet: {', '.join(MISSING)} missing", allow_module_level=True)

from rclpy.utilities import get_rmw_implementation_identifier  # noqa: E402

RMW = get_rmw_implementation_identifier()
if RMW not in ("rmw_cyclonedds_cpp", "rmw_fastrtps_cpp"):
    pytest.skip(f"{RMW} does not speak DDS as we do", allow_module_level=True)

from support import SUPPORT  # noqa: E402
from support.dds import TYPES, DdsSession, environment, until  # noqa: E402
from support.worlds import colour_model  # noqa: E402
from vps_ros.live.dds_serialisation import type_hash  # noqa: E402
from vps_ros.messages.panoptic import CAMERA_INFO, CAMERA_INFO_TYPE, LABEL_INFO  # noqa: E402

ALONE = ("--no-daemon", "--spin-time", "5")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dds(tmp_path_factory):
    """A camera of rclpy, and `vps-ros live`, which are connected."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(tagged=RMW == "rmw_cyclonedds_cpp").items():
            patch.setenv(name, value)
        dds = DdsSession()
        model = colour_model(tmp_path_factory.mktemp("model") / "colours.onnx")
        dds.run(SUPPORT / "ros_camera.py", "/camera/image_raw", "best_effort")
        dds.run(SUPPORT / "ros_camera.py", "/rear/image_raw", "reliable")
        dds.live(model, "--panoptic-ids", "true")
        dds.listen("tracks")
        until(lambda: len(dds.received["tracks"]) > 3, "tracks of a camera of rclpy")
        yield dds
        dds.close()


def ros2(*arguments):
    done = subprocess.run(["ros2", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warn" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    return done.stdout


def test_images_of_rclpy_are_tracked(dds, tmp_path):
    assert {m.header.frame_id for m in dds.received["tracks"]} == {"rclpy_camera"}
    assert {o.track_id for m in dds.received["tracks"] for o in m.objects} == {1, 2}


def test_a_reliable_publisher_of_rclpy_loses_nothing(dds, tmp_path):
    model = colour_model(tmp_path / "colours.onnx")
    topics = ("--image", "/rear/image_raw", "--name", "other", "--reliability", "reliable")
    other = dds.vps("live", *topics, "--model", model)
    before = len(dds.received["tracks"])
    dds.listen("tracks", prefix="/other")
    until(lambda: any(m.objects[0].hits <= 2 for m in dds.received["tracks"][before:] if m.objects), "its first tracks")
    assert other.end() == 0


def test_large_images_of_rclpy_arrive_without_retransmission(dds, tmp_path):
    model = colour_model(tmp_path / "colours.onnx")
    camera = dds.run(SUPPORT / "ros_camera.py", "/large/image_raw", "best_effort", 20)
    live = dds.vps("live", "--image", "/large/image_raw", "--name", "large", "--model", model)
    dds.listen("panoptic", prefix="/large")
    until(lambda: len(dds.received["panoptic"]) > 3, "large pictures")
    assert {(m.height, m.width) for m in dds.received["panoptic"]} == {(20 * 64, 20 * 96)}
    assert live.end() == 0
    camera.end()


def test_topics_are_listed_with_their_types(dds):
    shown = ros2("topic", "list", "-t", *ALONE)
    listed = dict(re.findall(r"^(\S+) \[(\S+)\]$", shown, re.MULTILINE))
    for name, kind in TYPES.items():
        assert listed[f"/vps/{name}"] == kind
    assert listed["/diagnostics"] == "diagnostic_msgs/msg/DiagnosticArray"


@pytest.mark.parametrize("name", ["tracks", LABEL_INFO])
def test_endpoints_are_described_as_those_of_a_node(dds, name):
    shown = ros2("topic", "info", "-v", f"/vps/{name}", *ALONE)
    publisher = shown.partition("Subscription count")[0]
    assert f"Topic type hash: {type_hash(TYPES[name])}" in publisher
    depth = f"KEEP_LAST ({1 if name == LABEL_INFO else 10})"
    for line in (
        "Reliability: RELIABLE",
        # Fast DDS does not tell of others what it is, not even of its own.
        f"History (Depth): {'UNKNOWN' if RMW == 'rmw_fastrtps_cpp' else depth}",
        f"Durability: {'TRANSIENT_LOCAL' if name == LABEL_INFO else 'VOLATILE'}",
        "Lifespan: Infinite",
        "Deadline: Infinite",
        "Liveliness: AUTOMATIC",
    ):
        assert line in publisher


def test_the_node_is_listed_with_its_endpoints(dds):
    assert {"/vps", "/camera", "/rear"} <= set(ros2("node", "list", *ALONE).splitlines())
    shown = ros2("node", "info", "/vps", *ALONE)
    rows = r"((?:    .+\n)*)"
    has = dict(re.findall(rf"^  (\w[\w ]+):\n{rows}", shown, re.MULTILINE))
    outputs = {f"/vps/{name}": kind for name, kind in TYPES.items()}
    outputs["/diagnostics"] = "diagnostic_msgs/msg/DiagnosticArray"
    for title, expected in (
        ("Subscribers", {f"/camera/{CAMERA_INFO}": CAMERA_INFO_TYPE, "/camera/image_raw": "sensor_msgs/msg/Image"}),
        ("Publishers", outputs),
        ("Service Servers", {"/vps/reset_tracks": "std_srvs/srv/Trigger", "/vps/enable": "std_srvs/srv/SetBool"}),
    ):
        assert dict(re.findall(r"(\S+): (\S+)", has[title])) == expected


def test_echo_shows_messages_also_late(dds):
    shown = ros2("topic", "echo", "--once", "--no-arr", "/vps/panoptic", *ALONE)
    assert "frame_id: rclpy_camera" in shown
    assert "encoding: mono16" in shown
    late = ("--qos-durability", "transient_local", "--qos-reliability", "reliable", "/vps/label_info")
    assert "class_name: road" in ros2("topic", "echo", "--once", *late, *ALONE)
    assert "name: 'vps: pipeline'" in ros2("topic", "echo", "--once", "/diagnostics", *ALONE)


def test_hz_shows_the_rate(dds):
    shown = dds.run(shutil.which("ros2"), "topic", "hz", "/vps/tracks")
    rate = float(shown.says("average rate").split()[-1])
    assert 1 < rate < 20
    shown.end()
    assert "warn" not in shown.shown.lower()


def test_services_are_listed(dds):
    listed = ros2("service", "list", "-t", *ALONE)
    assert "/vps/reset_tracks [std_srvs/srv/Trigger]" in listed
    assert "/vps/enable [std_srvs/srv/SetBool]" in listed


@pytest.mark.skipif(
    RMW == "rmw_fastrtps_cpp",
    reason="rmw_fastrtps_cpp tells requests by where in RTPS they come from, which cyclonedds shows nobody",
)
def test_services_answer(dds):
    before = dds.received["tracks"][-1].sequence_id
    assert "success=True" in ros2("service", "call", "/vps/reset_tracks", "std_srvs/srv/Trigger")
    until(lambda: dds.received["tracks"][-1].sequence_id > before, "a new sequence")
    answer = ros2("service", "call", "/vps/enable", "std_srvs/srv/SetBool", "{data: true}")
    assert "message='enabled'" in answer
