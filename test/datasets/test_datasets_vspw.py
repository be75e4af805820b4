"""VSPW in its true layout, and predictions as its baseline writes them."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.datasets.labels import LabelMap
from vps_ros.datasets.vspw import DATA_SET
from vps_ros.errors import InputError
from vps_ros.taxonomies import VIPSEG, VSPW


def put(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.asarray(values, np.uint8))


def data_set(root):
    put(root / "data/3_b/mask/00000002.png", [[1, 124, 61], [0, 255, 2]])
    put(root / "data/3_b/mask/00000010.png", [[1]])
    put(root / "data/20_a/mask/00000001.png", [[5]])
    (root / "data/9_test/origin").mkdir(parents=True)
    (root / "val.txt").write_text("3_b\n\n")
    (root / "test.txt").write_text("9_test\n")
    (root / "train.txt").write_text("\n")
    return root


def test_classes_are_those_of_vipseg_and_none_is_a_thing():
    assert [(c.id, c.name) for c in VSPW.classes] == [(c.id, c.name) for c in VIPSEG.classes]
    assert VSPW.thing_ids == ()


def test_masks_are_read_less_one(tmp_path):
    videos = DATA_SET.truth(data_set(tmp_path), None)
    assert {v: list(f) for v, f in videos.items()} == {"20_a": ["00000001"], "3_b": ["00000002", "00000010"]}
    frame = videos["3_b"]["00000002"]
    semantic, instance = frame.read()
    assert semantic.tolist() == [[0, 123, 60], [255, 255, 1]]
    assert not instance.any()
    assert frame.image == tmp_path / "data/3_b/origin/00000002.jpg"


def test_splits_are_the_lists_of_the_data_set(tmp_path):
    root = data_set(tmp_path)
    assert list(DATA_SET.truth(root, "val")) == ["3_b"]
    with pytest.raises(InputError, match=r"data: lacks the maps of 1 video\(s\) of test\.txt: 9_test"):
        DATA_SET.truth(root, "test")
    with pytest.raises(InputError, match=r"train\.txt: names no video"):
        DATA_SET.truth(root, "train")


@given(hnp.arrays(np.uint8, (3, 5), elements=st.sampled_from([*range(124), 255])))
def test_predictions_come_back_as_they_were_written(tmp_path_factory, semantic):
    root = tmp_path_factory.mktemp("vspw") / "out"
    with DATA_SET.writer(root, False) as writer:
        writer.add("3_b", "00000002", LabelMap(semantic, np.zeros((3, 5), np.uint8)))
    assert (cv2.imread(str(root / "3_b/00000002.png"), cv2.IMREAD_UNCHANGED) == semantic).all()
    assert (DATA_SET.prediction(root, None)["3_b"]["00000002"].read().semantic == semantic).all()


def test_values_that_are_no_class_are_refused(tmp_path):
    put(tmp_path / "data/v/mask/1.png", [[125, 1], [200, 255]])
    with pytest.raises(InputError, match=r"1\.png: value 125, 200 stands for no class; a VSPW mask is grey"):
        DATA_SET.truth(tmp_path, None)["v"]["1"].read()
    put(tmp_path / "out/v/1.png", [[124]])
    with pytest.raises(
        InputError, match=r"1\.png: class id 124 is not in taxonomy vspw \(ids 0\.\.123, 255 for void\)"
    ):
        DATA_SET.prediction(tmp_path / "out", None)["v"]["1"].read()
    wrong = LabelMap(np.array([[130]], np.uint8), np.zeros((1, 1), np.uint8))
    with pytest.raises(InputError, match="v/1: class id 130"), DATA_SET.writer(tmp_path / "new", False) as writer:
        writer.add("v", "1", wrong)
    assert not (tmp_path / "new").exists()


def test_folders_without_maps_say_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"expected data/VIDEO/mask/FRAME\.png"):
        DATA_SET.truth(tmp_path, None)
    with pytest.raises(InputError, match=r"holds no predictions; expected VIDEO/FRAME\.png"):
        DATA_SET.prediction(tmp_path, None)
