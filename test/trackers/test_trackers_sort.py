"""SORT against answers worked out by hand, and its Kalman filter against the matrices of the paper."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.trackers_scene import (
    BACKGROUND,
    HEIGHT,
    RATE,
    WIDTH,
    at,
    ids_of,
    render,
    segmented,
    tracker,
)
from vps_ros.frame import Frame, Segmentation, TrackState
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.similarity import box_iou
from vps_ros.trackers.sort import FRAME, KalmanMemory


def test_box_iou_by_hand():
    """2x2 boxes one apart: 2 of 6; apart: 0; the same: 1; nothing: 0."""
    boxes = np.array([[0.0, 0, 2, 2], [5, 5, 5, 5]])
    others = np.array([[1.0, 0, 3, 2], [2, 0, 4, 2], [0, 0, 2, 2], [5, 5, 5, 5]])
    assert box_iou(boxes[:, None], others).tolist() == [[2 / 6, 0, 1, 0], [0, 0, 0, 0]]


def test_the_filter_after_one_step_by_hand():
    """After one frame the variance of the centre is 10 + 10000 + 1, of a measurement 1: the gain is 10011 / 10012."""
    track = tracker("sort", confirm_hits=1)
    track.step(*render([at(20)])[:2])
    frame, segmentation, _ = render([at(25)])
    (seen,) = track.step(replace(frame, stamp=RATE), segmentation)
    rate = 5 * 10000 / 10012
    assert seen.velocity == pytest.approx((rate * 10, 0), rel=1e-9)
    empty = segmented(BACKGROUND, np.zeros((HEIGHT, WIDTH), int), [])[1]
    (lost,) = track.step(Frame(BACKGROUND, 3 * RATE), empty)
    centre = 30 + 5 * 10011 / 10012 + 2 * rate
    assert lost.state == TrackState.LOST
    assert lost.box == pytest.approx((centre - 10, 10, centre + 10, 30), rel=1e-6)


def things_of(box, size=(100, 200)):
    x0, y0, x1, y1 = box
    return Detections.of(
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
            memory.create(seen, row, np.array([1]), np.array([0]), stamp, frame)
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
        memory.update(row, seen, row, stamp, frame)
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
                memory.update(row, seen, row, f * FRAME, f)
            else:
                memory.create(seen, row, row + 1, row, 0, 0)
    assert large.predict(3 * FRAME, row) == pytest.approx(small.predict(3 * FRAME, row), abs=2e-3)
