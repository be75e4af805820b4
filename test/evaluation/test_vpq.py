"""VPQ: answers worked out by hand for each rule, and against np.unique over whole windows."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks import _unique
from vps_ros.errors import InputError
from vps_ros.evaluation.overlaps import Classes, overlaps
from vps_ros.evaluation.vpq import PROTOCOLS, VideoPanoptic
from vps_ros.taxonomy import CITYSCAPES, ClassInfo, Taxonomy

ROAD, SKY, PERSON, CAR, VOID = 0, 10, 11, 13, 255
CLASSES = Classes(CITYSCAPES)


def table(gt, pred):
    """The overlaps of two rows of pixels, [(class, instance), ...]."""
    maps = [np.array([[pixel[k] for pixel in side]], np.int64) for side in (gt, pred) for k in (0, 1)]
    return overlaps(CLASSES, *maps)


def vpq(*frames, protocol="cityscapes-vps", windows=None):
    counts = VideoPanoptic(CLASSES, protocol, windows)
    for gt, pred in frames:
        counts.update(table(gt, pred))
    return counts.result()


def quality(found, n, column=CAR):
    one = found.windows[n]
    return int(one.tp[column]), int(one.fp[column]), int(one.fn[column]), float(one.pq[column])


def car(*instances):
    return [(CAR, i) for i in instances]


def test_windows_of_the_protocols():
    lengths = {name: tuple(vpq(protocol=name).windows) for name in PROTOCOLS}
    four = (1, 2, 3, 4)
    assert lengths == {"cityscapes-vps": four, "kitti-step": four, "vipseg": (1, 2, 4, 6), "video-k-net": four}
    assert tuple(vpq(windows=(8, 1)).windows) == (1, 8)


def test_windows_overlap_and_start_at_each_frame():
    found = vpq(*[(car(1), car(1))] * 4)
    assert [quality(found, n) for n in (1, 2, 3, 4)] == [(4, 0, 0, 1), (3, 0, 0, 1), (2, 0, 0, 1), (1, 0, 0, 1)]
    assert found.all == 1


def test_a_track_cut_in_time():
    # Of the frames 1 1 2, windows of two: (1, 1) is one whole tube; (1, 2) is cut into halves, of which none has IoU
    # above 1/2: two invented, one missed. Of three: 2 of 3 pixels match, the other one is invented.
    found = vpq(*[(car(5), car(track)) for track in (1, 1, 2)])
    assert quality(found, 1) == (3, 0, 0, 1)
    assert quality(found, 2) == (1, 2, 1, 1 / 2.5)
    assert quality(found, 3) == (1, 1, 0, pytest.approx((2 / 3) / 1.5, abs=1e-15))


def test_windows_longer_than_the_video_measure_nothing():
    found = vpq((car(1), car(1)), (car(1), [(ROAD, 0)]))
    assert quality(found, 2)[:3] == (0, 1, 1)
    assert quality(found, 3)[:3] == quality(found, 4)[:3] == (0, 0, 0)
    assert math.isnan(found.windows[3].all)
    assert found.to_json()["VPQ"]["4"] == {"all": None, "things": None, "stuff": None}
    # The mean is over the windows of 1 and 2: car (1/1.5) and road 0; car 0 of tubes of 1 of 2 pixels, and road 0.
    assert found.things == pytest.approx((1 / 1.5 + 0) / 2, abs=1e-15)
    # A short video beside a long one adds to its short windows only.
    long, short = (VideoPanoptic(CLASSES, "cityscapes-vps") for _ in "ab")
    for _ in range(4):
        long.update(table(car(1), car(1)))
    short.update(table(car(1), [(ROAD, 0)]))
    both = VideoPanoptic.total([long, short])
    assert quality(both, 1) == (4, 0, 1, 4 / 4.5)
    assert quality(both, 2) == (3, 0, 0, 1)
    assert math.isnan(vpq().all)


def test_a_change_of_class_is_another_tube():
    # Car 3 in both frames; predicted as car, then as person: IoU 1/2 is no match; the person is invented.
    found = vpq((car(3), car(3)), (car(3), [(PERSON, 3)]), windows=(2,))
    assert quality(found, 2) == (0, 1, 1, 0)
    assert quality(found, 2, PERSON) == (0, 1, 0, 0)


def test_predictions_on_void_are_no_part_of_the_union():
    # Tube of 2 + 1 true pixels, predicted over 3 more that are void.
    void = [(VOID, 0)] * 3
    found = vpq((car(1, 1) + void, car(4, 4, 4, 4, 4)), (car(1), car(4)), windows=(2,))
    assert quality(found, 2) == (1, 0, 0, 1)


def test_a_false_positive_mostly_on_void_is_forgiven():
    # Of the window's tube 3 of 4 pixels are on void; in frame 2 alone 1 of 2 are, which is not more than half.
    frames = ([(VOID, 0)] * 2, car(9, 9)), ([(VOID, 0), (ROAD, 0)], car(9, 9))
    found = vpq(*frames)
    assert quality(found, 1)[1] == 1
    assert quality(found, 2)[1] == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_crowds_are_of_cityscapes_vps_only(protocol):
    crowd = [(car(0), car(1))] * 2
    missed = [(car(0), [(ROAD, 0)])] * 2
    mostly = [(car(0, 0) + [(ROAD, 0)], car(1, 1, 1))] * 2
    for frames, otherwise in ((crowd, (1, 0, 0)), (missed, (0, 0, 1)), (mostly, (1, 0, 0))):
        counts = (0, 0, 0) if protocol == "cityscapes-vps" else otherwise
        assert quality(vpq(*frames, protocol=protocol, windows=(2,)), 2)[:3] == counts


def test_a_crowd_forgives_its_own_class_only():
    found = vpq((car(0), [(PERSON, 1)]), windows=(1,))
    assert quality(found, 1, PERSON)[1] == 1


def test_predicted_instance_zero_is_a_tube():
    for protocol in PROTOCOLS:
        assert vpq(*[(car(4), car(0))] * 2, protocol=protocol).things == (
            1 if protocol != "video-k-net" else pytest.approx(2 / 4 / 2, abs=1e-15)
        )


def test_void_predicted_is_a_miss_and_nothing_more():
    found = vpq((car(1), [(VOID, 0)]), windows=(1,))
    assert quality(found, 1) == (0, 0, 1, 0)
    assert found.windows[1].fp.sum() == 0


def test_absent_classes_are_left_out_but_by_video_k_net():
    frame = [(ROAD, 0), *car(1)], [(ROAD, 0), *car(1)]
    found = vpq(frame, windows=(1,))
    assert (found.all, found.things, found.stuff) == (1, 1, 1)
    assert math.isnan(found.by_class[SKY])
    # Two of 19 classes; things are person and car whatever the taxonomy says, which leaves 17 kinds of stuff.
    found = vpq(frame, windows=(1,), protocol="video-k-net")
    assert (found.all, found.things, found.stuff) == (2 / 19, 1 / 2, 1 / 17)
    assert (found.by_class[SKY], found.by_class[ROAD]) == (0, 1)


def test_by_class_is_the_mean_over_windows():
    found = vpq(*[(car(5), car(track)) for track in (1, 2)], windows=(1, 2))
    assert (quality(found, 1)[3], quality(found, 2)[3], found.by_class[CAR]) == (1, 0, 0.5)
    assert found.things == 0.5


def test_bad_choices_are_refused():
    with pytest.raises(InputError, match="'vpq'.*cityscapes-vps, kitti-step, vipseg, video-k-net"):
        VideoPanoptic(CLASSES, "vpq")
    for windows in ((), (0,), (2, 2), (1.5,)):
        with pytest.raises(InputError, match="positive integers"):
            VideoPanoptic(CLASSES, "vipseg", windows)
    one, other = VideoPanoptic(CLASSES, "vipseg"), VideoPanoptic(CLASSES, "vipseg", (1, 2))
    for add in (one.extend, lambda other: VideoPanoptic.total([one, other])):
        with pytest.raises(InputError, match="cannot be merged"):
            add(other)


def test_what_is_kept_does_not_grow_with_the_sequence():
    counts = VideoPanoptic(CLASSES, "vipseg")
    sizes = []
    for _ in range(3):
        for i in range(60):
            counts.update(table(car(i % 3 + 1, 2), car(i % 2 + 1, 2)))
        sizes.append(len(pickle.dumps(counts)))
    # But for the digits of the counts.
    assert max(sizes) - min(sizes) < 64


TAXONOMY = Taxonomy(
    "small",
    (
        ClassInfo(2, "stuff", False, (0, 0, 0)),
        ClassInfo(5, "thing", True, (1, 1, 1)),
        ClassInfo(9, "other", True, (2, 2, 2)),
    ),
)
SMALL, IDS, THINGS = Classes(TAXONOMY), (2, 5, 9), (5, 9)


@st.composite
def videos(draw):
    """Few pixels, of which most agree with the truth, so that tubes match."""
    shape = (draw(st.integers(1, 7)), 2, 4)
    semantic = hnp.arrays(np.int64, shape, elements=st.sampled_from((*IDS, VOID)))
    instance = hnp.arrays(np.int64, shape, elements=st.integers(0, 2))
    wrong = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 3))) == 0
    gt = draw(semantic), draw(instance)
    pred = (np.where(wrong, other, true) for other, true in zip((draw(semantic), draw(instance)), gt, strict=True))
    return _unique.Video(*gt, *pred)


def count(video, protocol, windows=None):
    counts = VideoPanoptic(SMALL, protocol, windows)
    for frame in zip(*video, strict=True):
        counts.update(overlaps(SMALL, *frame))
    return counts


def same(*counts):
    one, other = (c.result() if isinstance(c, VideoPanoptic) else c for c in counts)
    assert repr(one.to_json()) == repr(other.to_json())
    np.testing.assert_equal(one.by_class, other.by_class)


protocols = st.sampled_from(sorted(PROTOCOLS))
some_windows = st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(videos(), min_size=1, max_size=2), protocols, some_windows)
def test_agrees_with_unique_over_whole_windows_to_the_last_digit(several, protocol, windows):
    found = VideoPanoptic.total([count(video, protocol, windows) for video in several])
    for n in windows:
        plain = _unique.panoptic(several, THINGS, IDS, n, protocol == "cityscapes-vps")
        tp, fp, fn = ([plain[c][k] for c in IDS] for k in (1, 2, 3))
        one = found.windows[n]
        assert (one.tp.tolist(), one.fp.tolist(), one.fn.tolist()) == (tp, fp, fn)
        absent = 0.0 if protocol == "video-k-net" else math.nan
        pq = [
            float(plain[c][0]) / (t + (p + m) / 2) if t + p + m else absent
            for c, t, p, m in zip(IDS, tp, fp, fn, strict=True)
        ]
        np.testing.assert_equal(one.pq.tolist(), pq)
        known = [v for v in pq if v == v]
        np.testing.assert_equal(one.all, float(np.mean(known)) if known else math.nan)


@settings(max_examples=100, deadline=None)
@given(videos(), protocols, some_windows, st.data())
def test_any_split_of_one_sequence_extended_in_order_is_one_pass(video, protocol, windows, data):
    frames = len(video.gt_class)
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), max_size=3)))
    parts = [count(video.cut(a, b - a), protocol, windows) for a, b in zip([0, *cuts], [*cuts, frames], strict=True)]
    whole = count(video, protocol, windows)
    left = parts[0]
    for part in parts[1:]:
        left.extend(part)
    same(left, whole)
    # What has been joined goes on as if it had been one.
    for part in (left, whole):
        part.update(overlaps(SMALL, *(maps[0] for maps in video)))
    same(left, whole)


@settings(max_examples=60, deadline=None)
@given(videos(), protocols, st.data())
def test_joining_from_the_right_is_joining_from_the_left(video, protocol, data):
    a, b = sorted(data.draw(st.tuples(*[st.integers(0, len(video.gt_class))] * 2)))
    first, second, third = (count(video.cut(s, e - s), protocol) for s, e in ((0, a), (a, b), (b, 9)))
    second.extend(third)
    first.extend(second)
    same(first, count(video, protocol))


@settings(max_examples=60, deadline=None)
@given(st.lists(videos(), min_size=1, max_size=3), protocols, st.randoms(use_true_random=False))
def test_sequences_merge_in_any_order(several, protocol, random):
    def total(order):
        return VideoPanoptic.total([count(video, protocol) for video in order])

    same(total(several), total(random.sample(several, len(several))))


@settings(max_examples=60, deadline=None)
@given(videos(), protocols)
def test_the_truth_itself_scores_one(video, protocol):
    found = count(video._replace(pred_class=video.gt_class, pred_instance=video.gt_instance), protocol).result()
    for one in found.windows.values():
        assert all(value == 1 for value, segments in zip(one.pq, one.tp + one.fp + one.fn, strict=True) if segments)


@settings(max_examples=60, deadline=None)
@given(videos(), protocols, st.permutations([0, 1, 2]))
def test_renaming_predicted_ids_changes_nothing(video, protocol, names):
    renamed = video._replace(pred_instance=np.array(names)[video.pred_instance] * 40 + 3)
    same(count(renamed, protocol), count(video, protocol))
