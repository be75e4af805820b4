"""`vps-ros adapt`: selection of frames, labels of a teacher, and the command from drives to a model."""

import json

import numpy as np
import pytest
import yaml

from vps_ros.adaptation.select import BASE, Observed, feature, select
from vps_ros.adaptation.steps import Plan, choose, frames_at, spread, start
from vps_ros.adaptation.teacher import HIDDEN, ZOOM, confirmed, views
from vps_ros.commands.main import main
from vps_ros.datasets.labels import LabelMap
from vps_ros.errors import InputError
from vps_ros.labelling.segments import class_map
from vps_ros.recording.frames import open_frames
from vps_ros.segmenters.segmentation import segmentation_from_map
from vps_ros.taxonomy import CITYSCAPES

ROAD, WALL, SKY, PERSON, RIDER, CAR = 0, 3, 10, 11, 12, 13


def observed(features, disagreement=None, flicker=None):
    none = np.zeros(len(features), np.float32)
    return Observed(
        np.array(features, np.float32),
        none if disagreement is None else np.array(disagreement, np.float32),
        none if flicker is None else np.array(flicker, np.float32),
    )


def test_novel_frames_are_chosen_first():
    """Three places, seen often, twice and once: one frame of each before a second one of any."""
    places = [[0, 0]] * 6 + [[1, 0]] * 2 + [[0, 1]]
    chosen = select([observed(places)], 3, 1)
    assert {tuple(places[f]) for _, f in chosen} == {(0, 0), (1, 0), (0, 1)}
    assert len(select([observed(places)], 50, 1)) == len(places)


def test_of_equal_frames_the_wrong_and_the_unsteady_one_is_chosen():
    same = [[1, 0]] * 4
    assert select([observed(same, [0, 0, 0.4, 0]), observed(same)], 1, 1) == [(0, 2)]
    assert select([observed(same), observed(same, None, [0, 0.3, 0, 0])], 1, 1) == [(1, 1)]


def test_novelty_and_disagreement_are_multiplied():
    """By hand, from the second choice on: distances 2 and 1 to the first, values BASE and BASE + 0.5."""
    features = [[0, 0], [2, 0], [1, 0]]
    recordings = [observed(features, [9, 0, 0.5])]
    assert BASE * 2 < (BASE + 0.5) * 1
    assert select(recordings, 2, 1) == [(0, 0), (0, 2)]


def test_clips_do_not_overlap_and_lie_in_their_recording():
    rng = np.random.default_rng(0)
    recordings = [observed(rng.normal(size=(n, 4)), rng.uniform(size=n)) for n in (10, 2, 7)]
    chosen = select(recordings, 99, 3)
    assert {r for r, _ in chosen} == {0, 2}
    for r in (0, 2):
        starts = sorted(f for other, f in chosen if other == r)
        assert all(b - a >= 3 for a, b in zip(starts, starts[1:], strict=False))
        assert starts[-1] + 3 <= len(recordings[r].flicker)
    assert select([], 3, 3) == []


def test_frames_of_clips():
    plan = Plan(("a", "b"), ("c",), "", "s", "t", 1)
    recordings = [observed([[0.0]] * 3), observed([[0.0]] * 4, [0, 1, 1, 1])]
    assert choose(plan, recordings) == [(1, 1), (1, 2), (1, 3)]
    # Frames of a drive that is held back are not learned from, whatever is seen there.
    assert choose(plan, [*recordings, observed([[9.0]] * 4, [9, 9, 9, 9])]) == [(1, 1), (1, 2), (1, 3)]


def test_frames_are_spread_over_recordings():
    assert spread([9], 3) == [[0, 4, 8]]
    assert spread([5, 1, 4], 4) == [[0, 3], [], [0, 3]]
    assert spread([2, 0, 3], 99) == [[0, 1], [], [0, 1, 2]]
    assert spread([3, 3], 1) == [[0], []]


def test_frames_of_a_source_by_their_indices():
    images = [np.full((4, 6, 3), value, np.uint8) for value in range(5)]
    found = [(index, int(frame.image[0, 0, 0])) for index, frame in frames_at(open_frames(images), [1, 3])]
    assert found == [(1, 1), (3, 3)]
    assert list(frames_at(open_frames(images), [])) == []


def segmentation(labels, classes, embeddings=None):
    return segmentation_from_map(np.asarray(labels), classes, [0.9] * len(classes), CITYSCAPES, embeddings)


def test_features_describe_classes_and_objects():
    found = feature(segmentation([[1, 1, 2, 0]], [ROAD, CAR], [[5.0, 0], [0, 2.0]]), 19)
    assert found[ROAD] == pytest.approx(0.5**0.5)
    assert found[CAR] == pytest.approx(0.5)
    assert found[19:].tolist() == [0, 1]
    assert class_map(segmentation([[1, 1, 2, 0]], [ROAD, CAR])).tolist() == [[ROAD, ROAD, CAR, 255]]


def label_map(semantic, instance=None):
    semantic = np.array([semantic], np.uint8)
    return LabelMap(
        semantic, np.zeros_like(semantic, np.uint16) if instance is None else np.array([instance], np.uint16)
    )


def test_labels_that_most_views_confirm():
    labels = label_map([ROAD, ROAD, ROAD, ROAD, 255, WALL])
    others = [
        label_map([ROAD, ROAD, SKY, SKY, SKY, HIDDEN]),
        label_map([ROAD, SKY, SKY, SKY, SKY, HIDDEN]),
        label_map([ROAD, ROAD, ROAD, SKY, HIDDEN, HIDDEN]),
    ]
    # All agree; two of three; one of three; all others see the sky; they fill void; no view shows the pixel.
    assert confirmed(labels, others, CITYSCAPES).semantic.tolist() == [[ROAD, ROAD, 255, SKY, SKY, WALL]]
    # Objects are not invented: which object would it be?
    cars = [label_map([CAR] * 6, [1] * 6)] * 3
    assert confirmed(labels, cars, CITYSCAPES).semantic.tolist() == [[255, 255, 255, 255, 255, 255]]


def test_objects_that_every_view_confirms():
    """Two cars that a view takes for one are void, also their classes; identities of the others are kept."""
    labels = label_map(
        [CAR] * 3 + [ROAD] + [CAR] * 4 + [ROAD] + [PERSON] * 2, [900] * 3 + [0] + [7] * 2 + [8] * 2 + [0, 3, 3]
    )
    same = label_map(labels.semantic[0], [5] * 3 + [0] + [1] * 2 + [2] * 2 + [0, 3, 3])
    joined = label_map(labels.semantic[0], [2] * 2 + [0, 0] + [1] * 4 + [0, 3, 3])
    rider = label_map([*labels.semantic[0][:9], RIDER, RIDER], same.instance[0])
    half = label_map([*labels.semantic[0][:10], HIDDEN], [*same.instance[0][:9], 0, 0])
    void = label_map([255] * 11)
    for others, kept in (
        ([same, same], [900, 7, 8, 3]),
        ([same, joined], [900, 3]),
        ([same, rider], [900, 7, 8]),
        ([same, half], [900, 7, 8, 3]),
        ([same, void], []),
    ):
        found = confirmed(labels, others, CITYSCAPES)
        assert [one for one in (900, 7, 8, 3) if (found.instance == one).any()] == kept
        assert np.array_equal(found.instance > 0, np.isin(labels.instance, kept or [-1]))
        assert (found.semantic[(labels.instance > 0) & (found.instance == 0)] == 255).all()


def test_views_lead_back_to_the_image():
    """A segmenter that reads the class from the colour gives the same classes for every view."""
    rng = np.random.default_rng(1)
    truth = rng.choice([ROAD, SKY, CAR], (8, 12)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    image = np.stack([truth * 10] * 3, -1)

    def segment(view):
        classes = view[..., 0] // 10
        return segmentation(np.select([classes == c for c in (ROAD, SKY, CAR)], [1, 2, 3]), [ROAD, SKY, CAR])

    flipped, smaller, left, right = views(image, segment)
    for view in (flipped, smaller):
        assert np.array_equal(view.semantic, truth)
        assert np.array_equal(view.instance > 0, truth == CAR)
    for part in (left, right):
        seen = part.semantic != HIDDEN
        assert np.array_equal(part.semantic[seen], truth[seen])
        assert seen.mean() == pytest.approx(1 / ZOOM**2, abs=0.02)
    assert (left.semantic[:, 0] != HIDDEN).any() and (right.semantic[:, -1] != HIDDEN).any()


def test_the_working_folder_belongs_to_its_arguments(tmp_path):
    plan = Plan(("a",), ("b",), "", "s", "t", 1)
    start(tmp_path / "w", plan)
    start(tmp_path / "w", plan)
    with pytest.raises(InputError, match="other clips"):
        start(tmp_path / "w", Plan(("a",), ("b",), "", "s", "t", 2))
    (tmp_path / "x").mkdir()
    (tmp_path / "x/file").write_text("")
    with pytest.raises(InputError, match="other content"):
        start(tmp_path / "x", plan)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.mcap", "-o", "m.onnx"], "1 drive(s) with 1 held back"),
        (["a.mcap", "a.mcap", "-o", "m.onnx"], "a.mcap: is named twice"),
        (["a.mcap", "b.mcap", "-o", "m.onnx", "--hold-back", "2"], "2 held back"),
        (["a.mcap", "b.mcap", "-o", "m.onnx", "--minutes", "0"], "above 0"),
        (["a.mcap", "b.mcap", "-o", "m.onnx", "--streets", "1.5"], "--streets 1.5"),
        (["a.mcap", "b.mcap", "-o", "m.onnx", "--style", "2"], "--style 2"),
        (["a.mcap", "b.mcap", "-o", "m.onnx", "--size", "big"], "--size 'big'"),
        (["a.mcap", "b.mcap", "-o", "m.onnx"], "a.mcap: no such file"),
        (["a.mcap", "b.mcap", "-o", "m.onnx", "--teacher", "none.onnx"], "none.onnx"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, monkeypatch, capsys, words, message):
    pytest.importorskip("torch", reason="needs torch")
    monkeypatch.chdir(tmp_path)
    assert main(["adapt", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_from_drives_to_a_model(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("panda3d", reason="needs panda3d")
    monkeypatch.chdir(tmp_path)
    size = "128x64"
    assert main(["synth", "-o", "d", "--format", "bag", "--sequences", "2", "--frames", "4", "--size", size]) == 0
    words = ["adapt", "d/0000.mcap", "d/0001.mcap", "-o", "city.onnx", "--clips", "1", "--steps", "2"]
    words += ["--streets-drives", "1", "--size", size, "--no-trackers", "--json", "city.json"]
    assert main([*words, "--plan"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d"]
    assert main(words) == 0
    figures = json.loads((tmp_path / "city.json").read_text())
    assert figures["compared_with"] == "ground truth"
    assert {"before", "after"} <= figures.keys()
    assert "city.onnx on held-back drives" in (tmp_path / "city.adapt/report.html").read_text()
    data = json.loads((tmp_path / "city.adapt/data/panoptic_gt_train_city_vps.json").read_text())
    assert len(data["annotations"]) == 3
    assert main(["inspect", "city.adapt/teacher.onnx"]) == 0
    recipe = yaml.safe_load((tmp_path / "city.adapt/recipe.yaml").read_text())
    assert recipe["data"][0]["partial"] and recipe["data"][1]["style_of"] == recipe["data"][0]["name"]
    assert main(["inspect", "city.onnx"]) == 0
    # Nothing is done again but the export and the report.
    run = tmp_path / "city.adapt/run/checkpoint.pt"
    before = run.stat().st_mtime_ns, (tmp_path / "city.adapt/observed").stat().st_mtime_ns
    assert main([*words, "--force"]) == 0
    assert (tmp_path / "city.adapt/observed").stat().st_mtime_ns == before[1]
    assert main([*words, "--force", "--clips", "2"]) == 2
