"""Images and outputs of the node in a real ROS 2: messages as in a replay, quality of service, several cameras."""

import time

import numpy as np
import pytest

from support.bags import START, TENTH, TOPIC, camera_info, drive, jpeg, plain, raw, write
from support.ros_workspace import contents
from support.worlds import picture

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from support.ros_session import BEST_EFFORT, RELIABLE, play, wait  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.messages.panoptic import nanoseconds  # noqa: E402

COMPRESSED = "sensor_msgs/msg/CompressedImage"


# What comes out


def test_messages_are_those_of_a_replay(ros, model, tmp_path):
    bag = write(tmp_path / "bag", drive(6))
    assert main(["replay", str(bag), "-o", str(tmp_path / "out.mcap"), "--model", model]) == 0
    expected = contents(tmp_path / "out.mcap")[1]
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
