"""VC_n: answers worked out by hand, and against whole videos."""

import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks import _unique
from vps_ros.errors import InputError
from vps_ros.evaluation.vc import VideoConsistency


def vc(gt, pred, windows):
    """VC of a video of rows, one list of class ids for each frame."""
    counts = VideoConsistency(windows)
    for truth, guess in zip(gt, pred, strict=True):
        counts.update(np.array([truth], np.uint8), np.array([guess], np.uint8))
    return counts


def test_of_the_constant_pixels_those_predicted_alike():
    # Windows (1, 2) and (2, 3). Constant are pixels 1-3, of which 1, 2 are predicted alike; then all 4, of which 1-3.
    gt = [1, 1, 1, 1], [1, 1, 1, 2], [1, 1, 1, 2], [9, 9, 9, 9]
    pred = [1, 1, 1, 1], [1, 1, 5, 1], [1, 1, 5, 2], [9, 9, 9, 9]
    assert vc(gt, pred, (2,)).result() == {2: pytest.approx((2 / 3 + 3 / 4) / 2, abs=1e-15)}


def test_a_constant_prediction_need_not_be_right():
    assert vc([[1, 1]] * 3, [[7, 8]] * 3, (2,)).result() == {2: 1}


def test_going_and_coming_back_is_no_constancy():
    # The only window is (1, 2, 3); pixel 1 is predicted 1 5 1.
    assert vc([[1, 1]] * 4, [[1, 1], [5, 1], [1, 1], [1, 1]], (3,)).result() == {3: 0.5}


def test_the_window_that_ends_the_video_is_left_out():
    # Of windows of 2 only (1, 2) counts, not (2, 3), in which the prediction changes.
    assert vc([[1]] * 3, [[1], [1], [2]], (2,)).result() == {2: 1}
    assert vc([[1]] * 4, [[1], [1], [2], [2]], (2,)).result() == {2: 0.5}


def test_videos_no_longer_than_the_window_count_nothing():
    found = vc([[1]] * 8, [[1]] * 8, (7, 8, 16)).result()
    assert found[7] == 1
    assert math.isnan(found[8]) and math.isnan(found[16])
    assert all(math.isnan(value) for value in VideoConsistency().result().values())
    assert tuple(VideoConsistency().result()) == (8, 16)


def test_windows_without_a_constant_pixel_are_left_out():
    # Of the windows (1, 2), (2, 3), (3, 4) the second has no constant pixel; the others' shares are 1 and 0.
    assert vc([[1], [1], [2], [2], [2]], [[1], [1], [1], [3], [3]], (2,)).result() == {2: 0.5}


def test_void_is_a_class_like_any_other():
    assert vc([[255, 1]] * 3, [[3, 1], [4, 1], [4, 1]], (2,)).result() == {2: 0.5}


def test_the_mean_is_over_windows_not_videos():
    parts = vc([[1]] * 4, [[1]] * 4, (2,)), vc([[1]] * 3, [[1], [2], [2]], (2,))
    assert VideoConsistency.total(parts) == {2: 2 / 3}


def test_bad_choices_are_refused():
    for windows in ((), (0,), (8, 8), (70_000,)):
        with pytest.raises(InputError, match="windows"):
            VideoConsistency(windows)
    counts = vc([[1, 1]], [[1, 1]], (2,))
    for gt, pred in (((1, 2), (1, 3)), ((1, 3), (1, 3)), ((2,), (2,))):
        with pytest.raises(InputError, match=r"sequence of 2x1"):
            counts.update(np.zeros(gt, np.uint8), np.zeros(pred, np.uint8))
    with pytest.raises(InputError, match="merged"):
        VideoConsistency.total([counts, VideoConsistency((3,))])


def test_what_is_kept_does_not_grow_with_the_sequence_nor_much_with_the_window():
    for windows in ((8, 16), (8, 200)):
        counts = VideoConsistency(windows)
        image = np.random.default_rng(0).integers(0, 9, (40, 50), dtype=np.uint8)
        for i in range(300):
            counts.update(image, np.roll(image, i % 7))
        assert len(pickle.dumps(counts)) < 9 * image.nbytes


def test_maps_may_be_changed_once_they_are_given():
    counts, image = VideoConsistency((2,)), np.ones((1, 1), np.uint8)
    for value in (1, 2, 1):
        image[:] = value
        counts.update(np.ones((1, 1), np.uint8), image)
    assert counts.result() == {2: 0}


@st.composite
def videos(draw):
    shape = (draw(st.integers(1, 9)), 2, 4)
    semantic = hnp.arrays(np.uint8, shape, elements=st.sampled_from((0, 0, 0, 1, 255)))
    gt, pred = draw(semantic), draw(semantic)
    return _unique.Video(gt, gt, pred, pred)


def count(video, windows):
    counts = VideoConsistency(windows)
    for gt, _, pred, _ in zip(*video, strict=True):
        counts.update(gt, pred)
    return counts


some_windows = st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(videos(), min_size=1, max_size=3), some_windows)
def test_agrees_with_whole_videos_to_the_last_digit_in_any_order(several, windows):
    counts = [count(video, windows) for video in several]
    plain = {n: _unique.consistency(several, n) for n in sorted(windows)}
    np.testing.assert_equal(VideoConsistency.total(counts), plain)
    np.testing.assert_equal(VideoConsistency.total(counts[::-1]), plain)


@settings(max_examples=50, deadline=None)
@given(videos(), some_windows)
def test_the_truth_itself_scores_one(video, windows):
    found = count(video._replace(pred_class=video.gt_class), windows).result()
    assert all(value == 1 or math.isnan(value) for value in found.values())


@settings(max_examples=50, deadline=None)
@given(videos(), some_windows, st.permutations([0, 1, 255]))
def test_renaming_predicted_classes_changes_nothing(video, windows, names):
    table = np.zeros(256, np.uint8)
    table[[0, 1, 255]] = names
    renamed = video._replace(pred_class=table[video.pred_class])
    np.testing.assert_equal(count(renamed, windows).result(), count(video, windows).result())


@settings(max_examples=200, deadline=None)
@given(videos(), some_windows, st.lists(st.integers(0, 9), max_size=3))
def test_parts_of_a_video_in_their_order_are_one_pass(video, windows, cuts):
    length = len(video.gt_class)
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]

    def parts():
        return [count(_unique.Video(*(s[a:b] for s in video)), windows) for a, b in itertools.pairwise(edges)]

    forwards, backwards, once = VideoConsistency(windows), VideoConsistency(windows), count(video, windows)
    for part in parts():
        forwards.extend(part)
    for part in reversed(parts()):
        part.extend(backwards)
        backwards = part
    np.testing.assert_equal(forwards.result(), once.result())
    np.testing.assert_equal(backwards.result(), once.result())
    # And it goes on as one pass would.
    for counts in (forwards, backwards, once):
        for gt, _, pred, _ in zip(*video, strict=True):
            counts.update(gt, pred)
    np.testing.assert_equal(forwards.result(), once.result())
    np.testing.assert_equal(backwards.result(), once.result())


def test_a_finished_sequence_takes_no_more_frames():
    counts = vc([[1]] * 3, [[1]] * 3, (2,))
    counts.finish()
    assert counts.result() == {2: 1}
    with pytest.raises(InputError, match="finished"):
        counts.update(np.ones((1, 1), np.uint8), np.ones((1, 1), np.uint8))
    with pytest.raises(InputError, match="finished"):
        counts.extend(VideoConsistency((2,)))
    with pytest.raises(InputError, match="continues with maps of 2x1"):
        vc([[1]], [[1]], (2,)).extend(vc([[1, 1]], [[1, 1]], (2,)))
