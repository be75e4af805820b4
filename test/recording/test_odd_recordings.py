"""Recordings of unusual layout: every frame is read, in order of time, or its loss is reported."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin

from support import ROOT, mcaps
from support.bags import START, TENTH, TOPIC, TYPES, drive, jpeg, raw, string, write
from support.odd_bags import CAMERA, IMAGE, JPEG, at, image, mcap, read, text
from vps_ros.commands import play
from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.recording.bag import Bag
from vps_ros.recording.frames import BagReader
from vps_ros.recording.storage import decompress, zstd

# Messages that the index does not list.

LAYOUTS = {
    "chunks without message index": mcaps.Layout(indexed=frozenset({0, 2})),
    "no message index at all": mcaps.Layout(indexed=frozenset()),
    "no chunk index": mcaps.Layout(chunk_index=False),
    "chunk index only": mcaps.Layout(indexed=frozenset(), statistics=False),
    "no statistics": mcaps.Layout(statistics=False),
    "statistics only": mcaps.Layout(chunk_index=False, summary_definitions=False),
    "definitions in chunks only": mcaps.Layout(definitions="chunk", summary_definitions=False, statistics=False),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("outside", [False, True], ids=["chunks", "messages outside chunks"])
def test_messages_without_index_are_read(tmp_path, name, outside):
    blocks = [(True, at(0, 1)), (not outside, at(2, 3)), (True, at(4, 5))]
    path = mcap(tmp_path / "a.mcap", blocks, LAYOUTS[name])
    assert read(path) == (list(range(6)), ())
    with Bag(path) as bag:
        assert [(t.name, t.type, t.count) for t in bag.topics] == [(TOPIC, IMAGE, 6)]


def test_an_index_that_lists_some_messages_of_a_chunk(tmp_path):
    content = mcap(tmp_path / "a.mcap", [(True, at(0, 1, 2))], mcaps.Layout(indexed=frozenset())).read_bytes()
    end = content.index(mcaps.record(15, bytes(4)))
    partial = mcaps.message_index(1, [START])
    path = tmp_path / "b.mcap"
    # Without a summary, and with statistics that are as wrong as the index.
    for tail in ([], [mcaps.statistics({1: 1}, 1, [START])]):
        start = content[:end] + partial
        path.write_bytes(start + mcaps.summary(*tail, start=len(start)))
        assert read(path) == ([0, 1, 2], ())
        with Bag(path) as bag:
            assert bag.topics[0].count == 3


def test_messages_that_only_the_statistics_have_are_a_loss(tmp_path):
    content = mcap(tmp_path / "a.mcap", [(True, at(0, 1, 2))], mcaps.Layout(indexed=frozenset())).read_bytes()
    start = content[: content.index(mcaps.record(15, bytes(4)))]
    path = tmp_path / "b.mcap"
    path.write_bytes(start + mcaps.summary(mcaps.statistics({1: 5}, 1, [START]), start=len(start)))
    found, (loss,) = read(path)
    assert found == [0, 1, 2]
    assert loss.count == 2
    assert "holds 3 of the 5 messages" in str(loss)


def test_reading_goes_on_after_a_damaged_record(tmp_path):
    path = mcap(tmp_path / "a.mcap", [(True, at(2 * k, 2 * k + 1)) for k in range(3)])
    content = bytearray(path.read_bytes())
    second = [i for i in range(len(content)) if content[i : i + 9] == content[:0] + b"\x06" + content[i + 1 : i + 9]]
    with_chunk = content.index(mcaps.chunk(b"".join(mcaps.message(*m) for m in at(2, 3)), [m[1] for m in at(2, 3)]))
    assert with_chunk in second
    for opcode, length in ((0x06, 1 << 40), (0, 10), (0x0A, 10), (0x05, 3)):
        content[with_chunk : with_chunk + 9] = mcaps.record(opcode, b"")[:1] + length.to_bytes(8, "little")
        path.write_bytes(content)
        found, losses = read(path)
        assert [k for k in found if k in (0, 1, 4, 5)] == [0, 1, 4, 5]
        assert found == sorted(found)
        assert sum(loss.count for loss in losses) == 6 - len(found)
        assert losses or len(found) == 6


def test_a_message_on_a_channel_without_definition_is_a_loss(tmp_path):
    path = mcap(
        tmp_path / "a.mcap", [(True, [*at(0, 1), (7, START, b"x")])], channels={1: CAMERA, 7: ("/x", "", "json")}
    )
    body = path.read_bytes().replace(mcaps.channel(7, 0, "/x", "json"), b"")
    start = body[: body.index(mcaps.record(15, bytes(4)))]
    path.write_bytes(start + mcaps.summary(start=len(start)))
    found, (loss,) = read(path)
    assert found == [0, 1]
    assert "1 messages on channels that are not defined" in str(loss)


# Other topics, and several types on one topic.

OTHERS = {
    2: ("/log", "", "json"),
    3: ("/log2", "foxglove.Log", "json"),
    4: ("/reset/_service_event", "std_srvs/srv/SetBool_Event", "cdr"),
    5: ("/go/_action/feedback", "nav2_msgs/action/Spin_FeedbackMessage", "cdr"),
    6: ("/pose", "foxglove.PoseInFrame", "protobuf"),
}


@pytest.mark.parametrize("statistics", [True, False])
def test_topics_of_any_type_are_listed_and_ignored(tmp_path, statistics):
    others = [(number, START, b'{"a": 1}') for number in OTHERS]
    layout = mcaps.Layout(statistics=statistics)
    path = mcap(tmp_path / "a.mcap", [(True, [*at(0, 1), *others])], layout, {1: CAMERA, **OTHERS})
    assert read(path) == ([0, 1], ())
    assert main(["inspect", str(path), "--json", str(tmp_path / "f.json")]) == 0
    topics = {t["name"]: (t["type"], t["count"]) for t in json.loads((tmp_path / "f.json").read_text())["topics"]}
    assert topics == {
        TOPIC: (IMAGE, 2),
        "/log": ("(json)", 1),
        "/log2": ("foxglove.Log (json)", 1),
        "/reset/_service_event": ("std_srvs/srv/SetBool_Event", 1),
        "/go/_action/feedback": ("nav2_msgs/action/Spin_FeedbackMessage", 1),
        "/pose": ("foxglove.PoseInFrame (protobuf)", 1),
    }


def test_an_image_in_json_is_no_image(tmp_path):
    path = mcap(tmp_path / "a.mcap", [(True, [(1, START, b"{}")])], channels={1: (TOPIC, IMAGE, "json")})
    with pytest.raises(InputError, match=r"no image topic.*\(json\).*only CDR"):
        read(path)


def test_other_topics_of_an_sqlite_bag(tmp_path):
    folder = write(tmp_path / "bag", drive(2), StoragePlugin.SQLITE3)
    database = sqlite3.connect(folder / "bag.db3")
    names = [row[1] for row in database.execute("PRAGMA table_info(topics)")]
    values = {"id": 9, "name": "/log", "type": "foxglove.Log", "serialization_format": "json"}
    database.execute(f"INSERT INTO topics VALUES ({','.join('?' * len(names))})", [values.get(n, "") for n in names])
    database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (9, ?, ?)", (START, b"{}"))
    database.commit()
    database.close()
    (folder / "metadata.yaml").unlink()
    with BagReader(folder) as bag:
        assert len(list(bag.frames())) == 2
        assert bag.losses == ()
    with Bag(folder) as bag:
        assert ("/log", "foxglove.Log (json)", 1) in [(t.name, t.type, t.count) for t in bag.topics]


def test_each_message_of_a_topic_is_read_by_its_own_type(tmp_path):
    channels = {1: CAMERA, 2: (TOPIC, JPEG, "cdr"), 3: (TOPIC, "std_msgs/msg/String", "cdr")}
    compressed = [(2, START + k * TENTH, image(k, jpeg)) for k in (1, 3)]
    path = mcap(tmp_path / "a.mcap", [(True, [*at(0, 2), (3, START, text("on")), *compressed])], channels=channels)
    assert read(path) == ([0, 1, 2, 3], ())
    with BagReader(path) as bag:
        assert len(bag) == 4


@pytest.mark.parametrize("alone", [True, False])
def test_play_publishes_each_type_on_its_own_topic(tmp_path, capsys, private_domain, alone):
    compressed = [(2, START + k * TENTH, image(k, jpeg)) for k in (1, 3)]
    messages = compressed if alone else [*at(0, 2), *compressed]
    path = mcap(tmp_path / "a.mcap", [(True, messages)], channels={1: CAMERA, 2: (TOPIC, JPEG, "cdr")})
    assert main(["play", str(path), "--wait", "0", "--rate", "1000"]) == 0
    topics = f"{TOPIC} (2)" if alone else f"{TOPIC}/compressed (2), {TOPIC} (2)"
    assert f": {topics}; Ctrl-C ends" in capsys.readouterr().err


# Times.


@pytest.mark.parametrize("late", [2**31 * 10**9, 4_294_967_301 * 10**9, 2**63 + 5])
def test_a_time_that_no_stamp_can_hold_is_a_counted_frame(tmp_path, late, capsys):
    unstamped = bytes(TYPES.serialize_cdr(raw(np.zeros((4, 6, 3), np.uint8), 0), IMAGE))
    path = mcap(tmp_path / "a.mcap", [(True, [*at(0, 1), (1, late, unstamped)])])
    found, (loss,) = read(path)
    assert found == [0, 1]
    assert loss.count == 1
    assert "after 2038" in str(loss)
    assert main(["inspect", str(path)]) == 0
    alone = mcap(tmp_path / "b.mcap", [(True, [(1, late, unstamped)])])
    with pytest.raises(InputError, match="after 2038"):
        read(alone)


def test_play_shortens_a_jump_of_the_clock(tmp_path, capsys):
    times = [0, TENTH, START, START + TENTH]
    path = mcap(tmp_path / "a.mcap", [(True, [(1, t, image(k)) for k, t in enumerate(times)])])
    with Bag(path) as bag:
        due = [moment for moment, _ in play._schedule(bag, {TOPIC}, 2.0, False)]
    assert np.diff(due) == pytest.approx([0.05, play.MAX_GAP_SECONDS / 2, 0.05])
    assert "pauses above 10 s are shortened" in " ".join(capsys.readouterr().err.split())


# Checksums and padding.


def test_a_wrong_byte_in_an_uncompressed_chunk_is_found(tmp_path):
    path = mcap(tmp_path / "a.mcap", [(True, at(0, 1)), (True, at(2))])
    content = bytearray(path.read_bytes())
    content[content.index(image(1)) + len(image(1)) - 1] ^= 0xFF
    path.write_bytes(content)
    found, (loss,) = read(path)
    assert found == [2]
    assert loss.count == 2
    assert "checksum" in str(loss)


@pytest.mark.parametrize("padding", [b"\0" * 7, b"\0" * 5000])
def test_zeros_after_compressed_data_are_padding(tmp_path, padding):
    compressed = zstd.compress(b"content")
    assert decompress(compressed + padding, "zstd") == (b"content", True)
    assert decompress(compressed + padding + compressed, "zstd") == (b"contentcontent", True)
    assert decompress(compressed[:-2], "zstd")[1] is False
    records = b"".join(mcaps.message(*m) for m in at(0, 1))
    head = mcaps.MAGIC + mcaps.header() + mcaps.schema(1, IMAGE) + mcaps.channel(1, 1, TOPIC)
    stored = zstd.compress(records) + padding
    body = mcaps.chunk(records, [START, START + TENTH])[9:37] + mcaps.text("zstd")
    body += len(stored).to_bytes(8, "little") + stored
    (tmp_path / "a.mcap").write_bytes(head + mcaps.record(6, body) + mcaps.end())
    assert read(tmp_path / "a.mcap") == ([0, 1], ())
    (tmp_path / "b.mcap.zstd").write_bytes(zstd.compress((tmp_path / "a.mcap").read_bytes()) + padding)
    assert read(tmp_path / "b.mcap.zstd") == ([0, 1], ())


# Termination.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_removes_temporary_files(tmp_path, number):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    out.mkdir()
    cv2.imwrite(str(images / "0.png"), np.zeros((64, 64, 3), np.uint8))
    # So many that the command does not end before the signal.
    for k in range(1, 20_000):
        os.link(images / "0.png", images / f"{k}.png")
    command = [sys.executable, "-m", "vps_ros.commands.main", "pack", str(images), "-o", str(out / "a.mcap")]
    # Under nohup, a process inherits that SIGHUP is ignored.
    default = signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    signal.signal(number, default)
    deadline = time.monotonic() + 100
    while not list(out.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(out.iterdir()), "the temporary folder"
    process.send_signal(number)
    _, shown = process.communicate(timeout=100)
    assert process.returncode == 128 + number
    assert "Traceback" not in shown
    assert list(out.iterdir()) == []


# Third-party files.


@pytest.mark.parametrize(
    ("name", "count"),
    [("chunks_without_index.mcap", 6), ("summary_without_schemas.mcap", 6), ("parts_numbered_first", 24),
     ("topic_with_two_types.mcap", 6)],
)  # fmt: skip
def test_odd_files_of_vehicles(oddfiles, name, count):
    with BagReader(oddfiles / name) as bag:
        stamps = [f.stamp for f in bag.frames()]
        assert bag.losses == ()
    assert stamps == [START + k * TENTH for k in range(count)]


def test_a_stamp_after_2106(oddfiles):
    with pytest.raises(InputError, match="after 2038"), BagReader(oddfiles / "stamp_after_2106.mcap") as bag:
        list(bag.frames())


# Every valid layout.

COMPRESSIONS = st.sampled_from(["", "lz4", "zstd"])


@st.composite
def recordings(draw):
    """Files of (blocks, layout): the frames 0..N-1 in any distribution, with strings and JSON between."""
    order = draw(st.permutations(range(draw(st.integers(1, 10)))))
    files = []
    for numbers in _parts(draw, order, 3):
        blocks = []
        for part in _parts(draw, numbers, 4):
            kinds = [draw(st.sampled_from([1, 2])) for _ in part]
            block = [
                (c, START + k * TENTH, image(k, raw if c == 1 else jpeg)) for c, k in zip(kinds, part, strict=True)
            ]
            for other in draw(st.lists(st.sampled_from([3, 4]), max_size=2)):
                block.insert(0, (other, START + draw(st.integers(0, 20)) * TENTH, text("x") if other == 3 else b"{}"))
            blocks.append((draw(st.booleans()), block))
        layout = mcaps.Layout(
            draw(st.one_of(st.none(), st.frozensets(st.integers(0, 3)))),
            draw(st.booleans()),
            draw(st.booleans()),
            "both" if any(chunked for chunked, _ in blocks) and draw(st.booleans()) else "file",
            draw(st.booleans()),
            draw(COMPRESSIONS),
            draw(st.booleans()),
        )
        files.append((blocks, layout))
    return len(order), files


def _parts(draw, items, most):
    cuts = sorted(draw(st.lists(st.integers(0, len(items)), max_size=most - 1)))
    return [items[a:b] for a, b in zip([0, *cuts], [*cuts, len(items)], strict=True)]


CHANNELS = {
    1: CAMERA,
    2: (TOPIC, JPEG, "cdr"),
    3: (TOPIC, "std_msgs/msg/String", "cdr"),
    4: ("/log", "foxglove.Log", "json"),
}
SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(recordings(), st.data())
def test_every_frame_of_a_valid_mcap_recording_is_read(tmp_path_factory, recording, data):
    count, files = recording
    folder = tmp_path_factory.mktemp("bag")
    for k, (blocks, layout) in enumerate(files):
        mcap(folder / f"bag_{k}.mcap", blocks, layout, CHANNELS)
    assert read(folder) == (list(range(count)), ())
    with BagReader(folder) as bag:
        assert len(bag) == count
    # Without its end, each frame is read or reported: nothing is lost silently.
    last = folder / f"bag_{len(files) - 1}.mcap"
    content = last.read_bytes()
    last.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    try:
        found, losses = read(folder)
    except InputError:
        return
    assert found == sorted(set(found))
    assert losses or found == list(range(count))


@SETTINGS
@given(st.permutations(range(8)), st.integers(0, 8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_every_frame_of_a_valid_sqlite_recording_is_read(tmp_path_factory, order, cut, types):
    folder = tmp_path_factory.mktemp("bag")
    for k, numbers in enumerate((order[:cut], order[cut:])):
        messages = [(TOPIC, START + TENTH * i, (raw, jpeg)[types[i]]) for i in numbers]
        with_images = [(t, s, make(np.full((4, 6, 3), (s - START) // TENTH, np.uint8), s)) for t, s, make in messages]
        one = write_types(tmp_path_factory.mktemp("one") / f"bag_{k}", with_images)
        shutil.move(one, folder / f"bag_{k}.db3")
    assert read(folder) == (list(range(8)), ())


def write_types(folder, messages):
    """An SQLite3 file in which a topic may have two types, which rosbags does not write."""
    write(folder, [("/other", START, string("a"))], StoragePlugin.SQLITE3)
    path = folder / f"{folder.name}.db3"
    database = sqlite3.connect(path)
    names = [row[1] for row in database.execute("PRAGMA table_info(topics)")]
    for number, kind in ((11, IMAGE), (12, JPEG)):
        values = {"id": number, "name": TOPIC, "type": kind, "serialization_format": "cdr"}
        database.execute(
            f"INSERT INTO topics VALUES ({','.join('?' * len(names))})", [values.get(n, "") for n in names]
        )
    for _, stamp, message in messages:
        kind = message.__msgtype__
        row = (11 if kind == IMAGE else 12, stamp, bytes(TYPES.serialize_cdr(message, kind)))
        database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
    database.commit()
    database.close()
    return path
