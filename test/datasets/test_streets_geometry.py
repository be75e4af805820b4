"""Depth, flow and the camera of generated streets against geometry worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vps_ros.datasets.streets import drive

ROAD, SKY = 0, 10


def frames(scenario: str, seed: int, count: int, size: tuple[int, int] = (320, 96)) -> list:
    return list(drive(scenario, seed, count, size))


def test_depth_of_the_road_follows_from_height_and_tilt():
    """A pixel's ray r = R K^-1 (u, v, 1) meets the plane z = 0 at depth -height / r_z."""
    for seed in (0, 1, 2):
        (f,) = frames("cruise", seed, 1)
        v, u = np.nonzero(f.semantic == ROAD)
        rays = np.stack([u, v, np.ones(len(u))], 1) @ np.linalg.inv(f.camera).T @ f.pose[:3, :3].T
        expected = f.pose[2, 3] / -rays[:, 2]
        near = (expected > 0) & (expected < 30)
        error = np.abs(f.depth[v, u] - expected)[near] / expected[near]
        assert near.sum() > 500
        assert np.quantile(error, 0.99) < 1e-3


def test_the_central_ray_without_roll_by_hand():
    """Height h, tilted down by p: row v sees the ground at depth h / (sin p + y cos p), y = (v - cy) / f."""
    (f,) = frames("cruise", 1, 1)
    height, pitch = f.pose[2, 3], -np.arcsin(f.pose[2, 2])
    focal, cx, cy = f.camera[0, 0], f.camera[0, 2], f.camera[1, 2]
    u = round(cx)
    rows = np.nonzero(f.semantic[:, u] == ROAD)[0]
    assert len(rows) > 5
    roll = np.arcsin(f.pose[2, 0])
    for v in rows[-5:]:
        y = (v - cy) / focal
        assert f.depth[v, u] == pytest.approx(height / (np.sin(pitch) + y * np.cos(pitch)), rel=0.02 + abs(roll))


def test_the_focal_length_is_a_car_cameras_and_the_pose_a_rotation():
    for seed in range(4):
        (f,) = frames("cruise", seed, 1, (160, 64))
        assert 0.45 < f.camera[0, 0] / 160 < 0.75
        turn = f.pose[:3, :3]
        assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(turn) == pytest.approx(1)


def test_sky_has_no_depth_and_all_else_has():
    for f in frames("turning", 4, 2):
        sky = f.semantic == SKY
        assert np.isinf(f.depth[sky]).all()
        assert np.isfinite(f.depth[~sky]).all() and (f.depth[~sky] > 0).all()


@pytest.mark.parametrize("scenario, seed", [("cruise", 1), ("turning", 1), ("crowd", 0)])
def test_flow_carries_the_previous_frame_into_this_one(scenario, seed):
    previous, *rest = frames(scenario, seed, 3, (640, 192))
    assert np.isnan(previous.flow).all()
    for f in rest:
        h, w = f.semantic.shape
        yy, xx = np.mgrid[0:h, 0:w]
        x, y = xx + f.flow[..., 0], yy + f.flow[..., 1]
        inside = (x > 0) & (x < w - 1) & (y > 0) & (y < h - 1)
        xi, yi = np.where(inside, np.round(x), 0).astype(int), np.where(inside, np.round(y), 0).astype(int)
        # What was hidden before is told by depth: the point must be what the previous frame saw there.
        rays = np.stack([xx, yy, np.ones_like(xx)], -1) @ np.linalg.inv(f.camera).T
        stuff = inside & (f.instance == 0) & (f.semantic != SKY)
        points = (rays * np.where(np.isfinite(f.depth), f.depth, 1)[..., None]) @ f.pose[:3, :3].T + f.pose[:3, 3]
        then = ((points - previous.pose[:3, 3]) @ previous.pose[:3, :3])[..., 2]
        visible = stuff & (np.abs(previous.depth[yi, xi] - then) < 0.05 * then)
        assert visible.mean() > 0.3
        same = previous.semantic[yi, xi] == f.semantic
        assert same[visible].mean() > 0.985
        moving = inside & (f.instance > 0)
        assert (previous.instance[yi, xi] == f.instance)[moving].mean() > 0.8
        # Brightness follows as well, which a wrong sign or scale would spoil.
        now, before = f.frame.image.astype(int), previous.frame.image.astype(int)
        carried = np.abs(before[yi, xi] - now).mean(-1)[visible].mean()
        stayed = np.abs(before - now).mean(-1)[visible].mean()
        assert carried < 0.75 * stayed
        previous = f


def test_depth_and_flow_may_be_asked_for_late_and_in_any_order():
    early = [(f.depth, f.flow) for f in drive("crowd", 2, 3, (160, 64))]
    kept = frames("crowd", 2, 3, (160, 64))
    for i in (2, 0, 1):
        assert np.array_equal(kept[i].depth, early[i][0])
        assert np.array_equal(kept[i].flow, early[i][1], equal_nan=True)
