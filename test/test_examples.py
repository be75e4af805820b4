"""The programs in examples/, each as a process of its own."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from support import ROOT
from support.bags import drive, write
from support.films import film
from vps_ros.frame import Frame
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.bag import Bag

EXAMPLES = ROOT / "examples"


def run(name, *arguments):
    """What an example prints."""
    code = f"import runpy, sys; sys.path[0] = {str(EXAMPLES.parent)!r}; sys.argv[:] = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, EXAMPLES / f"{name}.py", *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def count_frames(path):
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_examples_are_short_and_tested(path):
    assert len(path.read_text().splitlines()) <= 40
    assert f'run("{path.stem}"' in Path(__file__).read_text()


def test_video(tmp_path):
    said = run("video", film(tmp_path / "drive.mp4", 3), tmp_path / "tracked.mp4", 2)
    assert count_frames(tmp_path / "tracked.mp4") == 2
    for line in said.splitlines():
        assert re.fullmatch(r"1\.0[04]0 s: [a-z-]+ \d+ at \d+,\d+ to \d+,\d+", line)


def test_bag(tmp_path):
    bag = write(tmp_path / "bag", drive(3, "/left") + drive(2, "/right"))
    said = run("bag", bag, tmp_path / "tracked.mcap", "/left")
    assert all(re.fullmatch(r"[a-z-]+: \d+", line) for line in said.splitlines())
    with Bag(tmp_path / "tracked.mcap") as result:
        assert {t.name: t.count for t in result.topics}["/vps/tracks"] == 3


def test_custom_segmenter(tmp_path):
    said = run("custom_segmenter", film(tmp_path / "drive.mp4", 4), tmp_path / "tracked.mp4")
    found = [eval(line) for line in said.splitlines()]
    # One red square of 16x16 pixels, but for what the video's compression does at its border.
    assert [[track_id for track_id, _ in tracks] for tracks in found] == [[1]] * 4
    assert all(150 < area < 330 for ((_, area),) in found)
    assert count_frames(tmp_path / "tracked.mp4") == 4


def test_supervision_detections(tmp_path):
    pytest.importorskip("supervision")
    said = run("supervision_detections", film(tmp_path / "drive.mp4", 3), tmp_path / "tracked.mp4")
    assert [eval(line) for line in said.splitlines()] == [[1]] * 3
    assert count_frames(tmp_path / "tracked.mp4") == 3


@pytest.mark.slow
def test_transformers_results(tmp_path):
    pytest.importorskip("transformers")
    from support.hf_checkpoints import save

    save("mask2former", tmp_path / "network")
    run("transformers_results", film(tmp_path / "drive.mp4", 2), tmp_path / "tracked.mp4", tmp_path / "network")
    assert count_frames(tmp_path / "tracked.mp4") == 2


def test_ultralytics_results(tmp_path):
    """Results have tensors; these have the same methods. Then a real network, where Ultralytics is installed."""
    torch = pytest.importorskip("torch")
    masks_of = runpy.run_path(str(EXAMPLES / "ultralytics_results.py"))["masks_of"]
    masks = np.zeros((2, 4, 6), np.uint8)
    masks[0, :2], masks[1, 1:, 3:] = 1, 1
    boxes = SimpleNamespace(cls=torch.tensor([2.0, 0.0]), conf=torch.tensor([0.5, 0.9]))
    found = SimpleNamespace(masks=SimpleNamespace(data=torch.from_numpy(masks)), boxes=boxes, orig_shape=(4, 6))
    names = {0: "person", 1: "bicycle", 2: "car"}
    pipeline = OnlinePanoptic(segmenter=lambda image: masks_of(found), taxonomy=names)
    result = pipeline.step(Frame(np.zeros((4, 6, 3), np.uint8), 0))
    areas = {pipeline.taxonomy.class_name(s.class_id): s.area for s in result.segments}
    assert areas == {"person": 9, "car": 9}
    found.masks = None
    assert pipeline.step(Frame(np.zeros((4, 6, 3), np.uint8), 1)).segments == ()
    pytest.importorskip("ultralytics")
    run("ultralytics_results", film(tmp_path / "drive.mp4", 1), tmp_path / "tracked.mp4", "yolo11n-seg.yaml")
    assert count_frames(tmp_path / "tracked.mp4") == 1


def test_custom_tracker(tmp_path):
    said = run("custom_tracker", film(tmp_path / "drive.mp4", 3))
    tracks = [eval(line) for line in said.splitlines()]
    assert len(tracks) == 3
    assert all(len(set(ids)) == len(ids) for ids in tracks)


def test_embeddings(tmp_path):
    first, *pairs = run("embeddings", film(tmp_path / "drive.mp4", 2)).splitlines()
    count = int(first.removesuffix(" objects"))
    assert len(pairs) == count * (count - 1) // 2
    assert all(-1.001 <= float(pair.split()[2]) <= 1.001 for pair in pairs)


def test_evaluate_masks(tmp_path):
    class_map = np.array([[1, 1, 1, 1], [0, 0, 2, 2]], np.uint8)
    track_map = np.array([[0, 0, 0, 0], [0, 0, 5, 5]], np.uint16)
    wrong = class_map.copy()
    wrong[1, 0] = 1
    for name, classes in (("truth", class_map), ("same", class_map), ("wrong", wrong)):
        (tmp_path / name).mkdir()
        for frame in range(2):
            np.savez(tmp_path / name / f"{frame}.npz", class_map=classes, track_map=track_map)
    same = run("evaluate_masks", tmp_path / "truth", tmp_path / "same").splitlines()
    assert same[0] == "STQ 1.0000  AQ 1.0000  SQ 1.0000  mIoU 1.0000"
    assert same[3] == "car: PQ 1.0000  IoU 1.0000"
    # Half of the road is called sky: IoU 1/2 of the road, 4/5 of the sky; PQ counts matches above one half only.
    wrong_lines = run("evaluate_masks", tmp_path / "truth", tmp_path / "wrong").splitlines()
    assert wrong_lines[1:] == [
        "road: PQ 0.0000  IoU 0.5000",
        "sky: PQ 0.8000  IoU 0.8000",
        "car: PQ 1.0000  IoU 1.0000",
    ]
    assert "AQ 1.0000  SQ 0.7667" in wrong_lines[0]
