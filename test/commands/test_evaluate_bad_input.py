"""`vps-ros evaluate` with the folders of every data set: what is wrong is one line, and no report is left.

The same for bags is in test_evaluate_bag.py, for tracks in test_evaluate_tracks.py.
"""

import json

import cv2
import numpy as np
import pytest

from support.data_sets import DATA_SETS, put
from vps_ros.commands.main import main
from vps_ros.datasets.formats import FORMATS

RGB = [name for name, data in DATA_SETS.items() if name not in ("vipseg", "vspw")]
"""Whose predictions are RGB; the others' are grey."""
JSON = [name for name in RGB if "step" not in name]


def evaluate(data, root, *more, gt="gt", pred="pred"):
    paths = "--gt", str(root / gt), "--pred", str(root / pred)
    return main(["evaluate", "--format", data.form, *paths, *map(str, more)])


def complaint(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vps-ros:")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def refused(tmp_path, capsys):
    """Asserts that an evaluation ends with one line that holds these words and a path, and leaves nothing."""

    def check(data, words, **which):
        before = sorted(tmp_path.rglob("*"))
        assert evaluate(data, tmp_path, "--json", tmp_path / "f.json", "--html", tmp_path / "r.html", **which) == 2
        line = complaint(capsys)
        assert words in line
        assert str(tmp_path) in line
        assert sorted(tmp_path.rglob("*")) == before

    return check


def read(path):
    """Grey [H, W], or R, G, B."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


def recode(path, change):
    put(path, np.ascontiguousarray(change(read(path))))


@pytest.mark.parametrize("name", DATA_SETS)
def test_frames_without_prediction(name, tmp_path, refused, capsys):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    data.drop_prediction(root, data.names[1])
    refused(data, f"no prediction for 1 frame(s): {data.video}/{data.names[1]}; predict them, or pass --allow-missing")
    assert evaluate(data, root, "--allow-missing", "--json", root / "f.json") == 0
    figures = json.loads((root / "f.json").read_text())
    assert figures["frames"] == 4
    # 3 of 4 frames are right, and the pixels of the fourth are missed.
    assert figures["mIoU"] == 0.75
    assert "1 frame(s) that are missing on one side were counted as void" in capsys.readouterr().err


@pytest.mark.parametrize("name", DATA_SETS)
def test_frames_without_truth(name, tmp_path, refused):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    data.drop_truth(root, data.names[1])
    if FORMATS[data.form].sparse:
        assert evaluate(data, root, "--json", root / "f.json") == 0
        assert json.loads((root / "f.json").read_text())["frames"] == 3, "what is not labelled counts nowhere"
        return
    refused(data, f"no ground truth for 1 frame(s): {data.video}/{data.names[1]}; remove their predictions, or pass")
    assert evaluate(data, root, "--allow-missing", "--json", root / "f.json") == 0
    figures = json.loads((root / "f.json").read_text())
    assert (figures["frames"], figures["mIoU"], figures["PQ"]["all"]) == (4, 1, 1), "what lies on void is forgiven"


@pytest.mark.parametrize("side", ["truth", "prediction"])
@pytest.mark.parametrize("name", DATA_SETS)
def test_files_that_cannot_be_read(name, side, tmp_path, refused):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    file = data.truth_map(data.names[2]) if side == "truth" else data.predicted_map(data.names[2])
    path = root / ("gt" if side == "truth" else "pred") / file
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    refused(data, f"{file}: PNG is cut off; copy or write it again")
    path.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    refused(data, f"{file}: PNG is damaged")
    path.write_bytes(b"")
    refused(data, f"{file}: not a PNG file")
    path.write_bytes(cv2.imencode(".jpg", read_or_grey(whole))[1].tobytes())
    refused(data, f"{file}: not a PNG file")


def read_or_grey(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("name", DATA_SETS)
def test_another_size(name, tmp_path, refused):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    file = data.predicted_map(data.names[3])
    recode(root / "pred" / file, lambda pixels: np.concatenate([pixels, pixels[:, -1:]], 1))
    refused(data, f"{file}: its size 9x4 is not that of")


@pytest.mark.parametrize("name", DATA_SETS)
def test_another_size_of_both_within_a_video(name, tmp_path, refused):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    files = [root / "gt" / data.truth_map(data.names[3]), root / "pred" / data.predicted_map(data.names[3])]
    if name == "viper":
        files.append(root / f"gt/val/inst/001/{data.names[3]}.png")
    for path in files:
        recode(path, lambda pixels: np.concatenate([pixels, pixels[:, -1:]], 1))
    refused(
        data, f"{data.truth_map(data.names[3])}: sequence {data.video}: maps of 9x4 (truth) and 9x4 (prediction) in a"
    )


@pytest.mark.parametrize("name", DATA_SETS)
def test_another_number_of_channels(name, tmp_path, refused):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    file = data.predicted_map(data.names[0])
    if name in RGB:
        recode(root / "pred" / file, lambda pixels: pixels[..., 0])
        refused(data, f"{file}: coded as 8-bit grey")
    else:
        recode(root / "pred" / file, lambda pixels: np.stack([pixels.astype(np.uint8)] * 3, -1))
        refused(data, f"{file}: coded as 8-bit RGB")


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_coding_of_deeplab2(name, tmp_path, refused):
    """class * 1000 + instance in 16 bits."""
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    file = data.predicted_map(data.names[0])
    semantic, instance = data.scene(0)
    put(root / "pred" / file, np.where(semantic == 255, 65000, semantic * np.uint16(1000) + instance).astype(np.uint16))
    refused(data, f"{file}: value 60001, 60002, 65000 stands for no class" if name == "vipseg" else "16-bit grey")


@pytest.mark.parametrize("name", RGB)
def test_red_and_blue_swapped(name, tmp_path, refused):
    """As `cv2.imwrite` does with R, G, B."""
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    file = data.predicted_map(data.names[0])
    recode(root / "pred" / file, lambda pixels: pixels[..., ::-1])
    refused(data, "red and blue are swapped")


@pytest.mark.parametrize("name", DATA_SETS)
def test_classes_that_are_none(name, tmp_path, refused):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    if name in JSON:
        path = root / "pred/pred.json"
        document = json.loads(path.read_text())
        first = document["annotations"][0]
        first = first["annotations"][0] if "annotations" in first else first
        first["segments_info"][0]["category_id"] = 200
        path.write_text(json.dumps(document))
        refused(data, "segments_info[0] has category_id 200, not one of")
        first["segments_info"][0].update(category_id=data.stuff, id=2**24)
        path.write_text(json.dumps(document))
        refused(data, "segments_info[0] has id 16777216; ids are 1..16777215")
        first["segments_info"][0]["id"] = 5
        path.write_text(json.dumps(document))
        refused(data, "does not list")
    else:
        file = data.predicted_map(data.names[1])
        strange = {"vipseg": 12501, "vspw": 124}.get(name, 33)
        recode(
            root / "pred" / file, lambda pixels: np.where(pixels == pixels[2, 2], strange, pixels).astype(pixels.dtype)
        )
        refused(data, f"{file}: value 12501 stands" if name == "vipseg" else f"{file}: class id {strange} is not in")


@pytest.mark.parametrize("side", ["gt", "pred"])
@pytest.mark.parametrize("name", DATA_SETS)
def test_folders_that_hold_nothing(name, side, tmp_path, refused):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    (root / "empty").mkdir()
    (root / "file").write_text("")
    refused(data, str(root / "empty"), **{side: "empty"})
    refused(data, f"{root / 'nowhere'}: no such folder", **{side: "nowhere"})
    refused(data, f"{root / 'file'}: not a folder", **{side: "file"})


@pytest.mark.parametrize("name", DATA_SETS)
def test_frames_that_are_there_twice(name, tmp_path, refused):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    frame = data.names[0]
    if name in JSON:
        path = root / "pred/pred.json"
        document = json.loads(path.read_text())
        first = document["annotations"][0]
        rows = first["annotations"] if "annotations" in first else document["annotations"]
        rows.append(rows[0])
        path.write_text(json.dumps(document))
        refused(data, f"is the second one of image {frame!r}; keep one")
    else:
        path = root / "pred" / data.predicted_map(frame)
        path.with_suffix(".PNG").write_bytes(path.read_bytes())
        refused(data, f"frame {frame}")


@pytest.mark.parametrize("name", JSON)
def test_json_that_is_cut_off(name, tmp_path, refused):
    data = DATA_SETS[name]
    root = data.build(tmp_path)
    path = root / "pred/pred.json"
    path.write_text(path.read_text()[:-9])
    refused(data, "pred.json: is not complete JSON")
    path.unlink()
    refused(
        data, "expected panomasks" if data.form == "vipseg" else "pred.json: no such file; predictions are pred.json"
    )


UNLIKE = [(a, b) for a in DATA_SETS for b in DATA_SETS if DATA_SETS[a].form != DATA_SETS[b].form]
# Of one coding, and every value is a class of either.
for alike in (("vipseg", "vspw"), ("vipseg, converted", "vspw"), ("kitti-step", "motchallenge-step")):
    UNLIKE.remove(alike)


@pytest.mark.parametrize(("name", "other"), UNLIKE)
def test_predictions_of_another_data_set(name, other, tmp_path, refused):
    """With the names of the truth's frames, so that only their coding differs."""
    data, foreign = DATA_SETS[name], DATA_SETS[other]
    data.build(tmp_path)
    (tmp_path / "pred").rename(tmp_path / "own")
    frames = {name: foreign.scene(i) for i, name in enumerate(data.names)}
    foreign.prediction(tmp_path / "pred", frames)
    for folder in [p for p in (tmp_path / "pred").rglob(foreign.video) if p.is_dir()]:
        folder.rename(folder.parent / data.video)
    refused(data, "")
