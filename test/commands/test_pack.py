"""`vps-ros pack`: folders and videos as bags that replay reads."""

import re
import shutil

import av
import cv2
import numpy as np
import pytest

from support.photos import UPRIGHT, photo, quarters
from vps_ros.commands.main import main
from vps_ros.files import natural_key
from vps_ros.messages.typestore import typestore
from vps_ros.recording.bag import Bag
from vps_ros.recording.frames import BagReader
from vps_ros.recording.image_files import stamp_of

SECOND = 1_000_000_000


@pytest.fixture
def pack(tmp_path, capsys):
    """Runs the command; gives its exit code and what it said."""

    def run(source, *flags, output="out.mcap"):
        code = main(["pack", str(source), "-o", str(tmp_path / output), *map(str, flags)])
        return code, capsys.readouterr().err

    return run


def pictures(folder, names, size=(32, 48), base=0):
    """PNG or JPEG files whose grey tells their number."""
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((*size, 3), base + 10 * k, np.uint8))
    return folder


def read(path):
    with BagReader(path) as bag:
        frames = list(bag.frames())
        assert bag.losses == ()
        return bag.topic, frames


def refused(result, *words):
    code, said = result
    assert code == 2
    last = said.strip().splitlines()[-1]
    assert last.startswith("vps-ros: ")
    for word in words:
        assert word in last


@pytest.mark.parametrize(("output", "flags"), [("a.mcap", ()), ("a", ()), ("a", ("--storage", "sqlite3"))])
def test_a_folder_becomes_a_bag(pack, tmp_path, output, flags):
    source = pictures(tmp_path / "images", ["2.png", "10.png", "1.png"])
    (source / "notes.txt").write_text("no image")
    assert pack(source, *flags, output=output)[0] == 0
    topic, frames = read(tmp_path / output)
    assert topic == "/camera/image_raw"
    # Natural order: 1, 2, 10; their greys are 20, 0, 10.
    assert [f.image[0, 0, 0] for f in frames] == [20, 0, 10]
    assert [f.stamp for f in frames] == [f.received for f in frames] == [SECOND, SECOND * 11 // 10, SECOND * 12 // 10]
    assert {f.frame_id for f in frames} == {"camera"}


def test_flags(pack, tmp_path):
    source = pictures(tmp_path / "images", ["a.png", "b.png", "c.png", "d.png"])
    assert pack(source, "--hz", 30, "--topic", "/front/image", "--frame-id", "front")[0] == 0
    topic, frames = read(tmp_path / "out.mcap")
    assert topic == "/front/image"
    assert {f.frame_id for f in frames} == {"front"}
    # Thirds of a tenth do not drift: the fourth frame is exactly a tenth of a second after the first.
    assert [f.stamp - SECOND for f in frames] == [0, 33_333_333, 66_666_667, 100_000_000]


def test_colours_are_right(pack, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    square = np.array([[(250, 10, 20), (30, 240, 40)], [(50, 60, 230), (1, 2, 3)]], np.uint8)
    cv2.imwrite(str(folder / "a.png"), square[:, :, ::-1])
    for flags in ((), ("--compressed",)):
        assert pack(folder, *flags, "--force")[0] == 0
        np.testing.assert_array_equal(read(tmp_path / "out.mcap")[1][0].image, square)


def test_grey_and_deep_images(pack, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((4, 4), 77, np.uint8))
    cv2.imwrite(str(folder / "b.png"), np.full((4, 4), 257 * 88, np.uint16))
    assert pack(folder)[0] == 0
    assert [f.image[0, 0].tolist() for f in read(tmp_path / "out.mcap")[1]] == [[77] * 3, [88] * 3]
    with Bag(tmp_path / "out.mcap") as bag:
        kinds = [typestore().deserialize_cdr(m.data, m.type).encoding for m in bag.messages()]
    assert kinds == ["mono8", "mono16"]


def test_compressed_files_pass_byte_for_byte(pack, tmp_path):
    source = pictures(tmp_path / "images", ["1.jpg", "2.png", "3.bmp"], base=40)
    assert pack(source, "--compressed")[0] == 0
    with Bag(tmp_path / "out.mcap") as bag:
        found = [typestore().deserialize_cdr(m.data, m.type) for m in bag.messages(["/camera/image_raw/compressed"])]
    assert [m.format for m in found] == ["jpeg", "png", "jpeg"]
    for message, name in zip(found, ("1.jpg", "2.png"), strict=False):
        assert message.data.tobytes() == (source / name).read_bytes()
    assert [round(f.image.mean()) for f in read(tmp_path / "out.mcap")[1]] == [40, 50, 60]


@pytest.mark.parametrize("flags", [[], ["--compressed"]])
def test_photos_are_upright_in_the_bag(pack, tmp_path, flags):
    """Replay ignores the EXIF orientation of a message, as ROS does: the pixels themselves are turned."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for orientation in UPRIGHT:
        (folder / f"{orientation}.jpg").write_bytes(photo(".jpg", orientation))
    code, said = pack(folder, *flags)
    assert code == 0 and "64x32 (4), 32x64 (4)" in said
    for frame, expected in zip(BagReader(tmp_path / "out.mcap").frames(), UPRIGHT.values(), strict=True):
        assert np.abs(quarters(frame.image) - expected).max() <= 6


def test_a_photo_that_is_upright_passes_byte_for_byte(pack, tmp_path):
    """With an orientation of 1, and with one of 6 where that is not visible."""
    folder = tmp_path / "photos"
    folder.mkdir()
    stored = [photo(".png", 1), photo(".jpg", 1), photo(".jpg", 6, np.full((16, 16, 3), 90, np.uint8))]
    for name, data in zip(("0.png", "1.jpg", "2.jpg"), stored, strict=True):
        (folder / name).write_bytes(data)
    assert pack(folder, "--compressed")[0] == 0
    with Bag(tmp_path / "out.mcap") as bag:
        found = [typestore().deserialize_cdr(m.data, m.type) for m in bag.messages(["/camera/image_raw/compressed"])]
    assert [(m.data.tobytes(), m.format) for m in found] == list(zip(stored, ("png", "jpeg", "jpeg"), strict=True))


def test_files_are_what_they_contain(pack, tmp_path):
    """Only JPEG is stored as jpeg, whatever the suffix; hidden files of other systems are no images."""
    folder = tmp_path / "images"
    folder.mkdir()
    codecs = {"0.jpg": ".png", "1.jpg": ".webp", "2.png": ".bmp", "3.png": ".jpg"}
    for k, (name, codec) in enumerate(codecs.items()):
        (folder / name).write_bytes(cv2.imencode(codec, np.full((32, 48, 3), 40 + 10 * k, np.uint8))[1].tobytes())
    for name in ("._0.jpg", ".DS_Store"):
        (folder / name).write_bytes(b"\0\5\26\7")
    assert pack(folder, "--compressed")[0] == 0
    with Bag(tmp_path / "out.mcap") as bag:
        found = [typestore().deserialize_cdr(m.data, m.type) for m in bag.messages(["/camera/image_raw/compressed"])]
    assert [m.format for m in found] == ["png", "jpeg", "jpeg", "jpeg"]
    assert [bytes(m.data[:2]) for m in found] == [b"\x89P", b"\xff\xd8", b"\xff\xd8", b"\xff\xd8"]
    for message, name in ((found[0], "0.jpg"), (found[3], "3.png")):
        assert message.data.tobytes() == (folder / name).read_bytes()
    assert [round(f.image.mean()) for f in read(tmp_path / "out.mcap")[1]] == [40, 50, 60, 70]


@pytest.mark.parametrize("flags", [(), ("--compressed",)])
def test_every_page_of_a_file_is_a_frame(pack, tmp_path, flags):
    pages = [np.full((32, 48, 3), value, np.uint8) for value in (10, 60, 110)]
    folder = pictures(tmp_path / "images", ["1.png"])
    assert cv2.imwritemulti(str(folder / "2.tiff"), pages)
    assert pack(folder, "--hz", 10, *flags)[0] == 0
    frames = read(tmp_path / "out.mcap")[1]
    assert [round(f.image.mean()) for f in frames] == [0, 10, 60, 110]
    assert [f.stamp - SECOND for f in frames] == [0, SECOND // 10, SECOND // 5, 3 * SECOND // 10]
    data = (folder / "2.tiff").read_bytes()
    (folder / "2.tiff").write_bytes(data[: int(0.9 * len(data))])
    refused(pack(folder, "--force", *flags), "2.tiff", "cut off after image 2")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_packing_twice_gives_the_same_bytes(pack, tmp_path, storage):
    source = pictures(tmp_path / "images", ["1.png", "2.png"])
    for home in ("x", "y"):
        assert pack(source, "--storage", storage, output=f"{home}/bag")[0] == 0
    for file in (tmp_path / "x" / "bag").iterdir():
        assert file.read_bytes() == (tmp_path / "y" / "bag" / file.name).read_bytes()


def test_a_single_image(pack, tmp_path):
    source = pictures(tmp_path / "images", ["1.png"])
    assert pack(source / "1.png")[0] == 0
    assert len(read(tmp_path / "out.mcap")[1]) == 1


def test_several_sizes_are_told(pack, tmp_path):
    source = pictures(tmp_path / "images", ["1.png", "2.png"])
    pictures(source, ["3.png"], size=(10, 20))
    code, said = pack(source)
    assert code == 0
    said = " ".join(said.split())
    assert "warning" in said
    assert "48x32 (2), 20x10 (1)" in said
    assert [f.image.shape[:2] for f in read(tmp_path / "out.mcap")[1]] == [(32, 48)] * 2 + [(10, 20)]


def test_a_broken_image_is_named_and_nothing_is_left(pack, tmp_path):
    source = pictures(tmp_path / "images", [f"{k}.jpg" for k in range(4)])
    whole = (source / "2.jpg").read_bytes()
    for content in (b"", b"junk", whole[: len(whole) // 2], whole[:-2]):
        (source / "2.jpg").write_bytes(content)
        for flags in ((), ("--compressed",)):
            refused(pack(source, *flags), "2.jpg", "replace or remove")
            assert [p.name for p in tmp_path.iterdir()] == ["images"]


def test_sources_that_are_none(pack, tmp_path):
    refused(pack(tmp_path / "absent"), "absent", "no such")
    (tmp_path / "empty").mkdir()
    refused(pack(tmp_path / "empty"), "is empty")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    refused(pack(tmp_path / "notes"), "holds no images", ".png")
    shutil.copytree(tmp_path / "notes", tmp_path / "outer" / "image_02")
    refused(pack(tmp_path / "outer"), "image_02")
    refused(pack(tmp_path / "notes" / "a.txt"), "a.txt", "video")
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    refused(pack(tmp_path / "a.mp4"), "a.mp4")


@pytest.mark.parametrize("hz", ["0", "-1", "nan", "inf"])
def test_rates_that_are_none(pack, tmp_path, hz):
    refused(pack(pictures(tmp_path / "images", ["1.png"]), "--hz", hz), "hz")


def test_an_output_that_exists(pack, tmp_path):
    source = pictures(tmp_path / "images", ["1.png"])
    (tmp_path / "out.mcap").write_text("precious")
    refused(pack(source), "out.mcap", "--force")
    assert (tmp_path / "out.mcap").read_text() == "precious"
    assert pack(source, "--force")[0] == 0
    refused(pack(source, "--storage", "sqlite3", output="b.mcap"), "b.mcap", "folder")


def video(path, count=12, rate=25):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(count):
            image = np.full((48, 64, 3), 20 * k % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_video_keeps_its_own_times(pack, tmp_path):
    assert pack(video(tmp_path / "a.mp4"))[0] == 0
    _, frames = read(tmp_path / "out.mcap")
    assert [f.stamp for f in frames] == [SECOND + k * SECOND // 25 for k in range(12)]
    assert all(abs(int(f.image.mean()) - 20 * k) < 6 for k, f in enumerate(frames))
    assert pack(tmp_path / "a.mp4", "--hz", 10, "--compressed", "--force")[0] == 0
    assert [f.stamp for f in read(tmp_path / "out.mcap")[1]] == [SECOND + k * SECOND // 10 for k in range(12)]


def test_a_video_cut_off_gives_its_beginning(pack, tmp_path):
    whole = video(tmp_path / "a.avi", 60).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    code, said = pack(tmp_path / "cut.avi")
    assert code == 0
    assert "warning" in said
    count = len(read(tmp_path / "out.mcap")[1])
    assert 3 < count < 60
    assert re.search(rf"only (the first )?{count} ", " ".join(said.split()))


def test_sound_is_no_video(pack, tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    refused(pack(tmp_path / "a.wav"), "no video")


def test_real_frames_both_ways(pack, tmp_path, realdata):
    source = realdata / "kitti_tracking_0002" / "image_02"
    assert pack(source, "--hz", 10)[0] == 0
    assert pack(source, "--compressed", "--storage", "sqlite3", output="folder")[0] == 0
    one, two = read(tmp_path / "out.mcap")[1], read(tmp_path / "folder")[1]
    assert len(one) == len(two) == 45
    assert all(a.stamp == b.stamp and np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))
    assert {f.image.shape for f in one} == {(375, 1242, 3)}
    assert (tmp_path / "folder" / "folder.db3").stat().st_size < (tmp_path / "out.mcap").stat().st_size / 5


def test_natural_order(tmp_path):
    names = ["a10", "a9", "b1", "a01", "a1", "10", "9", "1_2", "1_10", "frame_000002", "frame_1"]
    ordered = [p.name for p in sorted((tmp_path / n for n in names), key=natural_key)]
    assert ordered == ["1_2", "1_10", "9", "10", "a01", "a1", "a9", "a10", "b1", "frame_1", "frame_000002"]


def test_stamps_do_not_drift():
    assert stamp_of(3 * 10**6, 30) == SECOND + 10**5 * SECOND
    assert stamp_of(0, 29.97) == SECOND
