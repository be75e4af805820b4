"""Triangle meshes as NumPy arrays, and basic shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

PLAIN = "plain"
"""The material without a texture."""


@dataclass(frozen=True)
class Mesh:
    """V vertices and T triangles of one material; metres, z up.

    Attributes:
        points: float32 [V, 3].
        normals: float32 [V, 3], unit length.
        colors: float32 [V, 3] albedo in 0..1; above 1 the surface is emissive.
        uv: float32 [V, 2] texture coordinates.
        faces: int32 [T, 3].
        classes: uint8 [V] Cityscapes train id.
        material: name of the texture.
        fill: int32 [U, 3] triangles of the label pass only: openings that annotators label as the object.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    colors: NDArray[np.float32]
    uv: NDArray[np.float32]
    faces: NDArray[np.int32]
    classes: NDArray[np.uint8]
    material: str = PLAIN
    fill: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 3), np.int32))

    @property
    def label_faces(self) -> NDArray[np.int32]:
        """int32 [T + U, 3]: the triangles of the label pass."""
        return np.concatenate([self.faces, self.fill]) if len(self.fill) else self.faces

    def as_label_fill(self) -> Mesh:
        """The same surface, in the label pass only."""
        return replace(self, faces=self.faces[:0], fill=self.faces)

    def moved(self, position: ArrayLike = (0, 0, 0), heading: float = 0.0, scale: ArrayLike = 1.0) -> Mesh:
        """Scaled, then turned about z by `heading` (radians), then shifted."""
        c, s = np.cos(heading), np.sin(heading)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        points = (self.points * np.asarray(scale, np.float32)) @ turn.T + np.asarray(position)
        normals = self.normals @ turn.T
        return replace(self, points=points.astype(np.float32), normals=normals.astype(np.float32))

    def weathered(self, rng: Generator, grain: float = 0.05, fade: float = 0.25) -> Mesh:
        """Uneven colours: noise per vertex, and darker by `fade` towards the lowest point."""
        z = self.points[:, 2:]
        rise = (z - z.min()) / max(float(z.max() - z.min()), 1e-6)
        tone = (1 - fade + fade * rise**0.7) * (1 + grain * rng.standard_normal((len(z), 1)))
        colors = np.where(self.colors.max(1, keepdims=True) > 1.2, self.colors, self.colors * tone).astype(np.float32)
        return replace(self, colors=colors)

    def of_class(self, class_id: int) -> Mesh:
        return replace(self, classes=np.full(len(self.points), class_id, np.uint8))


def cross(a: NDArray, b: NDArray) -> NDArray:
    """The cross product over the last axis; many times faster than NumPy's for few vectors."""
    x, y, z = a[..., 0], a[..., 1], a[..., 2]
    u, v, w = b[..., 0], b[..., 1], b[..., 2]
    out = np.empty(np.broadcast(x, u).shape + (3,), np.result_type(a, b))
    out[..., 0], out[..., 1], out[..., 2] = y * w - z * v, z * u - x * w, x * v - y * u
    return out


def join(meshes: Iterable[Mesh]) -> Mesh:
    """One mesh of several of the same material (the first one's)."""
    meshes = list(meshes)
    counts = np.cumsum([0] + [len(m.points) for m in meshes])
    return Mesh(
        np.concatenate([m.points for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.colors for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
        np.concatenate([m.faces + n for m, n in zip(meshes, counts, strict=False)]).astype(np.int32),
        np.concatenate([m.classes for m in meshes]),
        meshes[0].material,
        np.concatenate([m.fill + n for m, n in zip(meshes, counts, strict=False)]).astype(np.int32),
    )


def quads(
    corners: ArrayLike, colors: ArrayLike = (1, 1, 1), uv: ArrayLike | None = None, material: str = PLAIN,
    class_id: int = 0, normals: ArrayLike | None = None,
) -> Mesh:  # fmt: skip
    """Flat quadrilaterals: corners [N, 4, 3] in order around; colors [3], [N, 3] or [N, 4, 3]."""
    p = np.asarray(corners, np.float32).reshape(-1, 4, 3)
    n = len(p)
    if normals is None:
        normal = cross(p[:, 2] - p[:, 0], p[:, 3] - p[:, 1])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        normals = np.repeat(normal[:, None], 4, axis=1)
    color = np.asarray(colors, np.float32)
    if color.ndim == 2:
        color = color[:, None]
    if uv is None:
        uv = [(0, 0), (1, 0), (1, 1), (0, 1)]
    base = 4 * np.arange(n, dtype=np.int32)[:, None]
    faces = np.concatenate([base + np.array([0, 1, 2]), base + np.array([0, 2, 3])]).astype(np.int32)
    return Mesh(
        p.reshape(-1, 3),
        np.broadcast_to(np.asarray(normals, np.float32), (n, 4, 3)).reshape(-1, 3).copy(),
        np.broadcast_to(color, (n, 4, 3)).reshape(-1, 3).astype(np.float32),
        np.broadcast_to(np.asarray(uv, np.float32), (n, 4, 2)).reshape(-1, 2).copy(),
        faces,
        np.full(4 * n, class_id, np.uint8),
        material,
    )


def cells(grid: NDArray) -> NDArray:
    """The corners [N, 4, C], in order around, of the cells of a grid [R, K, C], for `quads`."""
    corners = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], 2)
    return corners.reshape(-1, 4, grid.shape[-1])


_BOX = np.array(
    [
        [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)],
        [(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)],
        [(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)],
        [(0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 0)],
        [(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)],
        [(0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)],
    ],
    np.float32,
)


def box(low: ArrayLike, high: ArrayLike, color: ArrayLike = (1, 1, 1), class_id: int = 0, bottom: bool = False) -> Mesh:
    """An upright box between two corners; its underside only with `bottom`."""
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    sides = _BOX if bottom else _BOX[:5]
    return quads(low + sides * (high - low), color, class_id=class_id)


def loft(rings: ArrayLike, colors: ArrayLike = (1, 1, 1), class_id: int = 0, caps: bool = True) -> Mesh:
    """A surface through R rings of K points: rings [R, K, 3]; colors [3] or one for each side quad [R-1, K, 3].

    Rings run counter-clockwise as seen from the far end (last ring), so that normals point outward.
    """
    r = np.asarray(rings, np.float32)
    nxt = np.roll(r, -1, axis=1)
    sides = np.stack([r[:-1], nxt[:-1], nxt[1:], r[1:]], axis=2)
    color = np.asarray(colors, np.float32)
    skin = quads(sides.reshape(-1, 4, 3), color.reshape(-1, 3) if color.ndim > 1 else color, class_id=class_id)
    if not caps:
        return skin
    tint = color if color.ndim == 1 else color.reshape(-1, 3)[0]
    return join([skin, polygon(r[-1], tint, class_id), polygon(r[0, ::-1], tint, class_id)])


def polygon(points: ArrayLike, color: ArrayLike = (1, 1, 1), class_id: int = 0, material: str = PLAIN) -> Mesh:
    """A flat convex polygon [K, 3]."""
    p = np.asarray(points, np.float32)
    normal = cross(p[1] - p[0], p[2] - p[0])
    length = np.linalg.norm(normal)
    if length < 1e-9 and len(p) > 3:
        normal = cross(p[2] - p[0], p[3] - p[0])
        length = np.linalg.norm(normal)
    normal = normal / max(length, 1e-9)
    k = np.arange(1, len(p) - 1)
    faces = np.stack([np.zeros_like(k), k, k + 1], axis=1)
    n = len(p)
    return Mesh(
        p,
        np.broadcast_to(normal, p.shape).astype(np.float32).copy(),
        np.broadcast_to(np.asarray(color, np.float32), p.shape).copy(),
        p[:, :2].copy(),
        faces.astype(np.int32),
        np.full(n, class_id, np.uint8),
        material,
    )


_X, _Y = np.array((1.0, 0, 0)), np.array((0, 1.0, 0))


def prism(
    start: Sequence[float], end: Sequence[float], radii: Sequence[float], color: ArrayLike, sides: int = 6,
    class_id: int = 0, flat: float = 1.0, material: str = PLAIN,
) -> Mesh:  # fmt: skip
    """A tapered cylinder from `start` (open) to `end` (closed), radii evenly spaced; `flat` scales one axis."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    axis = (b - a) / max(float(np.linalg.norm(b - a)), 1e-9)
    side = cross(axis, _Y if abs(axis[1]) < 0.9 else _X)
    side /= np.linalg.norm(side)
    other = cross(axis, side)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[:, None] * side + flat * np.sin(angle)[:, None] * other
    k = len(radii)
    t = np.linspace(0, 1, k)[:, None, None]
    points = a + t * (b - a) + np.asarray(radii, float)[:, None, None] * ring
    normals = np.broadcast_to(ring / np.linalg.norm(ring, axis=1, keepdims=True), points.shape)
    i = np.arange(sides)
    j = (i + 1) % sides
    faces = []
    for r in range(k - 1):
        low, high = r * sides, (r + 1) * sides
        faces += [np.stack([low + i, low + j, high + j], 1), np.stack([low + i, high + j, high + i], 1)]
    top = (k - 1) * sides
    fan = np.arange(1, sides - 1)
    faces += [np.stack([0 * fan + top, top + fan, top + fan + 1], 1), np.stack([0 * fan, fan + 1, fan], 1)]
    uv = np.stack(np.broadcast_arrays(i / sides * 2, t[:, :, 0] * float(np.linalg.norm(b - a))), -1)
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        normals.reshape(-1, 3).astype(np.float32),
        np.broadcast_to(np.asarray(color, np.float32), (k * sides, 3)).copy(),
        uv.reshape(-1, 2).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
        np.full(k * sides, class_id, np.uint8),
        material,
    )


def ball(center: Sequence[float], radii: ArrayLike, color: ArrayLike, class_id: int = 0, sides: int = 8) -> Mesh:
    """A smooth ellipsoid of `sides` meridians and half as many parallels."""
    rows = max(sides // 2 + 1, 3)
    lat = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    lon = np.linspace(0, 2 * np.pi, sides, endpoint=False)[None]
    unit = np.stack(np.broadcast_arrays(np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)), -1)
    points = unit * np.asarray(radii, float) + np.asarray(center, float)
    i = np.arange(sides)
    j = (i + 1) % sides
    faces = []
    for r in range(rows - 1):
        low, high = r * sides, (r + 1) * sides
        faces += [np.stack([low + i, low + j, high + j], 1), np.stack([low + i, high + j, high + i], 1)]
    n = rows * sides
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        unit.reshape(-1, 3).astype(np.float32),
        np.broadcast_to(np.asarray(color, np.float32), (n, 3)).copy(),
        np.zeros((n, 2), np.float32),
        np.concatenate(faces).astype(np.int32),
        np.full(n, class_id, np.uint8),
    )


def disc(center: Sequence[float], radius: float, color: ArrayLike, side: float, class_id: int = 0, n: int = 12) -> Mesh:
    """A round plate in the x-z plane that faces y = `side` (1 or -1)."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False) * -side
    rim = np.stack([np.cos(angle), np.zeros(n), np.sin(angle)], 1) * radius + np.asarray(center)
    return polygon(rim, color, class_id)
