"""The static world in the renderer, batched by texture and by cell of the ground."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets.light import Light
from vps_ros.datasets.streets.mesh import PLAIN, Mesh, cells, join, quads
from vps_ros.datasets.streets.render import Renderer
from vps_ros.datasets.streets.road import SHADOWS
from vps_ros.datasets.streets.shadow import ShadowMap
from vps_ros.datasets.streets.textures import mask, texture
from vps_ros.datasets.streets.world import World

_CELL = 40.0
LAST = SHADOWS + 20
"""Draw order after the sky."""
_FIRST = 1
_CUT, _TRANSPARENT = ("crowns",), ("fence",)
"""Materials with binary alpha, and those with blended alpha."""

StaticBatch = tuple[Mesh, "int | None", "str | None", "tuple | None"]
"""A mesh, its draw order on the ground, the texture of its alpha mask, and its cell (None for ground)."""


class StaticScene:
    """Args:
    far: distance in metres beyond which instances are hidden.
    """

    def __init__(self, renderer: Renderer, world: World, light: Light, far: float) -> None:
        self._renderer, self._light, self._far = renderer, light, far
        self.shadow_map = ShadowMap(light, world.shadows)
        self._cells: dict[tuple, list[Any]] = {}
        self.batches: list[StaticBatch] = []
        by_material: dict[tuple, list[Mesh]] = {}
        by_cell: dict[tuple, list[tuple[Mesh, int]]] = {}
        for order, mesh in world.ground:
            by_material.setdefault((order, mesh.material), []).append(mesh)
        for mesh, instance in world.solids:
            x, y = mesh.points[0, :2] // _CELL
            cell = (bool(instance), float(x), float(y))
            by_material.setdefault((None, mesh.material, cell), []).append(mesh)
            # Annotators label what is seen through a fence as fence.
            cut = mesh.material if mesh.material.startswith("crowns") else None
            by_cell.setdefault((cell, cut), []).append((mesh, instance))
        for key, meshes in by_material.items():
            self._add_color(join(meshes), key[0], key[2] if len(key) > 2 else None)
        # Triangles of one batch are drawn in their order: the ground is one batch.
        flat = sorted(world.ground, key=lambda one: one[0])
        self._add_labels([(mesh, 0) for _, mesh in flat], _FIRST, None, None)
        for (cell, cut), members in by_cell.items():
            self._add_labels(members, None, cut, cell)
        dark: dict[tuple[str, float], list[Mesh]] = {}
        for one in world.shadows:
            dark.setdefault((one.mesh.material, one.depth), []).append(one.mesh)
        for (material, depth), meshes in dark.items():
            self.add_shadow(join(meshes), material, depth)

    def _add_color(self, mesh: Mesh, order: int | None, cell: tuple | None) -> None:
        picture = None if mesh.material == PLAIN else (mesh.material, texture(mesh.material))
        sunlit = self.shadow_map.sunlit(mesh.points) if order is None else 1.0
        colors = self._light.shade(mesh.points, mesh.normals, mesh.colors, sunlit)
        stem = mesh.material.rstrip("0123456789")
        if order is None and stem in _TRANSPARENT:
            # Blended after everything behind it, the sky included.
            self._renderer.add("color", mesh.points, colors, mesh.uv, mesh.faces, picture, _FIRST + LAST, blend=True)
            return
        cut = order is None and stem in _CUT
        place = None if order is None else _FIRST + order
        self.register(
            self._renderer.add("color", mesh.points, colors, mesh.uv, mesh.faces, picture, place, cut=cut), cell
        )

    def _add_labels(
        self, members: list[tuple[Mesh, int]], order: int | None, cut: str | None, cell: tuple | None
    ) -> None:
        mesh = join([m for m, _ in members])
        codes = np.concatenate([label_color(m.classes, i) for m, i in members])
        if cut:
            # A texture lowers each channel by one, even where it is white; only stuff has an alpha mask.
            codes[:, 0] += 1
        white = ("mask:" + cut, mask(cut)) if cut else None
        handle = self._renderer.add(
            "labels", mesh.points, codes, mesh.uv, mesh.label_faces, white, order, cut=bool(cut)
        )
        self.register(handle, cell)
        self.batches.append((mesh, order, cut, cell))

    def register(self, handle: Any, cell: tuple | None) -> None:
        """Registers a handle with its cell, so that `update_visibility` orders and hides it."""
        if cell is not None:
            self._cells.setdefault(cell, []).append(handle)

    def update_visibility(self, place: NDArray) -> None:
        """Hides instances far from a camera at `place` (x, y), and sets the draw order: near cells first."""
        gaps = {}
        for cell in self._cells:
            gap = np.abs((np.array(cell[1:]) + 0.5) * _CELL - place) - _CELL / 2
            gaps[cell] = float(np.hypot(*np.maximum(gap, 0)))
        count = 0
        for cell in sorted(gaps, key=lambda c: (gaps[c], c)):
            near = gaps[cell] < self._far or not cell[0]
            for handle in self._cells[cell]:
                count += 1
                self._renderer.set_order(handle, count)
                handle.unstash() if near else handle.stash()

    def add_shadow(self, mesh: Mesh, material: str, depth: float) -> Any:
        """Adds a shadow on the ground to the color pass."""
        colors = np.zeros((len(mesh.points), 4), np.uint8)
        colors[:, 3] = 255 * depth
        picture = None if material == PLAIN else (material, texture(material))
        return self._renderer.add(
            "color", mesh.points, colors, mesh.uv, mesh.faces, picture, _FIRST + SHADOWS, blend=True
        )


def label_color(classes: NDArray, instance: int) -> NDArray[np.uint8]:
    """[V, 3] the colour of a class and an instance in the label pass; black is the sky."""
    out = np.empty((len(classes), 3), np.uint8)
    out[:, 0], out[:, 1], out[:, 2] = classes + 1, instance >> 8, instance & 255
    return out


def add_sky(renderer: Renderer, picture: NDArray[np.uint8]) -> Any:
    """Adds the sky dome; the handle is moved with the camera."""
    around, rows = 24, np.array([0.0, 0.06, 0.14, 0.3, 0.6, 1.2, 3.0])
    angle = np.linspace(0, 2 * np.pi, around + 1)
    p = np.zeros((len(rows), around + 1, 3))
    p[..., :2], p[..., 2] = np.stack([np.cos(angle), np.sin(angle)], 1), rows[:, None]
    p /= np.linalg.norm(p, axis=2, keepdims=True)
    u = np.broadcast_to(np.linspace(0, 3, around + 1), p.shape[:2])
    uv = np.stack([u, np.clip(p[..., 2], 0.005, 0.97)], -1)
    mesh = quads(cells(p * 200), uv=cells(uv))
    white = np.full((len(mesh.points), 3), 255, np.uint8)
    return renderer.add("color", mesh.points, white, mesh.uv, mesh.faces, ("", picture), LAST - 1)
