"""What stands in the generated streets: shapes, shadows and light, against geometry worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vps_ros.datasets.streets import SCENARIOS, TRAINING, drive
from vps_ros.datasets.streets.effects import Camera
from vps_ros.datasets.streets.light import sample_light
from vps_ros.datasets.streets.mesh import join, quads
from vps_ros.datasets.streets.people import HIP, PARTS, limb_poses, riding
from vps_ros.datasets.streets.shadow import Shadow, ShadowMap
from vps_ros.datasets.streets.vehicles import bicycle

TRAIN, TRUCK, BUS, RIDER, MOTORCYCLE, BICYCLE = 16, 14, 15, 12, 17, 18


def covers(points, faces, x, z):
    """Whether one of the triangles, seen from the side, holds the point (x, z)."""
    a, b, c = np.moveaxis(points[faces][:, :, [0, 2]].astype(float), 1, 0)

    def side(p, q):
        return (q[:, 0] - p[:, 0]) * (z - p[:, 1]) - (q[:, 1] - p[:, 1]) * (x - p[:, 0])

    sides = np.stack([side(a, b), side(b, c), side(c, a)])
    return bool(((sides > 0).all(0) | (sides < 0).all(0)).any())


def test_the_truth_of_a_bicycle_is_filled_where_the_picture_shows_what_is_behind():
    for seed in range(3):
        mesh = bicycle(np.random.default_rng(seed))
        # Between two spokes of the front wheel, and inside the frame.
        for x, z in ((0.52 + 0.15 * np.cos(0.26), 0.34 + 0.15 * np.sin(0.26)), (0.02, 0.5)):
            assert not covers(mesh.points, mesh.faces, x, z)
            assert covers(mesh.points, mesh.label_faces, x, z)
        assert not covers(mesh.points, mesh.label_faces, 0.7, 0.8)
        assert (mesh.classes == BICYCLE).all()


def test_fillings_stay_with_their_mesh_when_it_is_joined_and_moved():
    flat = quads([[(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)]])
    both = join([flat, flat.moved((5, 0, 0)).as_label_fill()]).moved((0, 0, 2)).of_class(3)
    assert (len(both.faces), len(both.fill), len(both.label_faces)) == (2, 2, 4)
    assert covers(both.points, both.faces, 0.5, 2.6) and not covers(both.points, both.faces, 5.5, 2.6)
    assert covers(both.points, both.label_faces, 5.5, 2.6)


@pytest.mark.parametrize("motor", [False, True])
def test_riders_hold_the_bar_and_a_cyclist_reaches_the_pedals(motor):
    """The hand is 0.33 m from the elbow, the sole 0.45 m from the knee; 1.75 m tall."""
    for seed in range(8):
        time = np.linspace(0, 2, 15)
        angles, (x, z) = riding(np.random.default_rng(seed), time, motor)
        limbs = limb_poses(angles)
        limbs[..., 0, 3] += x
        limbs[..., 2, 3] += z - HIP
        for side in ("l", "r"):
            hand = limbs[:, PARTS.index(f"fore_{side}")] @ (0, 0, -0.33, 1)
            assert np.abs(hand[:, 0] - 0.33).max() < 0.1 and np.abs(hand[:, 2] - 1.05).max() < 0.12
            foot = limbs[:, PARTS.index(f"shin_{side}")] @ (0, 0, -0.45, 1)
            if not motor:
                from_crank = np.hypot(foot[:, 0] + 0.12, foot[:, 2] - 0.39)
                assert np.abs(from_crank - 0.17).max() < 0.03


def sunny(direction):
    light = sample_light(np.random.default_rng(0), False)
    sun = np.array(direction, float) / np.linalg.norm(direction)
    return replace(light, sun=sun, direct=np.ones(3), ambient=np.full(3, 0.5))


def test_a_shadow_falls_on_what_is_lower_than_what_throws_it():
    """Sun from +x at 45 degrees: the ray through (x, y, z) meets the ground at (x - z, y)."""
    patch = quads([[(-12, -3, 0), (0, -3, 0), (0, 3, 0), (-12, 3, 0)]])
    shade = ShadowMap(sunny((1, 0, 1)), [Shadow(patch, 0.5, 6.0)])
    points = np.array([(-1, 0, 0.5), (-1, 0, 5.5), (-1, 0, 6.5), (2, 0, 1), (2, 0, 3), (-1, 5, 0.5)], np.float32)
    assert (shade.sunlit(points) < 0.5).tolist() == [True, True, False, False, True, False]
    assert ShadowMap(sunny((1, 0, 1)), [Shadow(patch, 0.5)]).sunlit(points) == 1.0
    dull = replace(sunny((1, 0, 1)), direct=np.zeros(3))
    assert ShadowMap(dull, [Shadow(patch, 0.5, 6.0)]).sunlit(points) == 1.0


def test_without_sunlight_only_the_light_of_the_sky_is_left():
    """Straight up, sun in the zenith: albedo 0.4 times (ambient 0.5 + direct 1) and times 0.5."""
    up, tint = np.array([(0, 0, 1)] * 2, np.float32), np.full((2, 3), 0.4, np.float32)
    shaded = sunny((0, 0, 1)).shade(np.zeros((2, 3), np.float32), up, tint, np.array([1, 0], np.float32))
    assert np.abs(shaded.astype(float) - [[153] * 3, [51] * 3]).max() <= 1


def test_more_light_never_makes_a_pixel_darker():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        camera = Camera(rng, sample_light(rng, bool(seed % 4 == 0)), (64, 32), 40.0, 16.0)
        for brightness in (20, 120, 250):
            camera.expose(np.full((32, 64, 3), brightness, np.uint8))
            assert (np.diff(camera._lut[0].astype(int), axis=0) >= 0).all()


def test_balanced_drives_show_the_rare_classes_more_often():
    rare = (TRAIN, TRUCK, BUS, RIDER, MOTORCYCLE, BICYCLE)

    def kinds(name):
        shown = np.zeros(19)
        for seed in range(12):
            (f,) = drive(name, seed, 1, (320, 96))
            for kind in rare:
                shown[kind] += len(np.unique(f.instance[f.semantic == kind]))
        return shown[list(rare)]

    usual, balanced = kinds("cruise"), kinds("balanced")
    large, ridden = slice(0, 3), slice(3, 6)
    assert balanced[large].sum() > 1.4 * usual[large].sum()
    assert balanced[ridden].sum() > 2 * usual[ridden].sum()
    assert balanced.min() >= 1


def test_nothing_is_judged_by_drives_for_training():
    assert not set(TRAINING) & set(SCENARIOS)
