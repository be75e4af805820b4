"""Depth images of recorded frames: stamps, names, intrinsics, and what is missing or damaged."""

import json

import cv2
import numpy as np
import pytest

from support.bags import START, TENTH, TOPIC, raw, write
from support.depth import (
    DEPTH_INFO,
    DEPTH_TOPIC,
    NEAR,
    calibration,
    compressed_depth,
    depth_drive,
    depth_message,
    metres_of,
)
from support.worlds import picture
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import Frame
from vps_ros.frame_3d import Intrinsics
from vps_ros.recording.depth import BagDepth, FolderDepth, read_intrinsics
from vps_ros.recording.writer import BagWriter

CAMERA = Intrinsics(100.0, 100.0, 47.5, 31.5, 96, 64)


def frame(i):
    return Frame(picture({}), START + i * TENTH, "camera")


def near(depth):
    """Left edge of the near square, in pixels."""
    return int(np.flatnonzero((depth.metres == NEAR).any(0))[0])


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_a_topic_of_depth(tmp_path, encoding):
    source = BagDepth(write(tmp_path / "bag", depth_drive(4, encoding)), DEPTH_TOPIC, TOPIC)
    for i in range(4):
        depth = source.of(frame(i))
        assert near(depth) == 4 + 4 * i
        assert (depth.stamp, depth.intrinsics) == (START + i * TENTH, CAMERA)
    source.close()


@pytest.mark.parametrize(("encoding", "holes"), [("16UC1", [0]), ("32FC1", [0, -1, np.nan, np.inf])])
def test_holes(tmp_path, encoding, holes):
    metres = np.full((64, 96), 2.0, np.float32)
    if encoding == "32FC1":
        metres[0, : len(holes)] = holes
        message = raw(metres, START, encoding)
    else:
        message = depth_message(metres, START)
        message.data.view(np.uint16)[: len(holes)] = holes
    bag = write(tmp_path / "bag", [(DEPTH_TOPIC, START, message), (DEPTH_INFO, START, calibration())])
    depth = BagDepth(bag, DEPTH_TOPIC, TOPIC).of(frame(0))
    assert np.isnan(depth.metres).sum() == len(holes)
    assert np.isnan(depth.metres[0, : len(holes)]).all()
    assert depth.metres[1, 1] == 2


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_compressed_depth(tmp_path, encoding):
    topic = f"{DEPTH_TOPIC}/compressedDepth"
    metres = np.full((64, 96), 2.5, np.float32)
    metres[:, :20] = 1.25
    message = compressed_depth(metres, START, encoding)
    bag = write(tmp_path / "bag", [(topic, START, message), (DEPTH_INFO, START, calibration())])
    depth = BagDepth(bag, topic, TOPIC).of(frame(0))
    assert np.allclose(depth.metres, metres, rtol=1e-3)
    assert depth.intrinsics == CAMERA


def test_compressed_depth_that_cannot_be_read(tmp_path):
    topic = f"{DEPTH_TOPIC}/compressedDepth"
    odd = [compressed_depth(np.ones((4, 6), np.float32), START + i * TENTH, "16UC1") for i in range(3)]
    odd[0].format, odd[1].format = "16UC1; compressedDepth rvl", "mono8; jpeg compressed "
    odd[2].data = odd[2].data[:20]
    source = BagDepth(
        write(tmp_path / "bag", [(topic, START + i * TENTH, m) for i, m in enumerate(odd)]),
        topic,
        TOPIC,
        intrinsics=CAMERA,
    )
    for i, words in enumerate(["'compressedDepth' with PNG is expected", "encoding 'mono8'", "cannot be decoded"]):
        with pytest.raises(DroppedFrame, match=words):
            source.of(frame(i))


def test_the_nearest_stamp_within_the_slop(tmp_path):
    bag = write(tmp_path / "bag", depth_drive(4, shift=10_000_000))
    late = BagDepth(bag, DEPTH_TOPIC, TOPIC, slop=0.02)
    assert [near(late.of(frame(i))) for i in (0, 1, 3)] == [4, 8, 16]
    exact = BagDepth(bag, DEPTH_TOPIC, TOPIC, slop=0.0)
    for i in range(4):
        with pytest.raises(DroppedFrame, match=r"no depth image on /camera/depth/image_raw within 0 s"):
            exact.of(frame(i))
    equal = BagDepth(write(tmp_path / "equal", depth_drive(4)), DEPTH_TOPIC, TOPIC, slop=0.0)
    assert [near(equal.of(frame(i))) for i in range(4)] == [4, 8, 12, 16]


def test_frames_without_depth_between_others(tmp_path):
    messages = [m for m in depth_drive(5) if not (m[0] == DEPTH_TOPIC and m[1] in (START, START + 2 * TENTH))]
    source = BagDepth(write(tmp_path / "bag", messages), DEPTH_TOPIC, TOPIC)
    found = []
    for i in range(5):
        try:
            found.append(near(source.of(frame(i))))
        except DroppedFrame:
            found.append(None)
    assert found == [None, 8, None, 16, 20]


def test_time_that_jumps_back_in_both(tmp_path):
    later = 100 * TENTH
    messages = [(topic, stamp + later * run, m) for run in range(2) for topic, stamp, m in depth_drive(3)]
    source = BagDepth(write(tmp_path / "bag", messages), DEPTH_TOPIC, TOPIC)
    assert [near(source.of(frame(i))) for i in (0, 1, 2, 0, 1, 2)] == [4, 8, 12, 4, 8, 12]


@pytest.mark.parametrize("jumps", [(0, 1, 2, 0, 1, 2), (0, 1, 2, 1, 2, 3)])
def test_depth_that_jumps_before_the_frames(tmp_path, jumps):
    messages = [(DEPTH_TOPIC, START + n, depth_message(metres_of(i), START + i * TENTH)) for n, i in enumerate(jumps)]
    source = BagDepth(write(tmp_path / "bag", messages), DEPTH_TOPIC, TOPIC, intrinsics=CAMERA)
    assert [near(source.of(frame(i))) for i in jumps] == [4 + 4 * i for i in jumps]


def test_a_depth_image_that_is_recorded_too_late_does_not_end_the_others(tmp_path):
    order = (0, 1, 2, 4, 3, 5, 6, 7)
    messages = [(DEPTH_TOPIC, START + n, depth_message(metres_of(i), START + i * TENTH)) for n, i in enumerate(order)]
    source = BagDepth(write(tmp_path / "bag", messages), DEPTH_TOPIC, TOPIC, intrinsics=CAMERA)
    assert [near(source.of(frame(i))) for i in (0, 1, 2)] == [4, 8, 12]
    with pytest.raises(DroppedFrame, match="no depth image"):
        source.of(frame(3))
    assert [near(source.of(frame(i))) for i in (4, 5, 6, 7)] == [20, 24, 28, 32]


def test_a_frame_that_is_recorded_too_late_does_not_end_the_depth_of_others(tmp_path):
    source = BagDepth(write(tmp_path / "bag", depth_drive(8)), DEPTH_TOPIC, TOPIC)
    assert [near(source.of(frame(i))) for i in (0, 1, 2, 4)] == [4, 8, 12, 20]
    with pytest.raises(DroppedFrame, match="no depth image"):
        source.of(frame(3))
    assert [near(source.of(frame(i))) for i in (5, 6, 7)] == [24, 28, 32]


def test_frames_and_depth_in_the_same_wrong_order(tmp_path):
    order = (0, 1, 2, 4, 3, 5, 6)
    messages = [(DEPTH_TOPIC, START + n, depth_message(metres_of(i), START + i * TENTH)) for n, i in enumerate(order)]
    source = BagDepth(write(tmp_path / "bag", messages), DEPTH_TOPIC, TOPIC, intrinsics=CAMERA)
    assert [near(source.of(frame(i))) for i in order] == [4 + 4 * i for i in order]


def test_depth_that_is_recorded_before_and_after_its_frame(tmp_path):
    shifted = [(topic, time + (3 * TENTH if topic == DEPTH_TOPIC else 0), m) for topic, time, m in depth_drive(4)]
    source = BagDepth(write(tmp_path / "late", sorted(shifted, key=lambda m: m[1])), DEPTH_TOPIC, TOPIC)
    assert [near(source.of(frame(i))) for i in range(4)] == [4, 8, 12, 16]


def test_intrinsics_come_from_the_camera_if_depth_has_none(tmp_path):
    messages = depth_drive(1, info=False)
    bag = write(tmp_path / "bag", [*messages, ("/camera/camera_info", START, calibration(START, 192, 128))])
    # Those of twice the size, scaled to the depth image.
    assert BagDepth(bag, DEPTH_TOPIC, TOPIC).of(frame(0)).intrinsics == CAMERA


def test_messages_that_cannot_be_read_are_skipped(tmp_path):
    path = tmp_path / "bag.mcap"
    with BagWriter(path) as bag:
        for topic, kind, first in (
            (DEPTH_INFO, "sensor_msgs/msg/CameraInfo", calibration()),
            (DEPTH_TOPIC, "sensor_msgs/msg/Image", depth_message(metres_of(0), START)),
        ):
            bag.write_raw(topic, kind, b"\0\1\0\0cut off", START)
            bag.write(topic, first, START)
    depth = BagDepth(path, DEPTH_TOPIC, TOPIC).of(frame(0))
    assert (near(depth), depth.intrinsics) == (4, CAMERA)


def test_missing_intrinsics_are_a_reason_for_each_frame(tmp_path):
    source = BagDepth(write(tmp_path / "bag", depth_drive(1, info=False)), DEPTH_TOPIC, TOPIC)
    with pytest.raises(DroppedFrame, match=r"no camera_info .*/camera/depth/camera_info.*--camera-info"):
        source.of(frame(0))
    info = calibration()
    info.k = np.zeros(9)
    bag = write(tmp_path / "zero", [*depth_drive(1, info=False), (DEPTH_INFO, START, info)])
    with pytest.raises(DroppedFrame, match=r"/camera/depth/camera_info: .*not those of a calibrated camera"):
        BagDepth(bag, DEPTH_TOPIC, TOPIC).of(frame(0))
    given = BagDepth(bag, DEPTH_TOPIC, TOPIC, intrinsics=CAMERA)
    assert near(given.of(frame(0))) == 4


def test_a_topic_that_is_no_depth(tmp_path):
    bag = write(tmp_path / "bag", [*depth_drive(1), ("/mono", START, raw(picture({}), START))])
    with pytest.raises(InputError, match=r"no topic /depth .*/camera/depth/image_raw, /mono"):
        BagDepth(bag, "/depth", TOPIC)
    with pytest.raises(DroppedFrame, match=r"'rgb8'; 16UC1 \(mm\) or 32FC1 \(m\)"):
        BagDepth(bag, "/mono", TOPIC, intrinsics=CAMERA).of(frame(0))


# Folders


def folder(path, names, scale=1000.0):
    path.mkdir()
    for i, name in enumerate(names):
        cv2.imwrite(str(path / name), np.round(metres_of(i) * scale).astype(np.uint16))
    return path


def test_a_folder_by_the_names_of_the_frames(tmp_path):
    depth = folder(tmp_path / "depth", ["a.png", "b.png"], 5000)
    source = FolderDepth(depth, {START: "a", START + TENTH: "b", START + 2 * TENTH: "c"}, 5000, intrinsics=CAMERA)
    assert [near(source.of(frame(i))) for i in range(2)] == [4, 8]
    with pytest.raises(DroppedFrame, match="no depth image of the name"):
        source.of(frame(2))


@pytest.mark.parametrize("name", ["{}.png", "seconds"])
def test_a_folder_by_stamps(tmp_path, name):
    stamps = [START + i * TENTH + 1_000_000 for i in range(3)]
    names = [f"{s / 1e9:.6f}.png" if name == "seconds" else name.format(s) for s in stamps]
    source = FolderDepth(folder(tmp_path / "depth", names), intrinsics=CAMERA)
    assert [near(source.of(frame(i))) for i in range(3)] == [4, 8, 12]
    with pytest.raises(DroppedFrame, match="within 0.02 s"):
        source.of(frame(7))


def test_depth_in_metres(tmp_path):
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", metres_of(0))
    cv2.imwrite(str(tmp_path / "depth" / "b.tiff"), metres_of(1))
    source = FolderDepth(tmp_path / "depth", {START: "a", START + TENTH: "b"}, intrinsics=CAMERA)
    assert [near(source.of(frame(i))) for i in range(2)] == [4, 8]


def test_the_camera_info_of_a_folder(tmp_path):
    depth = folder(tmp_path / "depth", ["a.png"])
    names = {START: "a"}
    with pytest.raises(DroppedFrame, match=r"no intrinsics: .* has no camera_info.yaml"):
        FolderDepth(depth, names).of(frame(0))
    (depth / "camera_info.yaml").write_text(
        "image_width: 96\nimage_height: 64\ncamera_matrix: {rows: 3, data: [100, 0, 47.5, 0, 100, 31.5, 0, 0, 1]}\n"
    )
    assert FolderDepth(depth, names).of(frame(0)).intrinsics == CAMERA
    matrix = [[100, 0, 47.5], [0, 100, 31.5], [0, 0, 1]]
    (tmp_path / "0000.json").write_text(json.dumps({"width": 96, "height": 64, "camera_matrix": matrix}))
    assert read_intrinsics(tmp_path / "0000.json") == CAMERA


@pytest.mark.parametrize("text", ["[1, 2]", "image_width: 96", "camera_matrix: {data: [1, 2]}\nimage_width: 1"])
def test_a_calibration_that_is_none(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=r"c.yaml: is not a camera calibration .* needs camera_matrix"):
        read_intrinsics(tmp_path / "c.yaml")


def test_folders_and_files_that_cannot_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no depth images"):
        FolderDepth(tmp_path / "empty")
    with pytest.raises(InputError, match=r"a.png: the name is no stamp"):
        FolderDepth(folder(tmp_path / "named", ["a.png"]))
    with pytest.raises(InputError, match=r"absent.yaml"):
        read_intrinsics(tmp_path / "absent.yaml")
    depth = folder(tmp_path / "depth", ["a.png"])
    cv2.imwrite(str(depth / "b.png"), picture({}))
    (depth / "c.png").write_bytes(b"no image")
    source = FolderDepth(depth, dict(zip((START, START + TENTH), "bc", strict=True)), intrinsics=CAMERA)
    with pytest.raises(DroppedFrame, match="not depth of 16 bits or float"):
        source.of(frame(0))
    with pytest.raises(DroppedFrame, match="cannot be decoded"):
        source.of(frame(1))
