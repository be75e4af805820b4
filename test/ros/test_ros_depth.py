"""Objects in 3D from a depth topic in a real ROS 2, in the camera's frame and by TF in another one."""

import numpy as np
import pytest

from support.bags import START, TENTH, drive
from support.depth import (
    DEPTH_INFO,
    DEPTH_TOPIC,
    FAR,
    FIRST,
    STANDING,
    VELOCITY,
    calibration,
    centre,
    cloud_points,
    depth_message,
    metres_of,
)
from support.tf import OPTICAL

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from support.ros_session import wait  # noqa: E402
from vps_ros.messages.panoptic import DEPTH_OUTPUTS, nanoseconds  # noqa: E402

INFO = "sensor_msgs/msg/CameraInfo"


class Rig:
    """A camera with depth, and listeners to what the node makes of them."""

    def __init__(self, ros, model, **parameters):
        self.node = ros.node(model=model, depth_topic=DEPTH_TOPIC, **parameters)
        ros.run()
        self.objects, self.velocities, self.cloud = (
            ros.listen(f"/vps/{name}", kind).matched() for name, kind in DEPTH_OUTPUTS.items()
        )
        self.tracks = ros.listen("/vps/tracks").matched()
        self.info = ros.camera(DEPTH_INFO, kind=INFO).matched()
        self.depth = ros.camera(DEPTH_TOPIC).matched()
        self.image = ros.camera("/image").matched()

    def play(self, count, encoding="16UC1", later=0):
        """Frames from START on, or so many nanoseconds later."""
        before = len(self.tracks)
        for i, (_, stamp, message) in enumerate(drive(count)):
            stamp += later
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
            self.info.send(calibration(stamp))
            self.depth.send(depth_message(metres_of(i), stamp, encoding))
            self.image.send(message)
            self.tracks.until(before + i + 1)

    def last(self, count, later=0):
        """The detections of the last frame, by track id."""
        stamp = START + (count - 1) * TENTH + later
        wait(lambda: self.objects and nanoseconds(self.objects[-1].header.stamp) == stamp, "3D")
        return [centre(d) for d in sorted(self.objects[-1].detections, key=lambda d: int(d.id))]


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_objects_and_cloud_in_the_frame_of_the_camera(ros, model, encoding):
    rig = Rig(ros, model)
    rig.play(8, encoding)
    first, second = rig.last(8)
    assert first == pytest.approx((FIRST[0] + VELOCITY * 0.7, *FIRST[1:]), abs=0.1)
    assert second == pytest.approx(STANDING, abs=0.02)
    assert {m.header.frame_id for m in rig.objects} == {"camera"}
    points = cloud_points(rig.cloud.until(1)[-1])
    assert set(points["track"]) == {0, 1, 2}
    assert set(points["z"][points["track"] == 2]) == {FAR}


def test_several_cameras_have_depth_topics_below_their_names(ros, model):
    ros.node(model=model, cameras=["front", "rear"], depth_topic="depth/image")
    ros.run()
    kind = DEPTH_OUTPUTS["objects_3d"]
    front, rear = (ros.listen(f"/vps/{name}/objects_3d", kind).matched() for name in ("front", "rear"))
    tracks = ros.listen("/vps/front/tracks").matched()
    info = ros.camera("/front/depth/camera_info", kind=INFO).matched()
    depth, image = ros.camera("/front/depth/image").matched(), ros.camera("/front/image").matched()
    for i, (_, stamp, message) in enumerate(drive(6)):
        info.send(calibration(stamp))
        depth.send(depth_message(metres_of(i), stamp))
        image.send(message)
        tracks.until(i + 1)
    assert len(front.until(1)[-1].detections) == 2
    assert not rear


def test_without_depth_parameter_there_are_no_topics(ros, model):
    node = ros.node(model=model)
    ros.run()
    assert not node.count_publishers("/vps/objects_3d")
    assert not node.count_publishers("/vps/panoptic_cloud")


def test_missing_depth_is_logged_once_and_2d_continues(ros, model, log):
    rig = Rig(ros, model)
    for i, (_, _, message) in enumerate(drive(3)):
        rig.image.send(message)
        rig.tracks.until(i + 1)
    log.says("no objects in 3D: no camera_info", "logged once")
    assert log.count("no objects in 3D: no camera_info", "logged once") == 1
    assert not rig.objects
    wait(lambda: ros.figures().frames == 3, "the last frame")
    figures = ros.figures()
    assert (figures.failed, list(figures.depth_failures.values())) == (0, [3])


def broadcaster(ros, static):
    """A publisher of TF and the class of its messages."""
    pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    from tf2_ros import StaticTransformBroadcaster, TransformBroadcaster

    return (StaticTransformBroadcaster if static else TransformBroadcaster)(ros.peer)


def transform(stamp, parent, child, translation, quaternion):
    from geometry_msgs.msg import TransformStamped

    found = TransformStamped()
    found.header.stamp.sec, found.header.stamp.nanosec = divmod(stamp, 10**9)
    found.header.frame_id, found.child_frame_id = parent, child
    move, turn = found.transform.translation, found.transform.rotation
    move.x, move.y, move.z = translation
    turn.x, turn.y, turn.z, turn.w = quaternion
    return found


def test_tf_to_a_fixed_frame(ros, model):
    """The camera is 1.5 m above a vehicle that drives 1 m/s along x of odom."""
    still, moving = broadcaster(ros, True), broadcaster(ros, False)
    still.sendTransform(transform(START, "base", "camera", (0.0, 0.0, 1.5), OPTICAL))
    rig = Rig(ros, model, objects_frame="odom")
    wait(lambda: ros.peer.count_subscribers("/tf") > 0 and moving.pub_tf.get_subscription_count() > 0, "TF")
    stamps = [START + i * TENTH for i in range(-5, 20)]
    moving.sendTransform(
        [transform(s, "odom", "base", ((s - START) / 1e9, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)) for s in stamps]
    )
    rig.play(8)
    first, second = rig.last(8)
    assert {m.header.frame_id for m in rig.objects} == {"odom"}
    x, y, z = STANDING
    # What stays at the same distance of the camera moves with it.
    assert second == pytest.approx((z + 0.7, -x, 1.5 - y), abs=0.05)
    (still_there,) = [
        v for i, v in zip(rig.velocities[-1].track_ids, rig.velocities[-1].velocities, strict=True) if i == 2
    ]
    assert still_there.x == pytest.approx(1, abs=0.1)
    assert first[0] == pytest.approx(FIRST[2] + 0.7, abs=0.05)
    (one, _) = rig.objects[-1].detections
    turn = one.bbox.center.orientation
    # A quaternion and its negative are the same rotation.
    assert abs(np.dot([turn.x, turn.y, turn.z, turn.w], OPTICAL)) == pytest.approx(1)
    points = cloud_points(rig.cloud[-1])
    assert points["z"][points["track"] == 2].mean() == pytest.approx(1.5 - y, abs=0.05)


def test_tf_of_a_recording_that_is_played_again(ros, model):
    """Stamps jump back by more than tf2 keeps; the camera is then 2 m instead of 1 m along z of the vehicle."""
    still, moving, later = broadcaster(ros, True), broadcaster(ros, False), 60 * 10**9
    still.sendTransform(transform(START, "odom", "base", (0.5, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)))
    rig = Rig(ros, model, objects_frame="odom")
    wait(lambda: ros.peer.count_subscribers("/tf") > 0 and moving.pub_tf.get_subscription_count() > 0, "TF")
    for start, metres in ((later, 1.0), (0, 2.0)):
        failed = sum(ros.figures().depth_failures.values())
        rig.play(1, later=start)
        wait(lambda before=failed: sum(ros.figures().depth_failures.values()) > before, "the missing transform")
        stamps = [START + start + i * TENTH for i in range(-1, 9)]
        moving.sendTransform([transform(s, "base", "camera", (0.0, 0.0, metres), (0.0, 0.0, 0.0, 1.0)) for s in stamps])
        rig.play(8, later=start)
        _, second = rig.last(8, later=start)
        x, y, z = STANDING
        assert second == pytest.approx((x + 0.5, y, z + metres), abs=0.05)


def test_a_transform_that_is_missing_is_reported(ros, model, log):
    pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    rig = Rig(ros, model, objects_frame="odom")
    rig.play(2)
    log.says("no objects in 3D: no transform from 'camera' to 'odom'")
    assert len(rig.tracks) == 2
    assert not rig.objects
