"""Outputs of the node in a real ROS 2 are made while someone subscribes to them, and at no other time."""

import pytest

from support.bags import START, TENTH, camera_info, drive
from support.depth import DEPTH_INFO, DEPTH_TOPIC, calibration, depth_message, metres_of

pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from support.ros_session import wait  # noqa: E402
from vps_ros.live import worker  # noqa: E402
from vps_ros.live.subscriptions import DepthSubscription  # noqa: E402
from vps_ros.messages.panoptic import (  # noqa: E402
    CAMERA_INFO,
    CAMERA_INFO_TYPE,
    DEPTH_OUTPUTS,
    LIVE_OUTPUTS,
    nanoseconds,
)

KINDS = {**LIVE_OUTPUTS, CAMERA_INFO: CAMERA_INFO_TYPE, **DEPTH_OUTPUTS}


@pytest.fixture
def made(monkeypatch):
    """Names of the messages that are made, overlays that are drawn, and depth images that are decoded."""
    made = set()

    def noted(owner, name, label):
        original = getattr(owner, name)

        def call(*arguments):
            made.add(label(*arguments))
            return original(*arguments)

        monkeypatch.setattr(owner, name, call)

    noted(worker, "output", lambda name, *_: name)
    noted(worker, "camera_info", lambda *_: CAMERA_INFO)
    noted(worker.Overlay, "__call__", lambda *_: "drawing")
    noted(DepthSubscription, "of", lambda *_: "depth")
    return made


def test_each_output_is_made_while_someone_subscribes(ros, model, made):
    node = ros.node(model=model, reliability="reliable", panoptic_ids=True, depth_topic=DEPTH_TOPIC)
    ros.run()
    sink = node.live.cameras[0].sink
    info, depth_info = (ros.camera(topic, kind=CAMERA_INFO_TYPE).matched() for topic in ("/camera_info", DEPTH_INFO))
    camera, depth = ros.camera("/image").matched(), ros.camera(DEPTH_TOPIC).matched()
    info.send(camera_info(START))
    sent = 0

    def step():
        """One more frame is done; its stamp, and what was made for it."""
        nonlocal sent
        made.clear()
        index = sent % 6
        _, _, message = drive(6)[index]
        stamp = START + sent * TENTH
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        depth_info.send(calibration(stamp))
        depth.send(depth_message(metres_of(index), stamp))
        camera.send(message)
        sent += 1
        wait(lambda: ros.figures().frames == sent, "the frame")
        return stamp, set(made)

    assert step()[1] == set()
    for name, kind in KINDS.items():
        received = ros.listen(f"/vps/{name}", kind)
        wait(lambda name=name: sink.wants(name), f"the subscriber of {name}")
        stamp, for_it = step()
        beside = {"drawing"} if "overlay" in name else {"depth"} if name in DEPTH_OUTPUTS else set()
        assert for_it == {name} | beside
        assert nanoseconds(received.until(1)[0].header.stamp) == stamp
        # In the executor's thread, which may be about to read it.
        ros.executor.create_task(ros.peer.destroy_subscription, received.subscription)
        wait(lambda name=name: not sink.wants(name), f"the end of the subscriber of {name}")
        assert step()[1] == set()
