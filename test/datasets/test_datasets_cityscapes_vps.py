"""Cityscapes-VPS in its true layout, made by hand here; predictions as its own script reads them."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.datasets.cityscapes_vps import DATA_SET
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES

ROAD, CAR, VOID = 0, 13, 255
FIRST, SECOND = "0005_0025_frankfurt_000000_001736", "0005_0026_frankfurt_000000_001741"


def put_map(path, ids):
    ids = np.asarray(ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.stack([ids >> 16, ids >> 8 & 255, ids & 255], -1).astype(np.uint8))


def segment(number, category, crowd=0):
    return {"id": number, "category_id": category, "iscrowd": crowd, "area": 1}


def truth(root, **change):
    """Two frames: road, two cars that keep their ids, a group of cars, void."""
    frames = {FIRST: "_gtFine_color.png", SECOND: "_final_mask.png"}
    segments = [segment(65793, ROAD), segment(142, CAR), segment(9_000_000, CAR), segment(77, CAR, crowd=1)]
    document = {
        "images": [{"id": f, "file_name": f"{f}_leftImg8bit.png", "width": 3, "height": 2} for f in frames],
        "annotations": [{"image_id": f, "file_name": f + end, "segments_info": segments} for f, end in frames.items()],
        "categories": [c | {"isthing": int(c["isthing"])} for c in CITYSCAPES.to_json()],
        **change,
    }
    root.mkdir(exist_ok=True)
    (root / "panoptic_gt_val_city_vps.json").write_text(json.dumps(document))
    for frame, end in frames.items():
        put_map(root / "val/panoptic_video" / (frame + end), [[65793, 65793, 0], [142, 9_000_000, 77]])
    return root


def test_frames_are_read_by_the_json(tmp_path):
    videos = DATA_SET.truth(truth(tmp_path), None)
    assert {v: list(frames) for v, frames in videos.items()} == {"0005": [FIRST, SECOND]}
    frame = videos["0005"][FIRST]
    assert frame.image == tmp_path / "val/img" / f"{FIRST}_leftImg8bit.png"
    semantic, instance = frame.read()
    assert semantic.dtype == np.uint8
    assert semantic.tolist() == [[ROAD, ROAD, VOID], [CAR, CAR, CAR]]
    assert instance.tolist() == [[0, 0, 0], [142, 9_000_000, 0]], "the crowd has no number"


@given(
    hnp.arrays(np.uint8, (3, 5), elements=st.sampled_from([0, 3, 10, 11, 13, 18, VOID])),
    hnp.arrays(np.uint16, (3, 5), elements=st.sampled_from([0, 1, 2, 255, 256, 65535])),
)
def test_predictions_come_back_but_for_their_numbers(tmp_path_factory, semantic, instance):
    root = tmp_path_factory.mktemp("city") / "out"
    with DATA_SET.writer(root, False) as writer:
        writer.add("0005", FIRST, LabelMap(semantic, instance))
        writer.add("0005", SECOND, LabelMap(semantic[::-1], instance[::-1]))
    back = DATA_SET.prediction(root, None)["0005"]
    first, second = back[FIRST].read(), back[SECOND].read()
    assert (first.semantic == semantic).all()
    assert (first.instance == second.instance[::-1]).all(), "an object keeps its number through the video"
    things = np.isin(semantic, CITYSCAPES.thing_ids)
    assert (first.instance[~things] == 0).all()
    assert (first.instance[things] > 0).all(), "a predicted thing is an object, whatever its number"
    objects = set(zip(semantic[things], instance[things], strict=True))
    assert len(np.unique(first.instance[things])) == len(objects)


def test_predictions_are_what_the_benchmark_reads(tmp_path):
    """Ids in the map are those of the JSON, areas and boxes are true, and void is black."""
    semantic = np.array([[CAR, CAR, VOID], [ROAD, CAR, VOID]], np.uint8)
    with DATA_SET.writer(tmp_path / "out", False) as writer:
        writer.add("0005", FIRST, LabelMap(semantic, np.array([[3, 3, 0], [0, 3, 0]])))
    blue, green, red = cv2.split(cv2.imread(str(tmp_path / f"out/pan_pred/{FIRST}.png")).astype(int))
    ids = red + 256 * green + 65536 * blue
    document = json.loads((tmp_path / "out/pred.json").read_text())
    (annotation,) = document["annotations"]
    assert annotation["image_id"] == FIRST
    by_class = {s["category_id"]: s for s in annotation["segments_info"]}
    assert set(by_class) == {ROAD, CAR}
    assert {s["id"] for s in by_class.values()} | {0} == set(ids.ravel())
    assert (by_class[CAR]["area"], by_class[CAR]["bbox"]) == (3, [0, 0, 2, 2])
    assert (ids[:, 2] == 0).all()


def test_predictions_without_names_are_joined_by_their_order(tmp_path):
    put_map(tmp_path / f"pan_pred/{FIRST}.png", [[5]])
    put_map(tmp_path / f"pan_pred/{SECOND}.png", [[6]])
    annotations = [{"segments_info": [segment(5, ROAD)]}, {"segments_info": [segment(6, CAR)]}]
    (tmp_path / "pred.json").write_text(json.dumps({"annotations": annotations}))
    frames = DATA_SET.prediction(tmp_path, None)["0005"]
    assert [frames[f].read().semantic.item() for f in (FIRST, SECOND)] == [ROAD, CAR]
    (tmp_path / f"pan_pred/{SECOND}.png").unlink()
    with pytest.raises(InputError, match=r"annotations\[0\] lacks 'image_id', and 2 annotations .* 1 maps"):
        DATA_SET.prediction(tmp_path, None)


def segments(document):
    return document["annotations"][0]["segments_info"]


BAD = [
    (lambda d: d.pop("annotations"), "the document lacks 'annotations'"),
    (lambda d: d["annotations"][1].pop("segments_info"), r"annotations\[1\] lacks 'segments_info'"),
    (lambda d: d["annotations"][0].update(image_id=7), r"annotations\[0\].image_id is 7, not str"),
    (lambda d: d["annotations"][1].update(image_id=FIRST), r"annotations\[1\] is the second one of image"),
    (
        lambda d: segments(d)[2].update(id=2**24),
        r"segments_info\[2\] has id 16777216; ids",
    ),
    (
        lambda d: segments(d)[1].update(id=65793),
        r"segments_info\[1\] has id 65793, which another",
    ),
    (
        lambda d: segments(d)[1].update(category_id=19),
        r"category_id 19, not one of cityscapes",
    ),
    (lambda d: segments(d)[1].update(id=True), r"segments_info\[1\].id is True, not int"),
    (lambda d: d["categories"][3].update(id=33), r"categories\[3\] has id 33, unknown to cityscapes"),
    (lambda d: d["categories"][13].update(isthing=0), r"categories\[13\] differs from cityscapes"),
    (lambda d: d.update(annotations=[]), "the document has no annotations"),
]


@pytest.mark.parametrize(("spoil", "reason"), BAD, ids=[r for _, r in BAD])
def test_what_is_wrong_in_the_json_is_told_with_its_place(tmp_path, spoil, reason):
    path = truth(tmp_path) / "panoptic_gt_val_city_vps.json"
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=reason) as error:
        DATA_SET.truth(tmp_path, None)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_broken_json_is_told_with_line_and_column(tmp_path):
    path = truth(tmp_path) / "panoptic_gt_val_city_vps.json"
    path.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(InputError, match="not complete JSON .* at line 2, column 18"):
        DATA_SET.truth(tmp_path, None)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="is not"):
        DATA_SET.truth(tmp_path, None)


def test_map_and_json_must_agree(tmp_path):
    frame = DATA_SET.truth(truth(tmp_path), None)["0005"][FIRST]
    put_map(frame.where, [[65793, 142, 5], [9_000_000, 77, 6]])
    with pytest.raises(InputError, match=r"_gtFine_color\.png: shows segment id 5, 6, which .*annotations\[0\]"):
        frame.read()
    put_map(frame.where, [[65793, 142, 142]])
    with pytest.raises(InputError, match=r"shows no pixel of segment id 77, 9000000, which .*annotations\[0\] lists"):
        frame.read()
    frame.where.unlink()
    with pytest.raises(InputError, match="no such file; a panoptic map is 8-bit RGB"):
        frame.read()


def test_another_split_or_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="panoptic_gt_train_city_vps.json: no such file"):
        DATA_SET.truth(truth(tmp_path), "train")
    with pytest.raises(InputError, match="absent: no such folder"):
        DATA_SET.truth(tmp_path / "absent", None)
    with pytest.raises(InputError, match=r"pred\.json: no such file; predictions are pred\.json and pan_pred"):
        DATA_SET.prediction(tmp_path, None)


def test_what_the_coding_cannot_hold_leaves_nothing(tmp_path):
    for semantic, instance, reason in [
        ([[CAR]], [[65536]], "instance 65536 cannot be written"),
        ([[CAR]], [[-1]], "instance -1 cannot be written"),
        ([[19]], [[0]], "class id 19 is not in taxonomy cityscapes"),
    ]:
        labels = LabelMap(np.array(semantic, np.uint8), np.array(instance))
        with pytest.raises(InputError, match=reason), DATA_SET.writer(tmp_path / "out", False) as writer:
            writer.add("0005", FIRST, labels)
        assert not list(tmp_path.iterdir())
