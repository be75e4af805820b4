"""VIPER as it is downloaded, its video panoptic form, and predictions."""

import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.datasets.labels import LabelMap
from vps_ros.datasets.viper import CATEGORIES, DATA_SET
from vps_ros.errors import InputError
from vps_ros.taxonomies import VIPER

SKY, ROAD, TERRAIN, PERSON, CAR, TRUCK, VOID = 2, 3, 6, 20, 24, 27, 255


def palette_png(indices, bits=8):
    """A PNG of colour type 3, whose colours are all the same; OpenCV cannot write one."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    indices = np.asarray(indices, np.uint8)
    height, width = indices.shape
    rows = np.unpackbits(indices[..., None], axis=2)[..., 8 - bits :].reshape(height, -1)
    packed = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"PLTE", bytes(3 * 2**bits)) + chunk(b"IDAT", zlib.compress(packed))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def put(root, frame, classes, instances, bits=8):
    sequence = frame.split("_")[0]
    for kind in ("cls", "inst"):
        (root / kind / sequence).mkdir(parents=True, exist_ok=True)
    (root / f"cls/{sequence}/{frame}.png").write_bytes(palette_png(classes, bits))
    cv2.imwrite(str(root / f"inst/{sequence}/{frame}.png"), np.asarray(instances, np.uint8)[..., ::-1])


def test_classes_are_those_that_are_evaluated():
    assert len(VIPER) == 23
    assert len(VIPER.thing_ids) == 10
    assert {c.name for c in VIPER.classes} == set(CATEGORIES)
    assert all(VIPER.by_id[c.id].isthing == (CATEGORIES.index(c.name) >= 13) for c in VIPER.classes)


def test_a_downloaded_frame_by_hand(tmp_path):
    black = (0, 0, 0)
    classes = [[SKY, ROAD, CAR], [CAR, PERSON, 28], [1, 0, TRUCK]]
    instances = [[black, black, (CAR, 1, 2)], [(CAR, 0, 5), black, (28, 0, 9)], [black, black, (TRUCK, 0, 1)]]
    put(tmp_path / "val", "001_00001", classes, instances)
    put(tmp_path / "val", "001_00002", [[1, 3]], [[black, black]], bits=2)
    videos = DATA_SET.truth(tmp_path, None)
    assert {v: list(f) for v, f in videos.items()} == {"001": ["001_00001", "001_00002"]}
    frame = videos["001"]["001_00001"]
    semantic, instance = frame.read()
    assert semantic.tolist() == [[SKY, ROAD, CAR], [CAR, PERSON, VOID], [VOID, VOID, TRUCK]]
    assert instance.tolist() == [[0, 0, 258], [5, 0, 0], [0, 0, 1]]
    assert frame.image == tmp_path / "val/img/001/001_00001.jpg"
    assert videos["001"]["001_00002"].read().semantic.tolist() == [[VOID, ROAD]], "small palettes are packed"
    assert list(DATA_SET.truth(tmp_path / "val", None)) == ["001"]


def test_classes_and_instances_must_go_together(tmp_path):
    put(tmp_path / "val", "001_00001", [[CAR, CAR]], [[(CAR, 0, 1)]])
    put(tmp_path / "val", "001_00002", [[32]], [[(0, 0, 0)]])
    frames = DATA_SET.truth(tmp_path, "val")["001"]
    with pytest.raises(InputError, match=r"inst/001/001_00001\.png: is 1x1, but .*001_00001\.png is 2x1"):
        frames["001_00001"].read()
    with pytest.raises(InputError, match=r"cls/001/001_00002\.png: value 32 stands for no class"):
        frames["001_00002"].read()
    (tmp_path / "val/inst/001/001_00002.png").unlink()
    with pytest.raises(InputError, match=r"inst: lacks the instances of 1 frame\(s\): 001/001_00002"):
        DATA_SET.truth(tmp_path, "val")
    with pytest.raises(InputError, match="train: holds no classes of VIPER; expected train/cls/SEQUENCE"):
        DATA_SET.truth(tmp_path, "train")


def panoptic(root, **change):
    root.mkdir(exist_ok=True)
    ids = np.array([[7, 300]])
    maps = root / "val_day/panoptic_video"
    maps.mkdir(parents=True)
    cv2.imwrite(str(maps / "001_00010.png"), np.stack([ids >> 16, ids >> 8, ids & 255], -1).astype(np.uint8))
    infos = [{"id": 7, "category_id": 3}, {"id": 300, "category_id": 19}]
    document = {
        "images": [{"id": 1, "file_name": "001/001_00010.jpg"}],
        "annotations": [{"segments_info": infos}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CATEGORIES)],
        **change,
    }
    (root / "viper_panoptic_val_day_video.json").write_text(json.dumps(document))
    return root


def test_the_video_panoptic_form_has_ids_of_its_own(tmp_path):
    frame = DATA_SET.truth(panoptic(tmp_path), None)["001"]["001_00010"]
    semantic, instance = frame.read()
    assert semantic.tolist() == [[TERRAIN, CAR]]
    assert instance.tolist() == [[0, 300]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": []}, "lacks .image_id., and 1 annotations .* 0 maps"),
        ({"categories": [{"id": 0, "name": "cat"}]}, r"categories\[0\] is named 'cat', unknown to viper"),
        ({"categories": [{"id": 3, "name": "terrain"}]}, r"segments_info\[1\] has category_id 19, not one of viper's"),
    ],
)
def test_what_is_wrong_in_the_json_is_told_with_its_place(tmp_path, change, reason):
    with pytest.raises(InputError, match=reason):
        DATA_SET.truth(panoptic(tmp_path, **change), "val_day")


@given(
    hnp.arrays(np.uint8, (3, 5), elements=st.sampled_from([SKY, ROAD, PERSON, CAR, TRUCK, VOID])),
    hnp.arrays(np.uint16, (3, 5), elements=st.integers(0, 3)),
)
def test_predictions_come_back_but_for_their_numbers(tmp_path_factory, semantic, instance):
    root = tmp_path_factory.mktemp("viper") / "out"
    with DATA_SET.writer(root, False) as writer:
        writer.add("001", "001_00010", LabelMap(semantic, instance))
    back = DATA_SET.prediction(root, None)["001"]["001_00010"].read()
    things = np.isin(semantic, VIPER.thing_ids)
    assert (back.semantic == semantic).all()
    assert (back.instance[~things] == 0).all()
    pairs = set(zip(semantic[things], instance[things], strict=True))
    assert len(np.unique(back.instance[things])) == len(pairs)


def test_predictions_that_name_nothing_are_joined_by_order(tmp_path):
    """As the method that made the panoptic form writes them."""
    (tmp_path / "pan_pred").mkdir()
    cv2.imwrite(str(tmp_path / "pan_pred/001_00010.png"), np.array([[[0, 0, 9]]], np.uint8))
    (tmp_path / "pred.json").write_text(
        json.dumps({"annotations": [{"segments_info": [{"id": 9, "category_id": 1, "iscrowd": 0}]}]})
    )
    assert DATA_SET.prediction(tmp_path, None)["001"]["001_00010"].read().semantic.item() == ROAD
