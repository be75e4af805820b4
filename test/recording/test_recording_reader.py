"""Reading recordings: every storage and compression, the choice of a topic, and what is no bag."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from support import mcaps
from support.bags import START, TENTH, TOPIC, TYPES, drive, jpeg, raw, string, write
from vps_ros.errors import InputError
from vps_ros.messages.images import image_to_rgb
from vps_ros.recording.bag import Bag
from vps_ros.recording.frames import BagReader

MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
FORMS = [
    (MCAP, CompressionMode.NONE),
    (MCAP, CompressionMode.STORAGE),
    (MCAP, CompressionMode.MESSAGE),
    (MCAP, CompressionMode.FILE),
    (SQLITE, CompressionMode.NONE),
    (SQLITE, CompressionMode.MESSAGE),
    (SQLITE, CompressionMode.FILE),
]


def write_form(path, messages, storage, mode):
    bag = Writer(path, version=9, storage_plugin=storage)
    bag.set_compression(mode, CompressionFormat.ZSTD)
    with bag:
        connections = {}
        for topic, stamp, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = bag.add_connection(topic, kind, typestore=TYPES)
            bag.write(connections[topic], stamp, TYPES.serialize_cdr(message, kind))
    return path


def read(path, topic=None):
    with BagReader(path, topic) as bag:
        frames = list(bag.frames())
        return frames, bag.losses, bag.count


def refuse(path, topic=None):
    """The error's text, which must be one line that names the path."""
    with pytest.raises(InputError) as error:
        read(path, topic)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))
    return str(error.value)


def same(frames, messages):
    assert [f.stamp for f in frames] == [stamp for _, stamp, _ in messages]
    assert [f.received for f in frames] == [stamp for _, stamp, _ in messages]
    for frame, (_, _, message) in zip(frames, messages, strict=True):
        np.testing.assert_array_equal(frame.image, image_to_rgb(message))


@pytest.mark.parametrize(("storage", "mode"), FORMS)
def test_every_storage_and_compression(tmp_path, storage, mode):
    messages = drive(5)
    folder = write_form(tmp_path / "bag", [*messages, ("/chatter", START, string("hi"))], storage, mode)
    (part,) = (p for p in folder.iterdir() if p.name != "metadata.yaml")
    moved = tmp_path / part.name
    shutil.copy(part, moved)
    for path in (folder, folder / "metadata.yaml", part, moved):
        frames, losses, count = read(path)
        same(frames, messages)
        assert (losses, count) == ((), 5)
        assert {f.frame_id for f in frames} == {"camera"}


def test_stamps_are_of_the_header_and_order_is_of_the_recorder(tmp_path):
    one, two = raw(np.full((4, 4, 3), 1, np.uint8), START + 7), raw(np.full((4, 4, 3), 2, np.uint8), START)
    frames, _, _ = read(write(tmp_path / "bag", [(TOPIC, 200, one), (TOPIC, 100, two)]))
    assert [(f.stamp, f.received) for f in frames] == [(START, 100), (START + 7, 200)]


def test_without_a_stamp_the_recorder_s_clock_counts(tmp_path):
    frames, _, _ = read(write(tmp_path / "bag", [(TOPIC, 500, raw(np.zeros((2, 2, 3), np.uint8), 0))]))
    assert frames[0].stamp == 500


def test_compressed_images(tmp_path):
    frames, _, _ = read(write(tmp_path / "bag", drive(3, "/camera/image/compressed", make=jpeg)))
    truth = [image_to_rgb(m) for _, _, m in drive(3)]
    assert all(np.abs(f.image.astype(int) - t).mean() < 6 for f, t in zip(frames, truth, strict=True))


def test_frames_can_be_read_twice(tmp_path):
    with BagReader(write(tmp_path / "bag", drive(3))) as bag:
        assert [f.stamp for f in bag.frames()] == [f.stamp for f in bag.frames()]
        assert bag.topic == TOPIC


def test_parts_are_read_in_order(tmp_path):
    folder = tmp_path / "bag"
    folder.mkdir()
    names = [f"bag_{k}.mcap" for k in range(12)]
    for k, name in enumerate(names):
        (part,) = write(tmp_path / f"one{k}", [drive(12)[k]]).glob("*.mcap")
        part.rename(folder / name)
    # No metadata.yaml: as after a crash of the recorder. 10 comes after 9, not after 1.
    frames, losses, _ = read(folder)
    same(frames, drive(12))
    assert losses == ()


def metadata(names, count):
    files = "".join(f"\n    - {name}" for name in names)
    return (
        f"rosbag2_bagfile_information:\n  version: 5\n  storage_identifier: mcap\n  relative_file_paths:{files}\n"
        f"  message_count: {count}\n  compression_format: ''\n  compression_mode: ''\n  topics_with_message_count:\n"
        f"    - topic_metadata: {{name: {TOPIC}, type: sensor_msgs/Image, serialization_format: cdr}}\n"
        f"      message_count: {count}\n"
    )


def test_missing_parts_are_said_and_counted(tmp_path):
    folder = write(tmp_path / "bag", drive(4))
    (folder / "metadata.yaml").write_text(metadata(["bag.mcap", "bag_1.mcap", "bag_2.mcap"], 10))
    frames, (loss,), count = read(folder)
    same(frames, drive(4))
    assert (count, loss.count) == (4, 6)
    assert "2 of 3 files are missing (bag_1.mcap, bag_2.mcap)" in str(loss)


def test_a_renamed_data_file_is_read(tmp_path):
    folder = write(tmp_path / "bag", drive(4))
    (folder / "bag.mcap").rename(folder / "tuesday.mcap")
    frames, (loss,), _ = read(folder)
    same(frames, drive(4))
    assert "lists bag.mcap; tuesday.mcap is read instead" in str(loss)


@pytest.mark.parametrize("text", ["", "}{", "rosbag2_bagfile_information: 7", "\x00\x01", "a: [1", metadata([], 0)])
def test_damaged_metadata_does_not_matter(tmp_path, text):
    folder = write(tmp_path / "bag", drive(4))
    (folder / "metadata.yaml").write_text(text)
    frames, (loss,), _ = read(folder)
    same(frames, drive(4))
    assert "metadata.yaml" in str(loss)


def test_a_frame_that_cannot_be_decoded_is_skipped_and_counted(tmp_path):
    messages = drive(6)
    for k in (1, 4):
        messages[k][2].encoding = "hologram8"
    messages[2][2].step = 1
    frames, losses, count = read(write(tmp_path / "bag", messages))
    same(frames, [messages[k] for k in (0, 3, 5)])
    assert count == 6
    assert sorted(loss.count for loss in losses) == [1, 2]
    assert any("2 frames skipped: unknown encoding 'hologram8'" in str(loss) for loss in losses)
    assert all(str(loss).startswith(TOPIC) for loss in losses)


def test_a_message_that_is_not_what_its_type_says(tmp_path):
    folder = tmp_path / "bag"
    with Writer(folder, version=9, storage_plugin=MCAP) as bag:
        topic = bag.add_connection(TOPIC, "sensor_msgs/msg/Image", typestore=TYPES)
        good = TYPES.serialize_cdr(drive(1)[0][2], "sensor_msgs/msg/Image")
        for k, data in enumerate((good, b"", b"\x00\x01\x00\x00", bytes(good)[:40], b"junk" * 30, good)):
            bag.write(topic, START + k, data)
    frames, losses, _ = read(folder)
    assert [f.received for f in frames] == [START, START + 5]
    assert sum(loss.count for loss in losses) == 4


def test_a_message_whose_compression_is_broken(tmp_path):
    folder = write_form(tmp_path / "bag", drive(5), SQLITE, CompressionMode.MESSAGE)
    database = sqlite3.connect(folder / "bag.db3")
    database.execute("UPDATE messages SET data = substr(data, 1, length(data) - 9) WHERE id = 2")
    database.commit()
    database.close()
    frames, losses, _ = read(folder)
    same(frames, [drive(5)[k] for k in (0, 2, 3, 4)])
    assert [loss.count for loss in losses] == [1]


# The choice of a topic.


def test_several_image_topics_need_a_choice(tmp_path):
    bag = write(tmp_path / "bag", [*drive(2, "/left"), *drive(3, "/right", jpeg), ("/chatter", START, string("a"))])
    told = refuse(bag)
    assert "--topic" in told
    assert "/left (sensor_msgs/msg/Image, 2)" in told
    assert "/right (sensor_msgs/msg/CompressedImage, 3)" in told
    assert "/chatter" not in told
    assert len(read(bag, "/right")[0]) == 3


def test_a_topic_that_is_not_there_or_no_image(tmp_path):
    bag = write(tmp_path / "bag", [*drive(2), ("/chatter", START, string("a"))])
    assert "/up" in refuse(bag, "/up")
    assert TOPIC in refuse(bag, "/up")
    told = refuse(bag, "/chatter")
    assert "std_msgs/msg/String" in told
    assert TOPIC in told


def test_no_image_topic(tmp_path):
    told = refuse(write(tmp_path / "bag", [("/chatter", START, string("a"))]))
    assert "no image topic" in told
    assert "/chatter (std_msgs/msg/String, 1)" in told


def test_hundreds_of_topics_do_not_fill_the_screen(tmp_path):
    told = refuse(write(tmp_path / "bag", [(f"/t{k:03}", START, string("a")) for k in range(200)]))
    assert "and 188 more" in told
    assert len(told) < 1000


def test_a_silent_camera_is_no_choice(tmp_path):
    folder = tmp_path / "bag"
    with Writer(folder, version=9, storage_plugin=MCAP) as bag:
        bag.add_connection("/silent", "sensor_msgs/msg/Image", typestore=TYPES)
        topic = bag.add_connection(TOPIC, "sensor_msgs/msg/Image", typestore=TYPES)
        bag.write(topic, START, TYPES.serialize_cdr(drive(1)[0][2], "sensor_msgs/msg/Image"))
    assert len(read(folder)[0]) == 1
    assert "holds no messages" in refuse(folder, "/silent")


@pytest.mark.parametrize("storage", [MCAP, SQLITE])
def test_an_empty_bag(tmp_path, storage):
    folder = tmp_path / "bag"
    with Writer(folder, version=9, storage_plugin=storage):
        pass
    assert "no messages" in refuse(folder)


# What is no bag.


def test_paths_that_are_no_bag(tmp_path, realdata):
    assert "no such file" in refuse(tmp_path / "absent.mcap")
    (tmp_path / "empty").mkdir()
    assert "empty folder" in refuse(tmp_path / "empty")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("hello")
    assert "holds no bag" in refuse(tmp_path / "letters")
    for name in ("empty.mcap", "empty.db3"):
        (tmp_path / name).touch()
        assert "is empty" in refuse(tmp_path / name)
    for name in ("text.mcap", "text.db3", "text.bin"):
        (tmp_path / name).write_text("not a bag")
        assert "is not a bag" in refuse(tmp_path / name)
    told = refuse(realdata / "rosbags" / "ros1_no_images.bag")
    assert "ROS 1" in told
    assert "rosbags-convert" in told


def test_a_folder_of_several_bags(tmp_path):
    home = tmp_path / "bags"
    home.mkdir()
    for name in ("monday", "tuesday"):
        (part,) = write(tmp_path / name, drive(2)).glob("*.mcap")
        part.rename(home / part.name)
    told = refuse(home)
    assert "several bags" in told
    assert "monday, tuesday" in told


def test_a_folder_whose_parts_are_all_gone(tmp_path):
    folder = write(tmp_path / "bag", drive(2))
    (folder / "bag.mcap").unlink()
    assert "bag.mcap" in refuse(folder)


def test_an_sqlite_file_of_something_else(tmp_path):
    database = sqlite3.connect(tmp_path / "cookies.db3")
    database.execute("CREATE TABLE cookies(name)")
    database.commit()
    database.close()
    assert "SQLite3 bag" in refuse(tmp_path / "cookies.db3")


def image_bytes(k):
    message = drive(k + 1)[k][2]
    return bytes(TYPES.serialize_cdr(message, "sensor_msgs/msg/Image"))


def test_an_mcap_of_ros_1_messages(tmp_path):
    path = tmp_path / "old.mcap"
    body = mcaps.schema(1, "sensor_msgs/Image", "ros1msg") + mcaps.channel(1, 1, TOPIC, "ros1")
    path.write_bytes(mcaps.MAGIC + mcaps.header("ros1") + body + mcaps.message(1, START, b"x" * 30) + mcaps.end())
    assert "ros1" in refuse(path)


@pytest.mark.parametrize("profile", ["ros2", ""])
@pytest.mark.parametrize("compression", [None, "", "lz4"])
def test_mcap_files_of_other_writers(tmp_path, profile, compression):
    """Without profile, without summary, without chunks, out of order: rosbags refuses some of these."""
    times = [START + k * TENTH for k in (1, 0, 2)]
    body = mcaps.schema(1, "sensor_msgs/Image") + mcaps.channel(1, 1, TOPIC)
    body += b"".join(mcaps.message(1, t, image_bytes(k)) for k, t in zip((1, 0, 2), times, strict=True))
    if compression is not None:
        body = mcaps.chunk(body, times, compression)
    path = tmp_path / "other.mcap"
    path.write_bytes(mcaps.MAGIC + mcaps.header(profile) + body + mcaps.end())
    frames, losses, count = read(path)
    same(frames, drive(3))
    assert (losses, count) == ((), 3)


# A real recording.


def test_the_last_part_of_a_real_recording(realdata):
    folder = realdata / "rosbags" / "soccer_goal"
    frames, (loss,), count = read(folder)
    assert count == 2
    assert loss.count == 249
    assert "12 of 13 files are missing" in str(loss)
    assert [f.stamp for f in frames] == [8_297_777_777, 8_331_088_888]
    assert {f.image.shape for f in frames} == {(480, 640, 3)}
    # Grass: green leads.
    assert all(f.image[300:].mean((0, 1)).argmax() == 1 for f in frames)
    alone, losses, _ = read(folder / "soccer_goal_12.mcap")
    assert losses == ()
    assert all(np.array_equal(a.image, b.image) for a, b in zip(alone, frames, strict=True))


def test_every_message_of_a_bag(tmp_path):
    path = write(tmp_path / "bag", [*drive(3), ("/chatter", START + 5 * TENTH, string("bye"))])
    with Bag(path) as bag:
        assert [(t.name, t.count) for t in bag.topics] == [(TOPIC, 3), ("/chatter", 1)]
        assert (bag.start, bag.end, bag.storage) == (START, START + 5 * TENTH, "mcap")
        assert [m.topic for m in bag.messages()] == [TOPIC] * 3 + ["/chatter"]
        (last,) = bag.messages(["/chatter"])
        assert TYPES.deserialize_cdr(last.data, last.type).data == "bye"
        assert list(bag.messages([])) == []
    assert bag.files == (Path(path) / "bag.mcap",)
