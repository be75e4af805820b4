"""`vps-ros play` and `vps-ros record`: real processes on real DDS; wrong input of all three commands."""

import subprocess
import sys

import pytest

pytest.importorskip("cyclonedds", reason='DDS needs cyclonedds; pip install "vps_ros[live]"')

from rosbags.highlevel import AnyReader

from support.bags import START, TOPIC, drive, jpeg, string, write
from support.dds import PATIENCE, ROOT, cdr, until
from vps_ros.commands.main import main
from vps_ros.messages.panoptic import LABEL_INFO

SMALL = ("tracks", "segments", "detections", "panoptic")


def test_play_publishes_every_image_at_the_recorded_rate(dds, tmp_path):
    bag = write(tmp_path / "bag", drive(9) + drive(9, "/rear/image_raw", jpeg))
    dds.subscribe(TOPIC, "sensor_msgs/msg/Image", wait=False)
    player = dds.vps("play", bag, "--topic", TOPIC, "--rate", 2, "--wait", PATIENCE)
    assert player.wait() == 0, player.shown
    until(lambda: len(dds.received["image_raw"]) == 9)
    assert [cdr(m) for m in dds.received["image_raw"]] == [cdr(m) for _, _, m in drive(9)]
    # Eight intervals of a tenth of a second at twice the pace: never sooner, later where the machine is busy.
    assert dds.times["image_raw"][-1] - dds.times["image_raw"][0] > 0.2e9
    unheard = dds.vps("play", bag, "--topic", "/rear/image_raw", "--rate", 100, "--wait", 0)
    assert unheard.wait() == 0
    assert "9 images sent" in unheard.shown


def test_play_live_and_record_together(dds, model, tmp_path):
    bag = write(tmp_path / "bag", drive(12))
    live = dds.live(model)
    recorder = dds.vps("record", "-o", tmp_path / "out.mcap")
    recorder.says("Ctrl-C ends")
    player = dds.vps("play", bag, "--loop", "--rate", 2, "--wait", PATIENCE)
    dds.listen("tracks")
    dds.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    # A recorder that has not found everybody yet records less.
    recorded = [f"{name} (" for name in (*SMALL, LABEL_INFO)] + ["tracks (2)"]
    received = dds.received["diagnostics"]
    until(lambda: received and all(one in dds.values()["listeners"] for one in recorded), "the recorder's listening")
    began = dds.received["tracks"][-1].sequence_id if dds.received["tracks"] else 0
    until(lambda: dds.received["tracks"] and dds.received["tracks"][-1].sequence_id > began + 2, "some rounds")
    assert (player.end(), recorder.end(), live.end()) == (0, 0, 0), recorder.shown
    with AnyReader([tmp_path / "out.mcap"]) as out:
        there = {c.topic: c for c in out.connections}
        assert {TOPIC, "/diagnostics", *(f"/vps/{name}" for name in (*SMALL, LABEL_INFO))} <= set(there)
        (qos,) = there["/vps/label_info"].ext.offered_qos_profiles
        assert qos.durability.name == "TRANSIENT_LOCAL"
        tracks = [out.deserialize(data, c.msgtype) for c, _, data in out.messages() if c.topic == "/vps/tracks"]
    live_ones = {cdr(m) for m in dds.received["tracks"]}
    assert len(tracks) > 5
    assert len({cdr(m) for m in tracks} & live_ones) > len(tracks) // 2
    again = ["replay", str(tmp_path / "out.mcap"), "--topic", TOPIC, "-o", str(tmp_path / "again.mcap")]
    assert main([*again, "--model", str(model)]) == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["live", "--image", "a b"], ["'a b'", "topic"]),
        (["live", "--image", "/a", "--image", "/b"], ["several cameras need names"]),
        (["live", "--image", "x=/a", "--image", "x=/b"], ["'x'"]),
        (["live", "--image", "/a", "--domain", "1000"], ["--domain", "1000", "232"]),
        (["live", "--image", "/a", "--interface", "warp9"], ["warp9", "lo"]),
        (["live", "--image", "/a", "--model", "absent.onnx"], ["absent.onnx"]),
        (["live", "--image", "/a", "--depth", "0"], ["depth", "1..1000"]),
        (["live", "--image", "/a", "--name", "a b"], ["a b"]),
        (["play", "absent.mcap"], ["absent.mcap"]),
        (["play", "BAG"], ["no image topic"]),
        (["play", "BAG", "--rate", "0"], ["--rate"]),
        (["play", "BAG", "--wait", "nan"], ["--wait"]),
        (["live", "--image", "/a", "--json", "."], ["a folder"]),
        (["record", "a b", "-o", "x.mcap"], ["'a b'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line(private_domain, tmp_path, capfd, arguments, words):
    bag = write(tmp_path / "bag", [("/words", START, string("hello"))])
    assert main([str(bag) if a == "BAG" else a for a in arguments]) == 2
    shown = capfd.readouterr().err
    assert shown.count("\n") == 1, shown
    for word in words:
        assert word in shown


def test_without_cyclonedds_it_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['cyclonedds'] = None\n"
    code += "from vps_ros.commands.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "live", "--image", "/a"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert 'pip install "vps_ros[live]"' in done.stderr
    assert done.stderr.count("\n") == 1
