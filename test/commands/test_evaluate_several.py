"""`vps-ros evaluate` with several predictions, side by side."""

import json

import numpy as np
import pytest

from vps_ros.commands.evaluate import names_of
from vps_ros.commands.main import main
from vps_ros.datasets.kitti_step import save_map
from vps_ros.errors import InputError
from vps_ros.evaluation.page.pictures import lowest_frames

CAR = 13


def frame(t, track=1, shift=0):
    semantic, instance = np.zeros((12, 32), np.uint8), np.zeros((12, 32), np.uint16)
    semantic[4:9, t + shift : t + shift + 8] = CAR
    instance[4:9, t + shift : t + shift + 8] = track
    return semantic, instance


@pytest.fixture
def folders(tmp_path):
    """20 frames of a car; `good` is the truth, `bad` loses the identity at frame 10 and the car itself in frame 15."""
    for t in range(20):
        save_map(tmp_path / f"gt/panoptic_maps/0001/{t:06d}.png", *frame(t))
        save_map(tmp_path / f"runs/good/0001/{t:06d}.png", *frame(t, 4))
        save_map(tmp_path / f"runs/bad/0001/{t:06d}.png", *frame(t, 1 + t // 10, 5 if t == 15 else 0))
    return tmp_path


def evaluate(folders, *predictions, more=()):
    named = [word for name in predictions for word in ("--pred", str(folders / name))]
    return main(
        ["evaluate", "--format", "kitti-step", "--gt", str(folders / "gt"), *named, *(str(word) for word in more)]
    )


def test_each_prediction_has_the_figures_that_it_has_alone(folders, capsys):
    assert evaluate(folders, "runs/good", "runs/bad", more=("--json", folders / "both.json")) == 0
    out = capsys.readouterr().out
    assert "PQ per class" in out
    both = json.loads((folders / "both.json").read_text())["predictions"]
    assert list(both) == ["good", "bad"]
    for name in ("good", "bad"):
        assert evaluate(folders, f"runs/{name}", more=("--json", folders / f"{name}.json")) == 0
        assert json.loads((folders / f"{name}.json").read_text()) == both[name]
    assert (both["good"]["STQ"], both["good"]["IDSW"], both["good"]["VC"]["8"]) == (1, 0, 1)
    assert both["bad"]["IDSW"] == 1
    assert both["bad"]["VC"]["8"] < 1


def test_the_page_compares_them_and_shows_the_truth_once(folders):
    assert evaluate(folders, "runs/good", "runs/bad", more=("--html", folders / "r.html")) == 0
    page = (folders / "r.html").read_text()
    # The lowest PQ of each ten frames: two frames, each with ground truth and both predictions.
    assert page.count("data:image/") == 6
    assert "0001/000015" in page
    for name in ("good", "bad"):
        assert f"<b>{name}</b>" in page


def test_every_folder_is_looked_at_before_the_first_is_measured(folders, capsys):
    (folders / "runs/bad/0001/000003.png").unlink()
    assert evaluate(folders, "runs/good", "runs/bad", more=("--json", folders / "f.json")) == 2
    streams = capsys.readouterr()
    assert "runs/bad: no prediction for 1 frame(s): 0001/000003" in streams.err
    assert "STQ" not in streams.out
    assert not (folders / "f.json").exists()


def test_names_are_as_short_as_they_can_be(tmp_path):
    a, b, c = (str(tmp_path / name) for name in ("x/maps", "y/maps", "y/others"))
    assert names_of([a]) == {"maps": a}
    assert names_of([b, c]) == {"maps": b, "others": c}
    assert names_of([a, b]) == {"x/maps": a, "y/maps": b}
    with pytest.raises(InputError, match="one folder twice"):
        names_of([a, f"{tmp_path}/x/../x/maps"])


def test_the_lowest_frames_are_those_of_any_prediction_one_of_each_stretch():
    one, other = [0.9] * 25, [0.8] * 25
    one[3], one[4], other[12], one[24] = 0.3, 0.2, 0.1, float("nan")
    found = {n: {"a": {str(t): pq for t, pq in enumerate(of)}} for n, of in (("one", one), ("other", other))}
    assert lowest_frames(found)[:2] == [("a", "12"), ("a", "4")]
    assert len(lowest_frames(found)) == 3
    assert lowest_frames(found, most=1) == [("a", "12")]
