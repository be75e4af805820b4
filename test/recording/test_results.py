"""Recorded results read back as the frames that were written."""

from dataclasses import replace

import numpy as np
import pytest

from support.bags import drive, write
from support.labelled_bags import panoptic_frame, scene, stamp, truth_bag, writing
from vps_ros.errors import InputError
from vps_ros.frame import AssociatedBy, Track, TrackState
from vps_ros.messages.images import array_to_image
from vps_ros.messages.panoptic import make_header
from vps_ros.recording.frames import open_frames
from vps_ros.recording.results import ResultReader, has_result
from vps_ros.recording.writer import BagWriter
from vps_ros.taxonomy import CITYSCAPES


def frame(index):
    result = panoptic_frame(index, *scene(index))
    box = (float(index), 4.0, index + 8.0, 9.0)
    car = next(i for i, s in enumerate(result.segments) if s.is_thing)
    times = (result.stamp, result.stamp, 3)
    track = Track(1, 1, car, 13, 1.0, TrackState.CONFIRMED, AssociatedBy.PIXELS, 0.5, box, (1.0, 0.0), 40, *times)
    return replace(result, tracks=(track,), sequence_id=4)


def test_frames_are_read_as_they_were_written(tmp_path):
    with BagWriter(tmp_path / "out.mcap") as bag:
        for index in range(3):
            bag.write_frame(frame(index), CITYSCAPES)
    assert has_result(tmp_path / "out.mcap")
    with ResultReader(tmp_path / "out.mcap") as reader:
        assert (reader.count, reader.name, reader.taxonomy) == (3, "/vps/panoptic", CITYSCAPES)
        for index, found in enumerate(reader.frames()):
            written = frame(index)
            assert (found.map == written.map).all()
            for name in ("stamp", "frame_id", "sequence_id", "segments", "tracks"):
                assert getattr(found, name) == getattr(written, name)
            assert found.taxonomy == CITYSCAPES


def test_results_of_several_cameras_need_a_choice(tmp_path):
    with writing(tmp_path / "out.mcap") as labels:
        for namespace in ("/vps/front", "/vps/rear"):
            labels.panoptic(0, *scene(0), namespace=namespace)
    with pytest.raises(InputError, match="choose one with --result: /vps/front/panoptic, /vps/rear/panoptic"):
        ResultReader(tmp_path / "out.mcap")
    with ResultReader(tmp_path / "out.mcap", "/vps/rear") as reader:
        assert reader.name == "/vps/rear/panoptic"
        assert next(reader.frames()).tracks == ()
    with pytest.raises(InputError, match="no result on /vps/left"):
        ResultReader(tmp_path / "out.mcap", "/vps/left")


def test_a_bag_of_images_or_of_ground_truth_has_no_result(tmp_path):
    assert not has_result(write(tmp_path / "drive", drive()))
    assert not has_result(truth_bag(tmp_path / "truth.mcap", {0: scene(0)}))


def test_results_are_no_camera_images(tmp_path):
    with writing(tmp_path / "both.mcap") as labels:
        for index in range(2):
            labels.panoptic(index, *scene(index))
            header = make_header(stamp(index), "camera")
            picture = np.full((12, 32, 3), 40 + index, np.uint8)
            labels.image(array_to_image(picture, "rgb8", header), "/vps/overlay", index)
            labels.image(array_to_image(picture, "rgb8", header), "/vpsilon/image_raw", index)
    with open_frames(tmp_path / "both.mcap") as frames:
        assert frames.name == "/vpsilon/image_raw"
    with open_frames(tmp_path / "both.mcap", topic="/vps/overlay") as frames:
        assert frames.name == "/vps/overlay"
    with writing(tmp_path / "result.mcap") as labels:
        labels.panoptic(0, *scene(0))
    with pytest.raises(InputError, match=r"result.mcap: no image topic of a camera, only results \(/vps/panoptic "):
        open_frames(tmp_path / "result.mcap")
