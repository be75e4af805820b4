"""Lifecycle, services, time and diagnostics of the node in a real ROS 2."""

import itertools

import pytest

from support.bags import START, TENTH, TYPES, drive, raw
from support.worlds import picture

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from std_srvs.srv import SetBool, Trigger  # noqa: E402

from support.ros_session import play, wait, workers  # noqa: E402
from vps_ros.messages.panoptic import nanoseconds  # noqa: E402

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
