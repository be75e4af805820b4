"""The person that `vps-ros bench label` simulates: what is corrected, and how it is counted."""

import numpy as np

from vps_ros.commands.bench import load
from vps_ros.datasets.labels import LabelMap
from vps_ros.taxonomy import VOID_ID

ROAD, PERSON, CAR = 0, 11, 13
bench = load("label")


def labels(*objects, size=(80, 100)):
    """Road with rectangles (class, number, x, width), each 20 rows high."""
    semantic, instance = np.full(size, ROAD, np.uint8), np.zeros(size, np.int64)
    for class_id, number, x, width in objects:
        semantic[10:30, x : x + width], instance[10:30, x : x + width] = class_id, number
    return LabelMap(semantic, instance)


def corrected(true, found):
    result, count = bench.corrected_frame(true, found)
    return np.array_equal(result.semantic, true.semantic) and np.array_equal(result.instance, true.instance), count


def test_what_is_right_is_not_corrected():
    true = labels((CAR, 1, 10, 40))
    assert corrected(true, true) == (True, 0)
    # 38 of 40 columns: IoU 0.95. The road has 0.99.
    assert corrected(true, labels((CAR, 1, 10, 38))) == (False, 0)


def test_masks_identities_classes_and_missing_objects_are_one_correction_each():
    true = labels((CAR, 1, 10, 40), (PERSON, 2, 60, 10))
    assert corrected(true, labels((CAR, 1, 10, 34), (PERSON, 2, 60, 10))) == (True, 1)
    assert corrected(true, labels((CAR, 7, 10, 40), (PERSON, 2, 60, 10))) == (True, 1)
    assert corrected(true, labels((PERSON, 1, 10, 40), (PERSON, 2, 60, 10))) == (True, 1)
    assert corrected(true, labels((CAR, 1, 10, 40))) == (True, 1)


def test_a_segment_that_shows_nothing_true_is_removed():
    assert corrected(labels(), labels((CAR, 1, 10, 5))) == (True, 1)
    # Below 50 px there is nothing to see.
    assert corrected(labels(), labels((CAR, 1, 10, 2))) == (False, 0)


def test_void_is_not_corrected():
    true = labels((CAR, 1, 10, 40))
    true.semantic[10:30, 60:80] = VOID_ID
    assert corrected(true, labels((CAR, 1, 10, 40), (PERSON, 9, 60, 20)))[1] == 0
