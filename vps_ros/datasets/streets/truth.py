"""Depth and optical flow, exactly, from the triangle that each pixel shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets.textures import mask

if TYPE_CHECKING:
    from vps_ros.datasets.streets.scene import Scene

_BASE = 254
"""Digits of a triangle's number in one colour channel; 0 is left for `nothing here`."""


class Triangles:
    """The layer of triangle numbers; it costs nothing until depth or flow is asked for."""

    def __init__(self) -> None:
        self._still: NDArray | None = None

    def still(self, scene: Scene) -> NDArray:
        """Corners [T, 3, 3] of all that stands still; built, and added to the renderer, on the first call."""
        if self._still is None:
            parts, count = [], 0
            for mesh, order, cut, cell in scene.stage.stills:
                corners = mesh.points[mesh.outline]
                white = ("mask:" + cut, mask(cut)) if cut else None
                scene.stage.keep(_draw(scene, corners, count, mesh.uv[mesh.outline], order, white), cell)
                parts.append(corners)
                count += len(corners)
            self._still = np.concatenate(parts).astype(np.float64)
        return self._still


def _draw(
    scene: Scene, corners: NDArray, first: int, uv: NDArray | None = None, order: int | None = None, white: Any = None
) -> Any:
    n = len(corners)
    number = first + np.arange(n)
    digits = np.stack([number // _BASE**2, number // _BASE % _BASE, number % _BASE], 1)
    # A texture takes one off each channel, even where it is white.
    colors = (digits + (1 if white is None else 2)).astype(np.uint8)
    flat_uv = np.zeros((3 * n, 2)) if uv is None else uv.reshape(-1, 2)
    return scene.renderer.add(
        "faces", corners.reshape(-1, 3), np.repeat(colors, 3, 0), flat_uv, np.arange(3 * n).reshape(-1, 3), white,
        order, cut=white is not None,
    )  # fmt: skip


def geometry(scene: Scene, i: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """depth float32 [H, W] in metres along the optical axis (inf: sky) and backward flow float32 [H, W, 2] of frame i.

    The ray of each pixel meets the plane of its triangle; the same point of the triangle is looked up where the
    triangle was in the previous frame and projected there.
    """
    still = scene.triangles.still(scene)
    w, h = scene.size
    seen = scene.surfaces(i)
    now, before = [still], [still]
    handle = None
    if seen:
        moving = [s[0][s[4]].astype(np.float64) for _, s in seen]
        handle = _draw(scene, np.concatenate(moving), len(still))
        now += moving
        if i:
            for actor, _ in seen:
                past = actor.surface(i - 1, actor.distant(i, scene.ground_pose[i]))
                before.append(past[0][past[4]].astype(np.float64))
    scene.stage.show(scene.ground_pose[i, :2])
    ids = scene.renderer.render("faces", scene.poses[i])[::2, ::2, 2::-1].astype(np.int64)
    if handle is not None:
        scene.renderer.remove(handle)
    number = ((ids[..., 0] - 1) * _BASE + ids[..., 1] - 1) * _BASE + ids[..., 2] - 1
    hit = ids[..., 0] > 0
    corners = np.concatenate(now)[number[hit]]

    pose = scene.optical_pose(i)
    origin, turn = pose[:3, 3], pose[:3, :3]
    v, u = np.nonzero(hit)
    rays = np.stack([u, v, np.ones(len(u))], 1) @ np.linalg.inv(scene.intrinsics).T @ turn.T
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(edge1, edge2)
    reach = ((corners[:, 0] - origin) * normal).sum(1) / _nonzero((rays * normal).sum(1))
    # A border pixel's ray may pass just beside its triangle, whose corners the rasteriser moves to whole pixels.
    depths = (corners - origin) @ turn[:, 2]
    reach = np.clip(reach, np.maximum(0.9 * depths.min(1), 0.05), np.maximum(1.1 * depths.max(1), 0.05))
    depth = np.full((h, w), np.inf, np.float32)
    depth[hit] = reach

    flow = np.full((h, w, 2), np.nan, np.float32)
    if i:
        points = origin + reach[:, None] * rays
        moved = number[hit] >= len(still)
        if moved.any():
            old = np.concatenate(before)[number[hit][moved]]
            points[moved] = _carry(points[moved], corners[moved], old)
        flow[hit] = _project(scene, i - 1, points) - np.stack([u, v], 1)
        flow[~hit] = _sky_flow(scene, i, ~hit)
    return depth, flow


def _nonzero(a: NDArray) -> NDArray:
    return np.where(np.abs(a) < 1e-12, 1e-12, a)


def _carry(points: NDArray, corners: NDArray, old: NDArray) -> NDArray:
    """Where points [N, 3] of triangles [N, 3, 3] were when the triangles were `old`."""
    a, b, p = (corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0])
    aa, ab, bb = (a * a).sum(1), (a * b).sum(1), (b * b).sum(1)
    pa, pb = (p * a).sum(1), (p * b).sum(1)
    area = _nonzero(aa * bb - ab * ab)
    s, t = ((bb * pa - ab * pb) / area)[:, None], ((aa * pb - ab * pa) / area)[:, None]
    s, t = np.clip(s, -1, 2), np.clip(t, -1, 2)
    return old[:, 0] + s * (old[:, 1] - old[:, 0]) + t * (old[:, 2] - old[:, 0])


def _project(scene: Scene, i: int, points: NDArray) -> NDArray:
    """[N, 2] pixels of world points in frame i; NaN behind the camera."""
    pose = scene.optical_pose(i)
    seen = (points - pose[:3, 3]) @ pose[:3, :3] @ scene.intrinsics.T
    z = np.where(seen[:, 2:] > 0.05, seen[:, 2:], np.nan)
    return seen[:, :2] / z


def _sky_flow(scene: Scene, i: int, sky: NDArray) -> NDArray:
    """The sky turns with the camera only."""
    v, u = np.nonzero(sky)
    rays = np.stack([u, v, np.ones(len(u))], 1) @ np.linalg.inv(scene.intrinsics).T
    turn = scene.optical_pose(i - 1)[:3, :3].T @ scene.optical_pose(i)[:3, :3]
    seen = rays @ turn.T @ scene.intrinsics.T
    return seen[:, :2] / seen[:, 2:] - np.stack([u, v], 1)
