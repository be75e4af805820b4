"""`vps-ros bench`: finding benchmarks, running one, and the page made of its JSON."""

import importlib.util
import json
import math

import cv2
import numpy as np
import pytest

from vps_ros.commands import bench, main
from vps_ros.segmenters import postprocess
from vps_ros.segmenters.model_card import InputSpec, Thresholds
from vps_ros.segmenters.preprocess import fit
from vps_ros.taxonomy import CITYSCAPES

QUICK = '''"""Counting beside counting twice."""
DESCRIPTION = "how far one counts"

def run(progress):
    return {"counts": [len(list(progress(range(n), "counting", n))) for n in (3, 4)]}

def rows(figures):
    return ["count"], [[n] for n in figures["counts"]]
'''


@pytest.fixture
def source_tree(tmp_path, monkeypatch):
    """A source tree with one quick benchmark in place of the real ones."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "quick.py").write_text(QUICK)
    (folder / "_helper.py").write_text("")
    spec = importlib.util.spec_from_file_location("quick", folder / "quick.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "load", lambda name: {"quick": module}[name])
    return tmp_path


def test_without_a_name_they_are_listed(source_tree, capsys):
    assert main.main(["bench"]) == 0
    listed = capsys.readouterr().out
    assert "quick" in listed and "how far one counts" in listed
    assert "helper" not in listed


def test_figures_as_table_and_json(source_tree, capsys):
    path = source_tree / "out" / "quick.json"
    assert main.main(["bench", "quick", "--json", str(path)]) == 0
    assert "count" in capsys.readouterr().out
    result = json.loads(path.read_text())
    assert result["benchmark"] == "quick"
    assert result["counts"] == [3, 4]
    assert result["machine"]["cores"] >= 1
    assert result["machine"]["packages"]["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bench", "slow"], "no benchmark 'slow'; there is quick"),
        (["bench", "_helper"], "no benchmark '_helper'"),
        (["bench", "--json", "x.json"], "--json needs the name"),
    ],
)
def test_what_is_not_there(source_tree, capsys, arguments, expected):
    assert main.main(arguments) == 2
    assert expected in capsys.readouterr().err


def test_what_cannot_be_measured_here_is_said_and_leaves_no_file(source_tree, capsys, monkeypatch):
    monkeypatch.setattr(bench.load("quick"), "run", lambda progress: {"skipped": "no clip; get one"})
    assert main.main(["bench", "quick", "--json", str(source_tree / "quick.json")]) == 0
    assert "quick was not measured: no clip; get one" in capsys.readouterr().err
    assert not (source_tree / "quick.json").exists()


@pytest.mark.parametrize("name", ["real_frames", "tiles"])
def test_without_the_real_drive_its_benchmark_is_skipped(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("VPS_ROS_REALDATA", str(tmp_path))
    assert main.main(["bench", name]) == 0
    assert "VPS_ROS_REALDATA" in capsys.readouterr().err


def test_identities_of_boxes():
    """Two cars in three frames: in the second frame, one gets another track; in the third, the other is not found."""
    tiles = bench.load("tiles")
    a, b, alone, inside, low = (np.array([x, 0, x + 40, h], float) for x, h in
                                ((0, 40), (100, 40), (300, 40), (500, 40), (700, 20)))  # fmt: skip
    ignored = tiles.Label(-1, np.array([490, 0, 560, 50], float))
    labels = [[tiles.Label(7, a), tiles.Label(8, b), ignored]] * 3
    found = [
        [(1, a), (2, b)],
        [(1, a), (3, b), (4, alone), (5, inside), (6, low)],
        [(3, b)],
    ]
    scores = tiles.identities(labels, [[tiles.Found(*one) for one in frame] for frame in found])
    # 6 labels and 6 boxes count, `alone` among them; 4 matches keep one identity, 5 are possible.
    assert scores == (8 / 12, 10 / 12, 1, 5 / 6)


def test_models_are_measured_on_real_streets_where_there_are_any(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="torch is of the [train] extra")
    monkeypatch.setenv("VPS_ROS_REALDATA", str(tmp_path))
    assert main.main(["bench", "real_streets"]) == 0
    assert "VPS_ROS_REALDATA" in capsys.readouterr().err
    folder = tmp_path / "streets" / "camvid"
    for kind, suffix, pixels in (("labels", "png", np.repeat([0, 3], 60)), ("images", "jpg", np.repeat([220, 90], 60))):
        (folder / kind / "Seq05VD").mkdir(parents=True)
        assert cv2.imwrite(str(folder / kind / f"Seq05VD/a.{suffix}"), np.tile(pixels[:, None], 160).astype(np.uint8))
    path = tmp_path / "figures.json"
    assert main.main(["bench", "real_streets", "--json", str(path)]) == 0
    inputs = json.loads(path.read_text())["models"]["streets-s-float"]["CamVid Seq05VD"]
    assert [one["input"] for one in inputs.values()] == ["640x192", "640x192", "480x352"]
    assert all(0 <= one["mIoU"] <= 1 and one["frames"] == 1 and "PQ" not in one for one in inputs.values())
    assert "sky" in inputs["stretched"]["classes"]


def test_an_installed_package_has_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    assert main.main(["bench", "pipeline"]) == 2
    assert "part of the source tree" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((bench.ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda p: p.stem)
def test_committed_figures_fit_their_tables(path):
    result = json.loads(path.read_text())
    tables = bench.tables(bench.load(result["benchmark"]), result)
    assert tables
    for title, columns, rows in tables:
        assert title and rows
        for row in rows:
            assert len(row) == len(columns)
            assert all(math.isfinite(value) for value in row if isinstance(value, float))


def test_the_street_of_the_benchmark_is_one():
    """26 queries live, most of them found, at both camera sizes alike."""
    bench.load("pipeline")
    from benchmarks._scene import street

    tensors = street((48, 160))
    found = [
        postprocess.from_logits(
            tensors, fit(InputSpec(192, 640), *size), CITYSCAPES, Thresholds(overlap=0.5), "softmax_queries"
        )
        for size in ((375, 1242), (1080, 1920))
    ]
    assert len(found[0]) >= 20
    assert found[0].class_ids.tolist() == found[1].class_ids.tolist()
    shares = [segmentation.areas / segmentation.map.size for segmentation in found]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.002)
