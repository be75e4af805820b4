"""`vps-ros live`: real processes on real DDS."""

import signal
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds", reason='DDS needs cyclonedds; pip install "vps_ros[live]"')

from rosbags.highlevel import AnyReader

from support import SUPPORT
from support.bags import START, TENTH, TOPIC, camera_info, drive, jpeg, raw, string, write
from support.dds import PATIENCE, TYPES, cdr, figures, until
from support.worlds import colour_model, picture
from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.live.dds_serialisation import type_hash
from vps_ros.live.dds_transport import DdsTransport, register_service
from vps_ros.live.node import CameraOutputs
from vps_ros.live.subscriptions import RAW, CameraSubscription
from vps_ros.live.transport import QosProfile
from vps_ros.messages.images import compressed_to_rgb
from vps_ros.messages.panoptic import DEPTH_OUTPUTS, LABEL_INFO, OUTPUTS, nanoseconds
from vps_ros.messages.typestore import make_message, typestore

SMALL = ("tracks", "segments", "detections", "panoptic")


@pytest.fixture(scope="module")
def endless(folder):
    return colour_model(folder / "endless.onnx", rounds=1_000_000)


def stamps(messages):
    return [nanoseconds(m.header.stamp) for m in messages]


def send(dds, writer, messages, answer="tracks"):
    """Sends each message after the answer to the previous one, so that none is dropped."""
    for message in messages:
        count = len(dds.received[answer])
        assert writer.send(message)
        until(
            lambda count=count: len(dds.received[answer]) > count, f"an answer to {nanoseconds(message.header.stamp)}"
        )


def images(count, first=0, topic=TOPIC, make=raw):
    return [m for _, _, m in drive(first + count, topic, make)[first:]]


def test_live_publishes_the_messages_of_replay_and_labels_for_late_subscribers(dds, model, tmp_path):
    messages = drive(5) + [(t, s + 9 * TENTH, m) for t, s, m in drive(3)]
    bag = write(tmp_path / "bag", messages)
    assert main(["replay", str(bag), "-o", str(tmp_path / "out.mcap"), "--model", str(model), "--threads", "1"]) == 0
    with AnyReader([tmp_path / "out.mcap"]) as out:
        replayed = [(c.topic.rpartition("/")[2], bytes(data)) for c, _, data in out.messages()]

    live = dds.live(model, "--json", tmp_path / "f.json")
    dds.listen(*SMALL)
    writer = dds.publish()
    send(dds, writer, [m for _, _, m in messages])
    for name in SMALL:
        until(lambda name=name: len(dds.received[name]) == len(messages), name)
    dds.listen(LABEL_INFO)
    until(lambda: dds.received[LABEL_INFO], "label_info for a late subscriber")
    (labels,) = dds.received[LABEL_INFO]
    # The node publishes them before it has an image.
    labels.header = messages[0][2].header
    for name in (*SMALL, LABEL_INFO):
        # A bag is read by time, which jumped back.
        expected = sorted(data for there, data in replayed if there == name)
        assert sorted(cdr(m) for m in dds.received[name]) == expected, name

    assert live.end() == 0
    shown = figures(tmp_path / "f.json")
    assert (shown["frames"], shown["received"], shown["failed"], shown["sequences"]) == (8, 8, 0, 2)
    assert shown["tracks"] == 4
    assert set(shown["latency_ms"]) == {"p50", "p99", "segment", "flow", "track", "other"}


@pytest.mark.parametrize("offered", ["best_effort", "reliable"])
def test_a_played_bag_is_tracked(dds, model, tmp_path, offered):
    bag = write(tmp_path / "bag", drive(15))
    dds.live(model)
    dds.listen(*OUTPUTS.keys() - {"panoptic_ids"})
    player = dds.vps("play", bag, "--reliability", offered, "--wait", PATIENCE)
    assert player.wait() == 0, player.shown
    assert "15 images sent" in player.shown
    sent = [START + i * TENTH for i in range(15)]
    # The last image is never dropped for a newer one, but best effort may lose any.
    until(lambda: dds.received["overlay"], "an overlay")
    if offered == "reliable":
        until(lambda: stamps(dds.received["overlay"])[-1] == sent[-1], "the last image")
    for name in OUTPUTS.keys() - {"panoptic_ids"}:
        seen = stamps(dds.received[name])
        assert seen == sorted(set(seen) & set(sent)), name
        assert {m.header.frame_id for m in dds.received[name]} == {"camera"}
    assert {o.track_id for m in dds.received["tracks"] for o in m.objects} == {1, 2}
    assert {m.sequence_id for m in dds.received["tracks"]} == {0}


def test_a_bag_in_a_loop_starts_new_sequences(dds, model, tmp_path):
    bag = write(tmp_path / "bag", drive(4, f"{TOPIC}/compressed", jpeg))
    dds.live(model, image=f"{TOPIC}/compressed")
    dds.listen("tracks")
    player = dds.vps("play", bag, "--loop", "--wait", PATIENCE)
    until(lambda: dds.received["tracks"] and dds.received["tracks"][-1].sequence_id >= 2, "a third sequence")
    assert player.end() == 0
    ids = {}
    for message in dds.received["tracks"]:
        ids.setdefault(message.sequence_id, set()).update(o.track_id for o in message.objects)
    for number in range(1, len(ids)):
        assert min(ids[number]) > max(ids[number - 1]), "ids are never used twice"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_during_an_endless_frame(dds, endless, how, tmp_path):
    live = dds.live(endless, "--json", tmp_path / "f.json")
    writer = dds.publish()
    writer.send(images(1)[0])
    until(lambda: dds.values().get("received") == "1", "the image's coming in")
    assert live.end(how) == 0, live.shown
    shown = figures(tmp_path / "f.json")
    assert (shown["received"], shown["frames"], shown["failed"]) == (1, 0, 0)
    assert "did not stop" not in live.shown
    until(lambda: not writer.subscribers, "its leaving")


def test_a_killed_process_loses_only_its_own_messages(dds, model, tmp_path):
    bag = write(tmp_path / "bag", drive(6))
    live, listener = dds.live(model), dds.run(SUPPORT / "dds_listener.py")
    player = dds.vps("play", bag, "--loop", "--wait", PATIENCE)
    dds.listen("tracks")

    def goes_on(count=3):
        now = len(dds.received["tracks"])
        until(lambda: len(dds.received["tracks"]) >= now + count, "going on")

    goes_on()
    listener.says("label_info")
    listener.says("tracks")
    listener.end(signal.SIGKILL)
    goes_on(10)
    listener = dds.run(SUPPORT / "dds_listener.py")
    listener.says("label_info")
    listener.says("tracks")

    player.end(signal.SIGKILL)
    player = dds.vps("play", bag, "--loop", "--wait", PATIENCE)
    goes_on()
    before = len(dds.received["tracks"])
    live.end(signal.SIGKILL)
    live = dds.live(model)
    until(lambda: any(m.sequence_id == 0 for m in dds.received["tracks"][before:]), "a new run")
    goes_on()
    lines = len(listener.lines)
    until(lambda: len(listener.lines) > lines, "the listener's hearing the new one")
    assert live.end() == 0
    assert player.end() == 0


def test_latency_stays_bounded_with_a_slow_model(dds, slow, tmp_path):
    live = dds.live(slow, "--json", tmp_path / "f.json")
    dds.listen("tracks")
    writer = dds.publish()
    count = 120
    began = time.monotonic()
    for i in range(count):
        time.sleep(max(began + i / 30 - time.monotonic(), 0))
        last = raw(picture({0: (4 + i % 60, 40)}), time.time_ns())
        writer.send(last)
    until(lambda: dds.received["tracks"] and stamps(dds.received["tracks"])[-1:] == stamps([last]), "the newest frame")
    assert live.end() == 0
    shown = figures(tmp_path / "f.json")
    assert shown["received"] == shown["frames"] + shown["dropped"]
    assert shown["dropped"] > 0, "the model is not slow enough for this test"
    late = [at - stamp for at, stamp in zip(dds.times["tracks"], stamps(dds.received["tracks"]), strict=True)]
    step = sum(shown["latency_ms"][stage] for stage in ("segment", "flow", "track", "other"))
    # A queue would have grown by the end to what was dropped; here a frame waits for one other at most.
    assert late[-1] / 1e6 < 4 * step + 1000
    assert np.median(late[len(late) // 2 :]) < 3 * np.median(late[: len(late) // 2]) + 5e8


def test_bad_images_are_logged_once_and_counted(dds, model, tmp_path):
    live = dds.live(model, "--json", tmp_path / "f.json")
    dds.listen("tracks")
    writer = dds.publish()
    first, second = images(2)
    send(dds, writer, [first])
    data = cdr(second)
    refused = 0

    def refuse(message, *words, times=1):
        nonlocal refused
        for _ in range(times):
            assert writer.send_cdr(message if isinstance(message, bytes) else cdr(message))
            refused += 1
            # The next image would take the place of one that has not been looked at.
            until(lambda: dds.values().get("failed") == str(refused), f"{words} counted")  # noqa: B023
        live.says("frame skipped", *words)

    short = raw(picture({}), START)
    short.data = short.data[:-100]
    nothing = raw(picture({}), START)
    nothing.height, nothing.width, nothing.step, nothing.data = 0, 0, 0, short.data[:0]
    refuse(short, "needs rows", times=2)
    refuse(nothing, "0x0")
    refuse(raw(picture({}), START, "hologram8"), "hologram8")
    refuse(data + bytes(64), "is not a sensor_msgs/msg/Image")
    send(dds, writer, [second])
    assert live.end() == 0
    assert stamps(dds.received["tracks"]) == [START, START + TENTH]
    assert {o.track_id for o in dds.received["tracks"][-1].objects} == {1, 2}
    shown = figures(tmp_path / "f.json")
    assert (shown["frames"], shown["failed"]) == (2, refused)
    assert live.shown.count("frame skipped") == len(shown["failures"]) == 4


def test_images_without_a_stamp_get_their_time_of_arrival(dds, model):
    dds.live(model)
    dds.listen("tracks")
    before = time.time_ns()
    send(dds, dds.publish(), [raw(picture({0: (4 + i, 40)}), 0) for i in range(2)])
    first, second = stamps(dds.received["tracks"])
    assert before <= first < second <= time.time_ns()


def test_the_reason_is_logged_when_no_image_arrives(dds, model):
    offer = dds.offer("/rear/image_raw")
    live = dds.live(model, "--patience", 0.5, "--reliability", "reliable")
    live.says("nobody publishes /camera/image_raw", "/rear/image_raw (sensor_msgs/msg/Image)", "ROS_DOMAIN_ID")
    dds.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    until(lambda: any("nobody publishes" in m.status[0].message for m in dds.received["diagnostics"]))
    words = dds.offer(kind="std_msgs/msg/String")
    live.says("/camera/image_raw is a std_msgs/msg/String, not an image", "/rear/image_raw")
    del words
    hasty = dds.offer(reliability="best_effort")
    live.says("offers best_effort", "asks for reliable", "set reliability best_effort")
    assert not hasty.subscribers
    dds.listen("tracks")
    send(dds, dds.publish(reliability="reliable"), images(2))
    assert live.end() == 0
    assert live.shown.count("nobody publishes") == 1
    assert not offer.subscribers


def test_a_compressed_topic_is_known_by_its_type(dds, model):
    live = dds.live(model)
    dds.listen("tracks")
    send(dds, dds.publish(kind="sensor_msgs/msg/CompressedImage"), images(3, make=jpeg))
    assert {o.track_id for m in dds.received["tracks"] for o in m.objects} == {1, 2}
    live.says("/camera/image_raw carries sensor_msgs/msg/CompressedImage")


def test_cameras_by_name_share_a_model(dds, model, tmp_path):
    live = dds.vps(
        *("live", "--image", "front=/front/image_raw", "--image", "rear=/rear/image_raw", "--model", model),
        *("--json", tmp_path / "f.json", "--panoptic-ids", "true", "--name", "eyes"),
    )
    dds.listen("tracks", prefix="/eyes/front")
    dds.listen("panoptic_ids", prefix="/eyes/rear")
    dds.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    front, rear = dds.publish("/front/image_raw"), dds.publish("/rear/image_raw", camera=1)
    send(dds, front, images(3))
    send(dds, rear, images(2), "panoptic_ids")
    until(lambda: [s.name for s in dds.received["diagnostics"][-1].status] == ["eyes: front", "eyes: rear"])
    assert live.end() == 0
    shown = figures(tmp_path / "f.json")["cameras"]
    assert (shown["front"]["frames"], shown["rear"]["frames"]) == (3, 2)
    pixels = np.frombuffer(bytes(dds.received["panoptic_ids"][-1].data), np.int32)
    assert {13_000_001, 13_000_002} < set(pixels.tolist())


def test_camera_info_and_compressed_images_come_with_the_frames(dds, model):
    dds.live(model)
    dds.listen("tracks", "camera_info", "semantic")
    dds.subscribe("/vps/overlay/compressed", TYPES["overlay/compressed"])
    info, writer = dds.offer("/camera/camera_info", TYPES["camera_info"]), dds.publish()
    until(lambda: info.subscribers, "a subscriber of camera_info")
    until(lambda: "overlay/compressed (1)" in dds.values()["listeners"], "the subscriber of compressed images")
    info.send(camera_info(7))
    images_sent = iter(drive(60))
    while not dds.received["camera_info"]:
        # The frames before the CameraInfo has arrived are published without it.
        send(dds, writer, [next(images_sent)[2]])
    assert set(stamps(dds.received["camera_info"])) <= set(stamps(dds.received["tracks"]))
    assert dds.received["camera_info"][0].k.tolist() == list(range(9))
    until(lambda: stamps(dds.received["compressed"]) == stamps(dds.received["tracks"]), "the compressed images")
    assert compressed_to_rgb(dds.received["compressed"][0]).shape == (64, 96, 3)
    until(lambda: stamps(dds.received["semantic"]) == stamps(dds.received["tracks"]), "the class images")


class Client:
    """Calls a service as rmw_cyclonedds_cpp does."""

    def __init__(self, dds, name, kind):
        register_service(kind)
        self.kind, self.answers = kind, []
        self.reader = dds.participant.endpoint_reader(
            f"rr{name}Reply", f"{kind}_Response", QosProfile(), self._take, True
        )
        self.writer = dds.participant.endpoint_writer(f"rq{name}Request", f"{kind}_Request", QosProfile(), True)
        until(lambda: self.reader.publishers and self.writer.subscribers, name)

    def _take(self, data):
        answer = typestore().deserialize_cdr(data[:4] + data[20:], f"{self.kind}_Response")
        self.answers.append((data[4:20], answer))

    def __call__(self, **fields):
        name = f"{self.kind}_Request"
        body = bytes(typestore().serialize_cdr(make_message(name, **fields), name))
        header = (7).to_bytes(8, "little") + len(self.answers).to_bytes(8, "little")
        count = len(self.answers)
        self.writer.send_cdr(body[:4] + header + body[4:])
        until(lambda: len(self.answers) > count, f"an answer of {self.kind}")
        assert self.answers[-1][0] == header
        return self.answers[-1][1]


def test_services_reset_tracks_and_enable(dds, model):
    dds.live(model)
    dds.listen("tracks")
    dds.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    writer = dds.publish()
    messages = images(5)
    send(dds, writer, messages[:2])
    assert Client(dds, "/vps/reset_tracks", "std_srvs/srv/Trigger")(structure_needs_at_least_one_member=0).success
    send(dds, writer, messages[2:3])
    assert [m.sequence_id for m in dds.received["tracks"]] == [0, 0, 1]
    assert {o.track_id for o in dds.received["tracks"][-1].objects} == {3, 4}

    enable = Client(dds, "/vps/enable", "std_srvs/srv/SetBool")
    answer = enable(data=False)
    assert (answer.success, answer.message) == (True, "disabled")
    writer.send(messages[3])
    until(lambda: dds.values().get("received") == "4", "the fourth image's coming in")
    assert dds.received["diagnostics"][-1].status[0].message == "disabled"
    assert enable(data=True).message == "enabled"
    send(dds, writer, messages[4:])
    assert stamps(dds.received["tracks"])[2:] == [START + 2 * TENTH, START + 4 * TENTH]


def test_endpoints_have_the_types_and_qos_of_rmw(dds):
    from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
    from cyclonedds.qos import Policy

    sink = CameraOutputs(DdsTransport(dds.participant, "vps"))
    there = {
        one.topic_name: one for one in BuiltinDataReader(dds.participant.entity, BuiltinTopicDcpsPublication).read(99)
    }
    kinds = {**TYPES, **DEPTH_OUTPUTS}
    assert set(there) == {f"rt/vps/{name}" for name in kinds}
    for name, kind in kinds.items():
        one = there[f"rt/vps/{name}"]
        package, _, short = kind.split("/")
        assert one.type_name == f"{package}::msg::dds_::{short}_"
        assert one.qos[Policy.Userdata].data == f"typehash={type_hash(kind)};".encode()
        assert isinstance(one.qos[Policy.Reliability], Policy.Reliability.Reliable)
        latched = name == LABEL_INFO
        assert one.qos[Policy.Durability] == (
            Policy.Durability.TransientLocal if latched else Policy.Durability.Volatile
        )
        assert one.qos[Policy.History].depth == (1 if latched else 10)
        assert not sink.wants(name)
    dds.listen("tracks")
    assert until(lambda: sink.wants("tracks"))
    assert not sink.wants("segments")
    assert [o.topic for o in dds.participant.publishers()] == sorted(f"/vps/{name}" for name in kinds)


def test_a_subscription_whose_change_of_type_fails_is_closed_once(dds):
    class Exhausted(DdsTransport):
        def subscribe(self, topic, kind, qos, callback):
            if kind == RAW:
                raise InputError("DDS has no memory left")
            return super().subscribe(topic, kind, qos, callback)

    _writer = dds.participant.writer("/image/compressed", RAW, QosProfile())
    subscription = CameraSubscription(Exhausted(dds.participant, "vps"), "/image/compressed", QosProfile(), print)
    until(lambda: dds.participant.publishers(), "the discovery")
    with pytest.raises(InputError, match="no memory"):
        subscription.check(PATIENCE)
    subscription.close()


def test_a_failing_callback_is_logged_once_and_does_not_stop_others(dds, caplog):
    kind, received = "std_msgs/msg/String", []

    def fail(data):
        raise ValueError("broken callback")

    readers = [dds.participant.reader("/bad", kind, QosProfile(), fail)]
    readers.append(dds.participant.reader("/good", kind, QosProfile(), received.append))
    writers = [dds.participant.writer(topic, kind, QosProfile()) for topic in ("/bad", "/good")]
    until(lambda: all(writer.subscribers for writer in writers), "the connection")
    for number in range(5):
        for writer in writers:
            assert writer.send(string(str(number)))
        until(lambda count=number + 1: len(received) == count, "the message")
    assert sum("reading from DDS failed" in record.getMessage() for record in caplog.records) == 1
