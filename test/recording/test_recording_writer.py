"""Bags that we write: read back with the rosbags library, equal to the byte, whole or not there."""

import errno
import os
import resource
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import Reader

from vps_ros.errors import InputError
from vps_ros.frame import PanopticFrame, Segment, Track
from vps_ros.messages.panoptic import make_header, read_panoptic
from vps_ros.messages.typestore import typestore
from vps_ros.recording.bag import Bag
from vps_ros.recording.writer import BagWriter
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP

START, TENTH = 1_700_000_000_000_000_001, 100_000_000
TOPICS = ["detections", "label_info", "panoptic", "segments", "tracks"]


def frame(k, size=(48, 64)):
    pixels = np.zeros(size, np.uint16)
    pixels[24:] = 1
    pixels[20:30, k : k + 10] = 1000
    stamp = START + k * TENTH
    segments = (Segment(1, 0, False, 0.9, int((pixels == 1).sum()), 0), Segment(1000, 13, True, 0.8, 100, 5))
    track = Track(5, 0, 1, 13, 0.8, 1, 1, 0.7, (k, 20.0, k + 10.0, 30.0), (1.0, 0.0), 100, START, stamp, k + 1)
    return PanopticFrame(stamp, "camera", 0, pixels, segments, (track,))


def write(path, count=4, **options):
    with BagWriter(path, **options) as bag:
        for k in range(count):
            bag.write_frame(frame(k), CITYSCAPES)
    return path


FORMS = [("a.mcap", {}), ("a.mcap", {"compress": False}), ("a", {}), ("a", {"storage": "sqlite3"})]


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_rosbags_reads_what_was_written(tmp_path, name, options):
    path = write(tmp_path / name, **options)
    found = {}
    with AnyReader([path]) as bag:
        assert sorted(c.topic for c in bag.connections) == [f"/vps/{t}" for t in TOPICS]
        for connection, time, data in bag.messages():
            # The types are in the file itself.
            message = bag.deserialize(data, connection.msgtype)
            found.setdefault(connection.topic, []).append((time, message))
            assert time == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            assert message.header.frame_id == "camera"
    assert len(found["/vps/label_info"]) == 1
    for k in range(4):
        image, rows, objects = (found[f"/vps/{t}"][k][1] for t in ("panoptic", "segments", "tracks"))
        back = read_panoptic(image, rows, objects)
        np.testing.assert_array_equal(back.map, frame(k).map)
        assert back.tracks[0].track_id == 5
        assert found["/vps/detections"][k][1].detections[0].id == "5"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_label_info_reaches_late_subscribers(tmp_path, storage):
    with Reader(write(tmp_path / "bag", storage=storage)) as bag:
        profiles = {c.topic: c.ext.offered_qos_profiles for c in bag.connections}
    (labels,), (image,) = profiles["/vps/label_info"], profiles["/vps/panoptic"]
    assert (labels.durability, labels.reliability) == (QosDurability.TRANSIENT_LOCAL, QosReliability.RELIABLE)
    assert (image.durability, image.reliability) == (QosDurability.VOLATILE, QosReliability.RELIABLE)


def test_the_same_messages_give_the_same_bytes(tmp_path):
    one, two = write(tmp_path / "one.mcap"), write(tmp_path / "elsewhere" / "two.mcap")
    assert one.read_bytes() == two.read_bytes()
    for storage in ("mcap", "sqlite3"):
        folders = [write(tmp_path / storage / name / "bag", storage=storage) for name in ("x", "y")]
        files = [sorted(p.name for p in folder.iterdir()) for folder in folders]
        assert files[0] == files[1]
        for name in files[0]:
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_mcap_file_keeps_to_the_specification(tmp_path):
    data = write(tmp_path / "a.mcap").read_bytes()
    magic = b"\x89MCAP0\r\n"
    assert data.startswith(magic)
    assert data.endswith(magic)
    # Footer: opcode 2, twenty bytes, and where the summary starts.
    assert data[-37:-28] == struct.pack("<BQ", 2, 20)
    (summary,) = struct.unpack_from("<Q", data, len(data) - 28)
    kinds, at = [], summary
    while at < len(data) - 8:
        kind, length = struct.unpack_from("<BQ", data, at)
        kinds.append(kind)
        at += 9 + length
    assert at == len(data) - 8
    # Schemas, channels, chunk indexes, statistics and the metadata index are in the summary.
    assert {3, 4, 8, 11, 13} <= set(kinds)
    assert kinds.count(4) == len(TOPICS)


def test_metadata_can_be_read_by_every_ros_2_since_humble(tmp_path):
    folder = write(tmp_path / "bag")
    information = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["relative_file_paths"] == ["bag.mcap"]
    assert information["message_count"] == 17
    assert information["starting_time"]["nanoseconds_since_epoch"] == START
    assert information["duration"]["nanoseconds"] == 3 * TENTH
    for topic in information["topics_with_message_count"]:
        # Humble wants text here, and numbers for the policies in it.
        (profile,) = yaml.safe_load(topic["topic_metadata"]["offered_qos_profiles"])
        assert profile["history"] == 1


def test_opt_in_topics_and_prefix(tmp_path):
    picture = np.full((48, 64, 3), 7, np.uint8)
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_frame(frame(0), CITYSCAPES, overlay=picture, prefix="/vps/front", ids=True)
        bag.write_frame(frame(1), KITTI_STEP, prefix="/vps/front")
    with Bag(tmp_path / "a.mcap") as bag:
        counts = {t.name: t.count for t in bag.topics}
    assert counts["/vps/front/overlay"] == counts["/vps/front/panoptic_ids"] == 1
    # Another taxonomy is told when it comes.
    assert counts["/vps/front/label_info"] == 2


def test_label_info_is_written_once_for_each_prefix(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        for i in range(3):
            for prefix in ("/vps/front", "/vps/rear"):
                bag.write_frame(frame(i), CITYSCAPES, prefix=prefix)
    with Bag(tmp_path / "a.mcap") as bag:
        counts = {t.name: t.count for t in bag.topics}
    assert [counts[f"/vps/{camera}/label_info"] for camera in ("front", "rear")] == [1, 1]
    assert counts["/vps/rear/tracks"] == 3


def test_any_message_can_be_written(tmp_path):
    header = make_header(3, "x")
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write("/header", header, 3)
        bag.write_raw("/again", "std_msgs/msg/Header", typestore().serialize_cdr(header, "std_msgs/msg/Header"), 4)
        bag.write("/broken_clock", header, -5)
    with Bag(tmp_path / "a.mcap") as bag:
        times = {m.topic: (m.time, m.type) for m in bag.messages()}
    assert times == {
        "/header": (3, "std_msgs/msg/Header"),
        "/again": (4, "std_msgs/msg/Header"),
        "/broken_clock": (0, "std_msgs/msg/Header"),
    }


def test_stamps_that_jump_back_keep_their_time(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        for k in (2, 0, 1):
            bag.write_frame(frame(k), CITYSCAPES)
    with Bag(tmp_path / "a.mcap") as bag:
        assert [m.time for m in bag.messages(["/vps/tracks"])] == [START + k * TENTH for k in range(3)]


# What is refused, and what failure leaves behind.


def test_an_output_that_exists(tmp_path):
    path = tmp_path / "a.mcap"
    path.write_text("precious")
    with pytest.raises(InputError, match="--force"):
        BagWriter(path)
    assert path.read_text() == "precious"
    write(path, force=True)
    with Bag(path) as bag:
        assert len(bag.topics) == len(TOPICS)
    folder = write(tmp_path / "bag")
    with pytest.raises(InputError, match="--force"):
        BagWriter(folder)
    write(folder, count=2, force=True, storage="sqlite3")
    assert sorted(p.name for p in folder.iterdir()) == ["bag.db3", "metadata.yaml"]


def test_a_folder_of_something_else_stays(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("precious")
    with pytest.raises(InputError, match="never replaced"):
        BagWriter(tmp_path / "home", force=True)


@pytest.mark.parametrize(
    ("name", "storage"), [("a.mcap", "sqlite3"), ("a.db3", "sqlite3"), ("a.db3", "mcap"), ("a", "leveldb")]
)
def test_storages_that_do_not_fit(tmp_path, name, storage):
    with pytest.raises(InputError) as error:
        BagWriter(tmp_path / name, storage=storage)
    assert name in str(error.value)


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_failure_leaves_nothing(tmp_path, name, options):
    with pytest.raises(RuntimeError, match="in the middle"), BagWriter(tmp_path / name, **options) as bag:
        bag.write_frame(frame(0), CITYSCAPES)
        raise RuntimeError("in the middle")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_failure_keeps_what_was_there(tmp_path, name, options):
    path = write(tmp_path / name, count=2, **options)
    with pytest.raises(KeyboardInterrupt), BagWriter(path, force=True, **options) as bag:
        bag.write_frame(frame(0), CITYSCAPES)
        raise KeyboardInterrupt
    with Bag(path) as bag:
        assert max(t.count for t in bag.topics) == 2
    assert [p.name for p in tmp_path.iterdir()] == [name]


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from test_recording_writer import write
try:
    write({path!r}, 60, **{options!r})
except OSError as error:
    sys.exit(error.errno)
except ValueError as error:
    sys.exit(str(error))
"""


def in_a_process(path, options, **how):
    script = SCRIPT.format(folder=os.path.dirname(__file__), path=str(path), options=options)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, **how)


@pytest.mark.parametrize(("name", "options"), [FORMS[1], FORMS[3]])
def test_a_file_that_may_not_grow(tmp_path, name, options):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    run = in_a_process(tmp_path / "out" / name, options, preexec_fn=limited)
    # SQLite does not tell why it could not write.
    assert run.returncode == errno.EFBIG or "cannot be written" in run.stderr.splitlines()[0]
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("name", "options"), [FORMS[1], FORMS[3]])
def test_a_full_disk(tmp_path, name, options):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a small disk")
    try:
        run = in_a_process(disk / name, options)
        assert run.returncode == errno.ENOSPC, run.stderr
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)
