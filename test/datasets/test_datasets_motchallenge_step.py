"""MOTChallenge-STEP as users have it: KITTI-STEP's coding and folders, other classes; predictions in the same form."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.datasets.kitti_step import DATA_SET as KITTI
from vps_ros.datasets.kitti_step import MOTCHALLENGE as DATA_SET
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError

SKY, PERSON, VOID = 3, 4, 255


def put(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.asarray(rgb, np.uint8)[..., ::-1])


MAP = [[[PERSON, 0, 7], [PERSON, 1, 0]], [[SKY, 0, 0], [VOID, 0, 0]]]


def test_classes_are_the_seven_of_the_benchmark():
    names = {c.id: c.name for c in DATA_SET.taxonomy.classes}
    assert names == dict(enumerate(["sidewalk", "building", "vegetation", "sky", "person", "rider", "bicycle"]))
    assert DATA_SET.taxonomy.thing_ids == (PERSON,)


def test_a_map_in_the_layout_of_the_benchmark_is_read(tmp_path):
    put(tmp_path / "panoptic_maps/train/0002/000001.png", MAP)
    videos = DATA_SET.truth(tmp_path, "train")
    frame = videos["0002"]["000001"]
    assert frame.name == "0002/000001"
    semantic, instance = frame.read()
    assert semantic.tolist() == [[PERSON, PERSON], [SKY, VOID]]
    assert instance.tolist() == [[7, 256], [0, 0]]


def test_splits_are_known_where_no_folder_names_them(tmp_path):
    for sequence in ("0001", "0002", "0007", "0009"):
        put(tmp_path / f"panoptic_maps/{sequence}/000001.png", MAP)
    assert list(DATA_SET.truth(tmp_path, None)) == ["0001", "0002", "0007", "0009"]
    assert list(DATA_SET.truth(tmp_path, "train")) == ["0002", "0009"]
    assert list(DATA_SET.truth(tmp_path, "test")) == ["0001", "0007"]
    with pytest.raises(InputError, match="no split 'val'"):
        DATA_SET.truth(tmp_path, "val")


def test_a_split_without_sequences_is_named(tmp_path):
    put(tmp_path / "0002/000001.png", MAP)
    with pytest.raises(InputError, match="no sequence of split 'test', which are 0001 and 0007"):
        DATA_SET.truth(tmp_path, "test")


def test_a_map_of_kitti_step_is_refused_when_read(tmp_path):
    put(tmp_path / "0002/000001.png", [[[13, 0, 1]]])
    frame = DATA_SET.truth(tmp_path, None)["0002"]["000001"]
    with pytest.raises(
        InputError, match=r"000001\.png: class id 13 is not in taxonomy motchallenge-step \(ids 0\.\.6, 255"
    ):
        frame.read()
    assert KITTI.truth(tmp_path, None)["0002"]["000001"].read().semantic == 13


@given(
    hnp.arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 3, 4, 6, 255])),
    hnp.arrays(np.uint16, (3, 4)),
)
def test_predictions_come_back_as_they_were_written(tmp_path_factory, semantic, instance):
    root = tmp_path_factory.mktemp("step") / "out"
    instance = np.where(semantic == PERSON, instance, 0)
    with DATA_SET.writer(root, False) as writer:
        writer.add("0002", "000001", LabelMap(semantic, instance))
    back = DATA_SET.prediction(root, None)["0002"]["000001"].read()
    assert (back.semantic == semantic).all()
    assert (back.instance == instance).all()


def test_predictions_appear_whole_or_not_at_all(tmp_path):
    grey = LabelMap(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint16))
    with (
        pytest.raises(InputError, match="0002/000001: written twice"),
        DATA_SET.writer(tmp_path / "out", False) as writer,
    ):
        writer.add("0002", "000001", grey)
        writer.add("0002", "000001", grey)
    assert not list(tmp_path.iterdir())
    with DATA_SET.writer(tmp_path / "out", False) as writer:
        writer.add("0002", "000001", grey)
    with pytest.raises(InputError, match="pass --force"), DATA_SET.writer(tmp_path / "out", False):
        pass
    with DATA_SET.writer(tmp_path / "out", True) as writer:
        writer.add("0009", "000001", grey)
    assert list(DATA_SET.prediction(tmp_path / "out", None)) == ["0009"]
