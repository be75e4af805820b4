"""`vps-ros evaluate --format youtube-vis`: the data set's JSON and results in, AP and AR out."""

import json

import numpy as np
import pytest

from vps_ros.commands.main import main
from vps_ros.datasets.rle import from_mask
from vps_ros.taxonomies import YOUTUBE_VIS_2019

PERSON, DOG = 1, 8


def mask(start, stop):
    pixels = np.zeros((4, 10), bool)
    pixels[1:3, start:stop] = True
    return from_mask(pixels).to_json()


def truth():
    """Two videos; a person in both, a dog in the first, and in the second an object that is a crowd."""
    categories = [{"id": c.id, "name": c.name} for c in YOUTUBE_VIS_2019.classes]
    videos = [
        {"id": i, "height": 4, "width": 10, "length": 2, "file_names": [f"v{i}/{f}.jpg" for f in ("00000", "00005")]}
        for i in (3, 5)
    ]
    rows = [
        (3, PERSON, mask(0, 4), mask(0, 4), 0),
        (3, DOG, None, mask(5, 9), 0),
        (5, PERSON, mask(2, 6), None, 0),
        (5, DOG, mask(0, 9), mask(0, 9), 1),
    ]
    annotations = [
        {"id": n, "video_id": v, "category_id": c, "segmentations": [a, b], "iscrowd": crowd}
        for n, (v, c, a, b, crowd) in enumerate(rows, 1)
    ]
    return {"videos": videos, "annotations": annotations, "categories": categories}


def results():
    """Both people, of whom one is found half; the dog twice; and a dog upon the crowd."""
    rows = [
        (3, PERSON, 0.9, mask(0, 4), None),
        (5, PERSON, 0.8, mask(2, 6), None),
        (3, DOG, 0.7, None, mask(5, 9)),
        (3, DOG, 0.6, None, mask(5, 9)),
        (5, DOG, 0.9, mask(0, 9), mask(0, 9)),
    ]
    return [{"video_id": v, "category_id": c, "score": score, "segmentations": [a, b]} for v, c, score, a, b in rows]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/valid.json").write_text(json.dumps(truth()))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/results.json").write_text(json.dumps(results()))
    return tmp_path


def evaluate(folder, *more, gt="gt", pred="mine"):
    paths = "--gt", str(folder / gt), "--pred", str(folder / pred)
    return main(["evaluate", "--format", "youtube-vis", *paths, *map(str, more)])


def complaint(capsys):
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vps-ros:")]
    return line


def test_figures_by_hand(folder, capsys):
    assert evaluate(folder, "--split", "val", "--json", folder / "f.json", "--html", folder / "r.html") == 0
    figures = json.loads((folder / "f.json").read_text())
    person, dog = figures["per_class"]["person"], figures["per_class"]["dog"]
    # One person has an IoU of 0.5, which the first of ten thresholds takes. From the second on the better scored one is
    # wrong, and the other of two found: a precision of 1/2 up to a recall of 1/2, which 51 of 101 points are.
    assert person["AP"] == pytest.approx((1 + 9 * 51 / 101 / 2) / 10, abs=1e-12)
    assert (person["AP50"], person["AP75"]) == pytest.approx((1, 51 / 101 / 2), abs=1e-12)
    assert person["AR1"] == pytest.approx((1 + 9 / 2) / 10, abs=1e-12)
    # The second dog comes after the first has found all there is; the one upon the crowd counts nowhere.
    assert dog == pytest.approx({"AP": 1, "AP50": 1, "AP75": 1, "AR1": 1, "AR10": 1}, abs=1e-12)
    assert figures["AP"] == pytest.approx((person["AP"] + 1) / 2, abs=1e-12)
    assert (figures["protocol"], figures["videos"], figures["tracks"], figures["predictions"]) == (
        "youtube-vis",
        2,
        3,
        5,
    )
    assert (figures["AP_small"], figures["AP_large"]) == (figures["AP"], None)
    out = capsys.readouterr().out
    for word in ("youtube-vis-2019", "AP75", "AR10", "dog"):
        assert word in out
    page = (folder / "r.html").read_text()
    assert f"{100 * figures['AP']:.1f}" in page and "dog" in page
    assert "http" not in page


def test_files_themselves_may_be_given(folder):
    evaluate(folder, "--json", folder / "a.json")
    files = {"gt": "gt/valid.json", "pred": "mine/results.json"}
    assert evaluate(folder, "--json", folder / "b.json", **files) == 0
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()


def test_results_side_by_side(folder, capsys):
    (folder / "none.json").write_text("[]")
    outputs = "--json", folder / "f.json", "--html", folder / "r.html"
    assert evaluate(folder, "--pred", folder / "none.json", *outputs) == 0
    both = json.loads((folder / "f.json").read_text())["predictions"]
    assert list(both) == ["mine", "none.json"]
    assert (both["none.json"]["AP"], both["none.json"]["AR10"]) == (0, 0)
    assert evaluate(folder, "--json", folder / "one.json") == 0
    assert json.loads((folder / "one.json").read_text()) == both["mine"]
    assert "AP per class" in capsys.readouterr().out
    assert "none.json" in (folder / "r.html").read_text()


def cut(folder):
    path = folder / "mine/results.json"
    path.write_text(path.read_text()[:-20])


def change(**values):
    def spoil(folder):
        rows = results()
        rows[1].update(values)
        (folder / "mine/results.json").write_text(json.dumps(rows))

    return spoil


def hide(folder):
    (folder / "gt/valid.json").write_text(json.dumps({**truth(), "annotations": []}))


def another(folder):
    (folder / "gt/valid.json").write_text(json.dumps({**truth(), "categories": [{"id": 1, "name": "cat"}]}))


TOO_LARGE = {"size": [4, 11], "counts": [44]}
BAD = {
    "cut off": (cut, "mine/results.json: is not complete JSON"),
    "missing": (lambda f: (f / "mine/results.json").unlink(), "mine/results.json: no such file"),
    "truth missing": (lambda f: (f / "gt/valid.json").unlink(), "holds no truth of split 'valid'"),
    "another data set": (another, "categories are those of no known edition"),
    "no annotations": (hide, "has no annotations to compare with"),
    "class": (change(category_id=41), "[1] has category_id 41, not one of youtube-vis-2019"),
    "video": (change(video_id=4), "[1] has video_id 4, which is no video of the truth"),
    "frames missing": (change(segmentations=[None]), "[1] has 1 segmentations, but its video has 2 frames"),
    "size": (change(segmentations=[TOO_LARGE, None]), "[1].segmentations[0] is 11x4, but its video is 10x4"),
    "another coding": (change(segmentations=[[[1, 2, 3, 4]], None]), "segmentations[0]: is no run-length mask"),
    "mask cut off": (change(segmentations=[{"size": [4, 10], "counts": "04"}, None]), "but its size is 4 * 10"),
    "score": (change(score=None), "[1].score is None, not float or int"),
    "COCO's style": (lambda f: (f / "mine/results.json").write_text("{}"), "the document is not a list"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_no_report(folder, capsys, name):
    spoil, words = BAD[name]
    spoil(folder)
    before = sorted(folder.rglob("*"))
    assert evaluate(folder, "--json", folder / "f.json", "--html", folder / "r.html") == 2
    line = complaint(capsys)
    assert words in line and str(folder) in line
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("flag", [("--protocol", "vipseg"), ("--taxonomy", "cityscapes"), ("--gt-topic", "/x")])
def test_what_means_nothing_here_is_refused(folder, capsys, flag):
    assert evaluate(folder, *flag) == 2
    assert f"{flag[0]}: does not apply to --format youtube-vis" in complaint(capsys)
