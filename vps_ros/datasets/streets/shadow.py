"""Shadows of trees and houses on the ground and on objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets.light import Light
from vps_ros.datasets.streets.mesh import Mesh
from vps_ros.datasets.streets.textures import noise

_CELL = 0.5
_MAX_CELLS = 4000
"""Largest number of cells along a side of the map; a larger world has larger cells."""


@dataclass(frozen=True)
class Shadow:
    """A shadow on the ground.

    Attributes:
        mesh: one flat quad; the alpha channel of its texture is the shape of the shadow.
        depth: darkness, 0..1.
        height: metres up to which objects inside are in the shadow; 0 if it darkens the ground only.
    """

    mesh: Mesh
    depth: float
    height: float = 0.0


class ShadowMap:
    """Height map of shadows: for each ground cell where a ray of sunlight ends, the height up to which it is blocked.

    A point is in shadow if the ray through it ends inside a shadow and the point is lower than what casts it.
    """

    def __init__(self, light: Light, shadows: Sequence[Shadow]) -> None:
        tall = [s for s in shadows if s.height > 0]
        self._slope = light.sun[:2] / max(float(light.sun[2]), 0.15)
        self._top: NDArray[np.float32] | None = None
        if not tall or not light.sunny:
            return
        corners = np.stack([s.mesh.points[:4, :2] for s in tall])
        self._origin = corners.min((0, 1))
        extent = corners.max((0, 1)) - self._origin
        self._cell = max(_CELL, float(extent.max()) / _MAX_CELLS)
        columns, rows = (int(v) + 1 for v in extent / self._cell)
        top = np.zeros((rows, columns), np.float32)
        for s, place in sorted(zip(tall, corners, strict=True), key=lambda one: one[0].height):
            cv2.fillConvexPoly(top, np.round((place - self._origin) / self._cell).astype(np.int32), s.height)
        # Gaps between leaves.
        flecks = np.tile(noise(np.random.default_rng(3), 64, (16, 32)) > 0.9, (rows // 64 + 1, columns // 64 + 1))
        top[flecks[:rows, :columns] & (top < 5)] = 0
        self._top = top

    def sunlit(self, points: NDArray) -> NDArray[np.float32] | float:
        """float32 [V] share of the sunlight that reaches points [V, 3]; 1.0 if there are no shadows."""
        if self._top is None:
            return 1.0
        at = (points[:, :2] - self._slope * points[:, 2:] - self._origin) / self._cell
        x, y = (np.clip(at[:, k], -1, 2 * _MAX_CELLS).astype(np.int32) for k in (0, 1))
        rows, columns = self._top.shape
        inside = (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
        top = np.where(inside, self._top[np.where(inside, y, 0), np.where(inside, x, 0)], 0)
        return np.where(points[:, 2] < top, np.float32(0.1), np.float32(1))
