"""Mistakes marked in the image, worked out by hand on a row of pixels."""

import numpy as np

from vps_ros.datasets.labels import LabelMap
from vps_ros.drawing.views import FALSE, MISSED, SWITCHED, WRONG_CLASS
from vps_ros.evaluation.timelines import SWITCH_FRAMES, MistakeMarker
from vps_ros.taxonomy import CITYSCAPES

ROAD, SKY, CAR, VOID = 0, 10, 13, 255
R, S, V = (ROAD, 0), (SKY, 0), (VOID, 0)


def labels(*pixels):
    classes, instances = zip(*pixels, strict=True)
    return LabelMap(np.array([classes], np.uint8), np.array([instances], np.uint32))


def mark(gt, pred, marker=None):
    return (marker or MistakeMarker(CITYSCAPES)).mark(labels(*gt), labels(*pred))[0].tolist()


def car(instance):
    return CAR, instance


def test_what_is_right_or_not_labelled_has_no_mark():
    gt = [R, S, car(4), car(4), V, V]
    pred = [R, S, car(9), car(9), R, car(9)]
    assert mark(gt, pred) == [0] * 6


def test_pixels_of_another_class_are_marked_also_where_nothing_is_predicted():
    assert mark([R, R, S], [S, V, S]) == [WRONG_CLASS, WRONG_CLASS, 0]


def test_missed_and_false_objects_are_marked_completely():
    gt = [car(1), car(1), car(1), R, R]
    pred = [car(5), R, R, car(6), car(6)]
    # IoU of car 1 and track 5 is 1/3: missed, and track 5 is false, but the missed object is marked over it.
    assert mark(gt, pred) == [MISSED, MISSED, MISSED, FALSE, FALSE]


def test_a_switch_is_marked_for_some_frames():
    marker = MistakeMarker(CITYSCAPES)
    gt = [car(1), car(1), R]
    assert mark(gt, [car(5), car(5), R], marker) == [0, 0, 0]
    shown = [mark(gt, [car(6), car(6), R], marker) for _ in range(SWITCH_FRAMES + 1)]
    assert shown == [[SWITCHED, SWITCHED, 0]] * SWITCH_FRAMES + [[0, 0, 0]]


def test_a_track_that_returns_after_a_gap_is_no_switch():
    marker = MistakeMarker(CITYSCAPES)
    gt = [car(1), R]
    assert mark(gt, [car(5), R], marker) == [0, 0]
    assert mark(gt, [R, R], marker) == [MISSED, 0]
    assert mark(gt, [car(5), R], marker) == [0, 0]
