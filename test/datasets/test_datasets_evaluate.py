"""`vps-ros evaluate --format`: every format from its folders to its figures."""

import importlib.util
import json

import numpy as np
import pytest

from support.data_sets import DATA_SETS
from support.data_sets import put as put_png
from vps_ros.commands.main import main
from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.labels import LabelMap
from vps_ros.datasets.vipseg import write_masks

VOID = 255


def evaluate(form, gt, pred, *more):
    return main(["evaluate", "--format", form, "--gt", str(gt), "--pred", str(pred), *map(str, more)])


@pytest.mark.parametrize("name", DATA_SETS)
def test_figures_of_every_data_set_by_hand(name, tmp_path, capsys):
    """Two things of which one loses its number in the last of four frames."""
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    outputs = "--json", root / "f.json", "--html", root / "r.html", "--split", data.split
    assert evaluate(data.form, root / "gt", root / "pred", *outputs) == 0
    figures = json.loads((root / "f.json").read_text())
    assert (figures["frames"], list(figures["per_sequence"])) == (4, [data.video])
    assert (figures["mIoU"], figures["SQ"], figures["PQ"]["all"]) == (1, 1, 1)
    assert data.video in (root / "r.html").read_text()
    assert data.form in capsys.readouterr().out
    if data.form == "vspw":
        assert (figures["tubes"], figures["PQ"]["things"]) == (0, None)
        return
    # The smaller thing has 8 pixels, of which one track has 6 and another 2.
    assert figures["AQ"] == pytest.approx((1 + (6 * 6 / 8 + 2 * 2 / 8) / 8) / 2, abs=1e-12)
    # In windows of 2 it is found in the first two, and missed in the last one, where each track has half of it.
    assert figures["VPQ"]["2"]["things"] == pytest.approx(5 / (5 + 2 / 2 + 1 / 2), abs=1e-12)
    assert figures["VPQ"]["4"]["things"] == pytest.approx((1 + 6 / 8) / (2 + 1 / 2), abs=1e-12)
    assert figures["tubes"] == 2
    if importlib.util.find_spec("trackeval") is None:
        assert (figures["IDSW"], figures["IDF1"]) == (None, None)
        return
    assert figures["IDSW"] == 1
    # Of 8 masks, 7 have the identity that their thing mostly has.
    assert figures["IDF1"] == pytest.approx(7 / 8, abs=1e-12)


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_prediction_equal_to_the_truth_scores_one(name, tmp_path):
    data = DATA_SETS[name]
    data.truth(tmp_path / "gt", data.frames())
    data.prediction(tmp_path / "pred", data.frames())
    assert evaluate(data.form, tmp_path / "gt", tmp_path / "pred", "--json", tmp_path / "f.json") == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["PQ"]["all"] == figures["VPQ"]["4"]["all"] == figures["mIoU"] == 1
    assert figures["STQ"] == (0 if data.form == "vspw" else 1)


def test_the_only_split_that_was_converted_needs_no_name(tmp_path, capsys):
    data = DATA_SETS["vipseg, converted"]
    data.build(tmp_path)
    assert evaluate("vipseg", tmp_path / "gt", tmp_path / "pred") == 0
    (tmp_path / "gt/panoptic_gt_VIPSeg_train.json").write_text("{}")
    assert evaluate("vipseg", tmp_path / "gt", tmp_path / "pred") == 2
    assert "holds the truth of several splits (train, val); choose one with --split" in capsys.readouterr().err


def test_consistency_of_vspw(tmp_path):
    """Ten frames of one class; one of two pixels is another class in the first frame. Two windows of 8 count."""
    for i in range(10):
        put_png(tmp_path / f"gt/data/1_a/mask/{i:08d}.png", np.array([[5, 5]], np.uint8))
        put_png(tmp_path / f"pred/1_a/{i:08d}.png", np.array([[4, 4 if i else 9]], np.uint8))
    (tmp_path / "gt/val.txt").write_text("1_a\n")
    assert evaluate("vspw", tmp_path / "gt", tmp_path / "pred", "--json", tmp_path / "f.json") == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["VC"]["8"], figures["VC"]["16"]) == (0.75, None)
    assert figures["per_class"]["wall"]["IoU"] is None
    # 19 of 20 pixels; the class of the other one is only predicted.
    assert figures["mIoU"] == 19 / 20
    assert figures["protocols"] == {"STQ": "deeplab2", "VPQ": "kitti-step", "mIoU": "vspw"}


def people(change=0):
    """Frames of two people under a wall; the second one's number changes by `change` in the last frame."""
    semantic = np.array([[0, 0, 0, 0], [60, 60, 255, 60]], np.uint8)
    frames = [np.array([[0, 0, 0, 0], [1, 1, 0, 2]], np.uint8) for _ in range(4)]
    frames[3][1, 3] += change
    return {f"{i:08d}": LabelMap(semantic, instance) for i, instance in enumerate(frames)}


def put(opened, path, frames):
    with opened(path, False) as writer:
        for name, labels in frames.items():
            writer.add("12_a", name, labels)


def test_vipseg_by_its_own_protocol(tmp_path, capsys):
    """Downloaded truth against predictions in COCO's style; the wall comes first, so no person is a crowd."""
    put(write_masks, tmp_path / "gt", people())
    put(FORMATS["vipseg"].writer, tmp_path / "pred", people(change=1))
    (tmp_path / "gt/val.txt").write_text("12_a\n")
    outputs = "--json", tmp_path / "f.json", "--html", tmp_path / "r.html"
    assert evaluate("vipseg", tmp_path / "gt", tmp_path / "pred", "--split", "val", *outputs) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["protocol"] == "vipseg"
    # The first person is found whole. Of the second, 3 pixels of 4 are one tube and 1 another: (3 * 3/4 + 1 * 1/4) / 4.
    assert figures["AQ"] == pytest.approx((1 + (3 * 3 / 4 + 1 / 4) / 4) / 2, abs=1e-12)
    assert figures["PQ"]["all"] == 1
    assert figures["per_sequence"]["12_a"]["frames"] == 4
    assert "<img" in (tmp_path / "r.html").read_text()
    assert "vipseg" in capsys.readouterr().out


def test_frames_that_are_not_labelled_count_nowhere(tmp_path):
    """Cityscapes-VPS labels every fifth frame; methods predict all of them."""
    car = LabelMap(np.full((2, 2), 13, np.uint8), np.ones((2, 2), np.uint8))
    names = [f"0005_{i:04d}_town" for i in range(6)]
    with FORMATS["cityscapes-vps"].writer(tmp_path / "pred", False) as writer:
        for name in names:
            writer.add("0005", name, car)
    maps = tmp_path / "gt/val/panoptic_video"
    maps.mkdir(parents=True)
    document = json.loads((tmp_path / "pred/pred.json").read_text())
    labelled = [a for a in document["annotations"] if a["image_id"] in (names[0], names[5])]
    for annotation in labelled:
        name = annotation["file_name"]
        (maps / name).write_bytes((tmp_path / "pred/pan_pred" / name).read_bytes())
    images = [{"id": a["image_id"], "file_name": a["file_name"]} for a in labelled]
    truth = {"images": images, "annotations": labelled}
    (tmp_path / "gt/panoptic_gt_val_city_vps.json").write_text(json.dumps(truth))
    assert evaluate("cityscapes-vps", tmp_path / "gt", tmp_path / "pred", "--json", tmp_path / "f.json") == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["per_sequence"]["0005"]["frames"], figures["STQ"]) == (2, 1)


def test_a_prediction_for_another_data_set_is_one_line(tmp_path, capsys):
    put(write_masks, tmp_path / "gt", people())
    put(FORMATS["vspw"].writer, tmp_path / "pred", people())
    assert evaluate("vipseg", tmp_path / "gt", tmp_path / "gt", "--json", tmp_path / "same.json") == 0
    capsys.readouterr()
    (tmp_path / "other").mkdir()
    assert evaluate("vipseg", tmp_path / "gt", tmp_path / "other", "--json", tmp_path / "f.json") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vps-ros:")]
    assert "holds no VIPSeg maps; expected panomasks/VIDEO/FRAME.png" in line
    assert evaluate("cityscapes-vps", tmp_path / "gt", tmp_path / "pred", "--json", tmp_path / "f.json") == 2
    assert "panoptic_gt_val_city_vps.json: no such file" in capsys.readouterr().err
    assert not (tmp_path / "f.json").exists()
