"""`open_frames`: every kind of source, odd images, and what is refused."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import cv2
import numpy as np
import pytest

from support import ROOT
from support.bags import START, TENTH, drive, write
from support.films import film, scene
from support.photos import UPRIGHT, photo, quarters
from vps_ros import Frame, FrameSource, InputError, open_frames
from vps_ros.recording.frames import CameraSource

SECOND = 10**9


def refused(*words, source=None, **options):
    with pytest.raises(InputError) as error:
        list(open_frames(source, **options))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def images(folder, names, image=None):
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((4, 6, 3), 10 * k, np.uint8) if image is None else image)
    return folder


def test_a_film_has_its_own_times(tmp_path):
    path = film(tmp_path / "drive.mp4", 5, rate=25)
    frames = open_frames(path)
    assert isinstance(frames, FrameSource)
    assert len(frames) == 5
    for _ in range(2):
        found = list(frames)
        assert [f.stamp for f in found] == [SECOND + k * SECOND // 25 for k in range(5)]
        assert {(f.image.dtype, f.image.shape, f.frame_id) for f in found} == {
            (np.dtype(np.uint8), (64, 96, 3), "camera")
        }
        # Sky is blue, and the moving square red: RGB.
        assert all(np.abs(f.image[5, 50].astype(int) - (0, 0, 255)).max() < 40 for f in found)
    assert [f.stamp for f in open_frames(str(path), hz=5)] == [SECOND + k * SECOND // 5 for k in range(5)]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_photos_are_turned_upright(tmp_path, suffix):
    for orientation in UPRIGHT:
        (tmp_path / f"{orientation}{suffix}").write_bytes(photo(suffix, orientation))
    frames = list(open_frames(tmp_path))
    assert [f.image.shape[:2] for f in frames] == [(32, 64)] * 4 + [(64, 32)] * 4
    for frame, expected in zip(frames, UPRIGHT.values(), strict=True):
        assert np.abs(quarters(frame.image) - expected).max() <= 4
    # A list of paths is read in the same way.
    (turned,) = open_frames([tmp_path / f"6{suffix}"])
    assert np.array_equal(turned.image, frames[5].image)


def test_a_folder_is_read_in_natural_order_at_hz(tmp_path):
    folder = images(tmp_path / "images", ["2.png", "10.png", "1.png"])
    frames = open_frames(folder)
    assert len(frames) == 3
    assert [(f.image[0, 0, 0], f.stamp) for f in frames] == [
        (20, SECOND),
        (0, SECOND + TENTH),
        (10, SECOND + 2 * TENTH),
    ]
    assert [f.stamp for f in open_frames(folder, hz=4)] == [SECOND, SECOND * 5 // 4, SECOND * 3 // 2]
    assert len(list(open_frames(folder / "2.png"))) == 1


def test_a_bag_has_the_stamps_of_its_messages(tmp_path):
    bag = write(tmp_path / "bag", drive(3, "/left") + drive(2, "/right"))
    with open_frames(bag, topic="/right") as frames:
        assert len(frames) == 2
        assert [f.stamp for f in frames] == [START, START + TENTH]
        assert [f.stamp for f in frames] == [START, START + TENTH], "a second time"
    (part,) = bag.glob("*.mcap")
    assert len(list(open_frames(part, topic="/left"))) == 3
    assert len(list(open_frames(bag / "metadata.yaml", topic="/left"))) == 3
    refused("/left", "/right", "topic=", source=bag)
    refused("/up", source=bag, topic="/up")
    refused("stamps of its own", source=bag, topic="/left", hz=3)


def test_arrays_get_stamps_and_frames_keep_theirs(tmp_path):
    one = scene(0)
    (path,) = images(tmp_path / "images", ["a.png"]).iterdir()
    for source in ([one, one], np.stack([one, one]), (one for _ in range(2))):
        frames = list(open_frames(source, hz=2))
        assert [f.stamp for f in frames] == [SECOND, SECOND * 3 // 2]
        assert all(np.array_equal(f.image, one) for f in frames)
    mixed = list(open_frames([Frame(one, 7, "front"), path, str(path)]))
    assert [(f.stamp, f.frame_id) for f in mixed] == [
        (7, "front"),
        (SECOND + TENTH, "camera"),
        (SECOND + 2 * TENTH, "camera"),
    ]
    assert len(open_frames([one])) == 1
    endless = open_frames(one for _ in range(2))
    assert endless.count is None
    assert endless
    with pytest.raises(TypeError, match="not known"):
        len(endless)


def test_grey_and_16_bit_images_become_rgb_of_8_bits(tmp_path):
    grey = np.array([[0, 100, 200]], np.uint8)
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    colour = np.array([[[0, 257, 65535]]], np.uint16)
    cv2.imwrite(str(tmp_path / "1.png"), grey)
    cv2.imwrite(str(tmp_path / "2.png"), deep)
    cv2.imwrite(str(tmp_path / "3.png"), colour[..., ::-1])
    cv2.imwrite(str(tmp_path / "4.png"), np.dstack([np.full((1, 1, 3), (1, 2, 3), np.uint8), [[[9]]]]).astype(np.uint8))
    for source in (
        tmp_path,
        [grey, deep, colour, np.array([[[3, 2, 1]]], np.uint8)],
        [grey[..., None], deep[..., None]],
    ):
        found = [f.image.tolist() for f in open_frames(source)]
        expected = [
            [[[0] * 3, [100] * 3, [200] * 3]],
            [[[0] * 3, [100] * 3, [255] * 3]],
            [[[0, 1, 255]]],
            [[[3, 2, 1]]],
        ]
        assert found == expected[: len(found)]


def test_several_sizes_keep_theirs(tmp_path):
    images(tmp_path, ["1.png"])
    images(tmp_path, ["2.png"], np.zeros((9, 5, 3), np.uint8))
    assert [f.image.shape for f in open_frames(tmp_path)] == [(4, 6, 3), (9, 5, 3)]


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 6, 3)), np.zeros((4, 6, 4), np.uint8), np.zeros((4, 6, 3), np.int32), np.zeros((0, 6, 3), np.uint8),
     np.zeros(6, np.uint8), np.zeros((4, 6, 3), bool), "neither"],
    ids=["float", "alpha", "int32", "empty", "1d", "bool", "text"],
)  # fmt: skip
def test_arrays_that_are_no_images_are_named(image):
    with pytest.raises(InputError, match="neither" if isinstance(image, str) else "image 1 of the list"):
        list(open_frames([scene(0), image]))


def test_an_array_that_is_one_image_is_not_taken_for_many():
    refused("[64, 96, 3]", "list", source=scene(0))


def test_what_is_no_source(tmp_path, monkeypatch):
    refused("absent.mp4", "no such file", source=tmp_path / "absent.mp4")
    (tmp_path / "empty").mkdir()
    refused("empty", "is empty", source=tmp_path / "empty")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    refused("holds no images", source=tmp_path / "notes")
    refused("a.txt", source=tmp_path / "notes" / "a.txt")
    (tmp_path / "broken.mp4").write_bytes(os.urandom(2000))
    refused("broken.mp4", source=tmp_path / "broken.mp4")
    (tmp_path / "empty.mcap").write_bytes(b"")
    refused("empty.mcap", source=tmp_path / "empty.mcap")
    refused("holds no images", source=[])
    refused("a float", source=1.5)
    refused("only bags and videos have topics", "/a", source=[scene(0)], topic="/a")
    refused("only bags and videos have topics", "empty", source=tmp_path / "empty", topic="/a")
    for hz in (0, -1, float("nan"), float("inf")):
        refused("hz", source=[scene(0)], hz=hz)


def test_a_broken_image_in_a_folder_is_named(tmp_path):
    images(tmp_path, ["1.png", "3.png"])
    (tmp_path / "2.png").write_bytes(b"junk")
    frames = iter(open_frames(tmp_path))
    assert next(frames).stamp == SECOND
    with pytest.raises(InputError, match=r"2\.png"):
        next(frames)


def test_a_film_cut_off_gives_its_beginning_and_a_warning(tmp_path):
    whole = film(tmp_path / "a.avi", 400, codec="mpeg4").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    frames = open_frames(tmp_path / "cut.avi")
    with pytest.warns(UserWarning, match=r"cut\.avi: only"):
        count = len(list(frames))
    assert 3 < count < 400
    assert len(frames.losses) == 1
    assert frames.losses[0].count in (0, 400 - count), "0 where the file does not say how many there were"


def test_images_beside_a_file_named_as_that_of_a_bag(tmp_path):
    images(tmp_path, ["1.png"])
    (tmp_path / "metadata.yaml").write_text("made by: a camera\n")
    assert len(list(open_frames(tmp_path))) == 1


def test_a_camera_that_is_not_there():
    refused("camera 97", "/dev/video97", source=97)
    refused("own rate", source=97, hz=10)


def test_a_camera_gives_rgb_with_the_time_of_its_coming(tmp_path):
    """OpenCV opens a film as it opens a camera; at its end, it is a camera that was unplugged."""
    with CameraSource(str(film(tmp_path / "a.avi", 3, codec="mpeg4"))) as camera:
        frames = iter(camera)
        found = [next(frames) for _ in range(3)]
        with pytest.raises(InputError, match="gives no images"):
            next(frames)
    assert all(np.abs(f.image[5, 50].astype(int) - (0, 0, 255)).max() < 40 for f in found)
    assert [f.stamp for f in found] == sorted(f.stamp for f in found)
    assert found[0].stamp > 1_600_000_000 * SECOND


def test_a_damaged_image_of_a_camera_is_left_out(tmp_path):
    """With OpenCV's reader of MJPEG, which decodes in `retrieve` as its reader of cameras does."""
    path = tmp_path / "a.avi"
    video = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for value in (0, 60, 120, 180):
        video.write(np.full((64, 96, 3), value, np.uint8))
    video.release()
    before, first, second, *rest = path.read_bytes().split(b"\xff\xd8\xff")
    path.write_bytes(b"\xff\xd8\xff".join([before, first, bytes(200) + second[200:], *rest]))
    program = f"""
from vps_ros.recording.frames import CameraSource
for frame in CameraSource({str(path)!r}).frames():
    print(int(frame.image.mean().round()))
"""
    environment = os.environ | {"OPENCV_VIDEOIO_PRIORITY_LIST": "CV_MJPEG", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "120", "180"]
    assert done.stderr.strip().endswith("gives no images; check its cable")


@contextmanager
def network_camera(images):
    """Address of an HTTP camera (MJPEG) that sends the images at once and ends `finish` seconds after `end` is set."""
    sent, end = Event(), Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            for image in images:
                data = cv2.imencode(".jpg", image)[1].tobytes()
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
            sent.set()
            end.wait(60)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/camera", sent, end
        finally:
            end.set()
            server.shutdown()


def test_a_camera_in_the_network_gives_its_newest_image():
    images = [np.full((48, 64, 3), (4 * k, 0, 200), np.uint8) for k in range(50)]
    with network_camera(images) as (url, sent, end), open_frames(url) as camera:
        frames = iter(camera)
        first = next(frames)
        assert sent.wait(60)
        time.sleep(1)
        newest = next(frames)
        end.set()
        with pytest.raises(InputError, match="gives no more images"):
            list(frames)
    assert abs(int(newest.image[20, 20, 0]) - 200) < 5
    assert newest.image[20, 20, 2] > 100
    assert newest.stamp > first.stamp > 1_600_000_000 * SECOND


def test_a_camera_in_the_network_that_is_not_there():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    refused("rtsp://127.0.0.1", "no video at this address", source=f"rtsp://127.0.0.1:{port}/stream")
    with pytest.raises(InputError) as caught:
        open_frames(f"http://me:secret@127.0.0.1:{port}/")
    assert "secret" not in str(caught.value)
    refused("own rate", source="http://127.0.0.1/", hz=10)
    refused("leave topic out", source="http://127.0.0.1/", topic="1")
