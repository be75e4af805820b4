"""Depth and optical flow, exactly, from the triangle at each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets.render import Renderer
from vps_ros.datasets.streets.static_scene import StaticScene
from vps_ros.datasets.streets.textures import mask

_BASE = 254
"""Base of the digits of a triangle number in a colour channel; 0 is kept for pixels without a triangle."""


class GeometryPass:
    """Renders triangle numbers; depth and flow follow from the triangles' corners.

    Args:
        size: (W, H) of depth and flow.
        intrinsics: [3, 3].
    """

    def __init__(self, renderer: Renderer, static: StaticScene, size: tuple[int, int], intrinsics: NDArray) -> None:
        self._renderer, self._static, self._size, self._intrinsics = renderer, static, size, intrinsics
        self._static_corners: NDArray | None = None

    def _corners_of_static(self) -> NDArray:
        """Corners [T, 3, 3] of the static scene, which the first call adds to the renderer."""
        if self._static_corners is None:
            parts, count = [], 0
            for mesh, order, cut, cell in self._static.batches:
                corners = mesh.points[mesh.label_faces]
                white = ("mask:" + cut, mask(cut)) if cut else None
                self._static.register(self._add(corners, count, mesh.uv[mesh.label_faces], order, white), cell)
                parts.append(corners)
                count += len(corners)
            self._static_corners = np.concatenate(parts).astype(np.float64)
        return self._static_corners

    def _add(
        self, corners: NDArray, first: int, uv: NDArray | None = None, order: int | None = None, white: Any = None
    ) -> Any:
        n = len(corners)
        number = first + np.arange(n)
        digits = np.stack([number // _BASE**2, number // _BASE % _BASE, number % _BASE], 1)
        # A texture lowers each channel by one, even where it is white.
        colors = (digits + (1 if white is None else 2)).astype(np.uint8)
        flat_uv = np.zeros((3 * n, 2)) if uv is None else uv.reshape(-1, 2)
        return self._renderer.add(
            "triangles", corners.reshape(-1, 3), np.repeat(colors, 3, 0), flat_uv, np.arange(3 * n).reshape(-1, 3),
            white, order, cut=white is not None,
        )  # fmt: skip

    def render(
        self, view: NDArray, pose: NDArray, previous: NDArray | None, moving: list[NDArray], before: list[NDArray]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Depth float32 [H, W] in metres along the optical axis and backward flow float32 [H, W, 2] in pixels.

        The ray of each pixel meets the plane of its triangle. The same point of the triangle in the previous frame is
        projected with the previous pose. Depth of the sky is infinite; flow is NaN without a previous pose and for
        points behind the camera.

        Args:
            view: [4, 4] pose of the renderer's camera.
            pose: [4, 4] optical pose of this frame, camera to world.
            previous: that of the previous frame; None in the first frame.
            moving: corners [T, 3, 3] of the moving triangles in this frame.
            before: those in the previous frame.
        """
        still = self._corners_of_static()
        w, h = self._size
        handle = self._add(np.concatenate(moving), len(still)) if moving else None
        self._static.update_visibility(view[:2, 3])
        ids = self._renderer.render("triangles", view)[::2, ::2, 2::-1].astype(np.int64)
        if handle is not None:
            self._renderer.remove(handle)
        number = ((ids[..., 0] - 1) * _BASE + ids[..., 1] - 1) * _BASE + ids[..., 2] - 1
        hit = ids[..., 0] > 0
        corners = np.concatenate([still, *moving])[number[hit]]

        origin, turn = pose[:3, 3], pose[:3, :3]
        v, u = np.nonzero(hit)
        rays = np.stack([u, v, np.ones(len(u))], 1) @ np.linalg.inv(self._intrinsics).T @ turn.T
        edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        normal = np.cross(edge1, edge2)
        reach = ((corners[:, 0] - origin) * normal).sum(1) / _nonzero((rays * normal).sum(1))
        # At a border a pixel's ray may miss its triangle, since the rasteriser rounds corners to pixels.
        depths = (corners - origin) @ turn[:, 2]
        reach = np.clip(reach, np.maximum(0.9 * depths.min(1), 0.05), np.maximum(1.1 * depths.max(1), 0.05))
        depth = np.full((h, w), np.inf, np.float32)
        depth[hit] = reach

        flow = np.full((h, w, 2), np.nan, np.float32)
        if previous is not None:
            points = origin + reach[:, None] * rays
            moved = number[hit] >= len(still)
            if moved.any():
                old = np.concatenate([still, *before])[number[hit][moved]]
                points[moved] = _carry(points[moved], corners[moved], old)
            flow[hit] = self._project(previous, points) - np.stack([u, v], 1)
            flow[~hit] = self._sky_flow(pose, previous, ~hit)
        return depth, flow

    def _project(self, pose: NDArray, points: NDArray) -> NDArray:
        """[N, 2] pixels of world points; NaN behind the camera."""
        seen = (points - pose[:3, 3]) @ pose[:3, :3] @ self._intrinsics.T
        z = np.where(seen[:, 2:] > 0.05, seen[:, 2:], np.nan)
        return seen[:, :2] / z

    def _sky_flow(self, pose: NDArray, previous: NDArray, sky: NDArray) -> NDArray:
        """The sky moves only with the rotation of the camera."""
        v, u = np.nonzero(sky)
        rays = np.stack([u, v, np.ones(len(u))], 1) @ np.linalg.inv(self._intrinsics).T
        turn = previous[:3, :3].T @ pose[:3, :3]
        seen = rays @ turn.T @ self._intrinsics.T
        return seen[:, :2] / seen[:, 2:] - np.stack([u, v], 1)


def _nonzero(a: NDArray) -> NDArray:
    return np.where(np.abs(a) < 1e-12, 1e-12, a)


def _carry(points: NDArray, corners: NDArray, old: NDArray) -> NDArray:
    """The points [N, 3] of triangles [N, 3, 3] after the triangles have moved to `old`, by barycentric coordinates."""
    a, b, p = (corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0])
    aa, ab, bb = (a * a).sum(1), (a * b).sum(1), (b * b).sum(1)
    pa, pb = (p * a).sum(1), (p * b).sum(1)
    area = _nonzero(aa * bb - ab * ab)
    s, t = ((bb * pa - ab * pb) / area)[:, None], ((aa * pb - ab * pa) / area)[:, None]
    s, t = np.clip(s, -1, 2), np.clip(t, -1, 2)
    return old[:, 0] + s * (old[:, 1] - old[:, 0]) + t * (old[:, 2] - old[:, 0])
