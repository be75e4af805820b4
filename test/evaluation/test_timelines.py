"""Timelines of true things: answers worked out by hand, and what must hold of any video."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vps_ros.errors import InputError
from vps_ros.evaluation.overlaps import Classes, overlaps
from vps_ros.evaluation.page.charts import change_of
from vps_ros.evaluation.timelines import Span, Timeline, Timelines
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP

ROAD, PERSON, CAR, VOID = 0, 11, 13, 255
CLASSES = Classes(CITYSCAPES)
EMPTY = [(ROAD, 0)]


def table(gt, pred):
    """Overlaps of two rows of pixels, [(class, instance), ...] each."""
    maps = [np.array([[one[part] for one in row]], np.int64) for row in (gt, pred) for part in (0, 1)]
    return overlaps(CLASSES, *maps)


def lines(*frames):
    counted = Timelines(CLASSES)
    for gt, pred in frames:
        counted.update(table(gt, pred))
    return counted


def car(*instances):
    return [(CAR, i) for i in instances]


def test_one_track_all_along_is_one_span():
    (line,) = lines(*[(car(3), car(8))] * 5).result()
    assert line == Timeline("car", 3, (Span(0, 4, 8),))
    assert (line.first, line.last, line.visible, line.missed, line.switches) == (0, 4, 5, 0, 0)


def test_a_switch_is_counted_where_the_track_is_another_than_the_last():
    tracks = [car(5), car(5), EMPTY, car(6), car(5)]
    (line,) = lines(*[(car(1), pred) for pred in tracks]).result()
    assert line.spans == (Span(0, 1, 5), Span(2, 2, None), Span(3, 3, 6), Span(4, 4, 5))
    assert (line.visible, line.missed, line.switches, line.switch_frames) == (5, 1, 2, (3, 4))


def test_missing_a_thing_between_two_frames_of_one_track_is_no_switch():
    (line,) = lines((car(1), car(5)), (car(1), EMPTY), (car(1), car(5))).result()
    assert line.spans == (Span(0, 0, 5), Span(1, 1, None), Span(2, 2, 5))
    assert (line.missed, line.switches) == (1, 0)


def test_frames_without_the_thing_are_a_gap():
    gone = EMPTY, EMPTY
    (line,) = lines(gone, (car(1), car(5)), gone, gone, (car(1), car(5)), (car(1), car(6)), gone).result()
    assert line.spans == (Span(1, 1, 5), Span(4, 4, 5), Span(5, 5, 6))
    assert (line.first, line.last, line.visible, line.missed, line.switch_frames) == (1, 5, 3, 0, (5,))


def test_another_class_is_no_match():
    # A rider's track that calls it a person for one frame has the same number, and still it is missed there.
    (line,) = lines((car(1), car(4)), (car(1), [(PERSON, 4)]), (car(1), car(4))).result()
    assert [span.track for span in line.spans] == [4, None, 4]
    assert line.switches == 0


def test_a_class_that_the_truth_changes_begins_another_line():
    both = lines((car(1), car(1)), ([(PERSON, 1)], [(PERSON, 1)])).result()
    assert both == (Timeline("person", 1, (Span(1, 1, 1),)), Timeline("car", 1, (Span(0, 0, 1),)))


def test_crowds_and_stuff_have_no_line():
    assert lines((car(0) + EMPTY, car(1) + EMPTY)).result() == ()


def test_predicted_instance_zero_is_a_track():
    (line,) = lines((car(1), car(0)), (car(1), car(2))).result()
    assert line.spans == (Span(0, 0, 0), Span(1, 1, 2))
    assert line.switches == 1


def test_a_match_needs_more_than_half_of_the_union_and_void_is_part_of_it():
    # 2 of 4 pixels in common, then 3 of 5.
    half = car(1, 1, 1) + EMPTY, EMPTY + car(5, 5, 5)
    more = car(1, 1, 1, 1) + EMPTY, EMPTY + car(5, 5, 5, 5)
    # 1 of 2: the predicted pixel on void counts, though PQ leaves it out.
    on_void = car(1) + [(VOID, 0)], car(5, 5)
    (line,) = lines(half, more, on_void).result()
    assert [span.track for span in line.spans] == [None, 5, None]


def test_two_things_that_swap_their_tracks():
    first, second = lines((car(1, 2), car(7, 8)), (car(1, 2), car(8, 7))).result()
    assert first.spans == (Span(0, 0, 7), Span(1, 1, 8))
    assert second.spans == (Span(0, 0, 8), Span(1, 1, 7))


def test_ids_at_the_end_of_their_range():
    most = 2**32 - 1
    (line,) = lines((car(most), car(most))).result()
    assert line == Timeline("car", most, (Span(0, 0, most),))


def test_nothing_is_kept_of_frames_in_which_nothing_changes():
    frame = table(car(1, 2, 3), car(1, 1, 9))
    short, long = Timelines(CLASSES), Timelines(CLASSES)
    for counted, frames in (short, 3), (long, 3000):
        for _ in range(frames):
            counted.update(frame)
    assert [len(line.spans) for line in long.result()] == [len(line.spans) for line in short.result()] == [1, 1, 1]
    assert long.result()[2].spans == (Span(0, 2999, 9),)


def test_no_frame_at_all():
    assert Timelines(CLASSES).result() == ()


def test_parts_by_different_taxonomies_are_refused():
    with pytest.raises(InputError, match="taxonomies"):
        lines().extend(Timelines(Classes(KITTI_STEP)))


segments = st.sampled_from([(ROAD, 0), (CAR, 1), (CAR, 2), (PERSON, 1), (CAR, 0), (VOID, 0)])
rows = st.lists(st.tuples(segments, segments), min_size=1, max_size=7)
frame = rows.map(lambda row: tuple(zip(*row, strict=True)))
# Frames that repeat, as those of videos do.
videos = st.lists(st.tuples(frame, st.integers(1, 3)), min_size=1, max_size=6).map(
    lambda parts: [one for one, times in parts for _ in range(times)]
)


@settings(deadline=None, max_examples=150)
@given(videos, st.data())
def test_merging_in_any_split_is_one_pass(video, data):
    whole, cuts = lines(*video), data.draw(st.lists(st.integers(0, len(video)), max_size=4).map(sorted))
    parts = [lines(*video[a:b]) for a, b in zip([0, *cuts], [*cuts, len(video)], strict=True)]
    joined = parts[0]
    for part in parts[1:]:
        joined.extend(part)
    assert joined.result() == whole.result()
    # It goes on from there as one that saw every frame, and its parts are what they were.
    joined.update(table(*video[-1]))
    whole.update(table(*video[-1]))
    assert joined.result() == whole.result()
    assert parts[-1] is joined or parts[-1].result() == lines(*video[cuts[-1] :]).result()


@settings(deadline=None, max_examples=100)
@given(videos)
def test_spans_tell_each_frame(video):
    """Every frame by itself says what the spans say of it."""
    told = {}
    for line in lines(*video).result():
        for span in line.spans:
            told |= {(line.class_name, line.instance, at): span.track for at in range(span.first, span.last + 1)}
    alone = {
        (line.class_name, line.instance, at): line.spans[0].track
        for at, one in enumerate(video)
        for line in lines(one).result()
    }
    assert told == alone
    for line in lines(*video).result():
        touching = [(a, b) for a, b in zip(line.spans, line.spans[1:], strict=False) if a.last + 1 == b.first]
        assert all(a.track != b.track for a, b in touching), "spans are as long as they can be"


def half_agrees(gt, pred):
    """Whether any segment has an IoU of exactly 1/2 with another."""
    both = Counter(zip(gt, pred, strict=True))
    return any(3 * n == gt.count(a) + pred.count(b) for (a, b), n in both.items())


@settings(deadline=None, max_examples=150)
@given(videos)
def test_switches_are_those_of_trackeval(video):
    pytest.importorskip("trackeval")
    from vps_ros.evaluation.identity import Identity

    identity = Identity(CLASSES, metrics=["CLEAR"])
    for gt, pred in video:
        identity.update(table(gt, pred))
    # At exactly half TrackEval sees a match.
    assume(not any(half_agrees(*one) for one in video))
    quality = identity.result()
    found = lines(*video).result()
    assert sum(line.switches for line in found) == quality.switches
    assert sum(line.visible - line.missed for line in found) == quality.counts["CLEAR"]["CLR_TP"]
    assert sum(line.missed for line in found) == quality.counts["CLEAR"]["CLR_FN"]


@pytest.mark.parametrize(
    "before, after, kind",
    [
        ([car(1)] * 4, [car(9)] * 4, ""),
        ([EMPTY] * 4, [EMPTY, car(1), car(1), EMPTY], "appeared"),
        ([car(1)] * 4, [EMPTY] * 4, "vanished"),
        ([car(1), car(2), car(1), car(2)], [car(1), car(1), car(2), car(2)], "fewer switches"),
        ([car(1)] * 4, [car(1), car(1), car(2), car(2)], "more switches"),
        ([EMPTY, EMPTY, car(1), car(1)], [EMPTY, car(1), car(1), car(1)], "missed less"),
        ([car(1)] * 4, [car(1), EMPTY, car(1), car(1)], "missed more"),
    ],
)
def test_what_changed_between_two_predictions(before, after, kind):
    one, other = (lines(*[(car(5), pred) for pred in preds]).result()[0] for preds in (before, after))
    assert change_of(one, other) == kind
