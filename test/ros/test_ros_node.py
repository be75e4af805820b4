"""The node in a real ROS 2: lifecycle, parameters, services, quality of service, and messages as in a replay."""

import importlib.util
import itertools
import logging
import signal
import sys
import time

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from support import ROOT
from support.bags import START, TENTH, TOPIC, TYPES, camera_info, drive, jpeg, plain, raw, write
from support.worlds import colour_model, picture

rclpy = pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from rcl_interfaces.msg import ParameterType  # noqa: E402
from rcl_interfaces.srv import SetParametersAtomically  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.utilities import get_rmw_implementation_identifier  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from support.ros_session import BEST_EFFORT, PATIENCE, RELIABLE, Log, RosSession, play, wait, workers  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.config import Config, LiveConfig, NodeConfig, may_be_minus_one, parameters  # noqa: E402
from vps_ros.messages.panoptic import nanoseconds  # noqa: E402

COMPRESSED = "sensor_msgs/msg/CompressedImage"
STATES = {
    # From a state, by a transition, to a state.
    ("unconfigured", "configure"): "inactive",
    ("inactive", "activate"): "active",
    ("active", "deactivate"): "inactive",
    ("inactive", "cleanup"): "unconfigured",
    ("unconfigured", "unconfigured_shutdown"): "finalized",
    ("inactive", "inactive_shutdown"): "finalized",
    ("active", "active_shutdown"): "finalized",
}
SHORTEST = {
    "unconfigured": (),
    "inactive": ("configure",),
    "active": ("configure", "activate"),
    "finalized": ("configure", "activate", "active_shutdown"),
}
TRANSITIONS = sorted({transition for _, transition in STATES})


@pytest.fixture
def ros():
    ros = RosSession()
    yield ros
    ros.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(colour_model(tmp_path_factory.mktemp("model") / "colours.onnx"))


def by_topic(path):
    """Messages of a bag by topic, as JSON has them."""
    found = {}
    with AnyReader([path]) as bag:
        for connection, _, data in bag.messages():
            found.setdefault(connection.topic, []).append(plain(bag.deserialize(data, connection.msgtype)))
    return found


@pytest.fixture
def log(capfd):
    return Log(capfd)


# What comes out


def test_messages_are_those_of_a_replay(ros, model, tmp_path):
    bag = write(tmp_path / "bag", drive(6))
    assert main(["replay", str(bag), "-o", str(tmp_path / "out.mcap"), "--model", model]) == 0
    expected = by_topic(tmp_path / "out.mcap")
    ros.node(f"image:={TOPIC}", model=model)
    ros.run()
    topics = ("/vps/tracks", "/vps/segments", "/vps/detections", "/vps/panoptic")
    received = {topic: ros.listen(topic).matched() for topic in topics}
    camera = ros.camera(TOPIC).matched()
    for count, (_, _, message) in enumerate(drive(6), 1):
        camera.send(message)
        for topic in topics:
            received[topic].until(count)
    assert {topic: [plain(m) for m in messages] for topic, messages in received.items()} == {
        topic: expected[topic] for topic in topics
    }
    (labels,) = ros.listen("/vps/label_info", latched=True).until(1)
    (written,) = expected["/vps/label_info"]
    # The node has no image yet when it publishes them.
    assert {**plain(labels), "header": written["header"]} == written


def test_headers_are_those_of_the_image_and_ids_are_stable(ros, model):
    ros.node(model=model, panoptic_ids=True)
    ros.run()
    outputs = [ros.listen(f"/vps/{name}").matched() for name in ("tracks", "overlay", "panoptic_ids", "panoptic")]
    camera = ros.camera("/image").matched()
    ids = []
    for count, (_, stamp, message) in enumerate(drive(5), 1):
        camera.send(message)
        for received in outputs:
            header = received.until(count)[-1].header
            assert (nanoseconds(header.stamp), header.frame_id) == (stamp, "camera")
        ids.append({o.track_id for o in outputs[0][-1].objects})
    assert ids == [{1, 2}] * 5
    overlay, panoptic_ids, panoptic = (received[-1] for received in outputs[1:])
    assert (overlay.encoding, panoptic_ids.encoding, panoptic.encoding) == ("rgb8", "32SC1", "mono16")
    pixels = np.frombuffer(panoptic_ids.data, np.int32).reshape(64, 96)
    assert {int(p) for p in np.unique(pixels)} == {0, 10_000_000, 13_000_001, 13_000_002}


def test_camera_info_and_compressed_images_come_with_the_frames(ros, model):
    ros.node("image:=/rig/image_raw", model=model)
    ros.run()
    infos = ros.listen("/vps/camera_info", "sensor_msgs/msg/CameraInfo").matched()
    overlays = ros.listen("/vps/overlay/compressed", COMPRESSED).matched()
    calibration = ros.camera("/rig/camera_info", kind="sensor_msgs/msg/CameraInfo").matched()
    camera = ros.camera("/rig/image_raw").matched()
    calibration.send(camera_info(7))
    for count, (_, stamp, message) in enumerate(drive(60), 1):
        camera.send(message)
        assert nanoseconds(overlays.until(count)[-1].header.stamp) == stamp
        if infos:
            break
    assert nanoseconds(infos[0].header.stamp) == stamp
    assert infos[0].k.tolist() == list(range(9))


def test_outputs_without_subscribers_are_not_computed(ros, model):
    node = ros.node(model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    (camera,) = node.live.cameras
    assert camera.sink.wants("tracks")
    assert not any(camera.sink.wants(name) for name in ("overlay", "panoptic", "segments", "detections"))
    assert not node.count_publishers("/vps/panoptic_ids") and not camera.sink.wants("panoptic_ids")
    play(ros.camera("/image").matched(), tracks)
    assert len(tracks) == 4


# Images in


@pytest.mark.parametrize("topic", ["/front/image_raw/compressed", "/front/misnamed"])
def test_compressed_images_are_read_whatever_their_topic_is_called(ros, model, topic):
    ros.node(f"image:={topic}", model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera(topic, kind=COMPRESSED).matched()
    play(camera, tracks, drive(3, make=jpeg))
    assert {o.track_id for o in tracks[-1].objects} == {1, 2}


def test_padded_rows_are_read(ros, model):
    ros.node(model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    for count, (_, _, message) in enumerate(drive(2), 1):
        rows = np.zeros((64, 96 * 3 + 32), np.uint8)
        rows[:, : 96 * 3] = message.data.reshape(64, -1)
        message.step, message.data = rows.shape[1], rows.reshape(-1)
        camera.send(message)
        assert len(tracks.until(count)[-1].objects) == 2


def test_bad_images_are_logged_once_and_counted(ros, model, log):
    ros.node(model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    good = drive(4)
    play(camera, tracks, good[:1])
    for bad in range(3):
        odd = raw(picture({}), START + bad, "martian8")
        camera.send(odd)
        wait(lambda bad=bad: ros.figures().failed == bad + 1, "the failure")
    camera.send_bytes(b"\0\1\0\0no image at all")
    wait(lambda: ros.figures().failed == 4, "the failure")
    short, empty = raw(picture({}), START), raw(picture({}), START)
    short.data = short.data[:-5]
    empty.width = empty.height = empty.step = 0
    empty.data = empty.data[:0]
    for failed, odd in enumerate((short, empty), 5):
        camera.send(odd)
        wait(lambda failed=failed: ros.figures().failed == failed, "the failure")
    play(camera, tracks, good[1:], already=1)
    assert {o.track_id for o in tracks[-1].objects} == {1, 2}
    log.says("martian8", "logged once")
    log.says("is not a sensor_msgs/msg/Image")
    log.says("has step 288 and", "bytes of data")
    log.says("image of 0x0 pixels")
    assert log.count("martian8") == 1


def test_an_image_without_a_stamp_gets_the_time_of_the_node(ros, model):
    ros.node(model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    before = time.time_ns()
    ros.camera("/image").matched().send(raw(picture({0: (8, 40)}), 0))
    assert before <= nanoseconds(tracks.until(1)[0].header.stamp) <= time.time_ns()


def test_time_that_jumps_back_starts_a_sequence(ros, model):
    ros.node(model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    play(camera, tracks)
    play(camera, tracks, already=4)
    assert [m.sequence_id for m in tracks] == [0] * 4 + [1] * 4
    assert {o.track_id for o in tracks[-1].objects} == {3, 4}


# Quality of service


@pytest.mark.parametrize(
    ("offered", "asked"), [(RELIABLE, "best_effort"), (BEST_EFFORT, "best_effort"), (RELIABLE, "reliable")]
)
def test_images_of_compatible_publishers_arrive(ros, model, offered, asked):
    ros.node(model=model, reliability=asked)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    play(ros.camera("/image", offered).matched(), tracks)


def test_incompatible_qos_is_logged_with_both_sides_and_what_to_set(ros, model, log):
    ros.node(model=model, reliability="reliable")
    ros.run()
    ros.camera("/image", BEST_EFFORT)
    log.says("/image", "/cameras", "offers best_effort", "asks for reliable", "set reliability best_effort")


def test_a_subscriber_with_incompatible_qos_is_logged(ros, model, log):
    ros.node(model=model)
    ros.run()
    ros.listen("/vps/tracks", latched=True)
    log.says("nothing goes from", "tracks", "/peer", "offers reliable, volatile", "set durability volatile")


def test_overrides_win_over_parameters(ros, model):
    overrides = {
        "qos_overrides./image.subscription.reliability": "reliable",
        "qos_overrides./vps/panoptic.publisher.reliability": "best_effort",
    }
    node = ros.node(model=model, **overrides)
    ros.run()
    (asked,) = node.get_subscriptions_info_by_topic("/image")
    (offered,) = node.get_publishers_info_by_topic("/vps/panoptic")
    assert (asked.qos_profile.reliability, offered.qos_profile.reliability) == (RELIABLE, BEST_EFFORT)


def test_a_missing_publisher_is_logged_with_the_existing_topics(ros, model, log):
    ros.node("image:=/no/such", model=model, patience=0.5)
    ros.camera("/left/image_raw")
    ros.run()
    log.says("nobody publishes /no/such", "image topics are /left/image_raw (sensor_msgs/msg/Image)")


def test_a_topic_of_another_type_is_logged(ros, model, log):
    ros.node("image:=/chatter", model=model)
    ros.camera("/chatter", kind="std_msgs/msg/String")
    ros.run()
    log.says("/chatter is a std_msgs/msg/String, not an image")


# Lifecycle


@pytest.mark.parametrize(("state", "transition"), list(itertools.product(SHORTEST, TRANSITIONS)))
def test_every_transition_from_every_state(ros, model, state, transition):
    ros.node(model=model)
    for step in SHORTEST[state]:
        assert ros.change(step)
    expected = STATES.get((state, transition))
    assert ros.change(transition) == (expected is not None)
    assert ros.state() == (expected or state)
    assert len(workers()) == (ros.state() == "active")


def test_it_works_again_after_every_round_trip(ros, model):
    node = ros.node(model=model)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    play(camera, tracks)
    assert ros.change("deactivate")
    assert node.count_subscribers("/image") == 0
    assert ros.change("activate")
    camera.matched()
    play(camera, tracks, [(0, 0, raw(picture({0: (20, 40), 1: (76, 36)}), START + 4 * TENTH))], already=4)
    # The same camera goes on: who is known keeps the identity.
    assert {o.track_id for o in tracks[-1].objects} == {1, 2}
    assert ros.change("deactivate") and ros.change("cleanup")
    assert node.live.cameras == () and node.count_publishers("/vps/tracks") == 0
    ros.run()
    camera.matched()
    tracks.matched()
    play(camera, tracks, already=5)
    assert {o.track_id for o in tracks[-1].objects} == {1, 2}


def test_a_model_that_cannot_be_used_leaves_the_node_unconfigured(ros, model, log):
    ros.node(model="/no/such.onnx")
    assert not ros.change("configure")
    assert ros.state() == "unconfigured"
    log.says("cannot configure", "/no/such.onnx", level="ERROR")
    assert ros.set(model=model).successful
    ros.run()
    assert ros.state() == "active"


# Parameters


def test_parameters_have_the_declared_types_ranges_and_meanings(ros):
    ros.node()
    types = {bool: "BOOL", int: "INTEGER", float: "DOUBLE", str: "STRING", tuple: "STRING_ARRAY"}
    for kind in (Config, LiveConfig, NodeConfig):
        for p in parameters(kind):
            found = ros.describe(p.name)
            assert found.type == getattr(ParameterType, f"PARAMETER_{types[p.type]}"), p.name
            assert found.description.startswith(p.meaning)
            assert found.read_only == p.once
            assert ("read-only once" in found.additional_constraints) == (not p.live and not p.once)
            ranges = [*found.integer_range, *found.floating_point_range]
            low = -1 if may_be_minus_one(p) else p.low
            assert [(r.from_value, r.to_value) for r in ranges] == ([] if p.low is None else [(low, p.high)])
            default = list(p.default) if p.type is tuple else p.default
            assert ros.get(p.name) == default


def test_parameters_are_those_of_the_chosen_tracker(ros, model, log):
    ros.node(model=model, tracker="sort", iou_threshold=0.25, pixel_threshold=0.5, memory_tau=-1.0)
    log.says("pixel_threshold: ignored, tracker sort has no such parameter")
    log.says("memory_tau: -1 is no longer needed")
    assert ros.get("iou_threshold") == 0.25
    assert ros.set(tracker="hierarchical").successful
    ros.run()
    assert ros.get("association_threshold") == 0.4
    assert not ros.set(iou_threshold=0.5).successful
    assert ros.set(association_threshold=0.5).successful


def test_thresholds_and_tracker_change_while_it_runs(ros, model):
    ros.node(model=model)
    ros.run()
    tracks, segments = ros.listen("/vps/tracks").matched(), ros.listen("/vps/segments").matched()
    camera = ros.camera("/image").matched()
    messages = drive(6)
    play(camera, tracks, messages[:2])
    assert ros.set(confirm_hits=5).successful
    play(camera, tracks, messages[2:3], already=2)
    assert [{o.state for o in m.objects} for m in tracks] == [{0}, {1}, {0}]
    assert ros.set(thing_threshold=1.0).successful
    play(camera, tracks, messages[3:4], already=3)
    assert not any(s.is_thing for s in segments.until(4)[-1].segments)
    assert ros.set(thing_threshold=-1.0).successful
    # As a file may have it, and `ros2 param set`: 20, which is no float.
    assert ros.set(memory_tau=20).successful
    play(camera, tracks, messages[4:], already=4)
    assert {o.track_id for o in tracks[-1].objects} == {1, 2}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("thing_threshold", 1.5, ["thing_threshold", "1.5"]),
        ("association_threshold", -0.5, ["association_threshold", "-0.5", "0..1"]),
        ("thing_threshold", float("nan"), ["thing_threshold", "nan"]),
        ("confirm_hits", 0, ["confirm_hits", "0"]),
        ("confirm_hits", "many", ["STRING"]),
        ("postprocess", "magic", ["postprocess", "'magic' is not one of model, mask_wise, pixel_wise"]),
        ("thing_threshold", "high", ["thing_threshold", "'high'", "float"]),
        ("model", "streets-s", ["model", "unconfigured", "clean up"]),
        ("cameras", ["front"], ["cameras", "unconfigured"]),
        ("autostart", False, ["autostart", "read-only"]),
        ("depth", 3, ["depth", "unconfigured"]),
        ("no_such", 1, ["undeclared"]),
    ],
)
def test_a_bad_value_is_refused_with_its_reason(ros, model, name, value, words):
    ros.node(model=model)
    ros.run()
    before = ros.get(name) if name != "no_such" else None
    result = ros.set(**{name: value})
    assert not result.successful
    for word in words:
        assert word in result.reason
    assert before is None or ros.get(name) == before


def test_values_that_are_set_together_are_all_taken_or_none(ros, model):
    ros.node(model=model)
    ros.run()
    before = ros.get("confirm_hits")
    given = [Parameter(name, value=value) for name, value in {"confirm_hits": 5, "association_threshold": -0.5}.items()]
    asked = [one.to_parameter_msg() for one in given]
    result = ros.call(SetParametersAtomically, "/vps/set_parameters_atomically", parameters=asked).result
    assert not result.successful and "association_threshold" in result.reason
    assert ros.get("confirm_hits") == before


@pytest.mark.parametrize(
    "parameters",
    [
        {"tracker": "magic"},
        {"thing_threshold": 7.0},
        {"depth": 0},
        {"association_threshold": -0.5},
        {"cameras": ["a", "a"]},
    ],
)
def test_a_bad_value_at_the_start_is_refused(ros, parameters):
    heard_by = list(logging.getLogger("vps_ros").handlers)
    with pytest.raises(Exception, match=next(iter(parameters))):
        ros.node(**parameters)
    assert logging.getLogger("vps_ros").handlers == heard_by


def test_an_unknown_parameter_is_logged(ros, log):
    ros.node(memry_tau=3.0)
    log.says("unknown parameter 'memry_tau'; did you mean memory_tau?")


# Services


def test_tracks_are_forgotten_on_request(ros, model):
    ros.node(model=model)
    assert not ros.call(Trigger, "/vps/reset_tracks").success
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    play(camera, tracks, drive(2))
    assert ros.call(Trigger, "/vps/reset_tracks").success
    play(camera, tracks, drive(3)[2:], already=2)
    assert [m.sequence_id for m in tracks] == [0, 0, 1]
    assert {o.track_id for o in tracks[-1].objects} == {3, 4}


def test_a_disabled_node_discards_images_until_it_is_enabled(ros, model):
    ros.node(model=model)
    assert ros.call(SetBool, "/vps/enable", data=False).success
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    messages = drive(2)
    camera.send(messages[0][2])
    wait(lambda: ros.figures().received == 1, "the image")
    assert ros.call(SetBool, "/vps/enable", data=True).success
    play(camera, tracks, messages[1:])
    assert [nanoseconds(m.header.stamp) for m in tracks] == [START + TENTH]


# Several cameras


def test_cameras_share_the_model_and_nothing_else(ros, model):
    node = ros.node("left/image:=/rig/left", model=model, cameras=["front", "left"])
    ros.run()
    front, left = (ros.listen(f"/vps/{name}/tracks").matched() for name in ("front", "left"))
    play(ros.camera("/front/image").matched(), front)
    one = ros.camera("/rig/left").matched()
    play(one, left, [(0, 0, raw(picture({2: (8 + 4 * i, 40)}), START + i * TENTH)) for i in range(3)])
    assert [{o.track_id for o in m.objects} for m in front] == [{1, 2}] * 4
    assert [{o.track_id for o in m.objects} for m in left] == [{1}] * 3
    assert len({id(camera.pipeline.segmenter) for camera in node.live.cameras}) == 1


def test_nodes_in_namespaces_are_separate(ros, model):
    health = ros.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    for name in ("front", "rear"):
        ros.node(namespace=name, model=model)
        ros.run(f"/{name}/vps")
    front, rear = (ros.listen(f"/{name}/vps/tracks").matched() for name in ("front", "rear"))
    play(ros.camera("/front/image").matched(), front)
    assert len(front) == 4 and not rear
    names = {"front/vps: pipeline", "rear/vps: pipeline"}
    wait(lambda: {s.name for array in health for s in array.status} == names, "the diagnostics of both")


# Time and health


def test_an_image_without_a_stamp_gets_simulated_time(ros, model):
    ros.node(model=model, use_sim_time=True)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    clock = ros.camera("/clock", kind="rosgraph_msgs/msg/Clock")
    camera = ros.camera("/image").matched()
    play(camera, tracks)
    time_type = TYPES.types["builtin_interfaces/msg/Time"]
    clock.matched().send(TYPES.types["rosgraph_msgs/msg/Clock"](clock=time_type(sec=1_800_000_000, nanosec=7)))
    node = ros.nodes[0]
    wait(lambda: node.get_clock().now().nanoseconds == 1_800_000_000_000_000_007, "the simulated time")
    camera.send(raw(picture({}), 0))
    assert nanoseconds(tracks.until(5)[-1].header.stamp) == 1_800_000_000_000_000_007


def test_diagnostics_have_a_status_for_each_camera(ros, model):
    ros.node(model=model, cameras=["front", "rear"], **{"diagnostic_updater.period": 0.2})
    health = ros.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    wait(lambda: health and {s.name for s in health[-1].status} == {"vps: front", "vps: rear"}, "both cameras")
    wait(lambda: {s.message for s in health[-1].status} == {"unconfigured"}, "the state")
    ros.run()
    tracks = ros.listen("/vps/front/tracks").matched()
    play(ros.camera("/front/image").matched(), tracks)

    def values():
        return {s.name: {v.key: v.value for v in s.values} for s in health[-1].status}

    wait(lambda: values().get("vps: front", {}).get("frames") == "4", "the frames")
    front = values()["vps: front"]
    assert front["providers"] == "cpu" and front["tracker"] == "hierarchical" and front["tracks so far"] == "2"
    assert float(front["latency p50 (ms)"]) <= float(front["latency p99 (ms)"])
    assert {"rate (frames/s)", "dropped for newer ones"} <= front.keys()
    assert {s.name: s.level for s in health[-1].status}["vps: front"] == 0
    assert values()["vps: rear"]["frames"] == "0"


def test_cameras_may_be_chosen_until_the_node_is_configured(ros, model):
    ros.node(model=model, **{"diagnostic_updater.period": 0.1})
    health = ros.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    assert ros.set(cameras=["front", "rear"]).successful
    health.until(len(health) + 3)
    ros.run()
    wait(lambda: {s.name for s in health[-1].status} == {"vps: front", "vps: rear"}, "both cameras")
    assert not ros.set(cameras=["front"]).successful
    assert ros.change("deactivate") and ros.change("cleanup")
    assert ros.set(cameras=[""]).successful
    ros.run()
    wait(lambda: {s.name for s in health[-1].status} == {"vps: pipeline"}, "the only camera")


def test_a_camera_that_stops_is_logged(ros, model, log):
    ros.node(model=model, patience=0.5)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    play(ros.camera("/image").matched(), tracks)
    log.says("no image for")


# In a process of its own


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
    found = by_topic(out)
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
