"""`vps-ros evaluate`: two folders in, figures out; bad folders in, one line out."""

import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from vps_ros.commands.main import main
from vps_ros.datasets.kitti_step import save_map
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.page.charts import polylines
from vps_ros.evaluation.pairs import evaluate_pairs, pair_frames
from vps_ros.taxonomy import KITTI_STEP

SIZE = (12, 16)


def street(frame, shift=0, track=1):
    """Road under sky, a car that moves right and a bus that stands."""
    semantic = np.zeros(SIZE, np.uint8)
    semantic[:5] = 10
    instance = np.zeros(SIZE, np.uint16)
    for column, width, value, name in ((frame + shift, 4, 13, track), (12, 3, 15, 5)):
        semantic[4:9, column : column + width] = value
        instance[4:9, column : column + width] = name
    return semantic, instance


@pytest.fixture
def folders(tmp_path):
    """Two sequences of 4 frames; in the second the prediction is a column off and the car's id changes once."""
    for sequence in ("0002", "0006"):
        for i in range(4):
            off = sequence == "0006"
            save_map(tmp_path / f"gt/panoptic_maps/val/{sequence}/{i:06d}.png", *street(i))
            save_map(tmp_path / f"pred/{sequence}/{i:06d}.png", *street(i, int(off), 1 + (off and i == 3)))
    return tmp_path


def evaluate(folders, *more, gt="gt", pred="pred"):
    arguments = ["--format", "kitti-step", "--gt", str(folders / gt), "--pred", str(folders / pred)]
    return main(["evaluate", *arguments, *map(str, more)])


def complaint(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vps-ros:")]
    assert len(lines) == 1
    return lines[0]


def test_json_holds_the_contract(folders, capsys):
    assert evaluate(folders, "--json", folders / "figures.json") == 0
    figures = json.loads((folders / "figures.json").read_text())
    metrics = {"STQ", "AQ", "SQ", "VPQ", "PQ", "mIoU", "VC", "IDF1", "HOTA", "MOTA", "IDSW"}
    assert {"protocol", *metrics, "per_sequence", "per_class"} <= figures.keys()
    assert figures["protocol"] == "deeplab2"
    assert figures["protocols"] == {"STQ": "deeplab2", "VPQ": "kitti-step"}
    assert set(figures["PQ"]) == {"all", "things", "stuff"}
    assert list(figures["VPQ"]) == ["1", "2", "3", "4"]
    assert all(set(window) == {"all", "things", "stuff"} for window in figures["VPQ"].values())
    first, second = figures["per_sequence"]["0002"], figures["per_sequence"]["0006"]
    assert (first["STQ"], first["PQ"]["all"], first["frames"], first["tubes"]) == (1, 1, 4, 1)
    # 20 true pixels a frame, 15 of them found; the tube of the first three frames is 60 predicted pixels, the other 20:
    # (45 * 45 / (80 + 60 - 45) + 15 * 15 / (80 + 20 - 15)) / 80.
    aq = (45 * 45 / 95 + 15 * 15 / 85) / 80
    assert second["AQ"] == pytest.approx(aq, abs=1e-12)
    assert figures["AQ"] == pytest.approx((1 + aq) / 2, abs=1e-12)
    assert figures["STQ"] == pytest.approx((figures["AQ"] * figures["SQ"]) ** 0.5, abs=1e-12)
    # Each car: 15 of 25 pixels.
    assert second["PQ"]["things"] == pytest.approx(0.6, abs=1e-12)
    assert figures["per_class"]["car"]["TP"] == 8
    # In windows of one frame a car is the segment of that frame. In those of 4 the second car's tube is the first three
    # frames: 45 of 80 true and 60 predicted pixels, IoU 45 / 95, is no match: one tube missed, two invented.
    assert second["VPQ"]["1"]["things"] == pytest.approx(0.6, abs=1e-12)
    assert second["VPQ"]["4"]["things"] == 0
    assert figures["VPQ"]["4"]["things"] == pytest.approx(1 / (1 + 3 / 2), abs=1e-12)
    assert metrics <= second.keys()
    # The car of the second sequence is matched in all four frames, by two tracks.
    assert (first["IDSW"], second["IDSW"], figures["IDSW"]) == (0, 1, 1)
    assert figures["MOTA"] == pytest.approx(7 / 8, abs=1e-12)
    # Of its four masks the longer track has three: 8 true, 8 predicted, 4 + 3 of one identity.
    assert figures["IDF1"] == pytest.approx(7 / 8, abs=1e-12)
    assert figures["VC"] == {"8": None, "16": None}
    assert figures["per_class"]["train"]["PQ"] is None
    table = capsys.readouterr().out
    assert "0006" in table
    assert "deeplab2" in table


def test_the_taxonomy_is_chosen(folders):
    assert evaluate(folders, "--taxonomy", "cityscapes", "--json", folders / "f.json") == 0
    figures = json.loads((folders / "f.json").read_text())
    assert figures["per_sequence"]["0002"]["tubes"] == 2
    assert figures["per_class"]["bus"]["thing"] is True


def test_jobs_change_nothing(folders):
    for jobs in (1, 3):
        assert evaluate(folders, "--jobs", jobs, "--json", folders / f"{jobs}.json") == 0
    assert (folders / "1.json").read_bytes() == (folders / "3.json").read_bytes()


def test_one_split_of_the_data_set(folders, capsys):
    save_map(folders / "gt/panoptic_maps/train/0000/000000.png", *street(0))
    assert evaluate(folders) == 2
    assert "all of 0000" in complaint(capsys)
    assert evaluate(folders, "--split", "val") == 0
    assert evaluate(folders, "--split", "vall") == 2
    assert "splits there: train, val" in complaint(capsys)


class Page(HTMLParser):
    """Tags that would fetch something, the images, and the words."""

    def __init__(self, text):
        super().__init__()
        self.requests, self.images, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "data", "srcset", "action"):
                (self.images if str(value).startswith("data:image/") else self.requests).append(value)
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in ("meta", "img", "em", "line", "polyline", "br", "rect", "path", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_needs_nothing_else(folders):
    images = folders / "gt/images/val/0006"
    images.mkdir(parents=True)
    cv2.imwrite(str(images / "000000.png"), np.full((*SIZE, 3), 90, np.uint8))
    assert evaluate(folders, "--html", folders / "report.html") == 0
    text = (folders / "report.html").read_text()
    page = Page(text)
    assert all(link.startswith("#") for link in page.requests)
    assert page.open == []
    assert "url(" not in text
    assert "@import" not in text
    assert len(page.images) == 5, "truth and prediction of a frame of each stretch of a sequence, and one camera image"
    words = " ".join(page.words)
    for expected in ("STQ", "deeplab2", "kitti-step", "8 frames in 2 sequences", "0006", "car", "Quality over time"):
        assert expected in words
    assert "camera" in words
    assert words.index("0006/000000") < words.index("0002/000000"), "the second sequence is the worse one"
    assert "train" not in re.sub(r"\s+", " ", words).split(), "classes that never occur are left out"


def points(values):
    lines = polylines(values, len(values))
    return [[tuple(map(float, p.split(","))) for p in line.split()] for line in lines]


def test_plots_break_where_nothing_is_known_and_stay_short():
    left, right = points([1.0, 0.5, float("nan"), 0.0])
    assert left == [(0, 0), (pytest.approx(333.3), 50)]
    assert [y for _, y in right] == [100, 100]
    (long,) = points([0.25] * 5000)
    assert len(long) <= 480
    assert {y for _, y in long} == {75.0}
    assert points([]) == []


def spoil(folders, path, data):
    (folders / path).write_bytes(data)


def grey_png():
    return cv2.imencode(".png", np.zeros(SIZE, np.uint8))[1].tobytes()


def remove(folders, *paths):
    for path in paths:
        (folders / path).unlink()


BAD = {
    "no prediction": (
        lambda f: remove(f, "pred/0006/000001.png", "pred/0002/000003.png"),
        "no prediction for 2 frame(s): 0002/000003, 0006/000001; predict them, or pass --allow-missing",
    ),
    "no truth": (
        lambda f: remove(f, "gt/panoptic_maps/val/0002/000000.png"),
        "no ground truth for 1 frame(s): 0002/000000",
    ),
    "another size": (
        lambda f: save_map(f / "pred/0002/000002.png", np.zeros((5, 7), np.uint8), np.zeros((5, 7), np.uint8)),
        "pred/0002/000002.png: its size 7x5 is not that of",
    ),
    "unknown class": (
        lambda f: save_map(f / "pred/0002/000002.png", np.full(SIZE, 33, np.uint8), np.zeros(SIZE, np.uint8)),
        "pred/0002/000002.png: class id 33 is not in taxonomy kitti-step",
    ),
    "another coding": (lambda f: spoil(f, "pred/0002/000001.png", grey_png()), "coded as 8-bit grey"),
    "unreadable": (lambda f: spoil(f, "gt/panoptic_maps/val/0006/000003.png", b"\x89PNG\r\n\x1a\n"), "cut off"),
    "duplicate": (
        lambda f: save_map(f / "gt/panoptic_maps/0002/000000.png", *street(0)),
        "frame 000000 of sequence 0002 is in",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_folders_get_one_line_and_leave_no_report(folders, capsys, name):
    break_it, words = BAD[name]
    break_it(folders)
    before = sorted(folders.rglob("*"))
    assert evaluate(folders, "--json", folders / "f.json", "--html", folders / "r.html") == 2
    line = complaint(capsys)
    assert words in line
    assert str(folders) in line
    assert sorted(folders.rglob("*")) == before


def test_folders_that_are_absent_empty_or_foreign(folders, capsys):
    assert evaluate(folders, gt="nowhere") == 2
    assert "nowhere: no such folder" in complaint(capsys)
    (folders / "empty").mkdir()
    assert evaluate(folders, pred="empty") == 2
    assert "empty: holds no panoptic maps" in complaint(capsys)
    save_map(folders / "foreign/0017/000000.png", *street(0))
    assert evaluate(folders, pred="foreign") == 2
    assert "no frame in common" in complaint(capsys)


def test_many_missing_frames_make_a_short_line(folders, capsys):
    for i in range(4, 40):
        save_map(folders / f"gt/panoptic_maps/val/0002/{i:06d}.png", *street(0))
    assert evaluate(folders) == 2
    line = complaint(capsys)
    assert "36 frame(s): 0002/000004" in line
    assert line.count("0002/") <= 6


def test_missing_frames_may_count_as_void(folders, capsys):
    remove(folders, "pred/0002/000003.png", "gt/panoptic_maps/val/0006/000000.png")
    assert evaluate(folders, "--allow-missing", "--json", folders / "f.json") == 0
    assert "2 frame(s)" in capsys.readouterr().err
    figures = json.loads((folders / "f.json").read_text())
    # 3 of 4 frames of a tube: (60 * 60 / 80) / 80.
    assert figures["per_sequence"]["0002"]["AQ"] == 0.5625
    assert figures["per_class"]["car"]["FN"] == 1
    assert figures["per_class"]["car"]["FP"] == 0, "a prediction on void is forgiven"
    # 60 true pixels, 45 found; the predicted tube still has the 20 pixels of the frame without truth.
    second = (30 * 30 / (60 + 60 - 30) + 15 * 15 / (60 + 20 - 15)) / 60
    assert figures["per_sequence"]["0006"]["AQ"] == pytest.approx(second, abs=1e-12)


def test_outputs_are_kept_without_force(folders, capsys):
    (folders / "f.json").write_text("mine")
    assert evaluate(folders, "--json", folders / "f.json") == 2
    assert "--force" in complaint(capsys)
    assert (folders / "f.json").read_text() == "mine"
    assert evaluate(folders, "--json", folders / "f.json", "--force") == 0
    assert "STQ" in (folders / "f.json").read_text()


def test_a_negative_number_of_jobs_is_refused(folders, capsys):
    assert evaluate(folders, "--jobs", -2) == 2
    assert "--jobs" in complaint(capsys)


def test_frames_come_in_order_and_few_at_a_time(folders):
    pairs = pair_frames(folders / "gt", folders / "pred")
    many = sorted(pairs * 20, key=lambda pair: pair.sequence)
    taken = []

    def watched():
        for pair in many:
            taken.append(pair)
            yield pair

    done = evaluate_pairs(watched(), Evaluator(KITTI_STEP), jobs=2)
    assert next(done)[0] == pairs[0]
    assert len(taken) <= 10
    assert [p for p, _ in done] == many[1:]
