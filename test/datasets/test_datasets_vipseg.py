"""VIPSeg as it is downloaded and as its own script converts it; predictions in both codings."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.datasets.labels import LabelMap
from vps_ros.datasets.vipseg import DATA_SET, decode, encode, write_masks
from vps_ros.errors import InputError
from vps_ros.taxonomies import VIPSEG

WALL, DOOR, PERSON, TREE, TRAIN, VOID = 0, 2, 60, 66, 123, 255


def put(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def put_ids(path, ids):
    ids = np.asarray(ids)
    put(path, np.stack([ids >> 16, ids >> 8 & 255, ids & 255], -1).astype(np.uint8))


def downloaded(root):
    """Two videos; one map of 16 bits with people 61 * 100 + 0 and 1, one of 8 bits that shows stuff only."""
    put(root / "panomasks/12_first/00000001.png", np.array([[6100, 6101, 0], [1, 67, 12400]], np.uint16))
    put(root / "panomasks/12_first/00000010.png", np.array([[1, 67]], np.uint8))
    put(root / "panomasks/7_second/00000002.png", np.array([[61, 6100]], np.uint16))
    put(root / "imgs/12_first/00000001.jpg", np.zeros((2, 3, 3), np.uint8))
    (root / "val.txt").write_text("7_second\n")
    (root / "train.txt").write_text("12_first\nmissing\n")
    return root


def test_classes_are_those_of_the_benchmark():
    assert [c.id for c in VIPSEG.classes] == list(range(124))
    assert len(VIPSEG.thing_ids) == 58
    assert [VIPSEG.by_id[i].name for i in (WALL, DOOR, PERSON, TREE, TRAIN)] == [
        "wall",
        "door",
        "person",
        "tree",
        "train",
    ]
    assert [VIPSEG.by_id[i].isthing for i in (WALL, DOOR, PERSON, TREE, TRAIN)] == [False, True, True, False, True]


def test_a_downloaded_map_by_hand(tmp_path):
    videos = DATA_SET.truth(downloaded(tmp_path), None)
    assert {v: list(f) for v, f in videos.items()} == {"12_first": ["00000001", "00000010"], "7_second": ["00000002"]}
    frame = videos["12_first"]["00000001"]
    semantic, instance = frame.read()
    assert semantic.tolist() == [[PERSON, PERSON, VOID], [WALL, TREE, TRAIN]]
    assert instance.tolist() == [[1, 2, 0], [0, 0, 1]], "numbers start at 0, and 0 means a crowd here"
    assert frame.image.is_file()
    assert videos["12_first"]["00000010"].read().semantic.tolist() == [[WALL, TREE]]
    assert videos["7_second"]["00000002"].read().instance.tolist() == [[101, 1]], "a person without a number is another"


def test_splits_are_the_lists_of_the_data_set(tmp_path):
    root = downloaded(tmp_path)
    assert list(DATA_SET.truth(root, "val")) == ["7_second"]
    with pytest.raises(InputError, match=r"panomasks: lacks the maps of 1 video\(s\) of train\.txt: missing; add them"):
        DATA_SET.truth(root, "train")
    with pytest.raises(InputError, match=r"test\.txt: no such file, .* split 'test' \(lists there: train, val\)"):
        DATA_SET.truth(root, "test")


@given(st.data())
def test_the_downloaded_coding_loses_nothing(data):
    semantic = data.draw(hnp.arrays(np.uint8, (4, 5), elements=st.sampled_from([*range(124), VOID])))
    instance = data.draw(hnp.arrays(np.int64, (4, 5), elements=st.integers(1, 101)))
    things = np.isin(semantic, VIPSEG.thing_ids)
    back = decode(encode(semantic, instance))
    assert (back.semantic == semantic).all()
    assert (back.instance == np.where(things, instance, 0)).all()


@pytest.mark.parametrize("value", [12500, 65535, 13000])
def test_a_value_that_is_no_category_is_refused(tmp_path, value):
    put(tmp_path / "panomasks/v/1.png", np.array([[1, value]], np.uint16))
    with pytest.raises(InputError, match=rf"1\.png: value {value} stands for no class; a VIPSeg map is grey"):
        DATA_SET.truth(tmp_path, None)["v"]["1"].read()


def test_a_map_in_colour_is_refused(tmp_path):
    put_ids(tmp_path / "panomasks/v/1.png", [[1, 2]])
    with pytest.raises(InputError, match="coded as 8-bit RGB; a VIPSeg map is grey"):
        DATA_SET.truth(tmp_path, None)["v"]["1"].read()


@pytest.mark.parametrize(
    ("semantic", "instance", "reason"),
    [
        (PERSON, 0, "instance 0 cannot be written"),
        (PERSON, 102, "instance 102"),
        (124, 1, "class id 124 is not in taxonomy"),
    ],
)
def test_what_the_downloaded_coding_cannot_hold_leaves_nothing(tmp_path, semantic, instance, reason):
    labels = LabelMap(np.array([[semantic]], np.uint8), np.array([[instance]]))
    with pytest.raises(InputError, match=reason), write_masks(tmp_path / "out") as writer:
        writer.add("v", "1", labels)
    assert not list(tmp_path.iterdir())


def converted(root):
    """The same video as the data set's own script writes it."""
    put_ids(root / "panomasksRGB/12_first/00000001.png", [[722123, 722124, 0], [7895160, 255, 65413]])
    rows = [(722123, PERSON), (722124, PERSON), (7895160, WALL), (255, TREE), (65413, TRAIN)]
    infos = [{"id": i, "category_id": c, "iscrowd": 0, "area": 1} for i, c in rows]
    annotation = {"image_id": "00000001", "file_name": "00000001.png", "segments_info": infos}
    document = {
        "videos": [{"video_id": "12_first", "images": [{"id": "00000001", "width": 3, "height": 2}]}],
        "annotations": [{"video_id": "12_first", "annotations": [annotation]}],
        "categories": VIPSEG.to_json(),
    }
    (root / "panoptic_gt_VIPSeg_val.json").write_text(json.dumps(document))
    return root


def test_the_converted_map_says_what_the_downloaded_one_says(tmp_path):
    (tmp_path / "raw").mkdir()
    raw = DATA_SET.truth(downloaded(tmp_path / "raw"), None)["12_first"]["00000001"].read()
    frame = DATA_SET.truth(converted(tmp_path), "val")["12_first"]["00000001"]
    assert frame.image == tmp_path / "images/12_first/00000001.jpg"
    semantic, instance = frame.read()
    assert (semantic == raw.semantic).all()
    assert instance.tolist() == [[1, 2, 0], [0, 0, 5]], "as they are listed in the video"


def test_the_converted_json_is_checked_with_its_place(tmp_path):
    path = converted(tmp_path) / "panoptic_gt_VIPSeg_val.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["annotations"][0]["segments_info"][4]["category_id"] = 124
    path.write_text(json.dumps(document))
    place = (
        r"annotations\[0\]\.annotations\[0\]\.segments_info\[4\] has category_id 124, not one of vipseg \(0\.\.123\)"
    )
    with pytest.raises(InputError, match=place):
        DATA_SET.truth(tmp_path, "val")
    document["annotations"] *= 2
    document["annotations"][0]["annotations"] = []
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"annotations\[1\] is the second one of video '12_first'"):
        DATA_SET.truth(tmp_path, "val")


@given(
    hnp.arrays(np.uint8, (3, 5), elements=st.sampled_from([WALL, DOOR, PERSON, TREE, TRAIN, VOID])),
    hnp.arrays(np.uint8, (3, 5), elements=st.integers(1, 100)),
)
def test_predictions_come_back_from_both_codings(tmp_path_factory, semantic, instance):
    root = tmp_path_factory.mktemp("vipseg")
    things = np.isin(semantic, VIPSEG.thing_ids)
    for name, opened in (("coco", DATA_SET.writer), ("raw", write_masks)):
        with opened(root / name, False) as writer:
            writer.add("12_first", "00000001", LabelMap(semantic, instance))
            writer.add("7_second", "00000001", LabelMap(semantic, instance))
        videos = DATA_SET.prediction(root / name, "val")
        assert list(videos) == ["12_first", "7_second"]
        back = videos["7_second"]["00000001"].read()
        assert (back.semantic == semantic).all()
        same = set(zip(semantic[things], instance[things], back.instance[things], strict=True))
        # One object of a class before is one of that class after, and the other way round.
        assert len(same) == len({(c, i) for c, i, _ in same}) == len({(c, b) for c, _, b in same})
        assert (back.instance[~things] == 0).all()


def test_predictions_may_name_their_file_only(tmp_path):
    """As the benchmark's own method writes them."""
    put_ids(tmp_path / "pan_pred/12_first/00000001.png", [[9]])
    annotation = {"file_name": "00000001.jpg", "segments_info": [{"id": 9, "category_id": PERSON, "iscrowd": 0}]}
    document = {"annotations": [{"video_id": "12_first", "annotations": [annotation]}]}
    (tmp_path / "pred.json").write_text(json.dumps(document))
    frame = DATA_SET.prediction(tmp_path, None)["12_first"]["00000001"]
    assert frame.read().semantic.item() == PERSON
    del annotation["file_name"]
    (tmp_path / "pred.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"annotations\[0\]\.annotations\[0\] lacks 'file_name'"):
        DATA_SET.prediction(tmp_path, None)


def test_an_empty_folder_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"holds no VIPSeg maps; expected panomasks/VIDEO/FRAME\.png"):
        DATA_SET.truth(tmp_path, None)
