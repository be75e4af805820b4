"""The route of the camera, the cross-section of its street, and the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from vps_ros.datasets.streets.mesh import PLAIN, Mesh, cells, polygon, quads

ROAD, SIDEWALK, TERRAIN = 0, 1, 9
(GRASS, SIDE_PAVING, PAVING, SIDE_ROADS, ROADS, JUNCTIONS, MARKINGS, SHADOWS) = range(8)
"""Drawing order of the layers of the ground, back to front."""


@dataclass(frozen=True)
class Path:
    """A curve on the ground, sampled each metre: `s` [N] metres along it, `xy` [N, 2], `heading` and `bend` [N]."""

    s: NDArray
    xy: NDArray
    heading: NDArray
    bend: NDArray

    @classmethod
    def of_bends(
        cls, bend: NDArray, start: float = 0.0, origin: ArrayLike = (0, 0), heading: float = np.pi / 2
    ) -> Path:
        """The curve with this curvature (1/m, left positive) in each metre."""
        turn = heading + np.concatenate([[0], np.cumsum(bend)[:-1]])
        step = np.stack([np.cos(turn + bend / 2), np.sin(turn + bend / 2)], 1)
        xy = np.asarray(origin) + np.concatenate([[(0, 0)], np.cumsum(step, axis=0)[:-1]])
        return cls(start + np.arange(len(bend)), xy, turn, bend)

    @classmethod
    def straight(cls, origin: ArrayLike, heading: float, length: float) -> Path:
        return cls.of_bends(np.zeros(int(length) + 1), 0.0, origin, heading)

    def at(self, s: ArrayLike, d: ArrayLike = 0.0) -> NDArray:
        """[..., 2] points `d` metres to the left of the curve; inside a tight bend no further than its centre."""
        s, d = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float))
        x, y = np.interp(s, self.s, self.xy[:, 0]), np.interp(s, self.s, self.xy[:, 1])
        bend, turn = np.interp(s, self.s, self.bend), self.turn(s)
        d = np.where(bend * d > 0.92, 0.92 / np.where(bend == 0, 1, bend), d)
        return np.stack([x - np.sin(turn) * d, y + np.cos(turn) * d], -1)

    def turn(self, s: ArrayLike) -> NDArray:
        return np.interp(s, self.s, self.heading)


@dataclass(frozen=True)
class Section:
    """Widths in metres, the camera's side first; `mirror` is -1 where people drive on the left."""

    lane: float
    lanes: tuple[int, int]
    parking: tuple[float, float]
    verge: tuple[float, float]
    sidewalk: tuple[float, float]
    setback: tuple[float, float]
    mirror: int = 1
    tram: bool = False

    def edge(self, side: int) -> float:
        """Half the road's width on side 0 (the camera's) or 1."""
        return self.lanes[side] * self.lane + self.parking[side]

    def walk(self, side: int) -> tuple[float, float]:
        """Where the sidewalk begins and ends."""
        near = self.edge(side) + 0.3 + self.verge[side]
        return near, near + self.sidewalk[side]

    def front(self, side: int) -> float:
        """Where buildings begin."""
        return self.walk(side)[1] + self.setback[side]

    def d(self, side: int, distance: ArrayLike) -> NDArray:
        """Lateral coordinate (left positive) of a distance from the centre line."""
        return np.asarray(distance) * (-1.0 if side == 0 else 1.0) * self.mirror


@dataclass(frozen=True)
class Crossing:
    """A side street of the route."""

    path: Path
    s: float
    half: float
    sidewalk: float


def sample_section(rng: Generator, crowded: bool, trams: float) -> Section:
    lanes = (int(rng.choice([1, 2], p=[0.65, 0.35])), int(rng.choice([1, 2], p=[0.7, 0.3])))
    if rng.random() < 0.12:
        lanes = (lanes[0], 0)
    park = [float(rng.uniform(2.0, 2.4)) if rng.random() < 0.6 else 0.0 for _ in range(2)]
    verge = [float(rng.uniform(0.8, 4.5)) if rng.random() < 0.45 else 0.0 for _ in range(2)]
    walk = [float(rng.uniform(2.5, 5.0) if crowded else rng.uniform(1.4, 3.5)) for _ in range(2)]
    back = [float(rng.choice([0.0, rng.uniform(1, 4), rng.uniform(4, 12)])) for _ in range(2)]
    tram = lanes[1] > 0 and rng.random() < trams
    return Section(
        float(rng.uniform(2.9, 3.7)), lanes, (park[0], park[1]), (verge[0], verge[1]), (walk[0], walk[1]),
        (back[0], back[1]), -1 if rng.random() < 0.2 else 1, tram,
    )  # fmt: skip


def sample_route(rng: Generator, length: float, turns: float) -> tuple[Path, list[tuple[float, float, int]]]:
    """The route, from 40 m before the camera's start, and its turns at junctions (begin, end, +1 left or -1 right)."""
    behind, n = 40, int(length) + 60
    bend = np.zeros(n + behind)
    corners: list[tuple[float, float, int]] = []
    often = turns > 0.9
    i = behind + int(rng.integers(3, 12 if often else 30))
    while i < n + behind:
        if rng.random() < turns:
            radius = rng.uniform(8, 14)
            arc = round(np.pi / 2 * radius)
            side = 1 if rng.random() < 0.5 else -1
            if len(corners) > 1 and corners[-1][2] == corners[-2][2] == side:
                side = -side
            bend[i : i + arc] = side * np.pi / 2 / arc
            corners.append((float(i - behind), float(i + arc - behind), side))
            i += arc + int(rng.integers(10, 26) if often else rng.integers(18, 45))
        else:
            run = int(rng.integers(25, 80))
            curve = 0.0 if rng.random() < 0.4 else rng.normal(0, 1 / 130)
            bend[i : i + run] = curve * np.sin(np.linspace(0, np.pi, len(bend[i : i + run])))
            i += run
    path = Path.of_bends(bend, -float(behind))
    zero = path.at(0.0)
    shift, turn = zero, np.pi / 2 - float(path.turn(0.0))
    c, s = np.cos(turn), np.sin(turn)
    xy = (path.xy - shift) @ np.array([[c, s], [-s, c]])
    return Path(path.s, xy, path.heading + turn, path.bend), corners


def ribbon(
    path: Path, s0: float, s1: float, d0: float, d1: float, material: str, tint: ArrayLike, class_id: int,
    tile: float = 4.0, step: float = 3.0, across: int = 1, z: float = 0.0,
) -> Mesh:  # fmt: skip
    """A strip of ground along a path, between lateral coordinates d0 and d1."""
    n = max(int(np.ceil((s1 - s0) / step)), 1)
    s, d = np.linspace(s0, s1, n + 1), np.linspace(d0, d1, across + 1)
    p = np.zeros((n + 1, across + 1, 3))
    p[..., :2] = path.at(s[:, None], d[None])
    p[..., 2] = z
    uv = np.stack(np.broadcast_arrays(d[None] / tile, s[:, None] / tile), -1)
    up = np.broadcast_to(np.array((0, 0, 1.0)), (n * across, 4, 3))
    return quads(cells(p), np.asarray(tint) * np.ones(3), cells(uv), material, class_id, up)


def lawn(rng: Generator, path: Path, tint: ArrayLike) -> Mesh:
    """Open ground up to 130 m from the route."""
    low, high = path.xy.min(0) - 130, path.xy.max(0) + 130
    nx, ny = (max(int(v // 13), 1) for v in high - low)
    xs, ys = np.linspace(low[0], high[0], nx + 1), np.linspace(low[1], high[1], ny + 1)
    p = np.zeros((ny + 1, nx + 1, 3))
    p[..., 0], p[..., 1] = xs[None], ys[:, None]
    color = np.asarray(tint) * (1 + 0.08 * rng.standard_normal((ny + 1, nx + 1, 1)))
    corners = cells(p)
    up = np.broadcast_to(np.array((0, 0, 1.0)), corners.shape)
    return quads(corners, cells(color), corners[..., :2] / 5.0, f"grass{rng.integers(4)}", TERRAIN, up)


def ground(
    rng: Generator, path: Path, section: Section, crossings: list[Crossing], corners: list[tuple[float, float, int]],
    s0: float, s1: float,
) -> list[tuple[int, Mesh]]:  # fmt: skip
    """All ground surfaces as (order, mesh)."""
    out: list[tuple[int, Mesh]] = []
    season = np.array([(0.42, 0.5, 0.22), (0.5, 0.5, 0.28), (0.36, 0.44, 0.18), (0.55, 0.48, 0.34)])[rng.integers(4)]
    out.append((GRASS, lawn(rng, path, season * rng.uniform(0.75, 1.2))))
    grey = rng.uniform(0.32, 0.75) * (1 + 0.022 * rng.standard_normal(3))
    asphalt = f"asphalt{rng.integers(6)}"
    paver = f"pavers{rng.integers(6)}" if rng.random() < 0.7 else f"asphalt{rng.integers(6)}"
    stone = rng.uniform(0.5, 0.85) * (1 + np.array((0.04, 0, -0.05)) * rng.uniform(-0.5, 2))
    kerb = rng.uniform(0.55, 0.9)
    white = np.full(3, rng.uniform(0.72, 1.0))
    if rng.random() < 0.1:
        white *= (1.0, 0.85, 0.35)

    def kerbs(where: Path, a: float, b: float, edge: float, side: float, order: int) -> None:
        out.append((order, ribbon(where, a, b, side * (edge + 0.16), side * (edge + 0.3), PLAIN, kerb, SIDEWALK)))
        out.append((order, ribbon(where, a, b, side * edge, side * (edge + 0.16), PLAIN, kerb * 0.55, SIDEWALK)))

    for c in crossings:
        end = float(c.path.s[-1])
        for side in (1.0, -1.0):
            span = (side * (c.half + 0.3), side * (c.half + 0.3 + c.sidewalk))
            out.append((SIDE_PAVING, ribbon(c.path, 0, end, *span, paver, stone, SIDEWALK, 3.0, 5.0)))
            kerbs(c.path, 0, end, c.half, side, SIDE_ROADS)
        out.append((ROADS, ribbon(c.path, 0, end, -c.half, c.half, asphalt, grey, ROAD, 6.0, 5.0, 2)))
        for a in np.arange(14, end - 3, 7.0).tolist():
            out.append((MARKINGS, ribbon(c.path, a, a + 3, -0.07, 0.07, PLAIN, white * 0.9, ROAD)))
    for side in (0, 1):
        sign = float(section.d(side, 1.0))
        near, far = section.walk(side)
        edge, front = section.edge(side), section.front(side)
        if section.verge[side] > 0:
            green = season * rng.uniform(0.8, 1.2)
            mesh = ribbon(
                path, s0, s1, sign * (edge + 0.3), sign * near, f"grass{rng.integers(4)}", green, TERRAIN, 3.0
            )
            out.append((PAVING, mesh))
        out.append((PAVING, ribbon(path, s0, s1, sign * near, sign * far, paver, stone, SIDEWALK, 3.0)))
        if section.setback[side] < 4 and section.setback[side] > 0:
            out.append((PAVING, ribbon(path, s0, s1, sign * far, sign * front, paver, stone * 0.93, SIDEWALK, 3.0)))
        kerbs(path, s0, s1, edge, sign, SIDE_ROADS)
    right, left = section.d(0, section.edge(0)), section.d(1, section.edge(1))
    across = max(int(abs(right - left) // 3.5), 2)
    out.append((ROADS, ribbon(path, s0, s1, right, left, asphalt, grey, ROAD, 6.0, 3.0, across)))
    if section.parking[0] and rng.random() < 0.4:
        strip = (section.d(0, section.edge(0)), section.d(0, section.edge(0) - section.parking[0]))
        out.append((JUNCTIONS, ribbon(path, s0, s1, *strip, paver, stone * 0.8, ROAD, 3.0)))
    for side in (0, 1):
        if section.lanes[side] and not section.parking[side] and rng.random() < 0.12:
            # A cycle lane.
            red = np.array([(0.55, 0.27, 0.22), (0.5, 0.3, 0.26), (0.25, 0.4, 0.3)])[rng.integers(3)] * grey * 1.6
            strip = (section.d(side, section.edge(side)), section.d(side, section.edge(side) - 1.5))
            out.append((JUNCTIONS, ribbon(path, s0, s1, *strip, asphalt, red, ROAD, 3.0)))
    out += _markings(rng, path, section, crossings, corners, s0, s1, white, grey)
    return out


def _markings(
    rng: Generator, path: Path, section: Section, crossings: list[Crossing], corners: list[tuple[float, float, int]],
    s0: float, s1: float, white: NDArray, grey: NDArray,
) -> list[tuple[int, Mesh]]:  # fmt: skip
    """Lane lines with gaps at junctions, zebra crossings, stop lines, arrows, patches, rails."""
    out = []
    gaps = [(c.s - c.half - 2, c.s + c.half + 2) for c in crossings] + [(a - 4, b + 4) for a, b, _ in corners]

    def free(a: float, b: float) -> bool:
        return all(b < g0 or a > g1 for g0, g1 in gaps)

    w = rng.uniform(0.1, 0.16)
    dash, pause = float(rng.choice([2.0, 3.0, 4.0])), float(rng.choice([3.0, 4.5, 6.0]))
    lines: list[tuple[float, bool]] = []
    if section.lanes[1]:
        lines.append((0.0, bool(rng.random() < 0.25)))
    for side in (0, 1):
        lines += [(float(section.d(side, k * section.lane)), False) for k in range(1, section.lanes[side])]
        if rng.random() < 0.4 or section.parking[side]:
            lines.append((float(section.d(side, section.lanes[side] * section.lane - 0.12)), bool(rng.random() < 0.6)))
    plain = rng.random() < 0.12
    for d, solid in lines if not plain else []:
        length, gap = (8.0, 0.0) if solid else (dash, pause)
        wear = rng.uniform(0.75, 1.0)
        for a in np.arange(s0, s1 - length, length + gap).tolist():
            if free(a, a + length):
                out.append(
                    (MARKINGS, ribbon(path, a, a + length, d - w / 2, d + w / 2, PLAIN, white * wear, ROAD, step=2.0))
                )
    right, left = section.edge(0), section.edge(1)
    for g0, g1 in gaps:
        for at, back in ((g0, -1.0), (g1, 1.0)):
            style = rng.random()
            if style < 0.45:
                for d in np.arange(-right + 0.4, left - 0.5, 1.0).tolist():
                    e = float(section.d(1, d))
                    a, b = sorted((at, at + back * 3.2))
                    out.append((MARKINGS, ribbon(path, a, b, e, e + 0.5, PLAIN, white * 0.95, ROAD, step=4.0)))
            elif style < 0.75:
                a, b = sorted((at, at + back * 0.4))
                d0, d1 = (section.d(0, right), 0.0) if back < 0 else (0.0, section.d(1, left))
                out.append((MARKINGS, ribbon(path, a, b, float(d0), float(d1), PLAIN, white * 0.95, ROAD)))
    for _ in range(int((s1 - s0) / 14)):
        a, d = rng.uniform(s0, s1 - 6), rng.uniform(-right + 0.5, max(left, 0.5) - 0.8)
        tone = grey * rng.uniform(0.68, 1.15)
        e = float(section.d(1, d))
        size = (rng.uniform(0.4, 4.5), rng.uniform(0.3, 1.4)) if rng.random() < 0.6 else (0.6, 0.6)
        out.append((JUNCTIONS, ribbon(path, a, a + size[0], e, e + size[1], "asphalt0", tone, ROAD, 3.0)))
    for _ in range(int((s1 - s0) / 22)):
        a, d = rng.uniform(s0, s1), rng.uniform(-right + 0.6, max(left, 0.6) - 0.6)
        for radius, tone in ((0.36, 0.5), (0.29, 0.8)):
            out.append((JUNCTIONS, _flat(_CIRCLE * radius + path.at(a, section.d(1, d)), grey * tone)))
    if section.lanes[0] > 1 and not plain:
        for g0, _ in gaps:
            for k in range(section.lanes[0]):
                d, lie = float(section.d(0, (k + 0.5) * section.lane)), g0 - rng.uniform(4, 7)
                tip = path.at(np.array((lie, lie, lie + 1.1)), d + np.array((-0.4, 0.4, 0.0)))
                out.append((MARKINGS, ribbon(path, lie - 2.4, lie, d - 0.08, d + 0.08, PLAIN, white * 0.95, ROAD)))
                out.append((MARKINGS, _flat(tip, white * 0.95)))
    if section.tram:
        for center in (section.d(0, section.lane / 2), section.d(1, section.lane / 2)):
            for rail in (-0.72, 0.72):
                mesh = ribbon(path, s0, s1, float(center) + rail - 0.05, float(center) + rail + 0.05, PLAIN, 0.3, ROAD)
                out.append((MARKINGS, mesh))
    return out


_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 10)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 10)[:-1])], 1)


def _flat(outline: NDArray, tint: ArrayLike) -> Mesh:
    """A convex patch of the road with this outline [K, 2]."""
    mesh = polygon(np.concatenate([outline, np.zeros((len(outline), 1))], 1), tint, ROAD)
    mesh.normals[:] = (0, 0, 1)
    return mesh
