"""`vps-ros ablate`: a small real run, the document that it writes, and what it refuses."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("trackeval")


from support.worlds import colour_model
from vps_ros.ablation import trial
from vps_ros.ablation.report import goal, tables
from vps_ros.ablation.sources import CLASSES, ArrayCache, Drive, Source, fingerprint
from vps_ros.ablation.sweeps import OURS, SWEEPS
from vps_ros.ablation.trial import relabelled, tracked, true_identities
from vps_ros.clips import ClipSpec
from vps_ros.commands import main
from vps_ros.config import TRACKERS, Config, tracker_parameters
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.metric import ComparedFrame
from vps_ros.evaluation.overlaps import overlaps
from vps_ros.frame import Frame, Segmentation
from vps_ros.taxonomy import CITYSCAPES
from vps_ros.trackers import make_tracker

SEED, FRAMES = 700_003, 6
SMALL = ["--scenarios", "crowd", "--drives", "1", "--frames", str(FRAMES), "--seed", str(SEED)]
TIMES = ("association_ms", "flow_ms")
ROAD, PERSON, CAR = 0, 11, 13


def ablate(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "vps_ros.commands.main", "ablate", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("drives")


@pytest.fixture(scope="module")
def result(tmp_path_factory, cache):
    """A run of everything on one short drive: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("ablation") / "out"
    run = ablate(*SMALL, "--cache", cache, "-o", folder, "--sweeps")
    assert run.returncode == 0, run.stderr
    return folder, run.stdout


@pytest.fixture(scope="module")
def document(result):
    return json.loads((result[0] / "ablation.json").read_text())


def untimed(document):
    keep = {k: v for k, v in document.items() if k != "machine"}
    keep["plan"] = {k: v for k, v in keep["plan"].items() if k != "jobs"}
    for part in ("cells", "means"):
        keep[part] = [{k: v for k, v in row.items() if k not in TIMES} for row in keep[part]]
    return keep


def test_the_document(document):
    assert document["format"] == 1
    assert {"cpu", "cores", "packages"} <= set(document["machine"])
    plan = document["plan"]
    assert plan["trackers"] == list(TRACKERS) and plan["masks"] == ["true", "degraded", "model"]
    assert (plan["seed"], plan["frames"], plan["drives"], plan["scenarios"]) == (SEED, FRAMES, 1, ["crowd"])
    rows = ["true identity", *TRACKERS]
    assert {(c["masks"], c["scenario"], c["tracker"]) for c in document["cells"]} == {
        (masks, "crowd", row) for masks in plan["masks"] for row in rows
    }
    for cell in document["cells"]:
        for share in ("AQ", "STQ", "SQ", "IDF1", "HOTA", "AssA"):
            assert 0 <= cell[share] <= 1, (cell["tracker"], share)
        assert cell["MOTA"] <= 1
        assert cell["STQ"] == pytest.approx(math.sqrt(cell["AQ"] * cell["SQ"]))
        truth = cell["tracker"] == "true identity"
        assert all((cell[name] is None) == truth for name in (*TIMES, "candidates", "candidates_max"))
        assert truth or 0 < cell["candidates"] <= cell["candidates_max"]


def test_segments_are_the_same_for_every_tracker(document):
    for masks in document["plan"]["masks"]:
        cells = [c for c in document["cells"] if c["masks"] == masks]
        assert len({(c["tubes"], c["detections"]) for c in cells}) == 1
        # The hierarchical tracker may hold an object to be of another class than its segment.
        assert len({c["SQ"] for c in cells if c["tracker"] != "hierarchical"}) == 1
        truth = next(c for c in cells if c["tracker"] == "true identity")
        assert truth["IDSW"] == 0


def test_true_identities_of_true_masks_are_perfect(document):
    cell = next(c for c in document["cells"] if (c["masks"], c["tracker"]) == ("true", "true identity"))
    assert [cell[name] for name in ("AQ", "STQ", "IDF1", "HOTA", "MOTA", "IDSW")] == [1, 1, 1, 1, 1, 0]
    assert cell["tracks"] == cell["tubes"] > 5


def test_trackers_differ(document):
    for masks in ("true", "degraded"):
        found = {c["tracker"]: c["AQ"] for c in document["cells"] if c["masks"] == masks}
        assert len(set(found.values())) > len(TRACKERS) / 2


def test_means_of_one_scenario_are_its_cells(document):
    cells = {(c["masks"], c["tracker"]): c for c in document["cells"]}
    for mean in document["means"]:
        cell = cells[mean["masks"], mean["tracker"]]
        assert mean == {k: cell[k] for k in mean}


def test_sweeps(document):
    runs = document["sweeps"]
    for run in runs:
        assert set(run) == {"sweep", "source", "masks", "tracker", "setting", "parameters", "AQ", "STQ", "IDF1",
                            "IDSW", "candidates", "candidates_max"}  # fmt: skip
    kmax = [r for r in runs if (r["source"], r["tracker"], r["masks"]) == ("Video-kMaX table 7", "hila_mb", "true")]
    assert [tuple(r["setting"].values()) for r in kmax] == [(t, a) for t in (1, 3, 10, 20) for a in (0.6, 0.7, 0.8)]
    # The paper's own setting is the tracker's default: the sweep meets the table.
    own = next(r for r in kmax if r["setting"] == {"tau": 10, "alpha": 0.7})
    cell = next(c for c in document["cells"] if (c["masks"], c["tracker"]) == ("true", "hila_mb"))
    assert {k: own[k] for k in ("AQ", "STQ", "IDF1", "IDSW")} == {k: cell[k] for k in ("AQ", "STQ", "IDF1", "IDSW")}
    space = {(r["tracker"], r["setting"]["tau"]): r["candidates"] for r in runs if r["sweep"] == "matching space"}
    assert space["appearance", 1000] > space["appearance", 1]
    assert {r["tracker"] for r in runs if r["sweep"] == "theta"} >= {"instance", "pixel", "hybrid"}


def test_sweeps_vary_what_trackers_use():
    for sweep in SWEEPS:
        for tracker in sweep.trackers:
            for _, values in sweep.settings(tracker):
                assert set(values) <= {p.name for p in tracker_parameters(tracker)}
                Config(tracker=tracker, **values)
        assert any(list(sweep.settings(tracker)) for tracker in sweep.trackers if tracker != OURS)
    assert any(list(sweep.settings(OURS)) for sweep in SWEEPS)


def test_what_is_printed(result, document):
    folder, printed = result
    for tracker in (*TRACKERS, "true identity"):
        assert tracker in printed
    assert "Video-kMaX table 6" in printed and "Video-kMaX table 9" in printed and "degraded masks" in printed
    assert {p.name for p in folder.iterdir()} == {
        "ablation.json", "ablation-quality.png", "ablation-cost.png", "ablation-sweeps.png"
    }  # fmt: skip
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in folder.glob("*.png"))
    for _, columns, rows in tables(document):
        assert all(len(row) == len(columns) for row in rows)


def test_processes_and_the_cache_change_nothing(tmp_path, cache, document):
    names = ",".join(("hierarchical", "hila_mb", "pixel"))
    again = tmp_path / "again.json"
    run = ablate(*SMALL, "--trackers", names, "--jobs", "2", "--no-cache", "--json", again)
    assert run.returncode == 0, run.stderr
    found, whole = untimed(json.loads(again.read_text())), untimed(document)
    rows = {*names.split(","), "true identity"}
    for part in ("cells", "means"):
        assert found[part] == [row for row in whole[part] if row["tracker"] in rows]


def test_a_cached_drive_is_not_made_again(cache, document):
    before = {p.name: p.stat().st_mtime_ns for p in cache.iterdir()}
    assert len(before) == 4
    run = ablate(*SMALL, "--trackers", "location", "--cache", cache)
    assert run.returncode == 0, run.stderr
    assert {p.name: p.stat().st_mtime_ns for p in cache.iterdir()} == before


def test_an_entry_that_is_outdated_or_damaged_is_computed_again(tmp_path):
    cache, computed = ArrayCache(tmp_path), []

    def get(name, key):
        def compute():
            computed.append((name, key))
            return {"x": np.arange(3) + len(computed)}

        return cache.get(name, key, compute)["x"].tolist()

    assert not cache.has("a", "key")
    assert get("a", "key") == get("a", "key") == [1, 2, 3] and cache.has("a", "key")
    assert not cache.has("a", "other") and not cache.has("b", "key")
    assert get("a", "other") == [2, 3, 4] and get("b", "key") == [3, 4, 5]
    assert not cache.has("a", "key")
    file = tmp_path / "a.npz"
    file.write_bytes(file.read_bytes()[:60])
    assert not cache.has("a", "other") and get("a", "other") == [4, 5, 6] == get("a", "other")
    assert computed == [("a", "key"), ("a", "other"), ("b", "key"), ("a", "other")]


def test_another_generator_or_other_facts_have_another_fingerprint(tmp_path):
    import types

    module = types.ModuleType("made")
    module.__file__ = str(tmp_path / "made.py")
    (tmp_path / "made.py").write_text("SIZE = 1")
    first = fingerprint([module], {"seed": 1})
    assert first == fingerprint([module], {"seed": 1}) != fingerprint([module], {"seed": 2})
    (tmp_path / "made.py").write_text("SIZE = 2")
    assert fingerprint([module], {"seed": 1}) != first


def test_a_loaded_drive_is_the_one_that_was_made(cache, document):
    drive = Drive("crowd", SEED, FRAMES, (640, 192))
    shots = Source(cache, drive, "true", "streets-s").frames()
    assert len(shots) == FRAMES
    for shot in shots:
        number = np.append(0, np.arange(1, len(shot.segmentation) + 1))
        assert shot.frame.image.shape == (192, 640, 3) and shot.segmentation.map.shape == (192, 640)
        areas = np.bincount(shot.segmentation.map.ravel(), minlength=len(number))[1:]
        assert (areas == shot.segmentation.areas).all()
        assert shot.table.count.sum() == 192 * 640
        assert shot.segmentation.embeddings.shape[0] == len(shot.segmentation)


def test_a_trial_counts_what_the_evaluator_counts(cache, document):
    shots = Source(cache, Drive("crowd", SEED, FRAMES, (640, 192)), "degraded", "streets-s").frames()
    found = trial.figures([trial.run(make_tracker(Config(tracker="sort")), shots)])
    judge, tracker = Evaluator(CITYSCAPES, video=False), make_tracker(Config(tracker="sort"))
    for shot in shots:
        seen = tracked(shot.segmentation, tracker.step(shot.frame, shot.segmentation))
        no_map = np.zeros((0, 0), np.uint8)
        judge.add("a", ComparedFrame(relabelled(CLASSES, shot.table, *seen), no_map, no_map))
    report = judge.result()
    assert (found["AQ"], found["STQ"], found["SQ"]) == (report.aq, report.stq, report.sq)


def test_relabelling_is_counting_again():
    rng = np.random.default_rng(0)
    truth = np.where(rng.random((9, 9)) < 0.5, CAR, ROAD), rng.integers(0, 4, (9, 9))
    labels = rng.integers(1, 5, (9, 9))
    classes = np.array([CAR, PERSON, ROAD, CAR])
    table = overlaps(CLASSES, *truth, classes[labels - 1], labels)
    ids = np.array([70, 3, 0, 70])
    again = overlaps(CLASSES, *truth, classes[labels - 1], ids[labels - 1])
    found = relabelled(CLASSES, table, ids)
    for name in ("gt", "pred", "count"):
        assert (getattr(found, name) == getattr(again, name)).all()


def test_things_have_the_class_of_their_track():
    """A tracker that holds the person to be a car: the person's pixels count as car, road stays road."""
    truth = np.full((1, 6), CAR), np.ones((1, 6), int)
    labels = np.array([[1, 1, 2, 2, 3, 3]])
    classes = np.array([CAR, PERSON, ROAD])
    table = overlaps(CLASSES, *truth, classes[labels - 1], labels)
    found = relabelled(CLASSES, table, np.array([5, 5, 0]), np.array([CAR, CAR, ROAD]))
    again = overlaps(CLASSES, *truth, np.array([[CAR] * 4 + [ROAD] * 2]), np.array([[5] * 4 + [0] * 2]))
    for name in ("gt", "pred", "count"):
        assert (getattr(found, name) == getattr(again, name)).all()


def test_the_true_identity_of_a_segment_is_that_of_most_of_its_pixels():
    gt = [(CAR, 1)] * 5 + [(CAR, 2)] * 4 + [(ROAD, 0)] * 9 + [(PERSON, 3)] * 2
    # Segment 1: three pixels of car 1, two of car 2; 2: the rest of car 1; 3: two of car 2; 4: road; 5: the person.
    labels = [1] * 3 + [2] * 2 + [1, 1, 3, 3] + [6] * 4 + [4] * 5 + [5] * 2
    kinds = {1: CAR, 2: CAR, 3: CAR, 4: ROAD, 5: CAR, 6: CAR}
    row = [np.array([values]) for values in (*zip(*gt, strict=True), [kinds[k] for k in labels], labels)]
    found = true_identities(CLASSES, overlaps(CLASSES, *row), 6)
    column = {c: CLASSES.column[c] << 32 for c in (CAR, PERSON)}
    # Segment 2 shows car 1 as well, but less of it than segment 1; class does not matter; 6 is on the road alone.
    assert found.tolist() == [column[CAR] | 1, 0, column[CAR] | 2, 0, column[PERSON] | 3, 0]


def boxes_of(*boxes):
    count = len(boxes)
    labels = np.zeros((20, 40), np.uint8)
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        labels[y0:y1, x0:x1] = k + 1
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    ones = np.ones(count, np.float32)
    return Segmentation(labels, np.full(count, CAR, np.int32), ones > 0, ones, areas, np.array(boxes, np.float32))


def test_pairs_compared_are_rows_of_memory_times_things():
    tracker = make_tracker(Config(tracker="sort"))
    image = np.zeros((20, 40, 3), np.uint8)
    counts = []
    # Two objects; then three, of which one is new; then one, while three are remembered.
    for i, boxes in enumerate([[(0, 0, 9, 9), (20, 0, 29, 9)],
                               [(0, 0, 9, 9), (20, 0, 29, 9), (31, 11, 39, 19)], [(0, 0, 9, 9)]]):  # fmt: skip
        tracker.step(Frame(image, i * 10**8), boxes_of(*boxes))
        counts.append(tracker.candidates)
    assert counts == [0, 2 * 3, 3 * 1]


def test_the_goal_is_counted_against_the_best_other():
    def row(tracker, **of):
        return {"masks": "true", "tracker": tracker, **of}

    scenarios = {"a": (0.9, 0.8, 0.5), "b": (0.6, 0.7, 0.5)}
    cells = [
        row(name, scenario=s, AQ=values[i], IDF1=values[i])
        for s, values in scenarios.items()
        for i, name in enumerate((OURS, "sort", "iou"))
    ] + [row("true identity", scenario=s, AQ=1.0, IDF1=0.95) for s in scenarios]
    means = [row(n, AQ=v, IDF1=v) for n, v in ((OURS, 0.8), ("sort", 0.75), ("iou", 0.5))]
    means.append(row("true identity", AQ=1.0, IDF1=0.95))
    plan = {"masks": ["true"], "scenarios": ["a", "b"]}
    aq, idf1 = goal({"plan": plan, "cells": cells, "means": means})
    assert (aq["tracker"], aq["best"], aq["lost"]) == ("sort", 0.75, [("b", "sort", 0.6, 0.7)])
    assert aq["gap"] == pytest.approx(0.2) and idf1["gap"] == pytest.approx(0.2)
    assert aq["bound_gap"] == pytest.approx(0.2) and idf1["bound_gap"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trackers", "hierarchical,soert"], "'soert' is not one of"),
        (["--trackers", "sort,sort"], "once"),
        (["--scenarios", "sea"], "'sea' is not one of"),
        (["--masks", "true,false"], "'false' is not one of"),
        (["--frames", "1"], "frames: 1"),
        (["--drives", "0"], "drives: 0"),
        (["--jobs", "0"], "jobs: 0"),
        (["--seed", "-1"], "seed: -1"),
        (["--seed", "899999"], "900000"),
        (["--model", "nowhere.onnx"], "no such file"),
    ],
)
def test_what_is_refused(arguments, said, tmp_path, capsys):
    assert main.main(["ablate", *arguments, "--json", str(tmp_path / "f.json"), "--no-cache"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_results_are_not_replaced_unasked(tmp_path, capsys):
    there = tmp_path / "ablation.json"
    there.write_text("mine")
    assert main.main(["ablate", "-o", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err and there.read_text() == "mine"


class TestNearOnline:
    @pytest.fixture(scope="class")
    @classmethod
    def document(cls, tmp_path_factory, cache):
        """Online and near-online with a model that knows colours, which segments a clip frame by frame."""
        folder = tmp_path_factory.mktemp("near-online")
        models = {"--model": colour_model(folder / "images.onnx")}
        models["--clip-model"] = colour_model(folder / "clips.onnx", clip=ClipSpec(2, 1))
        named = [str(part) for pair in models.items() for part in pair]
        trackers = ["--trackers", "hila_mb,appearance,location", "--masks", "model,clips"]
        run = ablate(*SMALL, *named, *trackers, "--sweeps", "--cache", cache, "--json", folder / "found.json")
        assert run.returncode == 0, run.stderr
        cls.printed = run.stdout
        return json.loads((folder / "found.json").read_text())

    def test_both_are_in_the_document_with_the_features_of_table_5(self, document):
        assert document["plan"]["masks"] == ["model", "clips"]
        found = {(r["masks"], r["features"]) for r in document["features"]}
        alone = {"none", "appearance", "location", "appearance, location", "hierarchical"}
        stitched = {"stitching", "stitching, appearance", "stitching, location", "stitching, appearance, location"}
        stitched |= {"stitching, hierarchical", "stitching as evidence, hierarchical"}
        assert found == {("model", name) for name in alone} | {("clips", name) for name in alone | stitched}

    def test_without_any_feature_the_same_segments_give_the_same(self, document):
        """The model makes the same masks alone and in a clip, so that only stitching makes a difference."""
        shares = {(r["masks"], r["features"]): r["AQ"] for r in document["features"]}
        for name in ("none", "appearance", "location", "appearance, location", "hierarchical"):
            assert shares["model", name] == shares["clips", name]

    def test_tables_show_the_figures_of_the_paper(self, document):
        by_title = {title: (columns, rows) for title, columns, rows in tables(document)}
        columns, rows = by_title["AQ by association features (Video-kMaX table 5)"]
        assert columns[-1] == "paper, near-online"
        assert {r[0]: r[-1] for r in rows}["stitching, appearance, location"] == 74.2
        assert rows[-1][0] == "stitching as evidence, hierarchical" and rows[-1][-3:] == [None] * 3
        _, rows = by_title["Pairs compared in a frame (Video-kMaX table 6)"]
        assert ["paper, near-online", "hila_mb", 19.7, 94, 2.8, 24] in rows
        columns, rows = by_title["AQ by lambda (Video-kMaX table 9)"]
        assert columns[2:8] == ["0", "0.5", "0.7", "0.8", "0.9", "1"]
        assert ["paper, near-online", "hila_mb", 73.34, 74.19, 74.22, 74.22, 74.22, 74.18] in [r[:8] for r in rows]
        columns, rows = by_title["AQ by tau/alpha (Video-kMaX table 7)"]
        theirs = next(r for r in rows if r[:2] == ["paper, near-online", "hila_mb"])
        assert theirs[columns.index("10/0.7")] == 74.2
        assert theirs[-2:] == pytest.approx([73.4, 0.5], abs=0.06)
        columns, rows = by_title["AQ of online (model) and near-online (clips)"]
        assert columns[1:4] == ["online", "near-online", "near-online better"]
        assert [r[0] for r in rows] == ["true identity", "hila_mb", "appearance", "location"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--masks", "clips"], "clips and --clip-model go together"),
            (["--masks", "true", "--clip-model", "streets-s"], "clips and --clip-model go together"),
            (["--clip-model", "streets-s"], "model 'streets-s': takes single images; give a model for clips"),
        ],
    )
    def test_a_model_of_the_wrong_kind_is_one_line(self, capsys, arguments, message):
        assert main.main(["ablate", *SMALL, *arguments]) == 2
        told = capsys.readouterr().err.strip()
        assert message in told
        assert "\n" not in told
