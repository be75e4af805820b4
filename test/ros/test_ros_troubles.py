"""Failures in a real ROS 2: the node survives, logs them once, and can be repaired."""

import gc
import time
import weakref
from pathlib import Path

import pytest

from support.bags import START, TENTH, drive, raw
from support.worlds import colour_model, picture, slow_model

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from std_srvs.srv import Trigger  # noqa: E402

from support.ros_session import play, wait, workers  # noqa: E402
from vps_ros.messages.panoptic import nanoseconds  # noqa: E402

# Transitions


@pytest.mark.parametrize(
    "ways",
    [
        ("configure", "cleanup"),
        ("configure", "activate", "deactivate", "cleanup"),
        ("configure", "inactive_shutdown"),
        ("configure", "activate", "active_shutdown"),
    ],
    ids="-".join,
)
def test_the_model_is_freed(ros, model, ways):
    node = ros.node(model=model)
    assert ros.change(ways[0])
    segmenter = weakref.ref(node.live.cameras[0].pipeline.segmenter)
    for way in ways[1:]:
        assert ros.change(way)
    gc.collect()
    assert segmenter() is None


def test_a_worker_that_cannot_be_stopped_is_an_error_from_which_the_node_recovers(ros, folder, model, log):
    # A layer of some seconds: nothing interrupts ONNX Runtime in the middle of one.
    hanging = colour_model(folder / "hanging.onnx", rounds=1, side=6000)
    node = ros.node(model=str(hanging), threads=1)
    ros.run()
    ros.camera("/image").matched().send(drive(1)[0][2])
    wait(lambda: node.live.worker.busy > 0, "the frame")
    left = workers()
    assert not ros.change("deactivate")
    assert ros.state() == "unconfigured"
    assert node.live.cameras == () and node.live.worker is None
    log.says("the worker did not stop", level="ERROR")
    assert ros.set(model=model).successful
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    play(ros.camera("/image").matched(), tracks)
    for thread in left:
        thread.join(300)
        assert not thread.is_alive()
    # What it was at when it was left behind is not published.
    assert len(tracks) == 4


def test_a_failed_worker_is_reported_and_can_be_replaced(ros, model, log):
    node = ros.node(model=model, **{"diagnostic_updater.period": 0.1})
    health = ros.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    play(camera, tracks)

    def die():
        # As no failure of a frame or of a parameter ends it, but what is to end a process.
        raise SystemExit

    node.live.worker.call(die)
    wait(lambda: not node.live.worker.alive, "its end")
    log.says("the worker failed", level="FATAL")
    log.says("the worker is not running", level="ERROR")
    wait(lambda: health[-1].status[0].level == 2, "the diagnostics")
    answer = ros.call(Trigger, "/vps/reset_tracks")
    assert not answer.success and "not running" in answer.message
    assert ros.set(confirm_hits=3).successful
    assert ros.change("deactivate") and ros.change("activate")
    camera.matched()
    play(camera, tracks, drive(5)[4:], already=4)
    assert {o.track_id for o in tracks[-1].objects} == {1, 2}


@pytest.mark.parametrize(
    ("override", "transition", "state"),
    [
        ("/vps/tracks.publisher.reliability", "configure", "unconfigured"),
        ("/left/image.subscription.reliability", "activate", "inactive"),
        ("/vps/left/tracks.publisher.depth", "configure", "unconfigured"),
    ],
)
def test_an_invalid_override_leaves_nothing_open(ros, model, log, override, transition, state):
    cameras = ["front", "left"] if "left" in override else [""]
    node = ros.node(model=model, cameras=cameras, **{f"qos_overrides.{override}": "magic"})
    assert transition == "configure" or ros.change("configure")
    assert not ros.change(transition)
    assert ros.state() == state
    log.says(f"cannot {transition}", f"qos_overrides.{override.partition('.')[0]}: ", "magic", level="ERROR")
    assert not workers()
    offered = {one.topic_name for one in node.publishers}
    expected = {f"/vps/{name}/tracks" for name in cameras} if state == "inactive" else set()
    assert {topic for topic in offered if topic.endswith("tracks")} == expected
    assert not [one.topic_name for one in node.subscriptions if one.topic_name.endswith("image")]


# A model that vanishes


def test_a_deleted_model_file_fails_only_the_next_configure(ros, folder, log):
    path = Path(colour_model(folder / "fleeting.onnx"))
    kept = path.read_bytes()
    ros.node(model=str(path))
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    path.unlink()
    play(camera, tracks, drive(2))
    assert ros.change("deactivate") and ros.change("activate")
    camera.matched()
    play(camera, tracks, drive(4)[2:], already=2)
    assert ros.change("deactivate") and ros.change("cleanup")
    assert not ros.change("configure")
    assert ros.state() == "unconfigured"
    log.says("cannot configure", str(path), level="ERROR")
    path.write_bytes(kept)
    ros.run()
    camera.matched()
    tracks.matched()
    play(camera, tracks, drive(1), already=4)


# Logged once


def test_a_missing_publisher_and_its_end_are_logged_once(ros, model, log):
    ros.node(model=model, patience=0.5)
    ros.run()
    log.says("nobody publishes /image", "there is no image topic at all")
    time.sleep(2.5)
    assert log.count("nobody publishes") == 1
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    assert ros.set(patience=100.0).successful
    play(camera, tracks)
    log.says("back to normal", level="INFO")


def test_a_recurring_problem_is_logged_once(ros, model, log):
    ros.node(model=model, **{"diagnostic_updater.period": 0.1})
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    for bad in range(3):
        camera.send(raw(picture({}), START, "martian8"))
        wait(lambda bad=bad: ros.figures().failed == bad + 1, "the failure")
        # The node looks after itself once a second.
        time.sleep(1.2)
        play(camera, tracks, drive(bad + 1)[bad:], already=bad)
        time.sleep(1.2)
    assert log.count("[WARN]", "martian8") == 1
    assert log.count("[WARN]", "could not be used") == 1
    assert log.count("back to normal") == 1


# Too much of it


def test_frames_that_arrive_too_fast_are_replaced_by_newer_ones(ros, folder):
    slow = slow_model(folder / "slow.onnx")
    ros.node(model=str(slow), reliability="reliable", depth=100)
    ros.run()
    tracks = ros.listen("/vps/tracks").matched()
    camera = ros.camera("/image").matched()
    messages = drive(20)
    for _, _, message in messages:
        camera.send(message)
        time.sleep(0.005)
    wait(lambda: ros.figures().received == 20, "the images")
    wait(lambda: ros.figures().frames + ros.figures().dropped == 20, "the end")
    assert ros.figures().dropped > 0
    assert nanoseconds(tracks.until(ros.figures().frames)[-1].header.stamp) == START + 19 * TENTH
