"""`vps-ros replay` on real bags, good and bad."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import onnx
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin

from support.bags import START, TENTH, TOPIC, drive, jpeg, raw, string, write
from support.films import film, scene
from support.worlds import colour_model, picture
from vps_ros.commands.main import main
from vps_ros.messages.typestore import typestore


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return colour_model(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture
def replay(model, tmp_path, capsys):
    """Runs the command in this process; gives its exit code and stderr."""

    def run(bag, *flags, output="out.mcap"):
        code = main(["replay", str(bag), "-o", str(tmp_path / output), "--model", str(model), *map(str, flags)])
        return code, capsys.readouterr().err

    return run


def read(path):
    """Messages of the output by topic, read by the rosbags library with the types in the file."""
    found = {}
    with AnyReader([Path(path)]) as bag:
        for connection, time, data in bag.messages():
            found.setdefault(connection.topic, []).append((time, bag.deserialize(data, connection.msgtype)))
    return found


def refused(result, *words):
    code, shown = result
    assert code == 2
    last = shown.strip().splitlines()[-1]
    assert last.startswith("vps-ros: ")
    for word in words:
        assert word in last, shown


def test_a_drive_comes_out_with_identities_that_last(replay, tmp_path):
    bag = write(tmp_path / "bag", drive(6))
    assert replay(bag, "--json", tmp_path / "f.json", "--overlay", tmp_path / "o.mp4")[0] == 0
    topics = read(tmp_path / "out.mcap")
    stamps = [START + i * TENTH for i in range(6)]
    for name in ("panoptic", "segments", "tracks", "detections"):
        messages = topics[f"/vps/{name}"]
        assert [time for time, _ in messages] == stamps
        assert [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, m in messages] == stamps
        assert {m.header.frame_id for _, m in messages} == {"camera"}
    assert len(topics["/vps/label_info"]) == 1
    ids = {tuple(sorted(o.track_id for o in m.objects)) for _, m in topics["/vps/tracks"]}
    assert len(ids) == 1
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["frames"], figures["tracks"], figures["dropped"]) == (6, 2, 0)
    assert set(figures["latency_ms"]) == {"p50", "p99", "segment", "flow", "track", "other"}
    assert figures["fps"] > 0
    with av.open(str(tmp_path / "o.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 6


def test_segments_say_what_the_pixels_are(replay, tmp_path):
    assert replay(write(tmp_path / "bag", drive(3)))[0] == 0
    topics = read(tmp_path / "out.mcap")
    for (_, image), (_, message) in zip(topics["/vps/panoptic"], topics["/vps/segments"], strict=True):
        assert image.encoding == "mono16"
        ids, areas = np.unique(image.data.view(np.uint16), return_counts=True)
        told = {s.segment_id: s.area for s in message.segments}
        assert {i: a for i, a in zip(ids.tolist(), areas.tolist(), strict=True) if i} == told


def test_the_same_bag_twice_gives_the_same_bytes(replay, tmp_path):
    bag = write(tmp_path / "bag", drive(5))
    for name in ("a.mcap", "b.mcap"):
        assert replay(bag, output=name)[0] == 0
    assert (tmp_path / "a.mcap").read_bytes() == (tmp_path / "b.mcap").read_bytes()


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("make", [raw, jpeg])
def test_storages_and_compressed_images(replay, tmp_path, storage, make):
    assert replay(write(tmp_path / "bag", drive(3, make=make), storage))[0] == 0
    assert len(read(tmp_path / "out.mcap")["/vps/tracks"]) == 3


def test_an_output_without_suffix_is_a_rosbag2_folder(replay, tmp_path):
    assert replay(write(tmp_path / "bag", drive(2)), output="tracked")[0] == 0
    assert (tmp_path / "tracked" / "metadata.yaml").is_file()
    assert len(read(tmp_path / "tracked")["/vps/tracks"]) == 2


def test_a_film_or_folder_gives_the_bytes_of_its_bag(replay, tmp_path):
    """Replaying is the same as packing first: stamps, frame_id and pixels."""
    clip = film(tmp_path / "clip.mp4", 4, rate=25)
    (tmp_path / "images").mkdir()
    for k in range(4):
        cv2.imwrite(str(tmp_path / "images" / f"{k}.png"), scene(k)[..., ::-1])
    for name, source, flags in (
        ("clip", clip, ()),
        ("clip5", clip, ("--hz", 5)),
        ("images", tmp_path / "images", ("--hz", 20)),
        ("image", tmp_path / "images" / "0.png", ()),
    ):
        packed = tmp_path / f"{name}.bag.mcap"
        assert main(["pack", str(source), "-o", str(packed), *map(str, flags)]) == 0
        assert replay(packed, output=f"{name}.1.mcap")[0] == 0
        assert replay(source, *flags, "--overlay", tmp_path / f"{name}.overlay.mp4", output=f"{name}.2.mcap")[0] == 0
        assert (tmp_path / f"{name}.1.mcap").read_bytes() == (tmp_path / f"{name}.2.mcap").read_bytes()


def test_a_film_cut_off_is_replayed_as_far_as_it_goes(replay, tmp_path):
    whole = film(tmp_path / "a.avi", 200, codec="mpeg4").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    code, shown = replay(tmp_path / "cut.avi")
    assert code == 0
    assert "warning" in shown and "cut.avi: only" in " ".join(shown.split())
    assert 3 < len(read(tmp_path / "out.mcap")["/vps/tracks"]) < 200


# What bad input gets.


def test_flags_that_are_not_for_the_source(replay, tmp_path):
    clip = film(tmp_path / "clip.mp4", 2)
    refused(replay(clip, "--topic", "/a"), "no video stream /a", "there are 0 (")
    refused(replay(clip, "--hz", "0"), "hz 0")
    refused(replay(write(tmp_path / "bag", drive(2)), "--hz", "5"), "hz 5", "stamps of its own")
    refused(replay("0"), "camera", "open_frames(0)")
    refused(replay(clip, "--overlay", clip, "--force"), "clip.mp4", "is also the input")
    assert clip.stat().st_size > 0


def test_a_broken_image_leaves_nothing(replay, tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "1.png"), scene(0))
    (tmp_path / "images" / "2.png").write_bytes(b"junk")
    refused(replay(tmp_path / "images"), "2.png")
    refused(replay(tmp_path / "nowhere"), "nowhere", "video", "folder of images", "bag")
    (tmp_path / "empty").mkdir()
    refused(replay(tmp_path / "empty"), "empty")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "images"]


def test_no_such_file(replay, tmp_path):
    refused(replay(tmp_path / "absent.mcap"), "absent.mcap", "no such")


def test_not_a_bag(replay, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    refused(replay(tmp_path / "notes.txt"), "notes.txt")
    (tmp_path / "odd.mcap").write_bytes(os.urandom(4096))
    refused(replay(tmp_path / "odd.mcap"), "odd.mcap")


def test_a_ros_1_bag(replay, realdata):
    refused(replay(realdata / "rosbags" / "ros1_no_images.bag"), "ROS 1", "rosbags-convert")


def test_no_image_topic_names_the_topics_there_are(replay, tmp_path):
    bag = write(tmp_path / "bag", [("/chatter", START, string("a")), ("/status", START, string("b"))])
    refused(replay(bag), "/chatter", "/status")


def test_several_image_topics_need_a_choice(replay, tmp_path):
    bag = write(tmp_path / "bag", drive(2, "/left/image") + drive(2, "/right/image"))
    refused(replay(bag), "/left/image", "/right/image", "--topic")
    assert replay(bag, "--topic", "/right/image")[0] == 0
    refused(replay(bag, "--topic", "/up/image", "--force"), "/up/image", "/left/image")


def test_depth_and_label_images_are_no_choice(replay, tmp_path):
    labels = [
        ("/truth", time, raw(np.zeros((64, 96), np.int32).view(np.uint8), time, "32SC1")) for _, time, _ in drive(2)
    ]
    depth = [
        ("/depth", time, raw(np.zeros((64, 96), np.float32).view(np.uint8), time, "32FC1")) for _, time, _ in drive(2)
    ]
    for _, _, message in (*labels, *depth):
        message.width = 96
    assert replay(write(tmp_path / "bag", labels + depth + drive(2)))[0] == 0
    assert len(read(tmp_path / "out.mcap")["/vps/tracks"]) == 2


def test_a_bag_cut_off_in_the_middle(replay, tmp_path):
    bag = write(tmp_path / "bag", drive(40))
    (part,) = bag.glob("*.mcap")
    whole = part.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: len(whole) // 2])
    code, shown = replay(cut)
    assert code == 0
    assert "warning" in shown
    count = len(read(tmp_path / "out.mcap")["/vps/tracks"])
    assert 10 <= count < 40


def test_metadata_that_lists_missing_parts(replay, tmp_path):
    bag = write(tmp_path / "bag", drive(5))
    text = (bag / "metadata.yaml").read_text()
    (part,) = bag.glob("*.mcap")
    assert part.name in text
    missing = text.replace(f"- {part.name}", f"- {part.name}\n    - bag_7.mcap")
    (bag / "metadata.yaml").write_text(missing)
    code, shown = replay(bag)
    assert code == 0
    assert "bag_7.mcap" in shown
    assert len(read(tmp_path / "out.mcap")["/vps/tracks"]) == 5


def test_the_last_part_of_a_real_recording(tmp_path, realdata):
    code = main(["replay", str(realdata / "rosbags" / "soccer_goal"), "-o", str(tmp_path / "out.mcap")])
    assert code == 0
    ((_, first), (_, second)) = read(tmp_path / "out.mcap")["/vps/panoptic"]
    assert (first.width, first.height) == (second.width, second.height) == (640, 480)


def test_an_encoding_that_nobody_knows(replay, tmp_path):
    message = raw(picture({}), START, "hologram8")
    refused(replay(write(tmp_path / "bag", [(TOPIC, START, message)])), "hologram8", "rgb8")


def test_a_corrupt_jpeg_is_skipped_and_counted(replay, tmp_path):
    messages = drive(5, make=jpeg)
    messages[2][2].data = messages[2][2].data[:60].copy()
    code, shown = replay(write(tmp_path / "bag", messages), "--json", tmp_path / "f.json")
    assert code == 0
    assert "warning" in shown
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["frames"], figures["dropped"]) == (4, 1)


def test_images_that_change_size_start_a_sequence(replay, tmp_path):
    large = [(TOPIC, START + i * TENTH, raw(picture({0: (8, 40)}, (192, 128)), START + i * TENTH)) for i in range(3, 6)]
    code, shown = replay(write(tmp_path / "bag", drive(3) + large), "--overlay", tmp_path / "o.mp4")
    assert code == 0 and "1 time(s), because the image size changes" in shown
    messages = [m for _, m in read(tmp_path / "out.mcap")["/vps/tracks"]]
    assert [m.sequence_id for m in messages] == [0, 0, 0, 1, 1, 1]


def test_stamps_that_jump_back_start_a_sequence(replay, tmp_path):
    messages = drive(3) + [(t, stamp + 3 * TENTH, m) for t, stamp, m in drive(3)]
    code, shown = replay(write(tmp_path / "bag", messages))
    assert code == 0 and "1 time(s), because time jumps back" in shown
    messages = [m for _, m in read(tmp_path / "out.mcap")["/vps/tracks"]]
    assert sorted(m.sequence_id for m in messages) == [0, 0, 0, 1, 1, 1]
    ids = {number: {o.track_id for m in messages if m.sequence_id == number for o in m.objects} for number in (0, 1)}
    assert not ids[0] & ids[1]


def test_models_that_cannot_be_used(tmp_path, capsys):
    bag = write(tmp_path / "bag", drive(2))

    def with_model(path):
        code = main(["replay", str(bag), "-o", str(tmp_path / "out.mcap"), "--model", str(path)])
        return code, capsys.readouterr().err

    refused(with_model("absent.onnx"), "absent.onnx")
    refused(with_model("streets-xxl"), "streets-xxl", "streets-s")
    (tmp_path / "text.onnx").write_text("I am no model")
    refused(with_model(tmp_path / "text.onnx"), "text.onnx", "ONNX")
    refused(with_model(colour_model(tmp_path / "bare.onnx", card=False)), "bare.onnx", "metadata", "vps-ros export")
    refused(with_model(colour_model(tmp_path / "nan.onnx", poison=float("nan"))), "no frame could be used", "NaN")
    assert not (tmp_path / "out.mcap").exists()


def test_a_model_whose_masks_do_not_fit_its_classes(tmp_path, capsys):
    path = colour_model(tmp_path / "odd.onnx")
    model = onnx.load(path)
    card = json.loads(model.metadata_props[0].value)
    card["taxonomy"] = card["taxonomy"][:5]
    model.metadata_props[0].value = json.dumps(card)
    onnx.save(model, path)
    bag = write(tmp_path / "bag", drive(2))
    code = main(["replay", str(bag), "-o", str(tmp_path / "out.mcap"), "--model", str(path)])
    refused((code, capsys.readouterr().err), "class_logits", "odd.onnx")


def test_an_output_that_exists_needs_force(replay, tmp_path):
    bag = write(tmp_path / "bag", drive(2))
    for name in ("out.mcap", "o.mp4", "f.json"):
        (tmp_path / name).write_text("precious")
        flags = ["--overlay", tmp_path / "o.mp4", "--json", tmp_path / "f.json"]
        refused(replay(bag, *flags), name, "--force")
        assert (tmp_path / name).read_text() == "precious"
        (tmp_path / name).unlink()
    (tmp_path / "out.mcap").write_text("precious")
    assert replay(bag, "--force")[0] == 0
    assert len(read(tmp_path / "out.mcap")["/vps/tracks"]) == 2


def test_the_input_is_never_replaced_by_the_output(model, tmp_path, capsys):
    bag = write(tmp_path / "bag", drive(2))
    code = main(["replay", str(bag), "-o", str(bag), "--model", str(model), "--force"])
    refused((code, capsys.readouterr().err), "is also the input")
    assert len(read(bag)[TOPIC]) == 2


def test_a_folder_that_is_no_bag_is_never_replaced(replay, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("precious")
    refused(replay(write(tmp_path / "bag", drive(2)), "--force", output="home"), "home")
    assert (tmp_path / "home" / "letter.txt").read_text() == "precious"


def process(bag, output, model, **options):
    command = [sys.executable, "-m", "vps_ros.commands.main", "replay", bag, "-o", output, "--model", model]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, **options)


def test_a_file_size_limit_leaves_nothing_half_written(model, tmp_path):
    bag = write(tmp_path / "bag", drive(40))
    limit = 3_000

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run = process(bag, tmp_path / "out" / "o.mcap", model, preexec_fn=limited)
    refused((run.returncode, run.stderr), "disk full")
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_leaves_nothing_half_written(model, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12k", "none", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a small disk")
    try:
        run = process(write(tmp_path / "bag", drive(60)), disk / "o.mcap", model)
        refused((run.returncode, run.stderr), "disk full")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_our_types_are_embedded_and_equal_to_the_definitions(replay, tmp_path):
    assert replay(write(tmp_path / "bag", drive(2)))[0] == 0
    with AnyReader([tmp_path / "out.mcap"]) as bag:
        own = typestore()
        kinds = {c.msgtype for c in bag.connections}
        for kind in kinds:
            assert bag.typestore.fielddefs[kind] == own.fielddefs[kind]
    assert {"vps_ros/msg/TrackedObjects", "vps_ros/msg/PanopticSegments", "sensor_msgs/msg/Image"} <= kinds
