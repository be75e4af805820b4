"""`vps-ros track` on folders that cannot be: one line out, and nothing half-written."""

import signal
import subprocess
import sys
import time
from functools import partial

import cv2
import numpy as np
import pytest

from support.track_folders import (
    CAR,
    PERSON,
    arguments,
    complaint,
    content,
    describe,
    ids,
    make_folders,
    process,
    refused,
    rename,
    save_frame,
    save_image,
    street,
    track,
)
from vps_ros.commands.main import main
from vps_ros.datasets.kitti_step import save_map


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path)


def rewrite(path, **changes):
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays.update({name: change(arrays[name]) for name, change in changes.items()})
    np.savez(path, **arrays)


def test_bad_embeddings(folders, capsys):
    describe(folders)
    path = folders / "vectors/0006/000003.npz"
    good = path.read_bytes()

    def spoiled(**changes):
        rewrite(path, **changes)
        said = refused(folders, capsys, "--embeddings", folders / "vectors")
        path.write_bytes(good)
        assert "0006/000003.npz" in said
        return said

    assert "embeddings have length 6, those of 000000.npz have 8" in spoiled(embeddings=lambda e: e[:, :6])
    assert "holds NaN or infinity" in spoiled(embeddings=lambda e: np.where(e == e[1, 2], np.nan, e))
    assert "occurs twice" in spoiled(ids=lambda i: np.where(i == i[0], i[1], i))
    assert "no embedding for id" in spoiled(ids=lambda i: np.where(i == i[0], 5, i))
    assert "4 ids but 3 embeddings" in spoiled(embeddings=lambda e: e[:3])
    path.unlink()
    said = refused(folders, capsys, "--embeddings", folders / "vectors")
    assert "vectors: no embeddings for 1 map(s): 0006/000003" in said


def test_maps_and_images_that_do_not_pair_up(folders, capsys):
    (folders / "images/0006/000003.png").unlink()
    (folders / "images/0002/000000.png").unlink()
    said = refused(folders, capsys)
    assert "images: no image for 2 map(s): 0002/000000, 0006/000003; name images as their maps are" in said
    for sequence, frame in (("0006", "000003"), ("0002", "000000")):
        save_image(folders / f"images/{sequence}/{frame}.png", street(0)[0])
        (folders / f"maps/{sequence}/{frame}.png").unlink()
    said = refused(folders, capsys)
    assert "maps: no map for 2 image(s): 0002/000000, 0006/000003" in said
    for path in (folders / "maps/0006").iterdir():
        path.unlink()
    assert "maps/0006: a sequence without panoptic maps" in refused(folders, capsys)
    (folders / "maps/0006").rmdir()
    for path in (folders / "images/0002").iterdir():
        path.unlink()
    assert "images: no image for 4 map(s): all of 0002" in refused(folders, capsys)


def test_empty_folders(folders, capsys):
    (folders / "maps/0009").mkdir()
    assert "maps/0009: a sequence without panoptic maps" in refused(folders, capsys)
    for name in ("maps", "images"):
        (folders / name).rename(folders / "kept")
        assert f"{name}: no such folder" in refused(folders, capsys)
        (folders / name).mkdir()
        assert f"{name}: holds no" in refused(folders, capsys)
        (folders / name).rmdir()
        (folders / "kept").rename(folders / name)


def test_images_that_are_the_maps(folders, capsys):
    assert main(["track", "--images", f"{folders}/maps", "--segmentation", f"{folders}/maps", "-o", "out"]) == 2
    assert "maps/0002/000000.png: is both image and map" in complaint(capsys)


def test_sizes_that_differ(folders, capsys):
    image, semantic, instance = (a[:-2] for a in street(2))
    save_image(folders / "images/0006/000002.png", image)
    said = refused(folders, capsys)
    assert "maps/0006/000002.png: is 160x48, its image" in said
    assert "images/0006/000002.png is 160x46" in said
    save_map(folders / "maps/0006/000002.png", semantic, instance)
    assert "000002.png: is 160x46, but 000000 of its sequence is 160x48" in refused(folders, capsys)


def test_sequences_may_have_sizes_of_their_own(folders):
    for i in range(5):
        save_frame(folders, "0009", f"{i:06d}", *(a[:-2, :-6] for a in street(i)))
    assert track(folders) == 0
    assert [set(frame) for frame in ids(folders, "0009")] == [{1, 2, 3, 4}] * 5


def test_unknown_classes(folders, capsys):
    semantic = street(1)[1].copy()
    semantic[0, 0] = 19
    save_map(folders / "maps/0002/000001.png", semantic, street(1)[2])
    said = refused(folders, capsys)
    assert "maps/0002/000001.png: class 19 is not one of kitti-step" in said


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("maps/0002/000003.png", b"", "not a PNG file"),
        ("maps/0002/000003.png", "half", "PNG is cut off"),
        ("maps/0002/000003.png", "grey", "coded as 8-bit grey"),
        ("images/0002/000003.png", b"", "is not an image that can be decoded"),
        ("images/0002/000003.png", b"words", "is not an image that can be decoded"),
    ],
)
def test_files_that_cannot_be_read(folders, capsys, file, content, words):
    path = folders / file
    if content == "half":
        content = path.read_bytes()[:-30]
    elif content == "grey":
        content = cv2.imencode(".png", street(0)[1])[1].tobytes()
    path.write_bytes(content)
    said = refused(folders, capsys)
    assert f"{file}: " in said
    assert words in said


def dots(frame, count, width):
    """Objects of one pixel each, side by side; the class changes from frame to frame."""
    semantic = np.full((count // width, width), (CAR, PERSON)[frame % 2], np.uint8)
    instance = np.arange(1, count + 1, dtype=np.uint16).reshape(semantic.shape)
    return np.zeros((*semantic.shape, 3), np.uint8), semantic, instance


def test_a_thousand_objects_in_a_frame(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        instance = np.kron(np.arange(1, 1001).reshape(20, 50), np.ones((8, 12), int)).astype(np.uint16)
        image = np.random.default_rng(1).integers(0, 256, (1001, 3)).astype(np.uint8)[instance]
        save_frame(tmp_path, "0000", f"{i:06d}", image, np.full(instance.shape, CAR, np.uint8), rename(instance, rng))
    assert track(tmp_path) == 0
    assert [set(frame) for frame in ids(tmp_path, "0000")] == [set(range(1, 1001))] * 4


def test_ids_beyond_the_coding_name_the_frame(tmp_path, capsys):
    for i in range(8):
        save_frame(tmp_path, "0000", f"{i:06d}", *dots(i, 9000, 300))
    flags = "--memory-tau", 0, "--tracker", "location"
    said = refused(tmp_path, capsys, *flags)
    # Seven frames make 63,000 objects; in the eighth the number 65,536 is passed.
    assert "maps/0000/000007.png: object 72000 of its sequence cannot be written, KITTI-STEP holds 65535" in said
    for folder in ("maps", "images"):
        (tmp_path / folder / "0001").mkdir()
        (tmp_path / folder / "0000/000007.png").rename(tmp_path / folder / "0001/000007.png")
    assert track(tmp_path, *flags) == 0
    assert set(ids(tmp_path, "0000")[6]) == set(range(54_001, 63_001))
    assert set(ids(tmp_path, "0001")[0]) == set(range(1, 9001))


def test_outputs_that_exist(folders, capsys):
    assert track(folders) == 0
    before = content(folders / "out")
    assert track(folders) == 2
    assert "out: exists; pass --force to replace it" in complaint(capsys)
    (folders / "out/0002/stale.png").write_bytes(b"")
    assert track(folders, "--force") == 0
    assert content(folders / "out") == before
    for inside in ("images", "maps", "."):
        (folders / inside / "track.json").write_text("{}")
        assert track(folders, "--force", out=inside) == 2
        assert "contains the input" in complaint(capsys)
    (folders / "letters").mkdir()
    (folders / "letters/precious.txt").write_text("precious")
    assert track(folders, "--force", out="letters") == 2
    assert "is a folder with other content" in complaint(capsys)
    (folders / "f.json").write_text("old")
    assert track(folders, "--json", folders / "f.json", out="new") == 2
    assert "f.json: exists" in complaint(capsys)
    assert not (folders / "new").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--hz", "0"], "hz 0: give frames per second"),
        (["--hz", "nan"], "hz nan: give frames per second"),
        (["--jobs", "-1"], "--jobs -1: cannot be negative"),
        (["--tracker", "magic"], "tracker: 'magic' is not one of"),
        (["--split", "vall"], "has no split 'vall'"),
    ],
)
def test_bad_flags(folders, capsys, flags, words):
    assert words in refused(folders, capsys, *flags)


def test_an_error_half_way_and_an_interruption_leave_nothing(folders):
    (folders / "maps/0006/000004.png").write_bytes(b"")
    run = process(*arguments(folders))
    assert run.returncode == 2
    assert [line for line in run.stderr.splitlines() if line.startswith("vps-ros:")] == [
        f"vps-ros: {folders}/maps/0006/000004.png: not a PNG file; a KITTI-STEP map is 8-bit RGB "
        "(R class, G and B instance)"
    ]
    assert not (folders / "out").exists()
    frame = street(0)
    save_frame(folders, "0006", "000004", *frame)
    for i in range(5, 900):
        save_frame(folders, "0002", f"{i:06d}", *frame)
    command = [sys.executable, "-m", "vps_ros.commands.main", *arguments(folders)]
    # Whoever starts the tests in the background has them, and all that they start, ignore SIGINT.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as running:
        deadline = time.monotonic() + 120
        while not list(folders.glob(".out.*/out/0002/*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=120)[1]
    assert running.returncode == 130
    assert said.splitlines()[-1] == "vps-ros: interrupted"
    assert sorted(p.name for p in folders.iterdir()) == ["images", "maps"]
