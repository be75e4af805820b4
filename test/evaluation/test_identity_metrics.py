"""IDF1, HOTA, MOTA and id switches: answers worked out by hand, and what must hold of any maps."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("trackeval")

from vps_ros.errors import InputError
from vps_ros.evaluation.identity import Identity, IdentityQuality
from vps_ros.evaluation.overlaps import Classes, overlaps
from vps_ros.taxonomy import CITYSCAPES

ROAD, PERSON, CAR, VOID = 0, 11, 13, 255
CLASSES = Classes(CITYSCAPES)


def table(gt, pred):
    """Overlaps of two rows of pixels, [(class, instance), ...] each."""
    maps = [np.array([[one[part] for one in row]], np.int64) for row in (gt, pred) for part in (0, 1)]
    return overlaps(CLASSES, *maps)


def identity(*frames, **how):
    counts = Identity(CLASSES, **how)
    for gt, pred in frames:
        counts.update(table(gt, pred))
    return counts


def car(*instances):
    return [(CAR, i) for i in instances]


def test_a_prediction_equal_to_the_truth():
    found = identity((car(1, 1, 2), car(1, 1, 2)), (car(2, 1, 1), car(2, 1, 1))).result()
    assert (found.idf1, found.hota, found.assa, found.mota, found.switches) == (1, 1, 1, 1, 0)
    assert (found.true_tubes, found.detections) == (2, 4)


def test_a_track_cut_in_time():
    # One car in four frames, track 5 in the first, 6 in the other three.
    found = identity(*[(car(1), car(track)) for track in (5, 6, 6, 6)]).result()
    # The car is track 6: 3 masks agree, 1 is missed, 1 too many: 3 / (3 + 1/2 + 1/2).
    assert found.idf1 == 0.75
    assert found.switches == 1
    # Four hits, nothing missed, one switch: 1 - 1/4.
    assert found.mota == 0.75
    # All masks are found; association is 1/4 in one frame, 3/4 in three: A = (1/4 + 3 * 3/4) / 4 = 5/8.
    assert found.deta == 1
    assert found.assa == pytest.approx(5 / 8)
    assert found.hota == pytest.approx(math.sqrt(5 / 8))


def test_coming_back_as_the_same_is_no_switch():
    gone = [(ROAD, 0)]
    assert identity((car(1), car(5)), (gone, gone), (car(1), car(5))).result().switches == 0
    assert identity((car(1), car(5)), (gone, gone), (car(1), car(6))).result().switches == 1


def test_masks_are_the_same_from_half_on():
    road = (ROAD, 0)
    half = identity((car(1, 1) + [road], car(3) + [road, road])).result()
    assert (half.idf1, half.mota) == (1, 1)
    # HOTA: ten of the nineteen thresholds 0.05, 0.10, ... are at most 0.5.
    assert half.hota == pytest.approx(10 / 19)
    less = identity((car(1, 1, 1) + [road], car(3) + [road] * 3)).result()
    # One missed, one invented.
    assert (less.idf1, less.mota) == (0, -1)


def test_two_tracks_swapped():
    found = identity((car(1, 2), car(1, 2)), (car(1, 2), car(2, 1))).result()
    assert found.switches == 2
    # Each car keeps either track in one of two frames: 2 of 4 masks agree.
    assert found.idf1 == 0.5
    assert found.mota == 0.5


def test_a_change_of_class_is_another_track_unless_classes_do_not_matter():
    frames = [(car(1), car(4)), (car(1), [(PERSON, 4)]), (car(1), car(4))]
    strict = identity(*frames).result()
    # The middle frame is missed, and a person is invented: 2 / (2 + 1/2 + 1/2); the car is found again as it was.
    assert strict.idf1 == pytest.approx(2 / 3)
    assert strict.switches == 0
    loose = identity(*frames, any_class=True).result()
    assert (loose.idf1, loose.switches) == (1, 0)


def test_parts_of_a_track_with_two_classes_are_one_mask_where_classes_do_not_matter():
    found = identity((car(1, 1), [(CAR, 4), (PERSON, 4)]), any_class=True).result()
    assert (found.idf1, found.mota) == (1, 1)


def test_crowds_and_void_are_ignored_with_what_mostly_lies_on_them():
    void = (VOID, 0)
    found = identity((car(0, 0, 1) + [void, void], car(7, 7, 1, 8, 8))).result()
    assert (found.idf1, found.mota, found.detections) == (1, 1, 1)
    # One of two pixels is not more than half: the mask counts as invented.
    found = identity((car(1) + [void, (ROAD, 0)], car(1, 9, 9))).result()
    assert (found.mota, found.detections) == (0, 1)


def test_predicted_instance_zero_is_an_identity():
    assert identity((car(4), car(0)), (car(4), car(0))).result().idf1 == 1


def test_without_things():
    nothing = identity(([(ROAD, 0)], [(ROAD, 0)])).result()
    assert math.isnan(nothing.idf1) and math.isnan(nothing.hota) and math.isnan(nothing.mota)
    assert nothing.switches == 0
    assert math.isnan(identity(([(ROAD, 0)], car(1))).result().mota)
    missed = identity((car(1), [(ROAD, 0)])).result()
    assert (missed.idf1, missed.hota, missed.mota) == (0, 0, 0)
    assert identity().result().detections == 0


def test_sequences_add_up_by_masks():
    good = identity(*[(car(1), car(1))] * 3).result()
    bad = identity((car(1), [(ROAD, 0)])).result()
    both = IdentityQuality.add([good, bad])
    # 3 of 4 masks found, none invented: 3 / (3 + 1/2); 3 / 4.
    assert both.idf1 == pytest.approx(3 / 3.5)
    assert both.mota == 0.75
    assert both.hota == pytest.approx(math.sqrt(0.75))
    assert (both.true_tubes, both.detections) == (2, 4)
    with pytest.raises(InputError):
        IdentityQuality.add([])


segments = st.sampled_from([(ROAD, 0), (CAR, 1), (CAR, 2), (PERSON, 3), (CAR, 0), (VOID, 0)])
rows = st.lists(st.tuples(segments, segments), min_size=1, max_size=8)
videos = st.lists(rows, min_size=1, max_size=6).map(lambda video: [tuple(zip(*row, strict=True)) for row in video])


@settings(deadline=None, max_examples=60)
@given(videos, st.data())
def test_merging_parts_in_order_is_one_pass(video, data):
    cut = data.draw(st.integers(0, len(video)))
    first, second = identity(*video[:cut]), identity(*video[cut:])
    first.extend(second)
    assert repr(first.result()) == repr(identity(*video).result())


@settings(deadline=None, max_examples=60)
@given(videos)
def test_other_numbers_in_the_same_order_change_nothing(video):
    # In the same order, since TrackEval gives one of two masks that fit equally well to the smaller number.
    renamed = [(gt, [(c, 40 + 1000 * i if c in (CAR, PERSON) else 7) for c, i in pred]) for gt, pred in video]
    assert repr(identity(*video).result()) == repr(identity(*renamed).result())


def test_without_trackeval_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['trackeval'] = None\n"
        "from vps_ros.errors import InputError\n"
        "from vps_ros.evaluation.identity import Identity, Classes\n"
        "from vps_ros.taxonomy import CITYSCAPES\n"
        "try: Identity(Classes(CITYSCAPES))\n"
        "except InputError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "pip install 'vps_ros[evaluate]'" in said and "--no-deps trackeval" in said
    assert said.count("\n") == 1
