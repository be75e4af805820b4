"""`vps-ros label`: from a recording to a data set, interrupted and continued."""

import json

import cv2
import numpy as np
import pytest

from support.track_folders import process, save_frame, street
from support.worlds import CAR_ID, ROAD_ID, SKY_ID, colour_model, picture
from vps_ros.commands.main import main
from vps_ros.datasets.formats import DATA_SETS
from vps_ros.labelling.edits import Accept, Confirm, Merge, Split
from vps_ros.labelling.project import Project

FRAMES = 7


@pytest.fixture
def recording(tmp_path):
    """Seven images of two squares that move 2 px a frame, and a model that knows their colours."""
    folder = tmp_path / "drive"
    folder.mkdir()
    for i in range(FRAMES):
        image = picture({0: (10 + 2 * i, 30), 1: (70 - 2 * i, 40)})
        cv2.imwrite(str(folder / f"{i}.png"), image[..., ::-1])
    colour_model(tmp_path / "colours.onnx")
    return folder


def label(*words):
    return main(["label", *map(str, words)])


def new(recording, *more):
    root = recording.parent / "project"
    model = [] if "--masks" in more else ["--model", recording.parent / "colours.onnx"]
    return label("new", recording, "-o", root, "--hz", 3, "--image-hz", 9, *model, *more), root


def complaint(capsys):
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vps-ros:")]
    return line


def test_from_a_recording_to_a_data_set(recording, capsys):
    code, root = new(recording)
    assert code == 0
    project = Project(root)
    assert project.frames.sparse == (0, 3, 6)
    assert {n: sorted(t.segments) for n, t in project.state().tracks.items()} == {1: [0, 3, 6], 2: [0, 3, 6]}
    assert label("dense", root) == 2
    assert "no track is accepted" in complaint(capsys)
    project.append([Accept(1)])
    assert label("dense", root) == 0
    assert sorted(Project(root).state().tracks[1].segments) == list(range(FRAMES))
    assert sorted(Project(root).state().tracks[2].segments) == [0, 3, 6]
    project.append([Accept(2)])
    assert label("dense", root) == 0
    assert label("status", root) == 0
    shown = capsys.readouterr().out
    assert "tracks accepted" in shown
    for name in ("kitti-step", "vipseg", "coco-panoptic", "cityscapes-vps"):
        out = root.parent / name
        assert label("export", root, "-o", out, "--format", name) == 0
        assert json.loads((out / "labels.json").read_text())["frames"] == FRAMES
    for name in ("kitti-step", "vipseg", "cityscapes-vps"):
        (video,) = DATA_SETS[name].truth(root.parent / name, None).values()
        assert len(video) == FRAMES
        seen = []
        for i, frame in enumerate(video.values()):
            labels = frame.read()
            assert frame.image.is_file()
            mine = Project(root).labels(Project(root).state(), i)
            classes = DATA_SETS[name].taxonomy
            cars = np.isin(labels.semantic, [c.id for c in classes.classes if c.name == "car"])
            assert np.array_equal(cars, mine.semantic == CAR_ID)
            seen.append(set(np.unique(labels.instance[cars]).tolist()))
        # The two objects have the same two numbers in all frames.
        assert seen == [seen[0]] * FRAMES
        assert len(seen[0]) == 2
    document = json.loads((root.parent / "coco-panoptic/annotations/panoptic_train.json").read_text())
    assert [a["image_id"] for a in document["annotations"]] == list(range(FRAMES))
    ids = {s["track_id"] for a in document["annotations"] for s in a["segments_info"] if s["category_id"] == CAR_ID}
    assert ids == {1, 2}


def test_the_same_arguments_continue_and_others_are_refused(recording, capsys):
    _, root = new(recording)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.*") if p.name != "project.json"}
    assert new(recording)[0] == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    capsys.readouterr()
    assert (
        label("new", recording, "-o", root, "--hz", 1, "--image-hz", 9, "--model", recording.parent / "colours.onnx")
        == 2
    )
    assert "was made with hz 3.0" in complaint(capsys)


def test_an_interrupted_project_is_continued(recording, capsys):
    _, root = new(recording)
    expected = Project(root).state()
    (root / "edits.jsonl").unlink()
    assert label("status", root) == 2
    command = f"`vps-ros label new {recording}`"
    assert f"{command} has not made the labels of the sparse frames: it runs, was interrupted" in complaint(capsys)
    assert new(recording)[0] == 0
    assert Project(root).state() == expected
    # The power failed while an edit was written.
    Project(root).append([Merge(1, 2)])
    log = (root / "edits.jsonl").read_bytes()
    (root / "edits.jsonl").write_bytes(log[:-5])
    assert Project(root).state() == expected
    Project(root).append([Split(1, 3)])
    assert len(Project(root).state().tracks) == 3


def test_a_recording_that_cannot_be_labelled_says_what_is_missing(recording, capsys):
    cv2.imwrite(str(recording / "5.png"), np.zeros((40, 40, 3), np.uint8))
    code, root = new(recording)
    assert code == 2
    reason = complaint(capsys)
    assert "frame 5 is 40x40, those before are 96x64" in reason
    assert label("status", root) == 2
    assert "has not made the images of the recording: it runs, was interrupted or failed" in complaint(capsys)
    assert new(recording)[0] == 2
    assert complaint(capsys) == reason


def test_corrected_frames_are_propagated_again(recording):
    _, root = new(recording)
    assert label("dense", root, "--all") == 0
    project = Project(root)
    project.append([Confirm(4)])
    kept = project.labels(project.state(), 4)
    assert label("dense", root, "--all") == 0
    project = Project(root)
    state = project.state()
    assert state.layers[4] == "0001-dense"
    assert state.layers[5] == "0002-dense"
    assert np.array_equal(project.labels(state, 4).instance, kept.instance)


@pytest.mark.parametrize("taxonomy", ["cityscapes", "kitti-step"])
def test_given_masks(tmp_path, capsys, taxonomy):
    """The classes of KITTI-STEP are not those of the model, so masks are propagated by optical flow alone."""
    for i in range(FRAMES):
        save_frame(tmp_path, "0000", f"{i:06d}", *street(i))
    code, root = label("new", tmp_path / "images/0000", "-o", tmp_path / "p", "--image-hz", 9, "--hz", 3,
                       "--masks", tmp_path / "maps/0000", "--taxonomy", taxonomy), tmp_path / "p"  # fmt: skip
    assert code == 0
    project = Project(root)
    state = project.state()
    assert len(state.tracks) == 4
    for frame in (0, 3, 6):
        semantic = project.labels(state, frame).semantic
        assert np.array_equal(semantic, street(frame)[1])
    assert ("optical flow alone" in capsys.readouterr().err) == (taxonomy == "kitti-step")
    assert label("dense", root, "--all") == 0
    assert len(Project(root).state().layers) == FRAMES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "{tmp}/drive"], "no labelling project"),
        (["export", "{tmp}/project", "-o", "{tmp}/project/out"], "inside the project"),
        (["new", "{tmp}/drive", "-o", "{tmp}/drive"], "other content"),
        (["new", "{tmp}/drive", "-o", "{tmp}/x", "--hz", "0"], "--hz 0"),
        (["new", "{tmp}/drive", "-o", "{tmp}/x", "--taxonomy", "vipseg"], "--masks only"),
        (["new", "{tmp}/drive", "-o", "{tmp}/x", "--second", "none.onnx"], "none.onnx"),
        (["new", "{tmp}/none", "-o", "{tmp}/x"], "no such file"),
    ],
)
def test_wrong_input_is_one_line(recording, capsys, words, message):
    new(recording)
    capsys.readouterr()
    assert label(*(w.format(tmp=recording.parent) for w in words)) == 2
    assert message in complaint(capsys)
    assert not (recording.parent / "x").exists()


def test_a_damaged_log_is_named_with_its_line(recording, capsys):
    _, root = new(recording)
    with (root / "edits.jsonl").open("a") as file:
        file.write('{"op": "merge", "into": 1, "track": 77}\n')
    assert label("status", root) == 2
    assert "no track 77" in complaint(capsys)
    with (root / "edits.jsonl").open("a") as file:
        file.write("oops\n")
    assert label("status", root) == 2
    assert "line 3 is not JSON" in complaint(capsys)


def test_help_names_the_steps():
    shown = process("label", "--help").stdout
    assert all(step in shown for step in ("new", "review", "dense", "export", "examples:"))
    assert "vps-ros label new" in process("label", "new", "--help").stdout


def test_stuff_of_the_model_is_kept(recording):
    _, root = new(recording)
    project = Project(root)
    assert set(np.unique(project.labels(project.state(), 0).semantic)) == {ROAD_ID, SKY_ID, CAR_ID}
