"""The node in a real ROS 2: lifecycle, parameters, services, and messages that are those of a replay."""

import pytest
from bags import TOPIC, drive, write
from worlds import colour_model

ros = pytest.importorskip("rclpy", reason="no ROS 2 is sourced: rclpy is missing")
pytest.importorskip("vps_ros.msg", reason="no workspace with vps_ros is sourced: its messages are missing")

from ros_world import World  # noqa: E402
from rosbags.highlevel import AnyReader  # noqa: E402
from test_ros_package import plain  # noqa: E402

from vps_ros.commands.main import main  # noqa: E402


@pytest.fixture
def world():
    world = World()
    yield world
    world.close()


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


def test_messages_are_those_of_a_replay(world, model, tmp_path):
    bag = write(tmp_path / "bag", drive(6))
    assert main(["replay", str(bag), "-o", str(tmp_path / "out.mcap"), "--model", model]) == 0
    expected = by_topic(tmp_path / "out.mcap")
    world.node(f"image:={TOPIC}", model=model)
    world.run()
    topics = ("/vps/tracks", "/vps/segments", "/vps/detections", "/vps/panoptic")
    heard = {topic: world.listen(topic).matched() for topic in topics}
    labels = world.listen("/vps/label_info", latched=True).matched()
    camera = world.camera(TOPIC).matched()
    for count, (_, _, message) in enumerate(drive(6), 1):
        camera.send(message)
        for topic in topics:
            heard[topic].until(count)
    assert {topic: [plain(m) for m in messages] for topic, messages in heard.items()} == {
        topic: expected[topic] for topic in topics
    }
    assert [plain(m) for m in labels.until(1)] == expected["/vps/label_info"]
