"""Recordings that are cut off or damaged: what is readable is read, nothing is invented, the loss is said."""

import os
import re
import shutil
import sqlite3

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from support import mcaps
from support.bags import START, TENTH, TOPIC, TYPES, raw, string, write
from vps_ros.errors import InputError
from vps_ros.recording.frames import BagReader

COUNT = 12
RANDOM = np.random.default_rng(0)
# Half noise, so that compressed bags are not tiny and a bag has several blocks of each kind.
NOISE = RANDOM.integers(0, 256, (COUNT, 40, 100, 3), np.uint8)
IMAGES = [np.vstack((noise, np.full_like(noise, k))) for k, noise in enumerate(NOISE)]


def messages():
    return [(TOPIC, START + k * TENTH, raw(image, START + k * TENTH)) for k, image in enumerate(IMAGES)]


def build(folder, storage, mode, chunk=None):
    """One data file of 12 frames."""
    bag = Writer(folder, version=9, storage_plugin=storage)
    bag.set_compression(mode, CompressionFormat.ZSTD)
    with bag:
        topic = bag.add_connection(TOPIC, "sensor_msgs/msg/Image", typestore=TYPES)
        chatter = bag.add_connection("/chatter", "std_msgs/msg/String", typestore=TYPES)
        for name, stamp, message in messages():
            bag.write(topic, stamp, TYPES.serialize_cdr(message, message.__msgtype__))
            bag.write(chatter, stamp, TYPES.serialize_cdr(string(name), "std_msgs/msg/String"))
            if chunk and hasattr(bag.storage, "close_chunk"):
                bag.storage.close_chunk()
    (part,) = (p for p in folder.iterdir() if p.name != "metadata.yaml")
    return part


MCAP, SQLITE, FILE = StoragePlugin.MCAP, StoragePlugin.SQLITE3, CompressionMode.FILE
FORMS = {
    "one chunk": (MCAP, CompressionMode.NONE, False),
    "one zstd chunk": (MCAP, CompressionMode.STORAGE, False),
    "many chunks": (MCAP, CompressionMode.NONE, True),
    "many zstd chunks": (MCAP, CompressionMode.STORAGE, True),
    "zstd messages": (MCAP, CompressionMode.MESSAGE, True),
    "mcap in zstd": (MCAP, FILE, True),
    "sqlite": (SQLITE, CompressionMode.NONE, False),
    "sqlite with zstd messages": (SQLITE, CompressionMode.MESSAGE, False),
    "sqlite in zstd": (SQLITE, FILE, False),
}


@pytest.fixture(scope="module", params=FORMS)
def part(request, tmp_path_factory):
    return build(tmp_path_factory.mktemp("whole") / "bag", *FORMS[request.param])


def read(path):
    """Which of the 12 frames are read, and the losses; fails for a frame that was never recorded."""
    with BagReader(path, TOPIC) as bag:
        found = []
        for frame in bag.frames():
            k, rest = divmod(frame.stamp - START, TENTH)
            assert rest == 0
            np.testing.assert_array_equal(frame.image, IMAGES[k])
            found.append(k)
        assert len(found) <= bag.count
        return found, bag.losses


def test_a_bag_cut_anywhere_gives_its_beginning(part, tmp_path):
    whole = part.read_bytes()
    assert read(part) == (list(range(COUNT)), ())
    cut = tmp_path / part.name
    sizes = sorted({*range(0, 64, 7), *np.linspace(64, len(whole) - 1, 32).astype(int).tolist(), len(whole) - 9})
    before = 0
    for size in sizes:
        cut.write_bytes(whole[:size])
        try:
            found, losses = read(cut)
        except InputError as error:
            assert "\n" not in str(error)
            found = []
        else:
            assert losses or len(found) == COUNT
            assert all(cut.name in str(loss) for loss in losses)
        assert found == list(range(len(found)))
        # A longer beginning never holds less.
        assert len(found) >= before
        before = len(found)
    # Blocks of compression may hold back a few frames, but not most of the file.
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    assert len(read(cut)[0]) >= COUNT // 3


def test_metadata_tells_how_much_was_cut(tmp_path):
    part = build(tmp_path / "bag", MCAP, CompressionMode.STORAGE, True)
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    found, (loss,) = read(tmp_path / "bag")
    assert 3 <= len(found) < COUNT
    assert loss.count == COUNT - len(found)
    assert re.search(r"cut off or damaged at byte \d+", str(loss))


@pytest.mark.parametrize("form", ["many zstd chunks", "mcap in zstd", "sqlite", "sqlite with zstd messages"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_never_crash(form, tmp_path_factory, data):
    if form not in _BUILT:
        _BUILT[form] = build(tmp_path_factory.mktemp("flip") / "bag", *FORMS[form])
    part = _BUILT[form]
    content = bytearray(part.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] ^= data.draw(st.integers(1, 255))
    broken = part.with_name(f"broken_{part.name}")
    broken.write_bytes(content)
    try:
        with BagReader(broken, TOPIC) as bag:
            frames = list(bag.frames())
            assert len(frames) <= COUNT + 1
            assert all(f.image.dtype == np.uint8 and f.image.ndim == 3 for f in frames)
    except InputError as error:
        assert "\n" not in str(error)


_BUILT = {}


def chunked(path, *chunks):
    """An MCAP file of chunks, each (frame numbers, function that spoils the chunk's bytes)."""
    parts = [mcaps.MAGIC, mcaps.header()]
    parts.append(mcaps.schema(1, "sensor_msgs/msg/Image") + mcaps.channel(1, 1, TOPIC))
    for numbers, spoil in chunks:
        times = [START + k * TENTH for k in numbers]
        data = [TYPES.serialize_cdr(messages()[k][2], "sensor_msgs/msg/Image") for k in numbers]
        records = b"".join(mcaps.message(1, t, d) for t, d in zip(times, data, strict=True))
        parts += [spoil(mcaps.chunk(records, times, "lz4")), mcaps.message_index(1, times)]
    path.write_bytes(b"".join([*parts, mcaps.end()]))
    return path


def keep(data):
    return data


def flip(data):
    return data[:200] + bytes([data[200] ^ 0xFF]) + data[201:]


def test_a_damaged_chunk_in_the_middle_is_left_out_and_counted(tmp_path):
    path = chunked(tmp_path / "a.mcap", ((0, 1), keep), ((2, 3, 4), flip), ((5,), keep))
    found, (loss,) = read(path)
    assert found == [0, 1, 5]
    assert loss.count == 3
    assert "damaged chunk" in str(loss)


def test_chunks_are_put_in_order_of_time(tmp_path):
    path = chunked(tmp_path / "a.mcap", ((3, 1), keep), ((2, 0), keep))
    assert read(path) == ([0, 1, 2, 3], ())


def test_damage_that_shows_only_while_reading(tmp_path):
    """The index is whole and one chunk is not: what rosbags has given already is not given again."""
    part = build(tmp_path / "bag", MCAP, CompressionMode.STORAGE, True)
    content = bytearray(part.read_bytes())
    starts = [m.start() for m in re.finditer(rb"\x28\xb5\x2f\xfd", bytes(content))]
    content[starts[6] : starts[6] + 4] = b"\0\0\0\0"
    part.write_bytes(content)
    found, (loss,) = read(part)
    assert found == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert loss.count == 1


def test_rows_beyond_a_hole_in_sqlite_are_read(tmp_path):
    part = build(tmp_path / "bag", SQLITE, CompressionMode.NONE)
    database = sqlite3.connect(part)
    (page,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    content = bytearray(part.read_bytes())
    # A page in the middle is an overflow page of one image: it alone is lost.
    middle = len(content) // 2 // page * page
    content[middle : middle + page] = bytes(page)
    part.write_bytes(content)
    found, losses = read(part)
    assert losses
    assert len(found) == COUNT - 1
    assert found[-1] == COUNT - 1
    assert sum(loss.count for loss in losses) in (0, 1)


def test_messages_left_in_the_log_of_a_crashed_recorder(tmp_path):
    part = build(tmp_path / "bag", SQLITE, CompressionMode.NONE)
    database = sqlite3.connect(part)
    rows = database.execute("SELECT * FROM messages WHERE id > 12").fetchall()
    database.execute("DELETE FROM messages WHERE id > 12")
    database.commit()
    database.execute("PRAGMA journal_mode=WAL")
    database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
    database.commit()
    # A copy of the files while the recorder has them open is what a crash leaves behind.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in (part.name, f"{part.name}-wal"):
        shutil.copy(part.with_name(name), crashed / name)
    database.close()
    assert read(crashed / part.name) == (list(range(COUNT)), ())
    os.truncate(crashed / f"{part.name}-wal", 40)
    assert read(crashed / part.name)[0] == list(range(6))


def test_a_cut_bag_beside_its_whole_parts(tmp_path):
    folder = tmp_path / "bag"
    folder.mkdir()
    for k in range(3):
        (source,) = write(tmp_path / f"one{k}", messages()[4 * k : 4 * k + 4]).glob("*.mcap")
        shutil.copy(source, folder / f"bag_{k}.mcap")
    middle = folder / "bag_1.mcap"
    os.truncate(middle, middle.stat().st_size // 2)
    found, (loss,) = read(folder)
    assert found[:4] == [0, 1, 2, 3]
    assert found[-4:] == [8, 9, 10, 11]
    assert 4 < len(found) < COUNT
    assert "bag_1.mcap" in str(loss)


def test_a_part_of_which_nothing_is_left(tmp_path):
    folder = tmp_path / "bag"
    folder.mkdir()
    for k in range(3):
        (source,) = write(tmp_path / f"one{k}", messages()[4 * k : 4 * k + 4]).glob("*.mcap")
        shutil.copy(source, folder / f"bag_{k}.mcap")
    for size in (0, 5, 40):
        os.truncate(folder / "bag_1.mcap", size)
        found, (loss,) = read(folder)
        assert found == [0, 1, 2, 3, 8, 9, 10, 11]
        assert "bag_1.mcap" in str(loss)
