"""How the commands on DDS end: by a signal at any time, by bad input, on a full disk. Real processes."""

import signal
import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("cyclonedds", reason='DDS needs cyclonedds; pip install "vps_ros[live]"')

from cyclonedds.idl import make_idl_struct, types
from cyclonedds.pub import DataWriter
from cyclonedds.topic import Topic
from rosbags.highlevel import AnyReader

from support.bags import START, drive, raw, string, write
from support.dds import cdr, until
from support.worlds import colour_model

SMALL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
from vps_ros.commands.main import main
sys.exit(main(sys.argv[1:]))
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def model_that_takes_minutes_to_load(path):
    """A colour model with products of large matrices, all of which ONNX Runtime works out as it loads it."""
    model = onnx.load(colour_model(path))
    graph = model.graph
    size = numpy_helper.from_array(np.array([2048, 2048], np.int64), "size")
    small = helper.make_tensor("small", TensorProto.FLOAT, [1], [1e-4])
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["product0"], value=small)]
    nodes += [helper.make_node("MatMul", [f"product{i}", "product0"], [f"product{i + 1}"]) for i in range(1000)]
    nodes += [
        helper.make_node("ReduceMean", ["product1000"], ["mean"], keepdims=0),
        helper.make_node("Add", ["scale", "mean"], ["other_scale"]),
    ]
    for node in graph.node:
        node.input[:] = ["other_scale" if name == "scale" else name for name in node.input]
    there = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *there])
    graph.initializer.append(size)
    onnx.save(model, path)
    return path


@pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) <= (1, 23),
    reason="ONNX Runtime 1.23 lets no other thread of Python run while it loads a model",
)
@pytest.mark.parametrize("how", SIGNALS)
def test_a_signal_ends_it_while_the_model_is_loaded(dds, how, tmp_path):
    model = model_that_takes_minutes_to_load(tmp_path / "large.onnx")
    live = dds.vps("live", "--image", "/a", "--model", model, "--threads", 1)
    live.says("loading model")
    assert live.end(how) == 0, live.shown
    assert "Ctrl-C ends" not in live.shown


@pytest.mark.parametrize("how", SIGNALS)
def test_a_signal_ends_waiting_commands(dds, how, tmp_path):
    live = dds.live(colour_model(tmp_path / "colours.onnx"))
    player = dds.vps("play", write(tmp_path / "bag", drive(2, "/rear/image_raw")), "--wait", 3600)
    recorder = dds.vps("record", "/nothing", "-o", tmp_path / "out.mcap")
    for process in (live, player, recorder):
        process.says("Ctrl-C ends")
    assert live.end(how) == 0, live.shown
    assert player.end(how) == 0, player.shown
    assert "0 images sent" in player.shown
    assert recorder.end(how) == 2, recorder.shown
    assert "no message was received on /nothing" in recorder.shown
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_reliable_and_best_effort_publishers_of_one_topic_are_recorded(dds, tmp_path):
    recorder = dds.vps("record", "/words", "/odd", "-o", tmp_path / "out.mcap")
    recorder.says("Ctrl-C ends")
    strange = make_idl_struct("Bar_", "foo_msgs.msg.dds_.Bar_", {"x_": types.int32})
    foreign = DataWriter(dds.participant.entity, Topic(dds.participant.entity, "rt/odd", strange))
    recorder.says("/odd is a foo_msgs/msg/Bar, an unknown type")
    for reliability in ("reliable", "best_effort"):
        writer = dds.offer("/words", "std_msgs/msg/String", reliability)
        until(lambda writer=writer: writer.subscribers, "the recorder's listening")
        assert writer.send(string(reliability))
        # What a signal meets on its way would be lost.
        time.sleep(0.5)
    assert recorder.end() == 0, recorder.shown
    with AnyReader([tmp_path / "out.mcap"]) as out:
        assert {out.deserialize(data, c.msgtype).data for c, _, data in out.messages()} == {"reliable", "best_effort"}
    del foreign


def test_a_single_image_in_a_loop_keeps_its_rate(dds, tmp_path):
    dds.subscribe("/camera/image_raw", "sensor_msgs/msg/Image", wait=False)
    began = time.monotonic()
    player = dds.vps("play", write(tmp_path / "bag", drive(1)), "--loop", "--rate", 2)
    until(lambda: len(dds.received["image_raw"]) >= 6, "some rounds")
    assert player.end() == 0
    sent = int(player.says("images sent").split()[0])
    # Twice the pace of ten a second: never more, less where the machine is busy.
    assert sent <= 20 * (time.monotonic() - began) + 1


def test_truncated_and_random_messages_are_survived(dds, tmp_path):
    live = dds.live(colour_model(tmp_path / "colours.onnx"))
    dds.listen("tracks")
    writer = dds.publish()
    whole = cdr(drive(1)[0][2])
    for nonsense in (whole[:50], whole[:-3000], whole[:4] + b"\xff" * 400, bytes(8), b"\xff" * 64):
        writer.send_cdr(nonsense)
    for count, (_, _, message) in enumerate(drive(2), 1):
        writer.send(message)
        until(lambda count=count: len(dds.received["tracks"]) == count, "an answer")
    assert live.end() == 0, live.shown
    assert "Traceback" not in live.shown


def test_a_full_disk_is_reported_and_leaves_no_bag(dds, tmp_path):
    recorder = dds.run("-c", SMALL_DISK, "record", "/camera/image_raw", "-o", tmp_path / "out.mcap")
    recorder.says("Ctrl-C ends")
    writer = dds.offer()
    until(lambda: writer.subscribers, "the recorder's listening")
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)

    def ended():
        writer.send(raw(noise, START))
        return recorder.running.poll() is not None

    until(ended, "its end")
    assert recorder.wait() == 2, recorder.shown
    assert "disk full" in recorder.shown
    assert not list(tmp_path.iterdir())


def test_a_deleted_model_file_fails_only_the_next_start(dds, tmp_path):
    model = colour_model(tmp_path / "colours.onnx")
    live = dds.live(model)
    dds.listen("tracks")
    writer = dds.publish()
    model.unlink()
    for count, (_, _, message) in enumerate(drive(3), 1):
        writer.send(message)
        until(lambda count=count: len(dds.received["tracks"]) == count, "an answer")
    assert live.end() == 0
    again = dds.vps("live", "--image", "/camera/image_raw", "--model", model)
    assert again.wait() == 2
    assert again.lines == [again.says("colours.onnx", "no such file")]
