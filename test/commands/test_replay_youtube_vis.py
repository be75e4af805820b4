"""Results of a replay as YouTube-VIS, and their evaluation by the command."""

import json

import numpy as np
import pytest

from support.bags import TOPIC, raw, write
from support.worlds import colour_model, picture
from vps_ros.commands.main import main
from vps_ros.datasets.rle import from_mask
from vps_ros.datasets.youtube_vis import load_results, load_truth
from vps_ros.taxonomies import YOUTUBE_VIS_2021

TENTH, FRAMES = 100_000_000, 6
CAR = next(c.id for c in YOUTUBE_VIS_2021.classes if c.name == "car")


def squares(i):
    """The first moves; the second is seen in the last three frames."""
    return {0: (4 + 4 * i, 40)} | ({1: (70, 40)} if i >= 3 else {})


def mask(x, y):
    found = np.zeros((64, 96), bool)
    found[y : y + 16, x : x + 16] = True
    return from_mask(found).to_json()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ytvis")
    colour_model(folder / "colours.onnx")
    stamps = [10**9 + i * TENTH for i in range(FRAMES)]
    write(folder / "drive", [(TOPIC, s, raw(picture(squares(i)), s)) for i, s in enumerate(stamps)])
    annotations = [
        {
            "id": paint + 1,
            "video_id": 7,
            "category_id": CAR,
            "iscrowd": 0,
            "segmentations": [mask(*squares(i)[paint]) if paint in squares(i) else None for i in range(FRAMES)],
        }
        for paint in (0, 1)
    ]
    truth = {
        "videos": [{"id": 7, "height": 64, "width": 96, "file_names": [f"v/{i:05d}.jpg" for i in range(FRAMES)]}],
        "categories": [{"id": c.id, "name": c.name} for c in YOUTUBE_VIS_2021.classes],
        "annotations": annotations,
    }
    (folder / "valid.json").write_text(json.dumps(truth))
    return folder


def replay(folder, *more):
    command = ["replay", folder / "drive", "-o", folder / "out.mcap", "--model", folder / "colours.onnx", "--force"]
    return main([str(part) for part in (*command, *more)])


def test_objects_of_a_replay_are_read_by_evaluate(folder):
    assert replay(folder, "--youtube-vis", folder / "results.json", "--video-id", 7) == 0
    truth = load_truth(folder / "valid.json", YOUTUBE_VIS_2021)
    (video,) = load_results(folder / "results.json", truth, YOUTUBE_VIS_2021)
    moving, later = video.tracks
    assert {moving.class_id, later.class_id} == {CAR}
    assert [m is not None for m in moving.masks] == [True] * 6
    assert [m is not None for m in later.masks] == [False] * 3 + [True] * 3
    # Bilinear interpolation of the masks rounds the corners of the squares.
    assert all(250 <= m.area <= 256 for m in moving.masks)
    figures = folder / "figures.json"
    pred = ["--pred", str(folder / "results.json"), "--json", str(figures)]
    assert main(["evaluate", "--format", "youtube-vis", "--gt", str(folder), "--split", "valid", *pred]) == 0
    assert json.loads(figures.read_text())["AP"] == pytest.approx(1)


def test_classes_without_a_category_are_left_out_and_named(folder, capsys):
    assert replay(folder, "--youtube-vis", folder / "old.json", "--edition", "2019") == 0
    assert json.loads((folder / "old.json").read_text()) == []
    assert "YouTube-VIS 2019 has no class for 2 car; left out" in " ".join(capsys.readouterr().err.split())


def test_an_existing_file_is_kept(folder, capsys):
    (folder / "there.json").write_text("mine")
    command = ["replay", str(folder / "drive"), "-o", str(folder / "new.mcap"), "--model", str(folder / "colours.onnx")]
    assert main([*command, "--youtube-vis", str(folder / "there.json")]) == 2
    assert "there.json: exists" in capsys.readouterr().err
    assert (folder / "there.json").read_text() == "mine"
    assert not (folder / "new.mcap").exists()
