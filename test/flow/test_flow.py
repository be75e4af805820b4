"""Optical flow: its direction, moving labels along it, and putting two flows together."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vps_ros.flow.dis import DisFlow
from vps_ros.flow.flow import PRESETS, working_size
from vps_ros.flow.history import FlowHistory, compose, warp_labels


def texture(height=96, width=160, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def moved(image, x, y):
    """The picture after everything in it went x pixels right and y down."""
    return np.roll(image, (y, x), axis=(0, 1))


@pytest.mark.parametrize("preset", PRESETS)
def test_flow_points_from_source_to_target(preset):
    flow = DisFlow(preset, 96)
    before = cv2.cvtColor(flow.shrink(texture()), cv2.COLOR_RGB2GRAY)
    after = cv2.cvtColor(flow.shrink(moved(texture(), 3, -2)), cv2.COLOR_RGB2GRAY)
    inner = flow(before, after)[24:-24, 24:-24]
    assert np.median(inner, axis=(0, 1)) == pytest.approx([3, -2], abs=0.3)


def test_history_gives_the_way_back():
    history = FlowHistory(DisFlow("medium", 96))
    history.push(texture())
    assert history.backward(1) is None
    history.push(moved(texture(), 3, 0))
    history.push(moved(texture(), 5, 1))
    one, two = (history.backward(steps)[24:-24, 24:-24] for steps in (1, 2))
    assert np.median(one, axis=(0, 1)) == pytest.approx([-2, -1], abs=0.3)
    assert np.median(two, axis=(0, 1)) == pytest.approx([-5, -1], abs=0.3)
    assert history.milliseconds > 0


def test_history_starts_afresh_at_another_size_and_after_reset():
    history = FlowHistory(DisFlow())
    assert history.push(texture(96, 160)) == (96, 160)
    assert history.push(texture(64, 160)) == (64, 160)
    assert history.backward(1) is None
    history.push(texture(64, 160))
    assert history.backward(1) is not None
    history.reset()
    history.push(texture(64, 160))
    assert history.backward(1) is None


def test_working_size_keeps_the_aspect_and_never_grows():
    assert working_size(375, 1242, 192) == (192, 636)
    assert working_size(100, 50, 192) == (100, 50)
    assert working_size(4000, 1, 192) == (192, 1)
    assert DisFlow("fast", 192).shrink(texture(375, 1242)).shape == (192, 636, 3)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (8, 200), (15, 15), (16, 16), (17, 40)])
def test_tiny_images_have_finite_flow(size):
    history = FlowHistory(DisFlow())
    for seed in range(3):
        history.push(texture(*size, seed=seed))
    assert np.isfinite(history.backward(1)).all()
    assert history.backward(2).shape == (*size, 2)


def test_image_without_texture_has_finite_flow():
    flow = DisFlow("ultrafast", 64)
    flat = np.zeros((64, 64), np.uint8)
    assert np.isfinite(flow(flat, flat)).all()


def test_composed_flow_by_hand():
    """One pixel right, then x pixels right where it came from: at column q the sum is 1 + (q + 1)."""
    newest = np.zeros((4, 6, 2), np.float32)
    newest[..., 0] = 1
    older = np.zeros((4, 6, 2), np.float32)
    older[..., 0] = np.arange(6)
    two = compose(newest, older)
    assert two[2, :5, 0] == pytest.approx([2, 3, 4, 5, 6])
    assert two[2, 5, 0] > 1000, "the path leaves the image"
    assert (two[:, :5, 1] == 0).all()


def test_composed_flow_reads_between_pixels():
    newest = np.full((4, 6, 2), 0.5, np.float32)
    older = np.zeros((4, 6, 2), np.float32)
    older[..., 1] = np.arange(6)
    assert compose(newest, older)[1, 1] == pytest.approx([0.5, 0.5 + 1.5])


def test_labels_move_with_the_flow():
    labels = np.array([[0, 7, 7, 0, 0]], np.uint16)
    came_from_left = np.zeros((1, 5, 2), np.float32)
    came_from_left[..., 0] = -2
    assert warp_labels(labels, came_from_left).tolist() == [[0, 0, 0, 7, 7]]


def test_growing_object_leaves_no_holes():
    """Everything grows to twice its distance from column 1: columns 2..3 (centres 2, 3) become columns 3..6."""
    labels = np.zeros((1, 8), np.uint16)
    labels[0, 2:4] = 5
    columns = np.arange(8)
    flow = np.zeros((1, 8, 2), np.float32)
    flow[0, :, 0] = (columns - 1) / 2 + 1.01 - columns
    assert warp_labels(labels, flow)[0].tolist() == [0, 0, 5, 5, 5, 5, 0, 0]


def test_labels_from_nowhere_are_nothing():
    flow = np.full((3, 3, 2), np.nan, np.float32)
    assert not warp_labels(np.ones((3, 3), np.uint16), flow).any()
    assert not warp_labels(np.ones((3, 3), np.uint16), np.full((3, 3, 2), 1e30, np.float32)).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(-6, 6), st.integers(-6, 6), st.integers(0, 2**32 - 1))
def test_composed_flow_equals_two_moves_of_the_labels(x1, y1, x2, y2, seed):
    """Looking two frames back at once, or step by step, finds the same labels (whole pixels, both paths inside)."""
    labels = np.random.default_rng(seed).integers(0, 65535, (20, 24), np.uint16)
    newest = np.broadcast_to(np.float32([x1, y1]), (20, 24, 2))
    older = np.broadcast_to(np.float32([x2, y2]), (20, 24, 2))
    at_once = warp_labels(labels, compose(newest, older))
    stepwise = warp_labels(warp_labels(labels, older), newest)
    assert (at_once == stepwise).all()


def test_sizes_may_change_from_call_to_call():
    rng = np.random.default_rng(0)
    flow = DisFlow()
    for i, shape in enumerate([(64, 96), (128, 192), (32, 48), (192, 640), (192, 256)] * 4):
        source, target = (rng.integers(0, 255, shape).astype(np.uint8) for _ in range(2))
        guess = rng.normal(0, 3, (*shape, 2)).astype(np.float32) if i % 2 else None
        assert flow(source, target, guess).shape == (*shape, 2)


def test_a_wild_guess_does_no_harm():
    rng = np.random.default_rng(0)
    source = rng.integers(0, 255, (64, 96)).astype(np.uint8)
    wild = rng.normal(0, 1e4, (64, 96, 2)).astype(np.float32)
    assert np.isfinite(DisFlow()(source, source, wild)).all()


def test_a_search_does_not_remember_those_before_it():
    flow = DisFlow("ultrafast")
    ground = cv2.cvtColor(texture(), cv2.COLOR_RGB2GRAY)
    images = [ground, moved(ground, 3, 0), moved(ground, 7, 1)]
    fresh = flow(images[1], images[0])
    guessed = flow(images[2], images[1], fresh)
    np.testing.assert_array_equal(flow(images[1], images[0]), fresh)
    np.testing.assert_array_equal(flow(images[2], images[1], fresh), guessed)
