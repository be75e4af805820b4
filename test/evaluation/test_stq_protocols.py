"""STQ where its protocols differ: answers worked out by hand, and against np.unique over whole videos."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks import _unique
from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.overlaps import Classes, overlaps
from vps_ros.evaluation.stq import PROTOCOLS, Association
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP, ClassInfo, Taxonomy

ROAD, PERSON, CAR, BUS, VOID = 0, 11, 13, 15, 255


def evaluate(protocol, *frames, taxonomy=CITYSCAPES):
    """Report of frames (gt pixels, pred pixels), a pixel being (class, instance)."""
    evaluator = Evaluator(taxonomy, protocol, video=False)
    for frame in frames:
        evaluator.update("a", *(np.array([[pixel[k] for pixel in side]], np.int64) for side in frame for k in (0, 1)))
    return evaluator.result()


def car(*instances):
    return [(CAR, i) for i in instances]


@pytest.mark.parametrize(("protocol", "aq"), [("deeplab2", 0.75), ("video-k-net", 1), ("vipseg", 0.75)])
def test_unlabelled_pixels_in_the_size_of_a_predicted_tube(protocol, aq):
    # 3 true pixels, 4 predicted ones of which one is on void: (3 * 3/4) / 3, or 1 where void is dropped first.
    report = evaluate(protocol, ([(ROAD, 0), (VOID, 0), *car(1, 1, 1)], [(ROAD, 0), *car(1, 1, 1, 1)]))
    assert (report.aq, report.sq, report.protocol) == (aq, 1, protocol)


def test_things_of_video_k_net_are_the_eight_whatever_the_taxonomy():
    frame = [*car(1), (BUS, 0)], [*car(1), *car(1)]
    # The bus without an instance is a crowd: the car on it does not count. By deeplab2 it is stuff, and does.
    assert evaluate("video-k-net", frame, taxonomy=KITTI_STEP).aq == 1
    assert evaluate("deeplab2", frame, taxonomy=KITTI_STEP).aq == 0.5
    assert evaluate("video-k-net", frame).aq == 1


def test_things_of_other_taxonomies_are_their_own():
    frame = [(2, 0), (5, 1), (5, 2)], [(2, 0), (5, 1), (5, 1)]
    for protocol in PROTOCOLS:
        report = evaluate(protocol, frame, taxonomy=TAXONOMY)
        assert (report.tubes, report.aq) == (2, 0.5)


def test_by_vipseg_a_thing_listed_first_is_a_crowd():
    # The lowest of frame 1 is person 2; only car 1 counts, (1 * 1/1) / 1. The pixel on the crowd counts nowhere.
    frames = ([(PERSON, 2), *car(1)], car(1, 1)), ([(PERSON, 1)], [(PERSON, 1)])
    report = evaluate("vipseg", *frames)
    assert (report.aq, report.tubes) == (1, 2)
    assert set(report.to_json()["per_class"]["person"].items()) >= {("tubes", 1), ("AQ", 1)}


def test_by_vipseg_stuff_is_listed_first():
    report = evaluate("vipseg", ([(ROAD, 0), *car(0)], [(ROAD, 0), *car(0)]))
    assert (report.aq, report.tubes) == (1, 1)


def test_by_vipseg_the_list_begins_with_the_first_labelled_frame():
    frames = [(VOID, 0)], car(1, 1)[:1]
    report = evaluate("vipseg", frames, (car(3), car(3)), ([(ROAD, 0), *car(3, 4)], [(ROAD, 0), *car(3, 4)]))
    assert (report.tubes, report.aq) == (1, 1)


def test_by_vipseg_instance_zero_is_no_crowd():
    assert evaluate("vipseg", ([(ROAD, 0), *car(0, 0)], [(ROAD, 0), *car(7, 7)])).aq == 1
    assert evaluate("deeplab2", ([(ROAD, 0), *car(0, 0)], [(ROAD, 0), *car(7, 7)])).tubes == 0


def test_without_any_tube_left():
    for protocol in PROTOCOLS:
        assert evaluate(protocol, ([(VOID, 0)], car(1))).aq == 0
    assert evaluate("vipseg", (car(1), car(1))).aq == 0


def test_unknown_protocols_are_named():
    with pytest.raises(InputError, match=r"'stq'.*deeplab2, video-k-net, vipseg"):
        Association(Classes(KITTI_STEP), "stq")


TAXONOMY = Taxonomy(
    "small",
    (
        ClassInfo(2, "stuff", False, (0, 0, 0)),
        ClassInfo(5, "thing", True, (1, 1, 1)),
        ClassInfo(9, "other", True, (2, 2, 2)),
    ),
)


@st.composite
def videos(draw, classes=(2, 5, 9, VOID)):
    shape = (draw(st.integers(1, 5)), 2, 5)
    semantic = hnp.arrays(np.int64, shape, elements=st.sampled_from(classes))
    instance = hnp.arrays(np.int64, shape, elements=st.integers(0, 2))
    return _unique.Video(*(draw(one) for one in (semantic, instance) * 2))


def count(video, protocol, taxonomy=TAXONOMY):
    counts = Association(Classes(taxonomy), protocol)
    for frame in zip(*video, strict=True):
        counts.update(overlaps(Classes(taxonomy), *frame))
    return counts


protocols = st.sampled_from(PROTOCOLS)


@settings(max_examples=200, deadline=None)
@given(videos(), protocols)
def test_agrees_with_unique_over_whole_videos(video, protocol):
    found = count(video, protocol).result()
    total, tubes = _unique.association(video, (5, 9), protocol)
    assert found.tubes == tubes and found.total == pytest.approx(total, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(videos((ROAD, PERSON, CAR, BUS, VOID)))
def test_agrees_on_streets_too(video):
    found = count(video, "video-k-net", CITYSCAPES).result()
    total, tubes = _unique.association(video, tuple(range(11, 19)), "video-k-net")
    # Sums in another order differ in the last bit.
    assert found.tubes == tubes and found.total == pytest.approx(total, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(videos(), protocols, st.data())
def test_parts_merged_in_order_are_one_pass(video, protocol, data):
    cut = data.draw(st.integers(0, len(video.gt_class)))
    merged = count(video.cut(0, cut), protocol)
    merged.extend(count(video.cut(cut, 9), protocol))
    assert merged.result() == count(video, protocol).result()
    assert merged.by_class() == count(video, protocol).by_class()


@settings(max_examples=100, deadline=None)
@given(videos(), protocols, st.permutations([0, 1, 2]))
def test_renaming_predicted_ids_changes_nothing(video, protocol, names):
    renamed = video._replace(pred_instance=np.array(names)[video.pred_instance] * 40 + 3)
    assert count(renamed, protocol).result() == count(video, protocol).result()


@settings(max_examples=100, deadline=None)
@given(videos(), protocols)
def test_the_truth_itself_scores_one(video, protocol):
    found = count(video._replace(pred_class=video.gt_class, pred_instance=video.gt_instance), protocol).result()
    assert found.total == found.tubes


@settings(max_examples=100, deadline=None)
@given(videos(), st.sampled_from(("deeplab2", "video-k-net")), st.data())
def test_a_video_split_into_two_sequences_obeys_the_definition(video, protocol, data):
    """Each half's tubes are tubes of their own, and AQ and SQ are taken over both halves together."""
    cut = data.draw(st.integers(0, len(video.gt_class)))
    evaluator = Evaluator(TAXONOMY, protocol)
    for i, frame in enumerate(zip(*video, strict=True)):
        evaluator.update("first" if i < cut else "second", *frame)
    report = evaluator.result()
    halves = [_unique.association(part, (5, 9), protocol) for part in (video.cut(0, cut), video.cut(cut, 9))]
    total, tubes = (sum(values) for values in zip(*halves, strict=True))
    assert report.tubes == tubes
    assert report.aq == (total / tubes if tubes else 0)
    whole = Evaluator(TAXONOMY, protocol)
    for frame in zip(*video, strict=True):
        whole.update("whole", *frame)
    np.testing.assert_equal(report.sq, whole.result().sq)
    np.testing.assert_equal(report.stq, math.sqrt(report.aq * report.sq))
