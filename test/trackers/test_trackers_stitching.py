"""Video stitching: tubes of consecutive clips by their masks in the overlapping frames."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vps_ros.clips import ClipSpec, FrameGroups
from vps_ros.frame import Frame, Segmentation
from vps_ros.trackers.stitching import Stitcher, match_tubes

CAR, PERSON, ROAD = 13, 11, 0


def row(labels, classes, tubes):
    """A segmentation of one row of pixels; `classes` and `tubes` of the labels 1, 2, ..."""
    painted = np.array([labels], np.uint8)
    count = len(classes)
    return Segmentation(
        painted,
        np.array(classes, np.int32),
        np.array([c != ROAD for c in classes]),
        np.ones(count, np.float32),
        np.bincount(painted.ravel(), minlength=count + 1)[1:],
        np.zeros((count, 4), np.float32),
        tubes=np.array(tubes, np.int64),
    )


def test_the_best_of_each_other_are_one_object():
    """IoU of tube 0 and 5: 3 of 4 pixels; of tube 1 and 6: 4 of 4."""
    before = row([1, 1, 1, 1, 2, 2, 2, 2], [CAR, CAR], [5, 6])
    after = row([0, 2, 2, 2, 1, 1, 1, 1], [CAR, CAR], [1, 0])
    assert match_tubes([(before, after)], 0.5) == {0: 5, 1: 6}
    assert match_tubes([(before, after)], 0.75) == {1: 6}


def test_an_object_in_two_parts_goes_on_with_the_larger_part():
    before = row([1, 1, 1, 1], [CAR], [5])
    after = row([1, 1, 1, 2], [CAR, CAR], [0, 1])
    assert match_tubes([(before, after)], 0.1) == {0: 5}


def test_other_classes_and_stuff_are_not_compared():
    before = row([1, 1, 2, 2], [CAR, ROAD], [5, 6])
    assert match_tubes([(before, row([1, 1, 2, 2], [PERSON, ROAD], [0, 1]))], 0.1) == {}
    assert match_tubes([], 0.1) == {}


def test_the_iou_is_over_all_overlapping_frames():
    """Tube 0 is on 5 in one frame and beside it in the other: IoU 2 / (4 + 4 - 2) = 1/3."""
    here, there = row([1, 1, 0, 0], [CAR], [5]), row([1, 1, 0, 0], [CAR], [5])
    pairs = [(here, row([1, 1, 0, 0], [CAR], [0])), (there, row([0, 0, 1, 1], [CAR], [0]))]
    assert match_tubes(pairs, 0.33) == {0: 5}
    assert match_tubes(pairs, 0.34) == {}


def test_numbers_go_on_over_clips_and_are_never_used_twice():
    spec = ClipSpec(2, 1)
    groups, stitch = FrameGroups(spec), Stitcher(spec)
    frames = [Frame(np.zeros((1, 4, 3), np.uint8), stamp) for stamp in range(3)]
    left, right = row([1, 1, 2, 2], [CAR, ROAD], [3, 0]), row([2, 2, 1, 1], [CAR, ROAD], [7, 0])
    numbers = [
        stitch(groups.push(frames[0]), [left, left], 0.3),
        # The overlapping frame has the same mask, of another query; in the new frame, the object is elsewhere.
        stitch(groups.push(frames[1]), [row([1, 1, 2, 2], [CAR, ROAD], [7, 0]), right], 0.3),
        # Now the overlapping frame has no mask in common.
        stitch(groups.push(frames[2]), [row([1, 1, 2, 2], [CAR, ROAD], [1, 0]), left], 0.3),
    ]
    assert [[s.tubes.tolist() for s in clip] for clip in numbers] == [[[1, 0]], [[1, 0]], [[2, 0]]]
    stitch.reset()
    assert stitch(FrameGroups(spec).push(frames[0]), [left, left], 0.3)[0].tubes.tolist() == [3, 0]


@given(st.lists(st.integers(0, 4), min_size=12, max_size=12), st.permutations([1, 2, 3, 4]))
def test_a_clip_that_is_segmented_as_before_continues_every_tube(labels, order):
    """In whatever order the queries of the second clip have the same masks."""
    before = row(labels, [CAR] * 4, [11, 12, 13, 14])
    table = np.array([0, *order])
    after = row(table[labels], [CAR] * 4, [0, 1, 2, 3])
    expected = {order[k] - 1: 11 + k for k in range(4) if k + 1 in labels}
    assert match_tubes([(before, after)], 0.5) == expected
