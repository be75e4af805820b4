"""The baselines of STEP, masks and SORT, each against answers worked out by hand."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trackers_scene import (
    GROUND,
    HEIGHT,
    RATE,
    WIDTH,
    at,
    identities,
    ids_of,
    segmented,
    shot,
    texture,
    tracker,
)

from vps_ros.frame import AssociatedBy, Frame, Segmentation, TrackState
from vps_ros.trackers.kalman import FRAME, KalmanMemory
from vps_ros.trackers.propagation import Propagation
from vps_ros.trackers.similarity import box_iou, iou, overlap
from vps_ros.trackers.things import Things

# Masks


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
