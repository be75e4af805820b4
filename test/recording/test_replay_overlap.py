"""Threads of a replay: the results and their order do not depend on them, and a failure ends all of them."""

import threading

import numpy as np
import pytest

from support.worlds import colour_model, picture
from vps_ros import Config, DroppedFrame, Frame, InputError, OnlinePanoptic
from vps_ros.recording.replay import replay

TENTH = 100_000_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(colour_model(tmp_path_factory.mktemp("model") / "colours.onnx"))


def frames():
    """Two sequences; the first frame of the second cannot be used."""
    yield from (Frame(picture({0: (4 + 4 * i, 40), 1: (70, 40)}), (100 + i) * TENTH) for i in range(8))
    yield Frame(np.zeros((64, 96), np.uint8), 5 * TENTH)
    yield from (Frame(picture({0: (8 + 4 * i, 40)}), (6 + i) * TENTH) for i in range(8))


def results_of(model, jobs):
    found = []
    summary = replay(frames(), OnlinePanoptic(Config(model=model)), [lambda _, result: found.append(result)], jobs)
    return found, summary


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_results_do_not_depend_on_the_threads(model, jobs):
    (one, plain), (several, overlapped) = results_of(model, 1), results_of(model, jobs)
    assert [r.sequence_id for r in several] == 8 * [0] + 8 * [1]
    for first, second in zip(one, several, strict=True):
        assert (first.stamp, first.segments, first.sequence_id) == (second.stamp, second.segments, second.sequence_id)
        assert np.array_equal(first.map, second.map)
    assert plain.dropped == overlapped.dropped
    assert overlapped.dropped.total() == 1
    assert plain.tracks == overlapped.tracks == {1, 2, 3}


def test_tracks_of_the_old_sequence_end_where_its_successor_begins(model):
    found, _ = results_of(model, 2)
    assert {t.track_id for t in found[7].tracks} == {1, 2}
    assert {t.track_id for t in found[8].tracks} == {3}


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_a_sink_that_fails_ends_all_threads(model, jobs):
    before = threading.active_count()

    def sink(_, result):
        if result.stamp == 103 * TENTH:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        replay(frames(), OnlinePanoptic(Config(model=model)), [sink], jobs)
    assert threading.active_count() == before


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_a_segmenter_that_fails_ends_the_replay(jobs):
    def segmenter(image):
        raise InputError("the camera's calibration is missing")

    with pytest.raises(InputError, match="calibration is missing"):
        replay(frames(), OnlinePanoptic(segmenter=segmenter, taxonomy=["car"]), [], jobs)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_no_usable_frame_is_an_error_with_the_first_reason(model, jobs):
    grey = [Frame(np.zeros((64, 96), np.uint8), i) for i in range(3)]
    with pytest.raises(InputError, match=r"no frame could be used; the first reason: frame at 0 ns"):
        replay(grey, OnlinePanoptic(Config(model=model)), [], jobs)


def test_a_segment_may_be_computed_before_the_previous_frame_is_tracked(model):
    pipeline, stepwise = OnlinePanoptic(Config(model=model)), OnlinePanoptic(Config(model=model))
    good = [f for f in frames() if f.image.ndim == 3]
    ahead = [pipeline.segment_ready(frame) for frame in good]
    for frame, (segmented,) in zip(good, ahead, strict=True):
        assert np.array_equal(stepwise.step(frame).map, pipeline.track(segmented).map)


def test_an_unusable_frame_is_refused_by_segment(model):
    (found,) = OnlinePanoptic(Config(model=model)).segment_ready(Frame(np.zeros((4, 4), np.uint8), 0))
    assert isinstance(found, DroppedFrame) and "uint8" in str(found)
