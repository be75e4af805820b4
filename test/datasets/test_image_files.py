"""Image files as other programs write them: transparent colours, hidden files, contents of another type."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from support.data_sets import DATA_SETS
from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.images import GREY, GREY16, RGB, load_image, load_png
from vps_ros.datasets.kitti_step import list_images

MAP = np.array([[[13, 0, 7], [10, 0, 0], [255, 0, 0]]], np.uint8)


def with_transparent(path, pixels, color):
    """Writes a PNG with a tRNS chunk: pixels of this colour (16 bits for each channel) are transparent."""
    data = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()
    body = b"tRNS" + struct.pack(f">{len(color)}H", *color)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    # After the signature (8 bytes) and IHDR (25 bytes).
    path.write_bytes(data[:33] + chunk + data[33:])
    return path


@pytest.mark.parametrize(
    ("pixels", "color", "coding"),
    [
        (MAP, (10, 0, 0), RGB),
        (MAP[..., 0], (13,), GREY),
        (MAP[..., 0].astype(np.uint16) * 200, (2600,), GREY16),
    ],
)
def test_a_transparent_colour_of_a_label_map_is_a_label(tmp_path, pixels, color, coding):
    path = with_transparent(tmp_path / "map.png", pixels, color)
    found = load_png(path, (coding,), "")
    assert found.dtype == pixels.dtype
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("name", DATA_SETS)
def test_hidden_files_are_ignored(tmp_path, name):
    root, split = DATA_SETS[name].build(tmp_path), DATA_SETS[name].split
    form = FORMATS[DATA_SETS[name].form]

    def listed():
        videos = [form.truth(root / "gt", split), form.prediction(root / "pred", None)]
        return [(video, list(frames)) for one in videos for video, frames in one.items()]

    expected = listed()
    for path in [p for p in root.rglob("*") if p.suffix in (".png", ".txt")]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\26\7")
        (path.parent / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    assert listed() == expected


def test_camera_images_are_decoded_by_their_content(tmp_path):
    """A file named .jpg that holds PNG, and one named .png that holds BMP, both without loss."""
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    for name, codec in (("0.jpg", ".png"), ("1.png", ".bmp"), ("2.jpeg", ".ppm")):
        path = tmp_path / "images" / "drive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(codec, image[..., ::-1])[1].tobytes())
        assert np.array_equal(load_image(path), image)
    (tmp_path / "images" / "drive" / "._0.jpg").write_bytes(b"\0\5\26\7")
    assert list(list_images(tmp_path)["drive"]) == ["0", "1", "2"]
