"""Videos of phones, vehicles and editors: rotated, cut, joined, with several streams."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from support.films import film
from vps_ros import InputError, open_frames
from vps_ros.commands.main import main

SECOND = 10**9
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def write(path, pictures, codec="mpeg4", rate=25, streams=1):
    """Each stream shows the pictures; those of the second are upside down."""
    with av.open(str(path), "w") as container:
        for _ in range(streams):
            stream = container.add_stream(codec, rate=rate)
            stream.height, stream.width, stream.pix_fmt = (
                *pictures[0].shape[:2],
                "yuvj420p" if codec == "mjpeg" else "yuv420p",
            )
        for k, picture in enumerate(pictures):
            for turned, stream in enumerate(container.streams.video):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:: -1 if turned else 1]), "rgb24")
                frame.pts, frame.time_base = k, Fraction(1, rate)
                container.mux(stream.encode(frame))
        for stream in container.streams.video:
            container.mux(stream.encode(None))
    return path


def quadrants(top_left, top_right, bottom_left, bottom_right):
    return np.array([[top_left, top_right], [bottom_left, bottom_right]], np.uint8).repeat(32, 0).repeat(48, 1)


def colours(image):
    """The colour in the middle of each quadrant, in the order of reading."""
    height, width = image.shape[:2]
    points = [image[height * y // 4, width * x // 4].astype(int) for y in (1, 3) for x in (1, 3)]
    return "".join(min("RGBW", key=lambda n: np.abs(p - NAMED[n]).max()) for p in points)


NAMED = {"R": RED, "G": GREEN, "B": BLUE, "W": WHITE}
DISPLAY = {
    # (a, b, c, d): a pixel (x, y) is shown at (a x + c y, b x + d y); y points downwards.
    (1, 0, 0, 1): "RGBW",
    (0, 1, -1, 0): "BRWG",  # clockwise by 90 degrees
    (-1, 0, 0, -1): "WBGR",
    (0, -1, 1, 0): "GWRB",
    (-1, 0, 0, 1): "GRWB",  # mirrored
    (1, 0, 0, -1): "BWRG",
    (0, 1, 1, 0): "RBGW",
    (0, -1, -1, 0): "WGBR",
}


@pytest.mark.parametrize("matrix", DISPLAY)
def test_rotated_and_mirrored_videos_are_upright(tmp_path, matrix):
    path = write(tmp_path / "a.mp4", [quadrants(RED, GREEN, BLUE, WHITE)] * 3)
    content = bytearray(path.read_bytes())
    # The display matrix is behind 48 bytes of the track header.
    at = content.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", content[at : at + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (value << 16 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    images = [frame.image for frame in open_frames(path)]
    assert {image.shape for image in images} == {(64, 96, 3) if matrix[0] else (96, 64, 3)}
    assert [colours(image) for image in images] == [DISPLAY[matrix]] * 3
    assert all(image.flags.c_contiguous for image in images)


def test_one_of_several_streams_is_chosen_by_its_number(tmp_path, capsys):
    path = write(tmp_path / "a.mkv", [quadrants(RED, GREEN, BLUE, WHITE)] * 3, streams=2)
    for topic, shown in (("0", "RGBW"), ("1", "BWRG")):
        with open_frames(path, topic=topic) as frames:
            assert [colours(frame.image) for frame in frames] == [shown] * 3
    with pytest.raises(InputError, match=r"a\.mkv: several video streams.*--topic.*0 \(mpeg4 96x64\), 1 \(mpeg4"):
        open_frames(path)
    with pytest.raises(InputError, match=r"no video stream 7; there are 0 \(mpeg4 96x64\), 1"):
        open_frames(path, topic="7")
    bag = str(tmp_path / "a.mcap")
    assert main(["pack", str(path), "-o", bag]) == 2
    assert "--stream" in capsys.readouterr().err
    assert main(["pack", str(path), "-o", bag, "--stream", "1"]) == 0
    assert [colours(frame.image) for frame in open_frames(bag)] == ["BWRG"] * 3


def test_a_stream_is_not_chosen_from_images(tmp_path, capsys):
    assert main(["pack", str(tmp_path), "-o", str(tmp_path / "a.mcap"), "--stream", "1"]) == 2
    assert "only videos have streams" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_times_of_joined_videos_go_on(tmp_path, codec):
    first = film(tmp_path / "a.ts", 6, codec=codec).read_bytes()
    second = film(tmp_path / "b.ts", 4, codec=codec).read_bytes()
    (tmp_path / "c.ts").write_bytes(first + second)
    assert [frame.stamp for frame in open_frames(tmp_path / "c.ts")] == [SECOND + k * SECOND // 25 for k in range(10)]


def edit(path, begin, duration):
    """Makes the edit list of an MP4 show `duration` ms, from frame `begin` on; the video has 25 frames/s."""
    content = bytearray(path.read_bytes())
    at = content.index(b"mdhd") + 4 + 12
    (scale,) = struct.unpack(">I", content[at : at + 4])
    at = content.index(b"elst") + 4 + 8
    start = struct.unpack(">i", content[at + 4 : at + 8])[0]
    content[at : at + 8] = struct.pack(">Ii", duration, start + begin * scale // 25)
    path.write_bytes(content)
    return path


def numbered(count):
    """Grey pictures; each is 8 brighter than the one before."""
    return [np.full((64, 96, 3), 8 * k, np.uint8) for k in range(count)]


def test_what_an_edit_list_cuts_off_is_not_lost(tmp_path):
    path = edit(write(tmp_path / "a.mp4", numbered(30)), 5, 1000)
    frames = open_frames(path)
    assert frames.count is None
    found = list(frames)
    assert [frame.stamp for frame in found] == [SECOND + k * SECOND // 25 for k in range(25)]
    assert [frame.image.mean() for frame in (found[0], found[-1])] == pytest.approx([8 * 5, 8 * 29], abs=10)
    assert frames.losses == ()


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_truncated_mp4_is_a_loss_with_and_without_edit_list(tmp_path, edited):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.mp4", [rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(30)])
    if edited:
        edit(path, 5, 1000)
    # With the index at its beginning, a truncated file can be opened.
    content = path.read_bytes()
    head, rest = content[: content.index(b"mdat") - 4], content[content.index(b"mdat") - 4 :]
    size = int.from_bytes(rest[:4], "big")
    index = bytearray(rest[size:])
    at = index.index(b"stco") + 4 + 4
    for k in range(int.from_bytes(index[at : at + 4], "big")):
        place = at + 4 + 4 * k
        index[place : place + 4] = (int.from_bytes(index[place : place + 4], "big") + len(index)).to_bytes(4, "big")
    path.write_bytes(head + index + rest[:size])
    frames = open_frames(path)
    assert len(list(frames)) == (25 if edited else 30)
    assert frames.losses == ()
    path.write_bytes(head + index + rest[: size // 2])
    frames = open_frames(path)
    assert 2 < len(list(frames)) < 25
    (loss,) = frames.losses
    assert "damaged" in str(loss) or "missing" in str(loss) if edited else "of its 30 frames" in str(loss)


def test_frames_behind_a_damaged_packet_are_read(tmp_path):
    path = write(tmp_path / "a.avi", numbered(20), "mjpeg")
    content = bytearray(path.read_bytes())
    places = [k for k in range(content.index(b"movi"), len(content)) if content[k : k + 4] == b"00dc"]
    (size,) = struct.unpack("<I", content[places[7] + 4 : places[7] + 8])
    content[places[7] + 8 : places[7] + 8 + size] = bytes(size)
    path.write_bytes(content)
    frames = open_frames(path)
    with pytest.warns(UserWarning, match="only 19 of its 20 frames"):
        stamps = [frame.stamp for frame in frames]
    assert stamps == [SECOND + k * SECOND // 25 for k in range(20) if k != 7]
    assert frames.losses[0].count == 1


@pytest.mark.parametrize("container", ["a.mkv", "a.ts"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_truncated_video_without_index_is_a_loss(tmp_path, container):
    """Matroska states its duration; of a transport stream, the last frame is damaged."""
    rng = np.random.default_rng(0)
    path = write(tmp_path / container, [rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(30)], "libx264")
    frames = open_frames(path)
    assert len(list(frames)) == 30 and frames.losses == ()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames = open_frames(path)
    assert 2 < len(list(frames)) < 30
    (loss,) = frames.losses
    assert ("are missing" if container == "a.mkv" else "1 frame(s) are damaged") in str(loss)


def test_an_empty_video_is_named_so(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match=r"a\.mp4: is empty"):
        open_frames(tmp_path / "a.mp4")


def test_text_is_no_video(tmp_path):
    (tmp_path / "labels.txt").write_text("0 1 Car 0 0 -1.5 300.1 180.2 350.4 210.9\n" * 50)
    with pytest.raises(
        InputError, match=r"labels\.txt: neither an image .* nor a video that FFmpeg reads \(it is text\)"
    ):
        open_frames(tmp_path / "labels.txt")


def test_odd_files_of_phones(oddfiles):
    (film_size,) = {frame.image.shape for frame in open_frames(oddfiles / "cover_picture_first.mp4")}
    assert film_size == (96, 128, 3)
    (upright,) = {frame.image.shape for frame in open_frames(oddfiles / "rotated_90.mp4")}
    assert upright == (128, 96, 3)
