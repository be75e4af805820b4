"""Depth beside a camera: in the worker, and `vps-ros live` on real DDS."""

import logging
from functools import partial

import pytest

from support.bags import START, TENTH, TOPIC, drive, write
from support.depth import (
    DEPTH_INFO,
    DEPTH_TOPIC,
    FIRST,
    STANDING,
    VELOCITY,
    calibration,
    centre,
    cloud_points,
    compressed_depth,
    depth_drive,
    depth_message,
    metres_of,
)
from support.live_workers import CollectingSink, cdr, give, stamps
from vps_ros.config import Config, LiveConfig
from vps_ros.depth.locator import ObjectLocator
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.live.node import depth_topic
from vps_ros.live.subscriptions import DepthSubscription
from vps_ros.live.worker import Camera
from vps_ros.messages.images import frame_of
from vps_ros.messages.panoptic import DEPTH_OUTPUTS
from vps_ros.online import OnlinePanoptic


class Loopback:
    """A transport on which the test calls the subscribers."""

    def __init__(self):
        self.callbacks = {}

    def resolve(self, topic):
        return topic

    def subscribe(self, topic, kind, qos, callback):
        self.callbacks[topic] = callback
        return self

    def close(self):
        pass

    def send(self, topic, message):
        self.callbacks[topic](cdr(message))


@pytest.fixture
def transport():
    return Loopback()


def test_the_nearest_depth_image_with_its_intrinsics(transport):
    depth = DepthSubscription(transport, DEPTH_TOPIC, 0.02, lambda: None)
    with pytest.raises(DroppedFrame, match=r"no camera_info .*/camera/depth/camera_info"):
        depth.of(START)
    transport.send(DEPTH_INFO, calibration())
    with pytest.raises(DroppedFrame, match="no depth image has arrived on /camera/depth/image_raw"):
        depth.of(START)
    for i in range(5):
        transport.send(DEPTH_TOPIC, depth_message(metres_of(i), START + i * TENTH + 5_000_000))
    found = depth.of(START + 2 * TENTH)
    assert found.stamp == START + 2 * TENTH + 5_000_000
    assert (found.metres[45, 12:28] == 4).all()
    with pytest.raises(DroppedFrame, match=r"within 0.02 s"):
        depth.of(START + 7 * TENTH)
    depth.slop = 0.2
    assert depth.of(START + 5 * TENTH).stamp == START + 4 * TENTH + 5_000_000
    exact = DepthSubscription(transport, DEPTH_TOPIC, 0.0, calibration)
    transport.send(DEPTH_TOPIC, depth_message(metres_of(0), START + 1))
    with pytest.raises(DroppedFrame, match="within 0 s"):
        exact.of(START)
    # Those of the camera, since the depth topic of this one has none yet.
    assert exact.of(START + 1).intrinsics.fx == 100


def test_compressed_depth(transport):
    topic = f"{DEPTH_TOPIC}/compressedDepth"
    depth = DepthSubscription(transport, topic, 0.02, lambda: None)
    transport.send(DEPTH_INFO, calibration())
    transport.send(topic, compressed_depth(metres_of(0), START, "16UC1"))
    assert (depth.of(START).metres[45, 4:20] == 4).all()


def test_old_depth_images_are_forgotten(transport):
    depth = DepthSubscription(transport, DEPTH_TOPIC, 0.02, calibration)
    for i in range(100):
        transport.send(DEPTH_TOPIC, depth_message(metres_of(0), START + i * TENTH))
    with pytest.raises(DroppedFrame, match="within"):
        depth.of(START)
    assert depth.of(START + 99 * TENTH).stamp == START + 99 * TENTH


def test_the_topics_of_several_cameras():
    assert depth_topic("depth/image", "", 1) == "depth/image"
    assert [depth_topic("depth/image", name, 2) for name in ("front", "rear")] == [
        "front/depth/image",
        "rear/depth/image",
    ]
    assert depth_topic("/depth", "front", 1) == "/depth"
    with pytest.raises(InputError, match="depth_topic /depth: is the same for 2 cameras"):
        depth_topic("/depth", "front", 2)


def test_a_worker_publishes_objects_in_3d_and_counts_what_has_no_depth(model, working, transport, caplog):
    depth = DepthSubscription(transport, DEPTH_TOPIC, 0.0, calibration)
    locator, sink = ObjectLocator(), CollectingSink({"tracks", *DEPTH_OUTPUTS})
    pipeline = OnlinePanoptic(Config(model=model))

    def read(message, received):
        return frame_of(message, message.__msgtype__, received)

    camera = Camera("", pipeline, read, sink, locate=lambda result: locator(result, depth.of(result.stamp)))
    worker = working(camera)
    with caplog.at_level(logging.WARNING, "vps_ros"):
        for i, (_, stamp, image) in enumerate(drive(6)):
            if i not in (2, 3):
                transport.send(DEPTH_TOPIC, depth_message(metres_of(i), stamp))
            give(worker, image)
    assert len(sink.kept["tracks"]) == 6
    expected = [START + i * TENTH for i in (0, 1, 4, 5)]
    assert stamps(sink.kept["objects_3d"]) == stamps(sink.kept["panoptic_cloud"]) == expected
    assert centre(sink.kept["objects_3d"][-1].detections[1]) == pytest.approx(STANDING, abs=0.01)
    figures = worker.stats[0].to_json()
    assert (figures["frames"], figures["failed"]) == (6, 0)
    reason = "no depth image on /camera/depth/image_raw within 0 s of the frame"
    assert figures["depth"] == {"frames": 4, "objects": 8, "objects_without_depth": 0, "failures": {reason: 2}}
    assert caplog.text.count("no objects in 3D") == 1


def test_a_viewer_gets_objects_in_3d_without_subscribers(model, working, transport):
    depth = DepthSubscription(transport, DEPTH_TOPIC, 0.0, calibration)
    locator, shown = ObjectLocator(), []
    camera = Camera(
        "",
        OnlinePanoptic(Config(model=model)),
        lambda message, received: frame_of(message, message.__msgtype__, received),
        CollectingSink({"tracks"}),
        locate=lambda result: locator(result, depth.of(result.stamp)),
        show=lambda frame, result: shown.append(result.objects_3d),
    )
    worker = working(camera)
    (_, stamp, first), (_, _, second) = drive(2)
    transport.send(DEPTH_TOPIC, depth_message(metres_of(0), stamp))
    transport.callbacks[DEPTH_TOPIC](b"cut off")
    give(worker, first)
    give(worker, second)
    assert len(shown[0].objects) == 2
    assert shown[1] is None


def test_without_subscribers_nothing_is_located(model, working):
    def never(result):
        raise AssertionError

    sink = CollectingSink({"tracks"})
    camera = Camera(
        "", OnlinePanoptic(Config(model=model)), lambda m, t: frame_of(m, m.__msgtype__, t), sink, locate=never
    )
    give(working(camera), drive(1)[0][2])
    assert len(sink.kept["tracks"]) == 1


def test_parameters_have_ranges():
    with pytest.raises(InputError, match="depth_slop"):
        LiveConfig(depth_slop=-1)


# `vps-ros live`


@pytest.fixture
def session():
    pytest.importorskip("cyclonedds", reason='DDS needs cyclonedds; pip install "vps_ros[live]"')
    from support.dds import until

    return until


def subscribe(dds):
    for name, kind in DEPTH_OUTPUTS.items():
        dds.subscribe(f"/vps/{name}", kind)


def test_live_with_depth(dds, session, model, tmp_path):
    live = dds.live(model, "--depth-topic", DEPTH_TOPIC, "--json", tmp_path / "f.json")
    subscribe(dds)
    dds.listen("tracks")
    image = dds.publish()
    depth, info = dds.offer(DEPTH_TOPIC), dds.offer(DEPTH_INFO, "sensor_msgs/msg/CameraInfo")
    session(lambda: depth.subscribers and info.subscribers, "subscribers of depth")
    for i, (_, stamp, message) in enumerate(drive(12)):
        info.send(calibration(stamp))
        depth.send(depth_message(metres_of(i), stamp, "32FC1"))
        image.send(message)
        session(partial(lambda i: len(dds.received["tracks"]) > i, i), f"an answer to {i}")
    session(lambda: stamps(dds.received["objects_3d"])[-1:] == [START + 11 * TENTH], "the last objects")
    last = sorted(dds.received["objects_3d"][-1].detections, key=lambda d: d.id)
    assert [d.id for d in last] == ["1", "2"]
    assert centre(last[0]) == pytest.approx((FIRST[0] + VELOCITY * 1.1, *FIRST[1:]), abs=0.1)
    assert centre(last[1]) == pytest.approx(STANDING, abs=0.02)
    session(lambda: dds.received["panoptic_cloud"], "a cloud")
    assert set(cloud_points(dds.received["panoptic_cloud"][-1])["track"]) == {0, 1, 2}
    assert live.end() == 0, live.shown
    from support.dds import figures

    assert figures(tmp_path / "f.json")["depth"]["frames"] == len(dds.received["objects_3d"])


def test_a_played_bag_with_depth(dds, session, model, tmp_path):
    bag = write(tmp_path / "bag", depth_drive(12))
    live = dds.live(model, "--depth-topic", DEPTH_TOPIC)
    subscribe(dds)
    player = dds.vps("play", bag, "--topic", TOPIC, "--topic", DEPTH_TOPIC, "--loop", "--wait", 120)
    session(lambda: any(m.detections for m in dds.received["objects_3d"]), "objects of the played bag")
    assert (player.end(), live.end()) == (0, 0), player.shown


def test_live_goes_on_without_depth_and_reports_it(dds, session, model):
    live = dds.live(model, "--depth-topic", DEPTH_TOPIC)
    subscribe(dds)
    dds.listen("tracks")
    image = dds.publish()
    for i, (_, _, message) in enumerate(drive(3)):
        image.send(message)
        session(partial(lambda i: len(dds.received["tracks"]) > i, i), f"an answer to {i}")
    assert not dds.received["objects_3d"]
    live.says("no objects in 3D: no camera_info for the depth images (/camera/depth/camera_info)", "logged once")
    session(lambda: dds.received["diagnostics"][-1].status[0].message.startswith("no objects in 3D"), "the warning")
    assert dds.values()["frames with objects in 3D"] == "0"
    assert live.end() == 0


def test_live_has_no_tf(dds, session, model):
    live = dds.vps("live", "--image", "/image", "--model", model, "--depth-topic", "/depth", "--objects-frame", "map")
    assert live.wait() == 2
    assert "objects_frame map: only the ROS node has TF" in live.shown
