"""STQ, PQ and mIoU: answers worked out by hand for each rule, and what must hold of any maps."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.errors import InputError
from vps_ros.evaluation import Evaluator
from vps_ros.evaluation.evaluator import dump_counts, load_counts
from vps_ros.evaluation.overlaps import Classes, Overlaps, overlaps
from vps_ros.evaluation.pq import PanopticCounts, match
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP, ClassInfo, Taxonomy

ROAD, SKY, PERSON, CAR, BUS, VOID = 0, 10, 11, 13, 15, 255


def maps(pixels):
    """[(class, instance), ...] as one row of pixels."""
    return np.array([[c for c, _ in pixels]], np.uint8), np.array([[i for _, i in pixels]], np.int32)


def evaluate(*frames, taxonomy=KITTI_STEP, protocol="deeplab2"):
    """Report of frames (gt pixels, pred pixels[, sequence])."""
    evaluator = Evaluator(taxonomy, protocol, video=False)
    for gt, pred, *sequence in frames:
        evaluator.update(sequence[0] if sequence else "a", *maps(gt), *maps(pred))
    return evaluator.result()


def car(*instances):
    return [(CAR, i) for i in instances]


def test_a_track_cut_in_two():
    # Tubes of 2 and 3 of 5 pixels: (2 * 2/5 + 3 * 3/5) / 5.
    report = evaluate((car(1, 1, 1, 1, 1), car(1, 1, 2, 2, 2)))
    assert report.aq == pytest.approx(0.52, abs=1e-15)
    assert report.sq == 1
    assert report.stq == pytest.approx(math.sqrt(0.52), abs=1e-15)


def test_a_track_cut_in_time_is_as_one_cut_in_space():
    report = evaluate((car(1, 1), car(1, 1)), (car(1, 1, 1), car(2, 2, 2)))
    assert report.aq == pytest.approx(0.52, abs=1e-15)


def test_two_tracks_joined():
    # One predicted tube of 4 covers two true ones of 2: each (2 * 2/4) / 2.
    assert evaluate((car(1, 1, 2, 2), car(1, 1, 1, 1))).aq == 0.5


def test_crowds_count_nowhere():
    assert evaluate((car(0, 1, 1, 1), car(1, 1, 1, 1))).aq == 1
    # A prediction on a crowd alone leaves no trace either; road under it is compared as ever.
    report = evaluate((car(0, 0, 1), car(7, 8, 1)))
    assert (report.aq, report.tubes) == (1, 1)


def test_unlabelled_pixels_still_count_in_the_size_of_a_predicted_tube():
    # 3 true pixels, 4 predicted ones: (3 * 3/4) / 3.
    report = evaluate(([(VOID, 0), *car(1, 1, 1)], car(1, 1, 1, 1)))
    assert report.aq == 0.75
    assert report.sq == report.miou == 1


def test_predicted_instance_zero_is_a_tube():
    assert evaluate((car(4, 4), car(0, 0))).aq == 1


def test_the_class_need_not_match_for_association():
    report = evaluate((car(1, 1, 1, 1), [(PERSON, 1)] * 4))
    assert (report.aq, report.sq, report.stq) == (1, 0, 0)


def test_a_class_flip_begins_another_tube():
    # Tubes (car, 1) and (person, 1), 2 of 4 pixels each: (2 * 2/4 + 2 * 2/4) / 4.
    assert evaluate((car(1, 1, 1, 1), [*car(1, 1), (PERSON, 1), (PERSON, 1)])).aq == 0.5


def test_predicted_void_is_missed_and_counts_as_a_class_in_sq_only():
    report = evaluate(([(ROAD, 0)] * 4, [(ROAD, 0)] * 3 + [(VOID, 0)]))
    assert report.miou == 0.75
    assert report.sq == 0.375
    assert "void" in report.void_note


def test_mean_iou_of_vspw_is_over_the_true_classes():
    # Road: 2 of 4 pixels. Sky is only predicted, once; on void it is nothing at all. Void is predicted once.
    frame = [*[(ROAD, 0)] * 4, (VOID, 0)], [(ROAD, 0), (ROAD, 0), (SKY, 0), (VOID, 0), (BUS, 0)]
    assert evaluate(frame).miou == 0.25
    report = evaluate(frame, protocol="vspw")
    assert (report.miou, report.sq) == (0.5, pytest.approx(0.5 / 3, abs=1e-15))
    assert "void" in report.void_note
    # Where only a class without truth brings SQ below it, void is not to blame.
    report = evaluate(([(ROAD, 0)] * 2, [(ROAD, 0), (SKY, 0)]), protocol="vspw")
    assert (report.miou, report.sq, report.void_note) == (0.5, 0.25, "")
    assert report.protocols == {"STQ": "deeplab2", "VPQ": "kitti-step", "mIoU": "vspw"}
    assert report.sequences["a"].miou == 0.5


def test_void_on_void_is_nothing():
    report = evaluate(([(ROAD, 0), (VOID, 0)], [(ROAD, 0), (VOID, 0)]))
    assert (report.sq, report.miou, report.void_note) == (1, 1, "")


def test_aq_is_the_mean_over_tubes_not_over_sequences():
    report = evaluate((car(1), car(1), "a"), (car(1, 2, 3), [(ROAD, 0)] * 3, "b"))
    assert report.aq == 0.25
    assert [s.aq for s in report.sequences.values()] == [1, 0]
    assert [s.tubes for s in report.sequences.values()] == [1, 3]


def test_the_same_id_in_two_sequences_is_two_tubes():
    # Joined they would be one true tube of two predicted ones: AQ 0.5.
    report = evaluate((car(1, 1), car(1, 1), "a"), (car(1, 1), car(2, 2), "b"))
    assert (report.aq, report.tubes) == (1, 2)


def test_sq_sums_confusion_over_sequences():
    # Road: 1 of 2 in `a`, 2 of 2 in `b`, together 3 of 4, not the mean of 1/2 and 1. Sky is invented once: 0 of 1.
    report = evaluate(
        ([(ROAD, 0)] * 2, [(ROAD, 0), (SKY, 0)], "a"),
        ([(ROAD, 0)] * 2, [(ROAD, 0)] * 2, "b"),
    )
    assert report.sq == report.miou == 0.375
    assert report.sequences["a"].sq == 0.25


def test_without_tubes_association_is_zero():
    report = evaluate(([(ROAD, 0)], [(ROAD, 0)]))
    assert (report.aq, report.stq, report.sq) == (0, 0, 1)
    assert report.to_json()["per_class"]["car"]["AQ"] is None


def test_instances_of_stuff_are_ignored():
    report = evaluate(([(ROAD, 1), (ROAD, 2)], [(ROAD, 0), (ROAD, 9)]))
    assert report.tubes == 0
    assert report.pq.all == 1
    assert report.classes["road"].tp == 1


def test_the_taxonomy_decides_what_is_a_thing():
    frame = [(BUS, 1), (BUS, 2)], [(BUS, 1), (BUS, 1)]
    assert evaluate(frame).tubes == 0
    report = evaluate(frame, taxonomy=CITYSCAPES)
    assert report.tubes == 2
    assert report.classes["bus"].aq == 0.5
    assert report.classes["bus"].is_thing


def quality(gt, pred, name="car", taxonomy=KITTI_STEP):
    c = evaluate((gt, pred), taxonomy=taxonomy).classes[name]
    return c.tp, c.fp, c.fn, c.pq


def test_segments_match_above_one_half_only():
    assert quality(car(1, 1, 1, 1), [*car(1, 1), (ROAD, 0), (ROAD, 0)]) == (0, 1, 1, 0)
    assert quality(car(1, 1, 1, 1), [*car(1, 1, 1), (ROAD, 0)]) == (1, 0, 0, 0.75)


def test_pq_weighs_errors_by_half():
    # One match of 3/4, one invented car, one missed: 0.75 / (1 + 1/2 + 1/2).
    gt = [*car(1, 1, 1, 1, 2), (ROAD, 0)]
    pred = [*car(1, 1, 1), (ROAD, 0), (ROAD, 0), *car(9)]
    report = evaluate((gt, pred))
    one = report.classes["car"]
    assert (one.tp, one.fp, one.fn) == (1, 1, 1)
    assert (one.pq, one.sq, one.rq) == (0.375, 0.75, 0.5)


def test_the_union_leaves_out_predictions_on_void():
    assert quality([*car(1, 1, 1), *[(VOID, 0)] * 3], car(5, 5, 5, 5, 5, 5)) == (1, 0, 0, 1)


def test_a_false_positive_mostly_on_void_is_forgiven():
    gt = [(VOID, 0), (VOID, 0), (ROAD, 0), (ROAD, 0)]
    assert quality(gt, [*car(1, 1, 1), (ROAD, 0)])[1] == 0
    assert quality(gt, car(1, 1, 1, 1))[1] == 1, "exactly half is not more than half"


def test_crowds_are_neither_matched_nor_missed_and_forgive_their_own_class():
    crowd = car(0, 0, 0)
    assert quality(crowd, car(1, 1, 1))[:3] == (0, 0, 0)
    assert quality(crowd, car(0, 0, 0))[:3] == (0, 0, 0)
    assert quality(crowd, [(ROAD, 0)] * 3)[:3] == (0, 0, 0)
    assert quality(crowd, [(PERSON, 1)] * 3, "person")[:3] == (0, 1, 0)


def test_void_and_crowd_forgive_together():
    # 1 void + 2 crowd of 5 pixels is more than half; neither alone is.
    gt = [(VOID, 0), *car(0, 0), (ROAD, 0), (ROAD, 0)]
    assert quality(gt, car(1, 1, 1, 1, 1))[1] == 0


def test_pq_is_the_mean_over_classes_that_occur():
    gt = [(ROAD, 0), (SKY, 0), *car(1), (PERSON, 1)]
    pred = [(ROAD, 0), (SKY, 0), *car(1), (ROAD, 0)]
    report = evaluate((gt, pred))
    # Road: 1 of 2 pixels is no match, so 0; sky and car 1; person missed, 0.
    assert report.pq.all == 0.5
    assert report.pq.things == 0.5
    assert report.pq.stuff == 0.5
    assert math.isnan(report.pq.pq[BUS])


def test_segments_are_of_one_frame_and_add_up_over_frames():
    report = evaluate((car(1), car(1)), (car(1), car(2)), (car(1), [(ROAD, 0)]))
    one = report.classes["car"]
    assert (one.tp, one.fp, one.fn) == (2, 0, 1)
    assert one.pq == pytest.approx(2 / 2.5, abs=1e-15)


def test_matching_serves_tubes_too():
    # Over both frames the tube (car, 1) is 3 of 4 pixels; each frame alone has IoU 1 and 1/2.
    classes = Classes(KITTI_STEP)
    first = overlaps(classes, *maps(car(1, 1)), *maps(car(7, 7)))
    second = overlaps(classes, *maps(car(1, 1)), *maps([*car(7), (ROAD, 0)]))
    assert len(match(classes, second).gt) == 0
    found = match(classes, Overlaps.add([first, second]))
    assert (found.intersection.tolist(), found.union.tolist()) == ([3], [4])
    counts = PanopticCounts(classes)
    counts.update(found)
    assert counts.result().things == 0.75


def test_update_says_how_well_the_frame_went():
    evaluator = Evaluator(video=False)
    one = evaluator.update("a", *maps([(ROAD, 0)] * 4), *maps([(ROAD, 0)] * 3 + [(SKY, 0)]))
    assert one == (0.375, 0.375)
    empty = evaluator.update("a", *maps([(VOID, 0)]), *maps([(VOID, 0)]))
    assert math.isnan(empty.pq)
    assert math.isnan(empty.miou)


@pytest.mark.parametrize(
    ("gt", "pred", "words"),
    [
        ([(19, 0)], [(0, 0)], "truth: class id 19 is not in taxonomy kitti-step"),
        ([(0, 0)], [(200, 0), (254, 0)], "its size 2x1 is not that of truth, 1x1"),
        ([(0, 0)], [(254, 0)], "guess: class id 254"),
        ([(CAR, -1)], [(CAR, 0)], "truth: instance ids must be in 0"),
    ],
)
def test_bad_maps_are_named(gt, pred, words):
    with pytest.raises(InputError, match=words):
        Evaluator().update("a", *maps(gt), *maps(pred), "truth", "guess")


def test_ids_of_any_width_are_taken():
    big = 2**32 - 1
    semantic = np.full((2, 3), CAR, np.int64)
    evaluator = Evaluator()
    evaluator.update("a", semantic, np.full((2, 3), big), semantic.astype(np.int16), np.full((2, 3), big))
    assert evaluator.result().aq == 1
    with pytest.raises(InputError, match="instance ids"):
        evaluator.update("a", semantic, np.full((2, 3), big + 1), semantic, semantic)
    with pytest.raises(InputError, match="class id -3"):
        evaluator.update("a", semantic - 16, semantic, semantic, semantic)


def test_bad_choices_are_refused():
    with pytest.raises(InputError, match="no frame"):
        Evaluator().result()
    with pytest.raises(InputError, match="deeplab2"):
        Evaluator(protocol="deeplab3")
    with pytest.raises(InputError, match="merged"):
        Evaluator().merge(Evaluator(CITYSCAPES))
    with pytest.raises(InputError, match="255 means void"):
        Evaluator(Taxonomy("odd", (ClassInfo(255, "x", False, (0, 0, 0)),)))


TAXONOMY = Taxonomy(
    "small",
    (
        ClassInfo(2, "stuff", False, (0, 0, 0)),
        ClassInfo(5, "thing", True, (1, 1, 1)),
        ClassInfo(9, "other", True, (2, 2, 2)),
    ),
)
SHAPE = (3, 6)
one_map = st.tuples(
    hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([2, 5, 9, 255])),
    hnp.arrays(np.int32, SHAPE, elements=st.integers(0, 2)),
)
videos = st.lists(st.tuples(st.sampled_from("ab"), one_map, one_map), min_size=1, max_size=5)


def run(video, taxonomy=TAXONOMY):
    evaluator = Evaluator(taxonomy)
    for sequence, gt, pred in video:
        evaluator.update(sequence, *gt, *pred)
    return evaluator


def by_pixels(video):
    """(AQ, SQ, PQ) of a video by the definitions, mask by mask: slow, and shares nothing with the package."""
    things = (5, 9)
    quality, tubes = 0.0, 0
    for name in {s for s, *_ in video}:
        gs, gi, ps, pi = (np.stack([f[m][k] for s, *f in video if s == name]) for m, k in product((0, 1), (0, 1)))
        crowd = np.isin(gs, things) & (gi == 0)
        for c, i in {(c, i) for c, i in zip(gs.flat, gi.flat, strict=True) if c in things and i > 0}:
            g = (gs == c) & (gi == i)
            tubes += 1
            for pc, pn in {(c, i) for c, i in zip(ps.flat, pi.flat, strict=True) if c in things}:
                p = (ps == pc) & (pi == pn) & ~crowd
                if (p & g).any():
                    quality += (p & g).sum() * ((p & g).sum() / (p | g).sum()) / g.sum()
    gs, ps = (np.stack([f[m][0] for _, *f in video]) for m in (0, 1))
    labelled = gs != 255
    ious = []
    for c in (2, 5, 9, 255):
        g, p = (gs == c) & labelled, (ps == c) & labelled
        if (g | p).any():
            ious.append((g & p).sum() / (g | p).sum())
    return quality / tubes if tubes else 0.0, np.mean(ious) if ious else math.nan, pq_by_pixels(video)


def pq_by_pixels(video):
    scores = []
    for c in (2, 5, 9):
        iou, tp, fp, fn = 0.0, 0, 0, 0
        for _, (gs, gi), (ps, pi) in video:
            gi, pi = (np.zeros_like(gi), np.zeros_like(pi)) if c == 2 else (gi, pi)
            true = [(gs == c) & (gi == i) for i in np.unique(gi[gs == c]) if c == 2 or i > 0]
            guess = [(ps == c) & (pi == i) for i in np.unique(pi[ps == c])]
            void = gs == 255
            excuse = void | ((gs == c) & (gi == 0) if c != 2 else False)
            matched = set()
            for g in true:
                hits = [k for k, p in enumerate(guess) if (g & p).sum() / (g | (p & ~void)).sum() > 0.5]
                if hits:
                    matched.add(hits[0])
                    iou += (g & guess[hits[0]]).sum() / (g | (guess[hits[0]] & ~void)).sum()
                tp, fn = tp + len(hits), fn + (not hits)
            fp += sum(k not in matched and (p & excuse).sum() / p.sum() <= 0.5 for k, p in enumerate(guess))
        if tp + fp + fn:
            scores.append(iou / (tp + 0.5 * fp + 0.5 * fn))
    return np.mean(scores) if scores else math.nan


@settings(max_examples=150, deadline=None)
@given(videos)
def test_agrees_with_the_definitions_taken_literally(video):
    report = run(video).result()
    aq, sq, pq = by_pixels(video)
    assert report.aq == pytest.approx(aq, abs=1e-12)
    assert report.sq == pytest.approx(sq, abs=1e-12, nan_ok=True)
    assert report.pq.all == pytest.approx(pq, abs=1e-12, nan_ok=True)
    assert report.stq == pytest.approx(math.sqrt(aq * sq), abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(videos)
def test_the_truth_itself_scores_one(video):
    report = run([(s, gt, gt) for s, gt, _ in video]).result()
    for value in (report.sq, report.miou, report.pq.all):
        assert value == 1 or math.isnan(value)
    assert report.aq == pytest.approx(1 if report.tubes else 0, abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(videos, st.permutations([0, 1, 2]))
def test_renaming_ids_changes_nothing(video, names):
    names = np.array(names) * 7919
    renamed = [(s, gt, (pred[0], names[pred[1]])) for s, gt, pred in video]
    assert run(renamed).result().to_json() == run(video).result().to_json()


@settings(max_examples=60, deadline=None)
@given(videos, st.data())
def test_merging_in_any_split_is_one_pass_to_the_last_digit(video, data):
    # Which of three evaluators sees a frame: the sequences in any order, the frames of each in theirs.
    last, parts = {}, []
    for sequence, *_ in video:
        last[sequence] = data.draw(st.integers(last.get(sequence, 0), 2))
        parts.append(last[sequence])
    merged = Evaluator(TAXONOMY)
    for part in range(3):
        merged.merge(run([f for f, p in zip(video, parts, strict=True) if p == part]))
    once = run(video).result()
    assert merged.result().to_json() == once.to_json()
    assert {n: s.timelines for n, s in merged.result().sequences.items()} == {
        n: s.timelines for n, s in once.sequences.items()
    }


@settings(max_examples=60, deadline=None)
@given(videos)
def test_finished_sequences_have_the_same_result_and_leave_less_behind(video):
    whole, finished = run(video), run(video)
    for sequence in {s for s, *_ in video}:
        finished.finish(sequence)
    assert finished.result().to_json() == whole.result().to_json()
    stored = load_counts(dump_counts(finished), "counts")
    merged = Evaluator(TAXONOMY)
    merged.merge(stored)
    assert merged.result().to_json() == whole.result().to_json()
    with pytest.raises(InputError, match=r"sequence .: .*finished"):
        finished.update(video[0][0], *video[0][1], *video[0][2])


@settings(max_examples=60, deadline=None)
@given(videos)
def test_two_sequences_obey_the_definition(video):
    report = run(video).result()
    tubes = sum(s.tubes for s in report.sequences.values())
    aq = sum(s.aq * s.tubes for s in report.sequences.values()) / tubes if tubes else 0
    assert report.tubes == tubes
    assert report.aq == pytest.approx(aq, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(videos)
def test_everything_stays_in_its_range(video):
    report = run(video).result()
    values = [report.stq, report.aq, report.sq, report.miou, report.pq.all, report.pq.things, report.pq.stuff]
    assert all(math.isnan(v) or 0 <= v <= 1 for v in values)


@settings(max_examples=60, deadline=None)
@given(one_map, one_map)
def test_overlaps_hold_every_pixel_once(gt, pred):
    table = overlaps(Classes(TAXONOMY), *gt, *pred)
    assert table.count.sum() == gt[0].size
    assert (table.count > 0).all()
    pairs = list(zip(table.gt.tolist(), table.pred.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
