"""What goes wrong in a real ROS 2: the node lives, says what it is, once, and can be put right."""

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

from support.ros_world import Log, World, play, wait, workers  # noqa: E402
from vps_ros.messages.panoptic import nanoseconds  # noqa: E402


@pytest.fixture
def world():
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(folder):
    return str(colour_model(folder / "colours.onnx"))


@pytest.fixture
def log(capfd):
    return Log(capfd)


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
def test_the_model_is_freed(world, model, ways):
    node = world.node(model=model)
    assert world.change(ways[0])
    segmenter = weakref.ref(node.live.cameras[0].pipeline.segmenter)
    for way in ways[1:]:
        assert world.change(way)
    gc.collect()
    assert segmenter() is None


def test_a_worker_that_cannot_be_stopped_is_an_error_from_which_the_node_recovers(world, folder, model, log):
    # A layer of some seconds: nothing interrupts ONNX Runtime in the middle of one.
    hanging = colour_model(folder / "hanging.onnx", rounds=1, side=6000)
    node = world.node(model=str(hanging), threads=1)
    world.run()
    world.camera("/image").matched().send(drive(1)[0][2])
    wait(lambda: node.live.worker.busy > 0, "the frame")
    left = workers()
    assert not world.change("deactivate")
    assert world.state() == "unconfigured"
    assert node.live.cameras == () and node.live.worker is None
    log.says("the worker did not stop", level="ERROR")
    assert world.set(model=model).successful
    world.run()
    tracks = world.listen("/vps/tracks").matched()
    play(world.camera("/image").matched(), tracks)
    for thread in left:
        thread.join(300)
        assert not thread.is_alive()
    # What it was at when it was left behind is not published.
    assert len(tracks) == 4


def test_a_dead_worker_is_told_and_another_one_takes_its_place(world, model, log):
    node = world.node(model=model, **{"diagnostic_updater.period": 0.1})
    health = world.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    world.run()
    tracks = world.listen("/vps/tracks").matched()
    camera = world.camera("/image").matched()
    play(camera, tracks)

    def die():
        # As no failure of a frame or of a parameter ends it, but what is to end a process.
        raise SystemExit

    node.live.worker.call(die)
    wait(lambda: not node.live.worker.alive, "its end")
    log.says("the worker failed", level="FATAL")
    log.says("the worker is not running", level="ERROR")
    wait(lambda: health[-1].status[0].level == 2, "the diagnostics")
    answer = world.call(Trigger, "/vps/reset_tracks")
    assert not answer.success and "not running" in answer.message
    assert world.set(confirm_hits=3).successful
    assert world.change("deactivate") and world.change("activate")
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
def test_an_override_that_cannot_be_leaves_nothing_behind(world, model, log, override, transition, state):
    cameras = ["front", "left"] if "left" in override else [""]
    node = world.node(model=model, cameras=cameras, **{f"qos_overrides.{override}": "magic"})
    assert transition == "configure" or world.change("configure")
    assert not world.change(transition)
    assert world.state() == state
    log.says(f"cannot {transition}", f"qos_overrides.{override.partition('.')[0]}: ", "magic", level="ERROR")
    assert not workers()
    offered = {one.topic_name for one in node.publishers}
    expected = {f"/vps/{name}/tracks" for name in cameras} if state == "inactive" else set()
    assert {topic for topic in offered if topic.endswith("tracks")} == expected
    assert not [one.topic_name for one in node.subscriptions if one.topic_name.endswith("image")]


# A model that vanishes


def test_a_model_that_vanishes_is_missed_when_it_is_needed_again(world, folder, log):
    path = Path(colour_model(folder / "fleeting.onnx"))
    kept = path.read_bytes()
    world.node(model=str(path))
    world.run()
    tracks = world.listen("/vps/tracks").matched()
    camera = world.camera("/image").matched()
    path.unlink()
    play(camera, tracks, drive(2))
    assert world.change("deactivate") and world.change("activate")
    camera.matched()
    play(camera, tracks, drive(4)[2:], already=2)
    assert world.change("deactivate") and world.change("cleanup")
    assert not world.change("configure")
    assert world.state() == "unconfigured"
    log.says("cannot configure", str(path), level="ERROR")
    path.write_bytes(kept)
    world.run()
    camera.matched()
    tracks.matched()
    play(camera, tracks, drive(1), already=4)


# Said once


def test_a_wait_is_told_once_and_its_end_too(world, model, log):
    world.node(model=model, patience=0.5)
    world.run()
    log.says("nobody publishes /image", "there is no image topic at all")
    time.sleep(2.5)
    assert log.count("nobody publishes") == 1
    tracks = world.listen("/vps/tracks").matched()
    camera = world.camera("/image").matched()
    assert world.set(patience=100.0).successful
    play(camera, tracks)
    log.says("back to normal", level="INFO")


def test_what_comes_and_goes_is_told_once(world, model, log):
    world.node(model=model, **{"diagnostic_updater.period": 0.1})
    world.run()
    tracks = world.listen("/vps/tracks").matched()
    camera = world.camera("/image").matched()
    for bad in range(3):
        camera.send(raw(picture({}), START, "martian8"))
        wait(lambda bad=bad: world.figures().failed == bad + 1, "the failure")
        # The node looks after itself once a second.
        time.sleep(1.2)
        play(camera, tracks, drive(bad + 1)[bad:], already=bad)
        time.sleep(1.2)
    assert log.count("[WARN]", "martian8") == 1
    assert log.count("[WARN]", "could not be used") == 1
    assert log.count("back to normal") == 1


# Too much of it


def test_frames_that_come_too_fast_give_way_to_newer_ones(world, folder):
    slow = slow_model(folder / "slow.onnx")
    world.node(model=str(slow), reliability="reliable", depth=100)
    world.run()
    tracks = world.listen("/vps/tracks").matched()
    camera = world.camera("/image").matched()
    messages = drive(20)
    for _, _, message in messages:
        camera.send(message)
        time.sleep(0.005)
    wait(lambda: world.figures().received == 20, "the images")
    wait(lambda: world.figures().frames + world.figures().dropped == 20, "the end")
    assert world.figures().dropped > 0
    assert nanoseconds(tracks.until(world.figures().frames)[-1].header.stamp) == START + 19 * TENTH
