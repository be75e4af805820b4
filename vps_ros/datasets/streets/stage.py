"""What stands still, batched for the renderer: one picture layer and one truth layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets.light import Light
from vps_ros.datasets.streets.mesh import PLAIN, Mesh, cells, join, quads
from vps_ros.datasets.streets.render import Renderer
from vps_ros.datasets.streets.road import SHADOWS
from vps_ros.datasets.streets.shadow import Shade
from vps_ros.datasets.streets.textures import mask, texture
from vps_ros.datasets.streets.world import World

_CELL = 40.0
LAST = SHADOWS + 20
"""Order of what is painted after the sky."""
_FIRST = 1
_CUT, _VEILS = ("crowns",), ("fence",)
"""Materials that are cut out, and those that let what is behind shine through where they are small."""

Still = tuple[Mesh, "int | None", "str | None", "tuple | None"]
"""A mesh, its order on the ground, the texture it is cut out by, and its cell if it holds things."""


class Stage:
    """Args:
    far: metres beyond which things are not shown.
    """

    def __init__(self, renderer: Renderer, world: World, light: Light, far: float) -> None:
        self._renderer, self._light, self._far = renderer, light, far
        self.shade = Shade(light, world.shadows)
        self._cells: dict[tuple, list[Any]] = {}
        self.stills: list[Still] = []
        painted: dict[tuple, list[Mesh]] = {}
        true: dict[tuple, list[tuple[Mesh, int]]] = {}
        for order, mesh in world.ground:
            painted.setdefault((order, mesh.material), []).append(mesh)
        for mesh, instance in world.solids:
            x, y = mesh.points[0, :2] // _CELL
            cell = (bool(instance), float(x), float(y))
            painted.setdefault((None, mesh.material, cell), []).append(mesh)
            # As annotators do, what is seen through a fence counts as the fence.
            cut = mesh.material if mesh.material.startswith("crowns") else None
            true.setdefault((cell, cut), []).append((mesh, instance))
        for key, meshes in painted.items():
            self._paint(join(meshes), key[0], key[2] if len(key) > 2 else None)
        # Triangles of one batch are drawn in their order, so that the whole ground is one batch.
        flat = sorted(world.ground, key=lambda one: one[0])
        self._truth([(mesh, 0) for _, mesh in flat], _FIRST, None, None)
        for (cell, cut), members in true.items():
            self._truth(members, None, cut, cell)
        dark: dict[tuple[str, float], list[Mesh]] = {}
        for one in world.shadows:
            dark.setdefault((one.mesh.material, one.depth), []).append(one.mesh)
        for (material, depth), meshes in dark.items():
            self.shadow(join(meshes), material, depth)

    def _paint(self, mesh: Mesh, order: int | None, cell: tuple | None) -> None:
        picture = None if mesh.material == PLAIN else (mesh.material, texture(mesh.material))
        sunlit = self.shade.sunlit(mesh.points) if order is None else 1.0
        colors = self._light.shade(mesh.points, mesh.normals, mesh.colors, sunlit)
        stem = mesh.material.rstrip("0123456789")
        if order is None and stem in _VEILS:
            # After all that may be behind it, the sky included.
            self._renderer.add("paint", mesh.points, colors, mesh.uv, mesh.faces, picture, _FIRST + LAST, blend=True)
            return
        cut = order is None and stem in _CUT
        place = None if order is None else _FIRST + order
        self.keep(self._renderer.add("paint", mesh.points, colors, mesh.uv, mesh.faces, picture, place, cut=cut), cell)

    def _truth(self, members: list[tuple[Mesh, int]], order: int | None, cut: str | None, cell: tuple | None) -> None:
        mesh = join([m for m, _ in members])
        codes = np.concatenate([code(m.classes, i) for m, i in members])
        if cut:
            # A texture takes one off each channel, even where it is white; only stuff is cut out.
            codes[:, 0] += 1
        white = ("mask:" + cut, mask(cut)) if cut else None
        handle = self._renderer.add("truth", mesh.points, codes, mesh.uv, mesh.outline, white, order, cut=bool(cut))
        self.keep(handle, cell)
        self.stills.append((mesh, order, cut, cell))

    def keep(self, handle: Any, cell: tuple | None) -> None:
        """Lets `show` order this by its cell, and hide it when that is far away and holds things."""
        if cell is not None:
            self._cells.setdefault(cell, []).append(handle)

    def show(self, place: NDArray) -> None:
        """Shows the still things that are near enough to a camera at `place` (x, y), and draws near cells first."""
        gaps = {}
        for cell in self._cells:
            gap = np.abs((np.array(cell[1:]) + 0.5) * _CELL - place) - _CELL / 2
            gaps[cell] = float(np.hypot(*np.maximum(gap, 0)))
        count = 0
        for cell in sorted(gaps, key=lambda c: (gaps[c], c)):
            near = gaps[cell] < self._far or not cell[0]
            for handle in self._cells[cell]:
                count += 1
                self._renderer.rank(handle, count)
                handle.unstash() if near else handle.stash()

    def shadow(self, mesh: Mesh, material: str, depth: float) -> Any:
        """A see-through patch on the ground, only in the picture."""
        colors = np.zeros((len(mesh.points), 4), np.uint8)
        colors[:, 3] = 255 * depth
        picture = None if material == PLAIN else (material, texture(material))
        return self._renderer.add(
            "paint", mesh.points, colors, mesh.uv, mesh.faces, picture, _FIRST + SHADOWS, blend=True
        )


def code(classes: NDArray, instance: int) -> NDArray[np.uint8]:
    """[V, 3] the exact colour of a class and an instance in the truth layer; black is the sky."""
    out = np.empty((len(classes), 3), np.uint8)
    out[:, 0], out[:, 1], out[:, 2] = classes + 1, instance >> 8, instance & 255
    return out


def dome(renderer: Renderer, picture: NDArray[np.uint8]) -> Any:
    """The sky, a handle to be moved with the camera."""
    around, rows = 24, np.array([0.0, 0.06, 0.14, 0.3, 0.6, 1.2, 3.0])
    angle = np.linspace(0, 2 * np.pi, around + 1)
    p = np.zeros((len(rows), around + 1, 3))
    p[..., :2], p[..., 2] = np.stack([np.cos(angle), np.sin(angle)], 1), rows[:, None]
    p /= np.linalg.norm(p, axis=2, keepdims=True)
    u = np.broadcast_to(np.linspace(0, 3, around + 1), p.shape[:2])
    uv = np.stack([u, np.clip(p[..., 2], 0.005, 0.97)], -1)
    mesh = quads(cells(p * 200), uv=cells(uv))
    white = np.full((len(mesh.points), 3), 255, np.uint8)
    return renderer.add("paint", mesh.points, white, mesh.uv, mesh.faces, ("", picture), LAST - 1)
