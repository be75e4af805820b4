"""The papers' trackers, each against answers worked out by hand from its equations."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trackers_scene import GROUND, HEIGHT, RATE, WIDTH, Thing, identities, segmented, shot, texture

from vps_ros.config import Config
from vps_ros.frame import AssociatedBy, Frame, Segmentation, TrackState
from vps_ros.trackers import make_tracker
from vps_ros.trackers.kalman import FRAME, KalmanMemory
from vps_ros.trackers.propagation import Propagation
from vps_ros.trackers.similarity import bidirectional_softmax, box_iou, iou, overlap
from vps_ros.trackers.things import Things


def tracker(name, **parameters):
    return make_tracker(Config(tracker=name, **parameters))


def ids_of(track, frames, scores=None):
    """[{name: track id}] of frames that are lists of things, one RATE apart; `scores` by name."""
    found = []
    for f, things in enumerate(frames):
        frame, segmentation, names = shot(things, 0)
        if scores is not None:
            segmentation.scores[:] = [scores[n] for n in names]
        found.append(identities(track.step(replace(frame, stamp=f * RATE), segmentation), names))
    return found


def at(x, y=10, width=20, height=20, **facts):
    return Thing((x, y, x + width, y + height), **{"name": 1, **facts})


def unit(degrees, length=1.0):
    return (length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees)))


# Video-kMaX, table 5b


def test_location_pairs_up_to_the_distance_of_equation_5():
    """alpha 0.7 at T 1: two sides 0.40 of the width away give exp(-0.32) = 0.726, 0.45 give exp(-0.405) = 0.667."""
    near, far = 0.40 * WIDTH, 0.45 * WIDTH
    assert ids_of(tracker("location"), [[at(0)], [at(round(near))]]) == [{1: 1}, {1: 1}]
    assert ids_of(tracker("location"), [[at(0)], [at(round(far))]]) == [{1: 1}, {1: 2}]


def test_location_divides_by_width_and_height_as_the_paper_does():
    """0.40 of the height counts as much as 0.40 of the width."""
    track = tracker("location")
    frame, segmentation, _ = shot([at(0, 0)])
    track.step(frame, segmentation)
    frame, segmentation, _ = shot([at(0, round(0.40 * HEIGHT))], 0)
    (seen,) = track.step(replace(frame, stamp=RATE), segmentation)
    step = round(0.40 * HEIGHT) / HEIGHT
    assert seen.track_id == 1 and seen.association_score == pytest.approx(math.exp(-2 * step**2), rel=1e-5)


def test_location_does_not_look_at_appearance():
    """Two objects exchange their embeddings and stay where they are."""
    one, two = at(10, embedding=(1.0, 0.0)), at(70, embedding=(0.0, 1.0), name=2)
    swapped = [replace(one, embedding=two.embedding), replace(two, embedding=one.embedding)]
    assert ids_of(tracker("location"), [[one, two], swapped]) == [{1: 1, 2: 2}] * 2


def test_location_gives_the_best_sum_not_the_nearest_pair():
    """A row of three moves by half its spacing: each step right is one, two or none; Hungarian keeps the row."""
    row = [at(10 + 30 * n, name=n) for n in range(3)]
    moved = [at(22 + 30 * n, name=n) for n in range(3)]
    assert ids_of(tracker("location"), [row, moved]) == [{0: 1, 1: 2, 2: 3}] * 2


def test_location_remembers_for_ten_frames():
    for hidden, expected in ((9, 1), (10, 2)):
        frames = [[at(10)], *[[at(90, class_id=11, name=2)]] * hidden, [at(10)]]
        assert ids_of(tracker("location"), frames)[-1][1] == (1 if expected == 1 else 3)


def test_appearance_pairs_by_cosine_wherever_the_object_is():
    """alpha 0.8: cos 36 = 0.809, cos 37 = 0.799; the length of the embedding does not matter."""
    for degrees, expected in ((36, 1), (37, 2)):
        frames = [[at(0, embedding=unit(0))], [at(100, 40, embedding=unit(degrees, 7.0))]]
        assert ids_of(tracker("appearance"), frames)[1] == {1: expected}


def test_appearance_averages_with_lambda():
    """0.2 (1, 0) + 0.8 (cos 30, sin 30) points to 24.2 degrees: 59 is 34.8 away, 61.5 is 37.3."""
    for degrees, expected in ((59, 1), (61.5, 2)):
        frames = [[at(0, embedding=unit(d))] for d in (0, 30, degrees)]
        assert ids_of(tracker("appearance"), frames)[2] == {1: expected}


def test_appearance_follows_objects_that_exchange_places():
    one, two = at(10, embedding=(1.0, 0.0)), at(70, embedding=(0.0, 1.0), name=2)
    swapped = [replace(one, box=two.box), replace(two, box=one.box)]
    track = tracker("appearance")
    assert ids_of(track, [[one, two], swapped]) == [{1: 1, 2: 2}] * 2


def test_appearance_forgets_after_one_frame():
    """tau 1 is the best of naive-MB; with tau 2 a frame without the object is survived."""
    frames = [[at(10, embedding=(1.0, 0.0))], [], [at(10, embedding=(1.0, 0.0))]]
    assert ids_of(tracker("appearance"), frames)[2] == {1: 2}
    assert ids_of(tracker("appearance", memory_tau=2.0), frames)[2] == {1: 1}


def test_hila_mb_multiplies():
    """A quarter of the width away: exp(-0.125) = 0.882; times cos 36 = 0.714 > 0.7, times cos 38 = 0.695."""
    for degrees, expected in ((36, 1), (38, 2)):
        frames = [[at(0, embedding=unit(0))], [at(WIDTH // 4, embedding=unit(degrees))]]
        assert ids_of(tracker("hila_mb"), frames)[1] == {1: expected}


def test_hila_mb_predicts_at_constant_velocity():
    """Equation 4: hidden at 8 px a frame for three frames, two alike objects; the one on the path is the old one."""
    look = (1.0, 0.0)
    frames = [
        [at(0, embedding=look)],
        [at(8, embedding=look)],
        *[[]] * 3,
        [at(40, embedding=look), at(4, embedding=look, name=2)],
    ]
    assert ids_of(tracker("hila_mb"), frames)[-1] == {1: 1, 2: 2}


# STEP


def test_mask_iou_of_a_known_shift():
    """4x4 squares one column apart share 12 pixels of 20."""
    before, after = np.zeros((8, 8), np.uint16), np.zeros((8, 8), np.uint16)
    before[2:6, 2:6] = 1
    after[2:6, 3:7] = 2
    after[0, :4] = 1
    assert iou(overlap(before, after, 1, 2)).tolist() == [[0, 12 / 20]]
    assert iou(overlap(before * 0, after * 0, 1, 1)).tolist() == [[0]]


def test_iou_above_threshold():
    """20 px wide: 10 px on share 10 of 30, 11 px on 9 of 31, which is less than 0.3."""
    assert ids_of(tracker("iou"), [[at(10)], [at(20)]])[1] == {1: 1}
    assert ids_of(tracker("iou"), [[at(10)], [at(21)]])[1] == {1: 2}
    assert ids_of(tracker("iou", iou_threshold=0.2), [[at(10)], [at(21)]])[1] == {1: 1}


def test_iou_is_of_masks_not_of_boxes():
    """Two L shapes in one box that share no pixel."""

    def half(upper):
        mask = np.zeros((HEIGHT, WIDTH), int)
        square = np.add.outer(np.arange(20), np.arange(20))
        mask[10:30, 10:30] = square < 19 if upper else square > 19
        return segmented(GROUND, mask, [at(10)], 0 if upper else RATE)

    for name, expected in (("iou", 2), ("sort", 1)):
        track = tracker(name)
        for upper in (True, False):
            frame, segmentation, _ = half(upper)
            segmentation.boxes[:] = 10, 10, 30, 30
            tracks = track.step(frame, segmentation)
        assert [t.track_id for t in tracks if t.index >= 0] == [expected]


@pytest.mark.parametrize("name", ["iou", "mask_propagation"])
def test_masks_are_kept_for_ten_frames_where_they_were(name):
    for hidden, expected in ((9, 1), (10, 3)):
        frames = [[at(10)], *[[at(90, name=2)]] * hidden, [at(10)]]
        assert ids_of(tracker(name), frames)[-1] == {1: expected}


@pytest.mark.parametrize("name", ["iou", "mask_propagation"])
def test_lost_masks_on_top_of_each_other_are_both_kept(name):
    """Three classes in one place at different times; each is known again."""
    car, person, bus = (at(10, class_id=c, name=c) for c in (13, 11, 15))
    frames = [[car], [person], [bus], [], [person], [car], [bus]]
    assert ids_of(tracker(name), frames)[4:] == [{11: 2}, {13: 1}, {15: 3}]


def test_masks_are_laid_on_as_few_maps_as_they_overlap():
    masks = Propagation(lambda height, width: (height, width))
    for f, (x, name) in enumerate([(0, 1), (30, 2), (60, 3), (5, 4), (90, 5)]):
        frame, segmentation, _ = shot([at(x, name=name)], f * RATE)
        masks.push(frame, segmentation, Things.of(segmentation))
        masks.remember(np.array([name]))
    assert sorted(masks.ids) == [1, 2, 3, 4, 5]
    assert len(masks.maps) == 3, "the last frame's, and two for 1 and 4, which overlap"
    frame, segmentation, _ = shot([at(0, 10)], 9 * RATE)
    masks.push(frame, segmentation, Things.of(segmentation))
    found = dict(zip(masks.ids.tolist(), masks.iou()[:, 0].tolist(), strict=True))
    assert found == {1: 1, 4: 15 / 25, 2: 0, 3: 0, 5: 0}
    masks.keep(np.array([3, 4]))
    assert sorted(masks.ids) == [3, 4]
    assert dict(zip(masks.ids.tolist(), masks.iou()[:, 0].tolist(), strict=True)) == {4: 15 / 25, 3: 0}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_mask_iou_equals_comparing_every_pair_of_last_masks(data):
    """Against one boolean mask for each object, as STEP's released code keeps them."""
    masks = Propagation(lambda height, width: (height, width))
    last: dict[int, np.ndarray] = {}
    for f in range(8):
        names = data.draw(st.sets(st.integers(1, 6), max_size=4))
        things = [at(data.draw(st.integers(0, 100)), data.draw(st.integers(0, 50)), name=n) for n in sorted(names)]
        frame, segmentation, shown = shot(things, 0)
        seen = Things.of(segmentation)
        masks.push(replace(frame, stamp=f * RATE), segmentation, seen)
        now = [segmentation.map == i + 1 for i in seen.index]
        expected = {n: [(m & o).sum() / (m | o).sum() if (m | o).any() else 0 for o in now] for n, m in last.items()}
        found = dict(zip(masks.ids.tolist(), masks.iou().tolist(), strict=True))
        assert found == {n: pytest.approx(row) for n, row in expected.items()}
        order = [shown[i] for i in seen.index]
        masks.remember(np.array(order, np.int64))
        last |= dict(zip(order, now, strict=True))


def panned(frames, step, hidden=()):
    """A camera that turns: a wide ground slides by `step` px a frame, a narrow object with it."""
    wide = texture(5, HEIGHT, WIDTH + step * frames)
    wide[20:50, 90:102] = texture(6, 30, 12)
    for f in range(frames):
        left = step * f
        mask = np.zeros((HEIGHT, WIDTH), int)
        if f not in hidden:
            mask[20:50, 90 - left : 102 - left] = 1
        yield segmented(np.ascontiguousarray(wide[:, left : left + WIDTH]), mask, [at(0)], f * RATE)


def test_mask_propagation_follows_the_flow():
    """12 px wide and 8 px a frame: the masks share 4 of 20 px where they were, nearly all where the flow takes them."""
    for name, expected in (("mask_propagation", {1}), ("iou", {1, 2, 3, 4, 5, 6})):
        track = tracker(name)
        found = [identities(track.step(frame, s), names)[1] for frame, s, names in panned(6, 8)]
        assert set(found) == expected
    assert track.flow_milliseconds == 0


def test_mask_propagation_moves_lost_masks_too():
    """Not seen for three frames of a camera that turns: the mask has moved by 16 px, more than it is wide."""
    for name, expected in (("mask_propagation", 1), ("iou", 2)):
        track = tracker(name)
        for frame, segmentation, _ in panned(6, 4, hidden=(2, 3, 4)):
            tracks = track.step(frame, segmentation)
        assert [t.track_id for t in tracks if t.index >= 0] == [expected]
        assert all(t.associated_by in (AssociatedBy.PIXELS, AssociatedBy.NEW) for t in tracks)


# SORT


def test_box_iou_by_hand():
    """2x2 boxes one apart: 2 of 6; apart: 0; the same: 1; nothing: 0."""
    boxes = np.array([[0.0, 0, 2, 2], [5, 5, 5, 5]])
    others = np.array([[1.0, 0, 3, 2], [2, 0, 4, 2], [0, 0, 2, 2], [5, 5, 5, 5]])
    assert box_iou(boxes, others).tolist() == [[2 / 6, 0, 1, 0], [0, 0, 0, 0]]


def test_the_filter_after_one_step_by_hand():
    """After one frame the variance of the centre is 10 + 10000 + 1, of a measurement 1: the gain is 10011 / 10012."""
    track = tracker("sort", confirm_hits=1)
    track.step(*shot([at(20)])[:2])
    frame, segmentation, _ = shot([at(25)])
    (seen,) = track.step(replace(frame, stamp=RATE), segmentation)
    rate = 5 * 10000 / 10012
    assert seen.velocity == pytest.approx((rate * 10, 0), rel=1e-9)
    empty = segmented(GROUND, np.zeros((HEIGHT, WIDTH), int), [])[1]
    (lost,) = track.step(Frame(GROUND, 3 * RATE), empty)
    centre = 30 + 5 * 10011 / 10012 + 2 * rate
    assert lost.state == TrackState.LOST
    assert lost.box == pytest.approx((centre - 10, 10, centre + 10, 30), rel=1e-6)


def things_of(box, size=(100, 200)):
    x0, y0, x1, y1 = box
    return Things.of(
        Segmentation(
            np.zeros(size, np.uint8),
            np.array([13], np.int32),
            np.ones(1, bool),
            np.ones(1, np.float32),
            np.array([9]),
            np.array([[x0, y0, x1, y1]], np.float32),
        )
    )


boxes = st.tuples(st.integers(0, 150), st.integers(0, 60), st.integers(4, 40), st.integers(4, 40))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(boxes, st.integers(1, 4)), min_size=2, max_size=8))
def test_the_filter_equals_one_of_seven_dimensions(sightings):
    """SORT's filter as its matrices, one step a frame, through gaps of up to three frames."""
    motion = np.eye(7)
    motion[[0, 1, 2], [4, 5, 6]] = 1
    measure = np.eye(4, 7)
    noise, spread = np.diag([1, 1, 1, 1, 0.01, 0.01, 1e-4]), np.diag([1.0, 1, 10, 10])
    state = covariance = None
    memory, row, stamp = KalmanMemory(), np.array([0]), 0
    for frame, ((x, y, w, h), gap) in enumerate(sightings):
        measured = np.array([x + w / 2, y + h / 2, w * h, w / h])
        seen = things_of((x, y, x + w, y + h))
        if state is None:
            state, covariance = np.zeros(7), np.diag([10.0, 10, 10, 10, 1e4, 1e4, 1e4])
            state[:4] = measured
            memory.add(seen, row, np.array([1]), np.array([0]), stamp, frame)
            continue
        stamp += gap * FRAME
        for _ in range(gap):
            state[6] *= state[2] + state[6] > 0
            state, covariance = motion @ state, motion @ covariance @ motion.T + noise
        width = math.sqrt(max(state[2] * state[3], 1e-9))
        if state[2] > 1e-3 and state[3] > 1e-3:
            height = state[2] / width
            predicted = [state[0] - width / 2, state[1] - height / 2, state[0] + width / 2, state[1] + height / 2]
            found = memory.predict(stamp, row)[0] * (200, 100, 200, 100)
            assert found == pytest.approx(predicted, rel=1e-5, abs=1e-4)
        gain = covariance @ measure.T @ np.linalg.inv(measure @ covariance @ measure.T + spread)
        state = state + gain @ (measured - measure @ state)
        covariance = (np.eye(7) - gain @ measure) @ covariance
        memory.see(row, seen, row, stamp, frame)
        assert memory.states[0, 0] == pytest.approx(state[:4], rel=1e-5, abs=1e-4)
        assert memory.states[1, 0, :3] == pytest.approx(state[4:], rel=1e-5, abs=1e-4)
        assert memory.states[2, 0] == pytest.approx(np.diag(covariance)[:4], rel=1e-5)


def test_sort_pairs_with_the_predicted_box():
    """20 px wide, 12 px a frame: the last box shares 8 of 32, the predicted one nearly all."""
    frames = [[at(5)], [at(13)], [at(25)], [at(37)], [at(49)]]
    assert ids_of(tracker("sort"), frames)[-1] == {1: 1}
    assert ids_of(tracker("sort"), [[at(5)], [at(17)]])[-1] == {1: 2}


def test_sort_comes_back_on_its_path():
    frames = [[at(5 + 4 * f)] if f < 5 or f > 9 else [] for f in range(13)]
    found = ids_of(tracker("sort"), frames)
    assert found[-1] == found[0] == {1: 1}


def test_sort_in_an_image_of_another_size():
    """The whole picture at twice the size is the same motion."""
    small, large = KalmanMemory(), KalmanMemory()
    row = np.array([0])
    for memory, sizes in ((small, (1, 1, 1)), (large, (1, 2, 2))):
        for f, scale in enumerate(sizes):
            box = np.array([20 + 5 * f, 10, 40 + 5 * f, 30]) * scale
            seen = things_of(box, (100 * scale, 200 * scale))
            if f:
                memory.see(row, seen, row, f * FRAME, f)
            else:
                memory.add(seen, row, row + 1, row, 0, 0)
    assert large.predict(3 * FRAME, row) == pytest.approx(small.predict(3 * FRAME, row), abs=2e-3)


# Video K-Net: quasi-dense


def look(axis, length=3.0):
    return tuple(length * np.eye(4)[axis])


def test_bidirectional_softmax_by_hand():
    ln2 = math.log(2)
    both = bidirectional_softmax(np.array([[ln2, 0], [0, ln2]]))
    assert both == pytest.approx(np.array([[2 / 3, 1 / 3], [1 / 3, 2 / 3]]))
    assert bidirectional_softmax(np.array([[ln2, 0]])) == pytest.approx(np.array([[5 / 6, 2 / 3]]))
    assert bidirectional_softmax(np.array([[1e4, 0]], np.float32)) == pytest.approx(np.array([[1, 0.5]]))
    assert bidirectional_softmax(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(("length", "near", "far"), [(1.5, 2.25, 0.45), (10.0, 100, 20), (1.0, 10, 2)])
def test_quasi_dense_multiplies(length, near, far):
    """Two objects, one thing: (softmax over objects + 1) / 2 of the raw products, or of cosines over 0.1."""
    known = [at(10, embedding=(length, 0.0)), at(60, embedding=(0.2 * length, math.sqrt(0.96) * length), name=2)]
    track = tracker("quasi_dense", instance_temperature=0.1)
    ids_of(track, [known], {1: 0.9, 2: 0.9})
    frame, segmentation, _ = shot([at(10, embedding=(length, 0.0))])
    seen = [t for t in track.step(replace(frame, stamp=RATE), segmentation) if t.index >= 0]
    assert [t.track_id for t in seen] == [1]
    assert seen[0].association_score == pytest.approx((1 / (1 + math.exp(far - near)) + 1) / 2, rel=1e-5)
    assert seen[0].associated_by == AssociatedBy.INSTANCE


def test_quasi_dense_pairs_one_class_only():
    """The softmax is over all classes, and only then is another class ruled out."""
    frames = [[at(10, embedding=look(0))], [at(10, embedding=look(0), class_id=11)]]
    assert ids_of(tracker("quasi_dense"), frames, {1: 0.9}) == [{1: 1}, {1: 2}]


def test_quasi_dense_serves_the_highest_score_first():
    """Two things alike to one object, (1 + 0.5) / 2 each: the better scored one is it, wherever it stands."""
    for scores, expected in (({1: 0.9, 2: 0.8}, {1: 1, 2: 2}), ({1: 0.8, 2: 0.9}, {1: 2, 2: 1})):
        frames = [[at(10, embedding=look(0))], [at(10, embedding=look(0)), at(60, embedding=look(0), name=2)]]
        assert ids_of(tracker("quasi_dense"), frames, scores)[1] == expected


def test_quasi_dense_starts_no_object_from_a_low_score():
    """0.34 is not above init: each sighting is a stranger that is remembered as a backdrop for one frame."""
    track = tracker("quasi_dense")
    ids, alive = [], []
    for f in range(4):
        frame, segmentation, names = shot([at(10, embedding=look(0))] if f < 2 else [])
        segmentation.scores[:] = 0.34
        tracks = track.step(replace(frame, stamp=f * RATE), segmentation)
        ids.append(identities(tracks, names))
        alive.append([t.track_id for t in tracks])
    assert ids == [{1: 1}, {1: 2}, {}, {}]
    assert alive == [[1], [1, 2], [2], []]
    assert ids_of(tracker("quasi_dense", init_threshold=0.3), [[at(10, embedding=look(0))]] * 2, {1: 0.34})[1] == {1: 1}


def test_quasi_dense_sees_an_object_again_above_a_lower_score():
    """Started at 0.9, seen at 0.31 (above object_threshold, below init), and at 0.29, a doubtful look."""
    frames = [[at(10, embedding=look(0))]] * 2
    for score, expected in ((0.31, 1), (0.29, 2)):
        track = tracker("quasi_dense")
        ids_of(track, frames[:1], {1: 0.9})
        frame, segmentation, names = shot(frames[1])
        segmentation.scores[:] = score
        assert identities(track.step(replace(frame, stamp=RATE), segmentation), names) == {1: expected}


def test_quasi_dense_forgets_doubtful_looks_at_once():
    """A low-scored look at a known object is no backdrop that would compete with it: it is gone in the next frame."""
    track, found = tracker("quasi_dense"), []
    for f, score in enumerate((0.9, 0.2, 0.9)):
        frame, segmentation, _ = shot([at(10, embedding=look(0))])
        segmentation.scores[:] = score
        found.append([(t.track_id, t.index) for t in track.step(replace(frame, stamp=f * RATE), segmentation)])
    assert found == [[(1, 0)], [(1, -1), (2, 0)], [(1, 0)]]


def test_quasi_dense_keeps_its_doubts_through_a_change_of_parameters():
    """The doubtful look of the frame before the change is gone in the frame after it all the same."""
    track, found = tracker("quasi_dense"), []
    for f, score in enumerate((0.9, 0.2, 0.9)):
        if f == 2:
            track.configure(Config(tracker="quasi_dense", match_threshold=0.45).settled())
        frame, segmentation, _ = shot([at(10, embedding=look(0))])
        segmentation.scores[:] = score
        found.append([t.track_id for t in track.step(replace(frame, stamp=f * RATE), segmentation)])
    assert found == [[1], [1, 2], [1]]


def test_quasi_dense_backdrops_guard_objects():
    """What matches a backdrop better than the object does not take the object's identity; a frame later it would."""
    car = at(10, embedding=(3.0, 0.0))
    poster = at(60, embedding=(2.5, 1.7), name=2)
    scores = {1: 0.9, 2: 0.2, 3: 0.9}
    later = replace(poster, name=3)
    assert ids_of(tracker("quasi_dense"), [[car, poster], [later]], scores)[1] == {3: 3}
    assert ids_of(tracker("quasi_dense"), [[car, poster], [], [later]], scores)[2] == {3: 1}


def test_quasi_dense_remembers_for_five_frames():
    for hidden, expected in ((4, 1), (5, 2)):
        frames = [[at(10, embedding=look(0))], *[[]] * hidden, [at(90, 40, embedding=look(0))]]
        assert ids_of(tracker("quasi_dense"), frames, {1: 0.9})[-1] == {1: expected}


def test_quasi_dense_momentum():
    """0.2 (3, 0) + 0.8 (1.8, 2.4) = (2.04, 1.92), not normalised: the product with (0, 2) is 3.84, with the other 0."""
    track = tracker("quasi_dense")
    other = at(60, embedding=look(3), name=2)
    ids_of(track, [[at(10, embedding=e), other] for e in (look(0), (1.8, 2.4, 0.0, 0.0))], {1: 0.9, 2: 0.9})
    frame, segmentation, _ = shot([at(10, embedding=look(1, 2.0))])
    (seen,) = [t for t in track.step(replace(frame, stamp=2 * RATE), segmentation) if t.index >= 0]
    assert (seen.track_id, seen.hits) == (1, 3)
    assert seen.association_score == pytest.approx((1 / (1 + math.exp(-3.84)) + 1) / 2, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(6)), st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_quasi_dense_ids_stay_with_their_segments(first, second, weak):
    """In the released code ids come back sorted and without the low scores, but index all masks: they shift."""
    things = [at(2 + 20 * n, width=16, embedding=tuple(4 * np.eye(6)[n]), name=n) for n in range(6)]
    scores = {n: 0.32 if n in weak else 0.6 + 0.05 * n for n in range(6)}
    track, found = tracker("quasi_dense"), []
    for f, order in enumerate((range(6), first, second)):
        frame, segmentation, names = shot(things, 0, 0, order)
        segmentation.scores[:] = [0.9 if f == 0 else scores[n] for n in names]
        tracks = track.step(replace(frame, stamp=f * RATE), segmentation)
        found.append(identities(tracks, names))
        for t in tracks:
            assert t.box[0] == 2 + 20 * names[t.index] and t.score == pytest.approx(segmentation.scores[t.index])
    assert found == [{n: n + 1 for n in range(6)}] * 3


def test_grid_of_a_large_camera_is_the_flows():
    """Masks are compared on the small grid whatever the camera's size: a mask of one cell more or less is enough."""
    track = tracker("iou", flow_height=36)
    for f in range(2):
        frame, segmentation, names = shot([at(10 + 4 * f)], 0)
        large = cv2.resize(segmentation.map, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
        picture = cv2.resize(frame.image, None, fx=4, fy=4)
        segmentation = replace(segmentation, map=large, boxes=segmentation.boxes * 4, areas=segmentation.areas * 16)
        tracks = track.step(Frame(picture, f * RATE), segmentation)
    assert identities(tracks, names) == {1: 1}
    assert tracks[0].association_score == pytest.approx(16 / 24)
