"""The material of the trackers' benchmarks: crowds, the real drive, scores, and telling pixels from association."""

import importlib.util
import json

import numpy as np
import pytest

from vps_ros.commands import bench
from vps_ros.frame import Frame
from vps_ros.trackers import TRACKERS, tracker_class

bench.load("trackers")

from benchmarks import _roboflow, real_frames  # noqa: E402
from benchmarks import trackers as trackers_benchmark  # noqa: E402
from benchmarks._crowd import crowd  # noqa: E402
from benchmarks._watch import PIXELS, of_the_image, watch  # noqa: E402


def seen(tracks):
    return sorted((t.index, t.track_id, t.associated_by, t.association_score) for t in tracks)


def test_segments_of_a_crowd_are_those_of_its_map():
    shots = list(crowd(40, 5, (320, 120), width=8, seed=2))
    assert len(shots) == 5
    assert len({shot.names.tolist() == sorted(shot.names.tolist()) for shot in shots}) == 1, "the order is random"
    for shot in shots:
        found = shot.segmentation
        assert 20 < len(found) == len(shot.names) == found.map.max() < 40
        for k in range(len(found)):
            y, x = np.nonzero(found.map == k + 1)
            assert found.boxes[k].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert found.areas[k] == len(x)
    again = [shot.segmentation.boxes.tolist() for shot in crowd(40, 5, (320, 120), width=8, seed=2)]
    assert again == [shot.segmentation.boxes.tolist() for shot in shots]


@pytest.mark.parametrize("name", TRACKERS)
def test_association_without_pixels_is_the_same_association(name):
    """With the recorded results of flow and masks, a new tracker gives the same tracks and reads no pixel."""
    shots = list(crowd(15, 6, (320, 120), width=16, seed=1))
    with watch(*PIXELS, *of_the_image()) as watched:
        first, tracker = [], tracker_class(name)()
        for shot in shots:
            watched.start()
            first.append((seen(tracker.step(shot.frame, shot.segmentation)), watched.results))
        pixels, tracker = watched.milliseconds, tracker_class(name)()
        for shot, (tracks, results) in zip(shots, first, strict=True):
            watched.start(results)
            assert seen(tracker.step(shot.frame, shot.segmentation)) == tracks
            assert watched.milliseconds == 0
    tracker = tracker_class(name)()
    assert [seen(tracker.step(shot.frame, shot.segmentation)) for shot in shots] == [tracks for tracks, _ in first]
    assert (pixels > 0) == any(results for _, results in first)


def test_figures_of_a_small_run_fit_their_tables(monkeypatch):
    small = {
        "CAMERA": (200, 80),
        "COUNTS": (50,),
        "FRAMES": 6,
        "WARM_UP": 2,
        "REPEATS": 1,
        "CHURN": dict.fromkeys(TRACKERS, 40),
        "CHURN_THEIRS": dict.fromkeys(trackers_benchmark.CHURN_THEIRS, 40),
    }
    for name, value in small.items():
        monkeypatch.setattr(trackers_benchmark, name, value)
    figures = json.loads(json.dumps(trackers_benchmark.run(lambda items, label, total: items)))
    ours = figures["times_ms"]["50"]["trackers"]["mask_propagation"]
    assert ours["flow"]["median"] > 0 and ours["masks"]["median"] > 0
    association, pixels, memory = trackers_benchmark.tables(figures)
    for _, columns, rows in (association, pixels, memory):
        assert rows and all(len(row) == len(columns) for row in rows)
    assert {row[0] for row in association[2]} >= set(TRACKERS)
    assert {row[0] for row in pixels[2]} >= {"hierarchical", "mask_propagation", "pixel", "hybrid"}
    assert {row[1] for row in memory[2]} == {4, 20, 40}


def test_churn_fills_the_memory_no_further_than_tau():
    """Ten objects in view, others after three frames, none remembered for more than ten: five generations at most."""
    shots = list(trackers_benchmark._churn())
    tracker = tracker_class("location")()
    found = trackers_benchmark._long_run(
        lambda items, label, total: items,
        "location",
        400,
        shots,
        lambda frame, segments: len(tracker.step(frame, segments)),
    )
    assert found["frames"][-1] == 400
    assert found["most_rows"][0] == found["most_rows"][-1]
    assert 30 < found["most_rows"][-1] <= 10 * (1 + 4)


trackeval = pytest.mark.skipif(not importlib.util.find_spec("trackeval"), reason="TrackEval is not installed")


@trackeval
def test_scores_by_hand():
    """Two tracks of three frames; the second changes its id once and is missing once: 4 of 6 found as one id each.

    IDF1 is 2 * 4 / (6 + 5).
    """
    painted = np.zeros((4, 6), np.int32)
    painted[:, :3], painted[:, 4:] = 1 + 7, 1 + 9
    frame = Frame(np.zeros((4, 6, 3), np.uint8), 0)
    true = [real_frames.Labelled(frame, painted, np.array([7, 9]), np.array([13, 11], np.int32))] * 3
    assert real_frames.score(true, [{7: 1, 9: 2}] * 3) == pytest.approx((1, 1, 0))
    other = real_frames.score(true, [{9: 2, 7: 1}, {7: 1, 9: 3}, {7: 1}])
    assert (other.IDF1, other.switches) == (pytest.approx(8 / 11), 1)
    assert 0 < other.HOTA < 1


@trackeval
def test_labels_of_the_real_drive(realdata):
    clip = real_frames.read(realdata / real_frames.CLIP)
    assert len(clip) == 45 and clip[0].frame.image.shape == (375, 1242, 3)
    assert clip[0].tracks.tolist() == [10, 11, 12, 13]
    assert clip[0].classes.tolist() == [13, 13, 13, real_frames.OTHER]
    assert clip[20].tracks.tolist() == []
    # Two boxes share columns 93 to 111; that of track 10 is the nearer one.
    assert clip[0].painted[200, 100] == 1 + 10
    assert clip[0].painted[200, 150] == 1 + 11
    scores = real_frames.evaluated(clip, real_frames.Variant(0.0, 1), 0)
    assert set(TRACKERS) < set(scores)
    assert scores[real_frames.TRUE] == pytest.approx((1, 1, 0))
    dropped = real_frames.evaluated(clip[:20], real_frames.Variant(0.5, 1), 0)[real_frames.TRUE]
    assert dropped.IDF1 < 0.8 and dropped.switches == 0


@pytest.mark.skipif(not _roboflow.there(), reason="roboflow's trackers are not installed")
@pytest.mark.parametrize("name", _roboflow.NAMES)
def test_ids_of_roboflow_are_those_of_the_segments(name):
    """The order of their output does not matter: an object keeps the id of its segment."""
    tracker = _roboflow.Roboflow(name)
    last = {}
    for shot in crowd(6, 8, (400, 200), width=0, missed=0.0, seed=5):
        ids = tracker.see(shot.frame, shot.segmentation)()
        assert len(ids) == len(shot.segmentation)
        known = {k: i for k, i in zip(shot.names.tolist(), ids.tolist(), strict=True) if i}
        assert len(set(known.values())) == len(known)
        assert all(last.get(k, i) == i for k, i in known.items())
        last |= known
    assert len(last) >= 3
