"""The files of one recording: which of them belong together, and in which order."""

import json
import shutil

import cv2
import numpy as np
import pytest

from support.bags import drive, write
from support.odd_bags import at, mcap, read
from vps_ros.commands.main import main
from vps_ros.errors import InputError
from vps_ros.recording.frames import BagReader, open_frames
from vps_ros.recording.storage import zstd


def split(folder, names, chunks):
    folder.mkdir(exist_ok=True)
    for name, numbers in zip(names, chunks, strict=True):
        mcap(folder / name, [(True, at(*numbers))])
    return folder


@pytest.mark.parametrize(
    "pattern",
    ["rec_{}.mcap", "{}_drive_2025_09_30-09_{:02}_30.mcap", "rec_2024-01-01_12.30.05_{}.mcap", "v1.0_{}.mcap",
     "{}_2025_09_30-09_{:02}_30.mcap", "rosbag2_2024_01_01-12_30_05_{}.mcap"],
)  # fmt: skip
def test_split_files_are_in_order_of_time(tmp_path, pattern):
    names = [pattern.format(k, k) for k in range(12)]
    assert read(split(tmp_path / "bag", names, [(2 * k, 2 * k + 1) for k in range(12)])) == (list(range(24)), ())
    # The time of the messages counts, not the number.
    assert read(split(tmp_path / "bag", names, [(2 * k, 2 * k + 1) for k in reversed(range(12))]))[0] == list(range(24))


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (["v1.0_0.mcap", "v1.0_1.mcap", "v1.1_0.mcap"], "v1.0, v1.1"),
        (["0_left_2025_09_30-09_00_30.mcap", "0_right_2025_09_30-09_00_30.mcap"], "left, right"),
        (["0_drive_2025_09_30-09_00_30.mcap", "0_drive_2025_10_01-09_00_30.mcap"], "same number"),
        (["rosbag2_2024_01_01-12_30_05.mcap", "rosbag2_2024_01_01-12_30_47.mcap"], "rosbag2_2024_01_01-12_30_47"),
        (["drive_0.mcap", "drive_1.mcap", "other.mcap"], "drive, other"),
    ],
)
@pytest.mark.parametrize("metadata", [None, "", "}{"])
def test_a_folder_with_two_recordings_needs_a_choice(tmp_path, names, listed, metadata):
    folder = split(tmp_path / "bags", names, [(k,) for k in range(len(names))])
    if metadata is not None:
        (folder / "metadata.yaml").write_text(metadata)
    with pytest.raises(InputError, match="several bags") as error:
        read(folder)
    assert listed in str(error.value)
    assert read(folder / names[1]) == ([1], ())


def test_overlapping_files_are_merged_by_time(tmp_path):
    folder = split(tmp_path / "bag", ["a_0.mcap", "a_1.mcap", "a_2.mcap"], [(0, 1, 3), (2, 4, 7), (5, 6)])
    assert read(folder) == (list(range(8)), ())


def test_a_file_beside_its_compressed_copy_is_read_once(tmp_path):
    folder = split(tmp_path / "bag", ["a_0.mcap", "a_1.mcap"], [(0, 1), (2, 3)])
    (folder / "a_0.mcap.zstd").write_bytes(zstd.compress((folder / "a_0.mcap").read_bytes())[:-4])
    assert read(folder) == ([0, 1, 2, 3], ())


@pytest.mark.parametrize("names", [["a_0.mcap", "a_1.mcap", "a_3.mcap"],
    [f"{k}_a_2025_09_30-09_00_30.mcap" for k in (0, 1, 3)]])  # fmt: skip
def test_a_missing_file_is_reported_without_metadata(tmp_path, names):
    found, (loss,) = read(split(tmp_path / "bag", names, [(0, 1), (2, 3), (6, 7)]))
    assert found == [0, 1, 2, 3, 6, 7]
    assert "no file between the numbers 1 and 3" in str(loss)


@pytest.mark.parametrize("metadata", [True, False])
def test_hidden_files_are_ignored(tmp_path, metadata):
    folder = write(tmp_path / "bag", drive(3))
    if not metadata:
        (folder / "metadata.yaml").unlink()
    for name in ("._bag.mcap", "._metadata.yaml", ".DS_Store", ".old.bag"):
        (folder / name).write_bytes(b"\0\5\26\7")
    with BagReader(folder) as bag:
        assert len(list(bag.frames())) == 3
        assert bag.losses == ()
    assert read(split(tmp_path / "parts", ["._a_0.mcap", "a_0.mcap", "a_1.mcap"], [(9,), (0, 1), (2,)])) == (
        [0, 1, 2],
        (),
    )


def test_a_hidden_bag_beside_images_does_not_make_them_a_bag(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "._drive_0.mcap").write_bytes(b"\0\5\26\7")
    assert len(list(open_frames(tmp_path))) == 1


def test_metadata_that_does_not_fit_the_files_is_reported(tmp_path, capsys):
    folder = write(tmp_path / "bag", drive(4))
    shutil.copy(folder / "bag.mcap", folder / "bag_1.mcap")
    with BagReader(folder) as bag:
        assert len(list(bag.frames())) == 4
        (loss,) = bag.losses
    assert "does not list bag_1.mcap" in str(loss)
    (folder / "bag_1.mcap").unlink()
    metadata = folder / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 4", "message_count: 9"))
    with BagReader(folder) as bag:
        assert len(list(bag.frames())) == 4
        (loss,) = bag.losses
    assert loss.count == 5
    assert main(["inspect", str(folder), "--json", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["topics"][0]["lost"] == 5
    assert "5 messages" in " ".join(capsys.readouterr().err.split())
