"""`vps-ros evaluate --format`: every format from its folders to its figures."""

import json

import numpy as np
import pytest

from vps_ros.commands.main import main
from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.labels import LabelMap
from vps_ros.datasets.vipseg import write_masks

VOID = 255


def evaluate(form, gt, pred, *more):
    return main(["evaluate", "--format", form, "--gt", str(gt), "--pred", str(pred), *map(str, more)])


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
