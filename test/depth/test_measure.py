"""Position and size of one object from the depth inside its mask: known answers, worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vps_ros.depth.measure import MIN_PIXELS, measure, nearest_surface
from vps_ros.errors import DroppedFrame
from vps_ros.frame_3d import Intrinsics, Transform

CAMERA = Intrinsics(100.0, 100.0, 49.5, 31.5, 100, 64)
BOX = (slice(20, 40), slice(60, 80))


def scene(metres=4.0, background=20.0):
    """Mask and depth of a box that stands parallel to the image."""
    mask, depth = np.zeros((64, 100), bool), np.full((64, 100), background, np.float32)
    mask[BOX], depth[BOX] = True, metres
    return mask, depth


def test_a_plane_parallel_to_the_image():
    found = measure(*scene(), CAMERA)
    # Its borders are at columns 59.5 and 79.5, rows 19.5 and 39.5: x 0.4 to 1.2 m, y -0.48 to 0.32 m at 4 m.
    assert found.position == pytest.approx((0.8, -0.08, 4.0))
    assert found.size == pytest.approx((0.8, 0.8, 0.0))
    assert found.distance == pytest.approx(4.0)


def test_a_slanted_plane_has_depth():
    mask, depth = scene()
    depth[BOX] = np.linspace(4.0, 5.0, 20)
    found = measure(mask, depth, CAMERA)
    assert found.position[2] == pytest.approx(4.5, abs=1e-6)
    # Each of the 18 columns without the edge has more than 5 % of the pixels: the outermost of them are the limits.
    assert found.size[2] == pytest.approx(17 / 19)


def test_edges_that_mix_two_surfaces_are_left_out():
    mask, depth = scene()
    clean = measure(mask, depth, CAMERA)
    ring = mask.copy()
    ring[21:39, 61:79] = False
    depth[ring] = np.random.default_rng(0).uniform(4, 20, ring.sum())
    assert measure(mask, depth, CAMERA) == clean


def test_what_is_seen_through_an_object_does_not_count():
    mask, depth = scene()
    # Two of three columns show the background, as between the spokes of a wheel.
    depth[20:40, 60:80][:, np.arange(20) % 3 > 0] = 20
    assert measure(mask, depth, CAMERA).distance == pytest.approx(4.0)


def test_a_pole_in_front_does_not_count():
    mask, depth = scene()
    depth[20:40, 70:72] = 2
    assert measure(mask, depth, CAMERA).distance == pytest.approx(4.0)


def test_holes_are_skipped():
    mask, depth = scene()
    depth[20:40, 60:75] = np.nan
    assert measure(mask, depth, CAMERA).position == pytest.approx((0.8, -0.08, 4.0))


def test_too_few_pixels_with_depth():
    mask, depth = scene(np.nan)
    assert measure(mask, depth, CAMERA) is None
    depth[30, 65 : 65 + MIN_PIXELS - 1] = 4
    assert measure(mask, depth, CAMERA) is None
    depth[30, 65 + MIN_PIXELS] = 4
    assert measure(mask, depth, CAMERA).pixels == MIN_PIXELS
    assert measure(np.zeros_like(mask), depth, CAMERA) is None


def test_a_small_object_keeps_its_edge():
    mask, depth = np.zeros((64, 100), bool), np.full((64, 100), np.nan, np.float32)
    mask[10:13, 10:13], depth[10:13, 10:13] = True, 6
    assert measure(mask, depth, CAMERA).pixels == 9


@given(
    st.floats(0.5, 80),
    st.floats(50, 900),
    st.integers(0, 60),
    st.integers(0, 30),
    st.integers(6, 30),
    st.integers(6, 30),
)
def test_any_plane_is_found_where_it_is(metres, focal, x, y, width, height):
    camera = Intrinsics(focal, focal, 49.5, 31.5, 100, 64)
    mask = np.zeros((64, 100), bool)
    mask[y : y + height, x : x + width] = True
    found = measure(mask, np.where(mask, metres, 3 * metres).astype(np.float32), camera)
    unit = metres / focal
    expected = ((x + width / 2 - 50) * unit, (y + height / 2 - 32) * unit, metres)
    assert found.position == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert found.size == pytest.approx((width * unit, height * unit, 0), rel=1e-4, abs=1e-4)


@given(st.lists(st.floats(0.2, 200), min_size=1, max_size=80))
def test_a_surface_is_an_interval_of_the_depths(depths):
    depths = np.array(depths)
    found = depths[nearest_surface(depths)]
    assert found.size > 0
    inside = depths[(depths >= found.min()) & (depths <= found.max())]
    assert sorted(inside) == sorted(found)


def test_surfaces_with_noise_are_separated_where_few_depths_are():
    rng = np.random.default_rng(1)
    near, far = rng.normal(10, 0.5, 400), rng.normal(15, 0.75, 900)
    depths = np.concatenate([near, far])
    found = depths[nearest_surface(depths)]
    assert np.median(found) == pytest.approx(10, abs=0.2)
    assert 350 < found.size < 450


@given(st.floats(10, 2000), st.integers(1, 500), st.integers(1, 500), st.integers(1, 4))
def test_intrinsics_of_another_size_show_the_same_points(focal, width, height, factor):
    camera = Intrinsics(focal, 2 * focal, 0.4 * width, 0.6 * height, width, height)
    larger = camera.scaled(width * factor, height * factor)
    # The same corner of a pixel in both sizes.
    corner = np.array([0.3 * width, 0.7 * height])
    one = camera.points(*(corner - 0.5), np.array(7.0))
    other = larger.points(*(corner * factor - 0.5), np.array(7.0))
    assert other == pytest.approx(one)


@pytest.mark.parametrize(
    "values", [(0, 1, 1, 1, 4, 4), (1, -1, 1, 1, 4, 4), (1, 1, np.nan, 1, 4, 4), (1, 1, 1, 1, 0, 4)]
)
def test_a_camera_that_is_not_calibrated(values):
    with pytest.raises(DroppedFrame, match="not those of a calibrated camera"):
        Intrinsics(*values)


def test_a_quarter_turn_to_the_left():
    turn = Transform((1.0, 2.0, 3.0), (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)))
    assert turn.apply(np.array([1.0, 0.0, 0.0])) == pytest.approx((1, 3, 3))
    assert turn.apply(np.array([[0.0, 1.0, 0.5]])) == pytest.approx(np.array([[0, 2, 3.5]]))
