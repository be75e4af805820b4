"""KITTI-STEP maps: the coding, the files, the folders."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.datasets.kitti_step import (
    decode,
    encode,
    image_path,
    list_images,
    list_maps,
    load_map,
    map_path,
    save_map,
)
from vps_ros.errors import InputError


def test_red_is_the_class_green_and_blue_the_instance():
    rgb = encode(np.array([[13, 255]], np.uint8), np.array([[259, 0]]))
    assert rgb.dtype == np.uint8
    assert rgb.tolist() == [[[13, 1, 3], [255, 0, 0]]]


@given(
    hnp.arrays(np.uint8, (3, 5)),
    hnp.arrays(st.sampled_from([np.uint16, np.int32, np.int64]), (3, 5), elements=st.integers(0, 65535)),
)
def test_decode_undoes_encode(semantic, instance):
    classes, instances = decode(encode(semantic, instance))
    assert np.array_equal(classes, semantic)
    assert np.array_equal(instances, instance)


def test_a_map_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    semantic, instance = rng.integers(0, 256, (9, 7), np.uint8), rng.integers(0, 65536, (9, 7))
    path = map_path(tmp_path, "0003", "000007")
    assert path == tmp_path / "panoptic_maps" / "0003" / "000007.png"
    save_map(path, semantic, instance)
    classes, instances = load_map(path)
    assert np.array_equal(classes, semantic)
    assert np.array_equal(instances, instance)
    assert np.array_equal(cv2.imread(str(path))[..., 2], semantic), "red, which OpenCV reads last"


@pytest.mark.parametrize("instance", [65536, -1, 2**20])
def test_an_instance_beyond_the_coding_is_refused_not_wrapped(tmp_path, instance):
    path = tmp_path / "0000" / "000042.png"
    with pytest.raises(InputError, match=rf"000042\.png: instance {instance} .*65535"):
        save_map(path, np.zeros((2, 2), np.uint8), np.full((2, 2), instance))
    assert not path.exists()


def test_a_class_beyond_the_coding_is_refused():
    with pytest.raises(InputError, match="frame 5: class 256"):
        encode(np.full((2, 2), 256), np.zeros((2, 2), int), "frame 5")


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(InputError, match="one \\[H, W\\]"):
        encode(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint16))


RGB = np.random.default_rng(1).integers(0, 20, (40, 60, 3), np.uint8)


def palette_png():
    """A real PNG of colour type 3; OpenCV cannot write one."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    pixels = zlib.compress(b"\x00\x00\x01")
    body = chunk(b"IHDR", header) + chunk(b"PLTE", bytes(range(6))) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(RGB[..., 0]), "8-bit grey"),
        (png(RGB.astype(np.uint16)), "16-bit RGB"),
        (png(np.dstack([RGB, RGB[..., 0]])), "8-bit RGBA"),
        (palette_png(), "8-bit palette"),
        (cv2.imencode(".jpg", RGB)[1].tobytes(), "not a PNG"),
        (b"", "not a PNG"),
        (png(RGB)[:-200], "cut off"),
        (png(RGB)[:-12], "cut off"),
        (png(RGB)[:10], "cut off"),
        (png(RGB)[:200] + b"\x00\x01\x02" + png(RGB)[203:], "damaged"),
    ],
    ids=["grey", "16-bit", "rgba", "palette", "jpeg", "empty", "half", "no-end", "no-header", "flipped"],
)
def test_other_files_are_refused_in_one_line(tmp_path, data, reason, capfd):
    path = tmp_path / "000001.png"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        load_map(path)
    assert str(path) in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == "", "the decoder's own complaints are noise"


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.png: no such file"):
        load_map(tmp_path / "nothing.png")


def put(root, *names):
    for name in names:
        save_map(root / name, np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))


@pytest.mark.parametrize(
    ("files", "asked"),
    [
        ("0001/{}.png", ""),
        ("panoptic_maps/0001/{}.png", ""),
        ("panoptic_maps/val/0001/{}.png", ""),
        ("panoptic_maps/val/0001/{}.png", "panoptic_maps"),
        ("panoptic_maps/val/0001/{}.png", "panoptic_maps/val"),
        ("val/0001/{}.png", ""),
    ],
)
def test_layouts_that_users_have(tmp_path, files, asked):
    put(tmp_path, files.format("000001"), files.format("000000"))
    found = list_maps(tmp_path / asked)
    assert list(found) == ["0001"]
    assert list(found["0001"]) == ["000000", "000001"]
    assert all(path.is_file() for path in found["0001"].values())


def test_splits_are_joined_or_chosen(tmp_path):
    put(tmp_path, "panoptic_maps/train/0000/0.png", "panoptic_maps/val/0002/0.png", "images/val/0002/0.png")
    assert list(list_maps(tmp_path)) == ["0000", "0002"]
    assert list(list_maps(tmp_path, "val")) == ["0002"]
    with pytest.raises(InputError, match=r"no split 'test' \(splits there: train, val\)"):
        list_maps(tmp_path, "test")


def test_images_of_any_layout(tmp_path):
    put(tmp_path / "step", "images/val/0002/000000.png", "panoptic_maps/val/0002/000000.png")
    put(tmp_path / "tracking", "training/image_02/0002/000000.png")
    photo = image_path(tmp_path / "ours", "0002", "000001", ".jpg")
    photo.parent.mkdir(parents=True)
    cv2.imwrite(str(photo), RGB)
    assert list_images(tmp_path / "step") == {"0002": {"000000": tmp_path / "step/images/val/0002/000000.png"}}
    assert list(list_images(tmp_path / "tracking")["0002"]) == ["000000"]
    assert list_images(tmp_path / "ours") == {"0002": {"000001": photo}}


def test_a_frame_that_is_there_twice_is_refused(tmp_path):
    put(tmp_path, "panoptic_maps/0001/000000.png", "panoptic_maps/val/0001/000000.png")
    with pytest.raises(InputError, match="frame 000000 of sequence 0001 is in .* too"):
        list_maps(tmp_path)


def test_an_image_in_two_formats_is_refused(tmp_path):
    put(tmp_path, "images/0001/000000.png")
    cv2.imwrite(str(tmp_path / "images/0001/000000.jpg"), RGB)
    with pytest.raises(InputError, match="keep one"):
        list_images(tmp_path)


def test_folders_without_maps_say_what_is_expected(tmp_path):
    with pytest.raises(InputError, match="absent: no such folder"):
        list_maps(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no panoptic maps; expected SEQUENCE/FRAME.png"):
        list_maps(tmp_path)
    put(tmp_path, "000000.png")
    with pytest.raises(InputError, match="one folder per sequence"):
        list_maps(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        list_maps(tmp_path / "000000.png")
