"""Data sets to learn from that label classes only, or things only: known labels on made-up folders."""

import json

import cv2
import numpy as np
import pytest

from vps_ros.datasets import cityscapes, coco, rle
from vps_ros.datasets.class_images import CAMVID, LABELME_FACADE
from vps_ros.datasets.class_mapping import SourceClasses, assign_codes, candidates, source_table
from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP, MOTCHALLENGE_STEP, VOID_ID

NAMES = [c.name for c in CITYSCAPES.classes]
COCO = SourceClasses(coco.COCO_STREETS, coco.GROUPS, True)


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(pixels))


def only(videos):
    """The only frame."""
    ((_, frames),) = videos.items()
    ((_, frame),) = frames.items()
    return frame


@pytest.mark.parametrize("layout", ["sequences", "segnet"])
def test_camvid_is_read_in_both_layouts(tmp_path, layout):
    labels = np.array([[0, 8, 11], [10, 3, 255]], np.uint8)
    image = np.zeros((2, 3, 3), np.uint8)
    names = (
        ("labels/0001TP/{}.png", "images/0001TP/{}.jpg")
        if layout == "sequences"
        else ("trainannot/{}.png", "train/{}.png")
    )
    for name in ("a_2", "a_10"):
        put(tmp_path / names[0].format(name), labels)
        put(tmp_path / names[1].format(name), image)
    videos = CAMVID.truth(tmp_path, "0001TP" if layout == "sequences" else "train")
    frames = [f for video in videos.values() for f in video.values()]
    assert [f.frame for f in frames] == ["a_2", "a_10"]
    assert len(videos) == (1 if layout == "sequences" else 2), "SegNet's folders mix sequences: each frame is alone"
    found = frames[0].read()
    assert found.semantic.tolist() == [[0, 8, VOID_ID], [10, 3, VOID_ID]] and not found.instance.any()
    assert all(f.image.is_file() for f in frames)
    with pytest.raises(InputError, match="has no .*test.*there: (0001TP|train)"):
        CAMVID.truth(tmp_path, "test")
    put(tmp_path / names[0].format("a_2"), labels + np.uint8(12))
    with pytest.raises(InputError, match=r"value 12, .* stands for no class; labels of CamVid are grey"):
        frames[0].read()


def test_a_split_of_camvid_names_sequences(tmp_path):
    for name in ("0001TP", "0006R0", "Seq05VD"):
        put(tmp_path / f"labels/{name}/x.png", np.zeros((2, 2), np.uint8))
    assert list(CAMVID.truth(tmp_path, "0006R0, 0001TP")) == ["0006R0", "0001TP"]
    assert len(CAMVID.truth(tmp_path, None)) == 3


def test_labelmefacade_by_hand(tmp_path):
    put(tmp_path / "labels/a.png", np.array([[0, 1, 6]], np.uint8))
    frame = only(LABELME_FACADE.truth(tmp_path, None))
    assert frame.read().semantic.tolist() == [[VOID_ID, 1, 6]] and frame.image == tmp_path / "images/a.jpg"
    put(tmp_path / "labels/a.png", np.array([[7]], np.uint8))
    with pytest.raises(InputError, match="value 7 stands for no class"):
        frame.read()
    with pytest.raises(InputError, match="holds no labels of LabelMeFacade"):
        LABELME_FACADE.truth(tmp_path / "labels", None)


@pytest.mark.parametrize("bits", [8, 16])
def test_cityscapes_with_label_ids(tmp_path, bits):
    """A car (26) with a number, one without, road (7), a bicycle (33) and what is not evaluated (3)."""
    labels = np.array([[26, 26, 7, 33, 3]], np.uint8)
    numbers = np.array([[0, 255, 4, 2, 1]], np.uint8) if bits == 8 else np.array([[26000, 26, 7, 33002, 3]], np.uint16)
    for sequence in ("0000", "0001"):
        for name in ("a", "b"):
            put(tmp_path / f"label_ids/{sequence}/{name}.png", labels)
            put(tmp_path / f"instance_ids/{sequence}/{name}.png", numbers)
    videos = cityscapes.read_truth(tmp_path, "0001")
    assert list(videos) == ["0001/a", "0001/b"], "numbers are not linked between frames: each is a video of its own"
    found = videos["0001/a"]["a"].read()
    assert found.semantic.tolist() == [[13, 13, 0, 18, VOID_ID]]
    assert found.instance.tolist() == [[1, 0, 0, 3, 0]]
    put(tmp_path / "instance_ids/0001/a.png", numbers[:, :3])
    with pytest.raises(InputError, match="is not of the size of"):
        videos["0001/a"]["a"].read()


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def coco_json(*annotations):
    names = ("person", "bicycle", "car", "chair", "stop sign")
    return {
        "images": [{"id": 7, "file_name": "x.jpg", "width": 40, "height": 30}],
        "categories": [{"id": i, "name": n} for i, n in enumerate(names, 1)],
        "annotations": [
            {"image_id": 7, "iscrowd": 0, "category_id": names.index(name) + 1, "bbox": box, "segmentation": shape}
            | more
            for name, box, shape, more in annotations
        ],
    }


def read_coco(folder, *annotations):
    (folder / "instances.json").write_text(json.dumps(coco_json(*annotations)))
    return only(coco.read_truth(folder)).read()


def test_things_of_coco_by_hand(tmp_path):
    crowd = np.zeros((30, 40), bool)
    crowd[:, 30:] = True
    found = read_coco(
        tmp_path,
        ("car", [2, 2, 20, 20], square(2, 2, 20), {}),
        ("chair", [14, 4, 4, 4], square(14, 4, 4), {}),
        ("person", [4, 4, 6, 6], square(4, 4, 6), {}),
        ("person", [30, 0, 10, 30], rle.from_mask(crowd).to_json(), {"iscrowd": 1}),
        ("stop sign", [24, 2, 3, 3], square(24, 2, 3), {}),
    )
    ids = {c.name: c.id for c in coco.COCO_STREETS.classes}
    assert (found.semantic[2:22, 2:22] == ids["car"]).sum() == 400 - 36 - 16
    assert (found.semantic[4:10, 4:10] == ids["person"]).all(), "the smaller one lies on top"
    assert len(np.unique(found.instance)) == 3
    assert (found.semantic[4:8, 14:18] == ids["other"]).all() and not found.instance[4:8, 14:18].any()
    assert (found.semantic[:, 32:] == VOID_ID).all() and not found.instance[:, 32:].any(), "a crowd is void"
    assert (found.semantic[2:5, 24:27] == ids["stop sign"]).all() and not found.instance[2:5, 24:27].any()
    assert found.semantic[28, 10] == ids["other"] and found.semantic[23, 10] == VOID_ID, "edges are left open"


def test_a_person_with_a_bicycle_may_be_a_rider(tmp_path):
    found = read_coco(
        tmp_path,
        ("bicycle", [4, 14, 12, 12], square(4, 14, 12), {}),
        ("person", [6, 4, 14, 14], square(6, 4, 14), {}),
        ("person", [30, 4, 6, 6], square(30, 4, 6), {}),
    )
    ids = {c.name: c.id for c in coco.COCO_STREETS.classes}
    assert found.semantic[6, 18] == ids["person or rider"] and found.instance[6, 18] == 0
    assert found.semantic[6, 32] == ids["person"] and found.instance[6, 32] > 0


def test_coco_as_downloaded_and_what_is_wrong_with_it(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / f"annotations/instances_{split}.json").write_text(json.dumps(coco_json()))
    assert only(coco.read_truth(tmp_path, "val2017")).image == tmp_path / "val2017/x.jpg"
    with pytest.raises(InputError, match="for train2017, val2017; name one split"):
        coco.read_truth(tmp_path)
    for wrong, message in (
        (("car", [2, 2, 4, 4], [[1, 2, 3, 4]], {}), r"annotations\[0\].segmentation\[0\] is no polygon"),
        (("car", [2, 2], square(2, 2, 4), {}), r"annotations\[0\].bbox is not"),
        (("car", [0, 0, 4, 4], rle.from_mask(np.ones((4, 4), bool)).to_json(), {}), "is 4x4, but its image 40x30"),
    ):
        with pytest.raises(InputError, match=message):
            read_coco(tmp_path, wrong)


def test_groups_of_classes_have_values_of_their_own():
    codes, (camvid_table, coco_table, own) = assign_codes(
        CITYSCAPES, [CAMVID.classes, COCO, SourceClasses(CITYSCAPES, {}, False)]
    )
    ids = {c.name: c.id for c in CAMVID.taxonomy.classes}

    def told(table, class_id):
        value = table[class_id]
        if codes.group[value] >= 0:
            return {[*NAMES, "void"][i] for i in np.flatnonzero(codes.members[codes.group[value]])}
        return NAMES[codes.index[value]] if codes.index[value] >= 0 else None

    assert own is None
    assert told(camvid_table, ids["sign"]) == {"traffic-light", "traffic-sign"}
    assert told(camvid_table, ids["bicyclist"]) == {"rider", "bicycle", "motorcycle"}
    assert told(camvid_table, ids["road"]) == "road" and not codes.complete[camvid_table[ids["road"]]]
    assert told(camvid_table, VOID_ID) is None and codes.unlabelled[camvid_table[VOID_ID]]
    other = next(c.id for c in coco.COCO_STREETS.classes if c.name == "other")
    assert told(coco_table, other) == {*NAMES[:11], "void"}
    assert codes.complete[coco_table[0]] and told(coco_table, 0) == "person", "things of COCO are whole"
    assert not codes.unlabelled[VOID_ID], "void of a data set that labels everything says that nothing is there"


def test_a_class_that_the_model_lacks_leaves_its_group_open():
    found = candidates(CAMVID.classes, MOTCHALLENGE_STEP)
    ids = {c.name: c.id for c in CAMVID.taxonomy.classes}
    assert found[ids["pedestrian"]] == (4,) and found[ids["sky"]] == (3,)
    assert found[ids["car"]] == () and found[ids["building"]] == (), "a wall is no class there, so it may be one"
    assert candidates(LABELME_FACADE.classes, KITTI_STEP)[2] == (13, 14, 15)
    lamps = SourceClasses(coco.COCO_STREETS, {c.name: ("lamp",) for c in coco.COCO_STREETS.classes}, True)
    with pytest.raises(InputError, match="has no class that corresponds"):
        assign_codes(CITYSCAPES, [lamps])


def test_the_model_is_measured_by_the_classes_of_the_data_set():
    table = source_table(CAMVID.classes, CITYSCAPES)
    names = {c.name: c.id for c in CAMVID.taxonomy.classes}
    found = {NAMES[i]: int(table[i]) for i in range(19)}
    assert found["truck"] == names["car"] and found["terrain"] == names["tree"] and found["rider"] == names["bicyclist"]
    assert found["wall"] == names["building"] and found["fence"] == names["fence"]
    assert table[VOID_ID] == VOID_ID and VOID_ID not in found.values()
