"""Foxglove: what its own packages make of a recording, and of `vps-ros live --foxglove` over a real WebSocket."""

import json
import re
import socket
import struct
from dataclasses import replace

import numpy as np
import pytest

from support import ROOT
from support.labelled_bags import panoptic_frame, scene, stamp
from vps_ros.frame_3d import DepthImage, Intrinsics, Object3D, Objects3D
from vps_ros.live.transport import QosProfile
from vps_ros.messages.panoptic import DEPTH_OUTPUTS, LIVE_OUTPUTS, OUTPUTS
from vps_ros.messages.typestore import make_message
from vps_ros.recording.writer import BagWriter
from vps_ros.taxonomy import CITYSCAPES

ros2 = pytest.importorskip("mcap_ros2.decoder", reason="needs mcap-ros2-support")
from mcap.reader import make_reader  # noqa: E402
from mcap.records import Schema  # noqa: E402

LAYOUT = json.loads((ROOT / "config" / "foxglove.json").read_text())


def shown_topics():
    """Topic -> fields of its messages that the panels of the layout show."""
    found = {}
    for path in re.findall(r'"(/[\w/]+(?:\.\w+)*)"', json.dumps(LAYOUT["configById"])):
        topic, _, field = path.partition(".")
        found.setdefault(topic, set()).update({field.partition(".")[0]} - {""})
    return found


def test_foxglove_decodes_a_recording_and_the_layout_shows_its_topics(tmp_path):
    overlay = np.zeros((12, 32, 3), np.uint8)
    one = Object3D(1, 13, 0.9, (1.0, -2.0, 12.5), (4.0, 1.5, 2.0), (0.5, 0.0, -8.0), (0.1, 0.1, 0.2), 12.0, 90)
    depth = DepthImage(np.full((12, 32), 12.5, np.float32), stamp(0), Intrinsics(30, 30, 15.5, 5.5, 32, 12))
    with BagWriter(tmp_path / "out.mcap") as bag:
        for index in range(3):
            frame = replace(panoptic_frame(index, *scene(index)), objects_3d=Objects3D((one,), "camera", depth))
            bag.write_frame(frame, CITYSCAPES, overlay, ids=True, cloud=overlay)
    found = {}
    with (tmp_path / "out.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[ros2.DecoderFactory()])
        for schema, channel, message, content in reader.iter_decoded_messages():
            assert (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
            found.setdefault(channel.topic, []).append((schema.name, message.log_time, content))
    for name, kind in OUTPUTS.items():
        if f"/vps/{name}" in found:
            assert {one[0] for one in found[f"/vps/{name}"]} == {kind}
    panoptic = found["/vps/panoptic"][1]
    assert panoptic[1] == stamp(1)
    pixels = np.frombuffer(bytes(panoptic[2].data), np.uint16).reshape(12, 32)
    assert (pixels == panoptic_frame(1, *scene(1)).map).all()
    assert [s.class_name for s in found["/vps/segments"][0][2].segments] == ["road", "sky", "car"]

    (box,) = found["/vps/objects_3d"][0][2].detections
    assert (box.id, box.bbox.center.position.z, box.bbox.size.x) == ("1", 12.5, 4.0)
    assert found["/vps/panoptic_cloud"][0][2].width == 12 * 32
    panel = LAYOUT["configById"]["3D!objects"]["topics"]
    kinds = {topic: found[topic][0][0] for topic in panel}
    assert kinds == {f"/vps/{name}": DEPTH_OUTPUTS[name] for name in ("panoptic_cloud", "objects_3d")}
    for topic, fields in shown_topics().items():
        if topic == "/diagnostics":
            continue
        assert topic in found, f"{topic} of the layout is not in the recording"
        for field in fields:
            assert hasattr(found[topic][0][2], field), f"{topic} has no {field}"


class Client:
    """A client of Foxglove's protocol: JSON for control, binary messages for data."""

    def __init__(self, url):
        from websockets.sync.client import connect

        protocols = ["foxglove.sdk.v1", "foxglove.websocket.v1"]
        self._connection = connect(url, subprotocols=protocols, max_size=None)
        self._socket = self._connection.__enter__()
        self.channels = {}
        self.received = {}

    def close(self):
        self._socket.close()

    def read(self, seconds):
        """One message of the server, if it comes in time."""
        try:
            data = self._socket.recv(timeout=seconds)
        except TimeoutError:
            return
        if isinstance(data, str):
            message = json.loads(data)
            if message["op"] == "advertise":
                self.channels |= {one["topic"]: one for one in message["channels"]}
        elif data[0] == 1:
            number, time = struct.unpack("<IQ", data[1:13])
            self.received.setdefault(number, []).append((time, data[13:]))

    def until(self, condition):
        for _ in range(2000):
            if condition():
                return
            self.read(0.1)
        raise AssertionError(f"did not happen; channels {sorted(self.channels)}")

    def subscribe(self, topic):
        self.until(lambda: topic in self.channels)
        channel = self.channels[topic]
        wanted = [{"id": channel["id"], "channelId": channel["id"]}]
        self._socket.send(json.dumps({"op": "subscribe", "subscriptions": wanted}))

    def messages(self, topic):
        channel = self.channels[topic]
        schema = Schema(channel["id"], channel["schema"].encode(), channel["schemaEncoding"], channel["schemaName"])
        decode = ros2.DecoderFactory().decoder_for(channel["encoding"], schema)
        return [decode(data) for _, data in self.received.get(channel["id"], [])]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from support.worlds import colour_model

    return colour_model(tmp_path_factory.mktemp("models") / "colours.onnx")


def test_a_client_gets_the_topics_of_a_live_node(dds, model, tmp_path):
    pytest.importorskip("foxglove", reason="needs foxglove-sdk (extra foxglove)")
    pytest.importorskip("websockets", reason="needs websockets")
    from support.bags import TOPIC, drive, write
    from support.dds import PATIENCE

    live = dds.live(model, "--foxglove", "127.0.0.1:0")
    url = re.search(r"ws://\S+", live.says("Foxglove"))[0]
    client = Client(url)
    player = dds.vps("play", write(tmp_path / "bag", drive(6)), "--loop", "--rate", 2, "--wait", PATIENCE)
    try:
        client.until(lambda: {"/diagnostics", "/vps/label_info", TOPIC} <= client.channels.keys())
        published = {f"/vps/{name}": kind for name, kind in LIVE_OUTPUTS.items() if f"/vps/{name}" in client.channels}
        assert {"/vps/tracks", "/vps/overlay", "/vps/panoptic", "/vps/overlay/compressed"} <= published.keys()
        # This node has no depth.
        assert shown_topics().keys() - {f"/vps/{name}" for name in DEPTH_OUTPUTS} <= client.channels.keys()
        assert {topic: client.channels[topic]["schemaName"] for topic in published} == published

        for topic in ("/vps/tracks", "/vps/overlay", "/vps/label_info", TOPIC):
            client.subscribe(topic)
        client.until(lambda: all(client.messages(t) for t in ("/vps/tracks", "/vps/overlay", "/vps/label_info", TOPIC)))
        assert [o.class_name for o in client.messages("/vps/tracks")[-1].objects] == ["car", "car"]
        overlay = client.messages("/vps/overlay")[-1]
        assert (overlay.width, overlay.height, overlay.encoding) == (96, 64, "rgb8")
        names = {c.class_id: c.class_name for c in client.messages("/vps/label_info")[0].class_map}
        assert names[13] == "car"
        assert client.messages(TOPIC)[-1].width == 96

        # A client that leaves without a word changes nothing for the next one.
        client._socket.socket.close()
        other = Client(url)
        other.subscribe("/vps/tracks")
        other.until(lambda: other.messages("/vps/tracks"))
        other.close()
    finally:
        codes = player.end(), live.end()
    assert codes == (0, 0), live.shown


def test_a_client_that_subscribes_while_a_channel_is_opened(dds, monkeypatch):
    """A connected client subscribes as soon as it hears of a channel, before the call that opens it has returned."""
    foxglove = pytest.importorskip("foxglove", reason="needs foxglove-sdk (extra foxglove)")
    pytest.importorskip("websockets", reason="needs websockets")
    from vps_ros.live.dds_transport import DdsTransport
    from vps_ros.live.foxglove import FoxgloveTransport

    text = make_message("std_msgs/msg/String", data="first")
    transport = FoxgloveTransport(DdsTransport(dds.participant, "vps"), "127.0.0.1:0")
    client, opened = Client(transport.url), foxglove.Channel
    transport.advertise("/behind", text.__msgtype__, QosProfile(latched=True)).send(text)

    def slow(name, **options):
        channel = opened(name, **options)
        # The server processes messages of a client in order: with the second answer, the first one is done.
        client.subscribe(name)
        client.subscribe("/behind")
        client.until(lambda: client.messages("/behind"))
        return channel

    monkeypatch.setattr(foxglove, "Channel", slow)
    transport.advertise("/text", text.__msgtype__, QosProfile()).send(text)
    client.until(lambda: client.messages("/text"))
    assert client.messages("/text")[0].data == "first"
    client.close()
    transport.close()


def test_live_goes_on_where_the_server_cannot_start(dds, model):
    pytest.importorskip("foxglove", reason="needs foxglove-sdk (extra foxglove)")
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        address = f"127.0.0.1:{used.getsockname()[1]}"
        live = dds.live(model, "--foxglove", address)
        assert "Address already in use" in live.says("warning", address)
        assert live.end() == 0
