"""Lays out what stands still along the way: ground, buildings, plants, street furniture, parked vehicles, shadows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from vps_ros.datasets.streets import road, scenery, vehicles
from vps_ros.datasets.streets.light import Light
from vps_ros.datasets.streets.mesh import Mesh, ball, box, quads
from vps_ros.datasets.streets.road import Crossing, Path, Section
from vps_ros.datasets.streets.scenario import Scenario
from vps_ros.datasets.streets.textures import FACADES

_MOODS = {
    # shares of block kinds: town houses, single houses, park, works, field
    "city": (0.8, 0.05, 0.1, 0.05, 0.0),
    "suburb": (0.05, 0.65, 0.2, 0.05, 0.05),
    "green": (0.05, 0.15, 0.6, 0.1, 0.1),
    "works": (0.15, 0.1, 0.2, 0.45, 0.1),
    "mixed": (0.3, 0.25, 0.25, 0.15, 0.05),
}


@dataclass
class World:
    """Attributes:
    ground: (order, mesh) painted back to front without depth.
    solids: (mesh, instance, order-free); instance 0 is stuff.
    shadows: see-through quads on the ground, alpha in `uv`'s texture.
    lamps: [3] positions of street lamps.
    """

    path: Path
    section: Section
    corners: list[tuple[float, float, int]]
    crossings: list[Crossing]
    ground: list[tuple[int, Mesh]] = field(default_factory=list)
    solids: list[tuple[Mesh, int]] = field(default_factory=list)
    shadows: list[tuple[Mesh, float]] = field(default_factory=list)
    lamps: list[NDArray] = field(default_factory=list)
    instances: int = 0

    def new_instance(self) -> int:
        self.instances += 1
        return self.instances


class Builder:
    """Places things from one random stream."""

    def __init__(self, rng: Generator, scenario: Scenario, length: float, sun: Light, reach: float) -> None:
        self.rng, self.scenario, self.light, self.reach = rng, scenario, sun, reach
        self.night = sun.night > 0.5
        crowded = scenario.walkers[0] > 2
        self.section = road.draw_section(rng, crowded)
        self.length = length + 150
        path, corners = road.draw_way(rng, self.length, scenario.turns)
        self.first, self.last = -25.0, self.length - 8
        crossings = self._crossings(path, corners)
        self.world = World(path, self.section, corners, crossings)
        self.world.ground = road.ground(rng, path, self.section, crossings, corners, self.first, self.last)
        kind = "facade_lit" if self.night else "facade"
        self._facades = [f"{kind}{k}" for k in rng.choice(FACADES, 7, replace=False)]
        self._trees = [scenery.any_tree(rng) for _ in range(5)]

    def _crossings(self, path: Path, corners: list[tuple[float, float, int]]) -> list[Crossing]:
        rng, out = self.rng, []

        def side_street(s: float, heading: float, length: float = 75.0) -> None:
            out.append(
                Crossing(
                    Path.straight(path.at(s), heading, length), s, float(rng.uniform(2.8, 5.0)), rng.uniform(1.5, 3)
                )
            )

        for a, b, _ in corners:
            side_street(a + 1, float(path.turn(a)), 90.0)
            if rng.random() < 0.8:
                side_street(b - 1, float(path.turn(b)) + np.pi)
        s = float(rng.uniform(15, 50))
        while s < self.last - 10:
            if all(s < a - 30 or s > b + 30 for a, b, _ in corners):
                turn = float(path.turn(s))
                which = rng.choice(3, p=[0.4, 0.3, 0.3])
                if which in (0, 1):
                    side_street(s, turn + np.pi / 2)
                if which in (0, 2):
                    side_street(s, turn - np.pi / 2)
            s += float(rng.uniform(40, 110))
        return out

    def build(self) -> World:
        rng = self.rng
        self._furniture()
        for side in (0, 1):
            mood = _MOODS[str(rng.choice(list(_MOODS), p=[0.25, 0.2, 0.27, 0.08, 0.2]))]
            s = self.first
            while s < self.last:
                run = float(rng.uniform(12, 30))
                kind = int(rng.choice(5, p=mood))
                self._block(self.world.path, s, min(run, self.last - s), side, kind)
                s += run
            self._verge(side)
            self._kerb(side)
        for c in self.world.crossings:
            self._side_street(c)
        self._background()
        return self.world

    def clear(self, points: ArrayLike, apart: float, own: Crossing | None = None, streets: float = 0.0) -> bool:
        """Whether none of the points [N, 2] is within `apart` of the main way's centre or on a side street."""
        p = np.asarray(points, float).reshape(-1, 2)
        way = self.world.path.xy[::2]
        if np.min(((p[:, None] - way[None]) ** 2).sum(-1)) < (apart - 0.05) ** 2:
            return False
        for c in self.world.crossings:
            if c is own:
                continue
            rel = p - c.path.xy[0]
            h = c.path.heading[0]
            along = rel @ (np.cos(h), np.sin(h))
            aside = np.abs(rel @ (-np.sin(h), np.cos(h)))
            if np.any((along > -1) & (along < c.path.s[-1]) & (aside < c.half + 0.4 + streets)):
                return False
        return True

    def facade(self) -> str:
        return self._facades[self.rng.integers(len(self._facades))]

    def put(self, meshes: list[Mesh], xy: ArrayLike, heading: float, instance: int = 0) -> None:
        x, y = np.asarray(xy, float)
        self.world.solids += [(m.moved((x, y, 0), heading), instance) for m in meshes]

    def shade(self, xy: ArrayLike, heading: float, half: tuple[float, float], kind: str, depth: float) -> None:
        """A shadow on the ground: kind `blob` or `dapple`; depth is its darkness."""
        x, y = np.asarray(xy, float)
        a, b = half
        flat = quads([[(-a, -b, 0), (a, -b, 0), (a, b, 0), (-a, b, 0)]], (0, 0, 0), material=kind)
        self.world.shadows.append((flat.moved((x, y, 0), heading), depth))

    def _block(self, path: Path, s: float, run: float, side: int, kind: int, own: Crossing | None = None) -> None:
        rng, sec = self.rng, self.section
        if run < 6:
            return
        if own is None:
            sign, near, front = (float(sec.d(side, 1.0)), sec.walk(side)[1], sec.front(side))
            apart = sec.walk(side)[0]
        else:
            sign, near = (1.0 if side else -1.0), own.half + 0.3 + own.sidewalk
            front, apart = (near + float(rng.choice([0.0, 2.0])), max(sec.front(0), sec.front(1)) * 0.8)
        middle = s + run / 2

        def put(
            meshes: list[Mesh], at: float, away: float, length: float, depth: float = 0.3, lot: bool = False
        ) -> bool:
            ends = [path.at(a, sign * e) for a in (at - length / 2, at, at + length / 2) for e in (away, away + depth)]
            if not self.clear(ends, apart if own is None else apart, own, 1.5 if lot else 0.5):
                return False
            centre = path.at(at, sign * away)
            self.put(meshes, centre, float(path.turn(at)) + (0 if sign > 0 else np.pi))
            if lot and self.light.sunny:
                self._house_shadow(centre, float(path.turn(at)) + (0 if sign > 0 else np.pi), length, depth, meshes)
            return True

        if kind == 0:
            shop = bool(rng.random() < 0.45)
            town = scenery.house(rng, run - 0.1, rng.uniform(9, 14), int(rng.integers(2, 7)), shop, self.facade())
            put(town, middle, front, run, 9.0, True)
        elif kind == 1:
            self._border(put, s, run, near + 0.3)
            wide = min(run - 3, rng.uniform(8, 14))
            back = front + rng.uniform(2.5, 7)
            home = scenery.house(rng, wide, rng.uniform(7, 10), int(rng.integers(1, 4)), False, self.facade())
            put(home, middle, back, wide, 8.0, True)
            for _ in range(rng.integers(1, 4)):
                self._plant(
                    path, s + rng.uniform(0, run), sign, near + rng.uniform(1.5, max(back - near - 1, 1.6)), apart, own
                )
        elif kind == 2:
            if rng.random() < 0.5:
                self._border(put, s, run, near + 0.3)
            for _ in range(int(run / 3.2)):
                self._plant(path, s + rng.uniform(0, run), sign, near + rng.gamma(2.0, 4.0) + 1.2, apart, own)
        elif kind == 3:
            self._border(put, s, run, near + 0.3, 0.9)
            if rng.random() < 0.6:
                wide = max(run - 4, 6.0)
                put(scenery.house(rng, wide, 12, int(rng.integers(2, 4)), False, self.facade()), middle,
                    front + rng.uniform(3, 12), wide, 10.0, True)  # fmt: skip
        else:
            for _ in range(int(rng.integers(0, 3))):
                self._plant(path, s + rng.uniform(0, run), sign, near + rng.uniform(4, 40), apart, own)

    def _border(self, put: object, s: float, run: float, away: float, chance: float = 0.75) -> None:
        """A hedge, wall or fence before a block."""
        rng = self.rng
        if rng.random() > chance:
            return
        make = (scenery.hedge, scenery.wall, scenery.fence)[rng.choice(3, p=[0.34, 0.3, 0.36])]
        pieces = max(int(run // 6), 1)
        state = rng.bit_generator.state
        for i in range(pieces):
            rng.bit_generator.state = state
            length = run / pieces
            put(make(rng, length), s + (i + 0.5) * length, away, length)  # type: ignore[operator]

    def _plant(self, path: Path, s: float, sign: float, away: float, apart: float, own: Crossing | None) -> None:
        rng = self.rng
        at = path.at(s, sign * away)
        if rng.random() < 0.35:
            size = rng.uniform(0.6, 1.6)
            if self.clear([at], apart + size * 0.6, own, 1.0):
                self.put(scenery.bush(rng, size), at, rng.uniform(0, 6))
        elif self.clear([at], apart + 0.5, own, 1.0):
            self._tree(at)

    def _tree(self, at: NDArray) -> None:
        rng = self.rng
        if rng.random() < 0.3:
            self._trees[rng.integers(len(self._trees))] = scenery.any_tree(rng)
        meshes, radius = self._trees[rng.integers(len(self._trees))]
        scale = rng.uniform(0.8, 1.3) * np.array((1, 1, rng.uniform(0.9, 1.15)))
        self.put([m.moved(scale=scale) for m in meshes], at, rng.uniform(0, 6))
        if self.light.sunny:
            throw = min(4.0 / max(np.tan(np.arcsin(self.light.sun[2])), 0.2), 9.0)
            away = np.asarray(at) - throw * self.light.sun[:2] / np.linalg.norm(self.light.sun[:2])
            long = radius * min(1 / max(self.light.sun[2], 0.3), 2.0)
            turn = float(np.arctan2(self.light.sun[1], self.light.sun[0]))
            self.shade(away, turn, (long * 1.25, radius * 1.25), f"dapple{rng.integers(4)}", 0.62)
        else:
            self.shade(at, 0, (radius, radius), "blob", 0.18)

    def _house_shadow(self, centre: NDArray, heading: float, length: float, depth: float, meshes: list[Mesh]) -> None:
        height = max(float(m.points[:, 2].max()) for m in meshes)
        throw = -self.light.sun[:2] / max(self.light.sun[2], 0.15) * height
        throw *= min(1.0, 16 / max(float(np.linalg.norm(throw)), 1e-6))
        along = np.array((np.cos(heading), np.sin(heading)))
        inward = np.array((-along[1], along[0]))
        if throw @ inward > 0:
            return
        a, b = centre - along * length / 2, centre + along * length / 2
        corners = [(*a, 0), (*b, 0), (*(b + throw), 0), (*(a + throw), 0)]
        self.world.shadows.append((quads([corners], (0, 0, 0), material="plain"), 0.45))

    def _verge(self, side: int) -> None:
        """Trees, lamps and poles between kerb and sidewalk."""
        rng, sec = self.rng, self.section
        sign = float(sec.d(side, 1.0))
        away = sec.edge(side) + 0.3 + max(sec.verge[side] * 0.5, 0.35)
        if rng.random() < (0.8 if sec.verge[side] else 0.38):
            step, s = rng.uniform(6, 16), self.first + rng.uniform(0, 8)
            while s < self.last:
                at = self.world.path.at(s, sign * away)
                if rng.random() < 0.85 and self.clear([at], sec.edge(side) + 0.3, None, 1.0):
                    self._tree(at)
                s += step * rng.uniform(0.8, 1.2)
        away = sec.edge(side) + 0.6
        if rng.random() < 0.8:
            step, s = rng.uniform(16, 30), self.first + rng.uniform(0, 15)
            post = scenery.lamp_post(rng, self.night)
            while s < self.last:
                at = self.world.path.at(s, sign * away)
                if self.clear([at], sec.edge(side) + 0.3, None, 0.3):
                    turn = float(self.world.path.turn(s)) + (np.pi if sign > 0 else 0)
                    self.put(post, at, turn)
                    self.world.lamps.append(np.array((*at, float(post[0].points[:, 2].max()))))
                s += step
        step = 18.0 / self.scenario.clutter
        s = self.first + rng.uniform(0, step)
        while s < self.last:
            at = self.world.path.at(s, sign * (sec.edge(side) + rng.uniform(0.45, 0.9)))
            if self.clear([at], sec.edge(side) + 0.3, None, 0.3):
                turn = float(self.world.path.turn(s)) - np.pi / 2 + rng.normal(0, 0.15)
                kind = rng.random()
                if kind < 0.45:
                    turn += 0.0 if side == 0 or rng.random() < 0.3 else np.pi
                    self.put(scenery.sign(rng), at, turn)
                elif kind < 0.8:
                    self.put(scenery.pole(rng), at, turn)
                elif kind < 0.9:
                    tint = rng.uniform(0.1, 0.6, 3)
                    self.put(
                        [box((-0.25, -0.25, 0), (0.25, 0.25, rng.uniform(0.8, 1.2)), tint, scenery.WALL)], at, turn
                    )
                else:
                    self.put(scenery.bush(rng, 0.5), at, turn)
            s += step * rng.uniform(0.5, 1.5)

    def _furniture(self) -> None:
        """Signals at junctions."""
        rng, sec = self.rng, self.section
        places = [c.s - c.half - 3 for c in self.world.crossings] + [a - 4 for a, _, _ in self.world.corners]
        for s in places:
            if rng.random() < 0.55:
                for side, far in ((0, 0.0), (1, 0.0), (0, 14.0), (1, 14.0)):
                    if rng.random() < 0.75:
                        sign = float(sec.d(side, 1.0))
                        at = self.world.path.at(s + far, sign * (sec.edge(side) + 0.7))
                        if self.clear([at], sec.edge(side) + 0.3, None, 0.2):
                            reach = rng.uniform(2.5, 5) if side == 0 and rng.random() < 0.45 else 0.0
                            turn = float(self.world.path.turn(s)) - np.pi / 2 + (np.pi if rng.random() < 0.15 else 0)
                            mesh = scenery.traffic_light(rng, reach)
                            if sign > 0:
                                mesh = [m.moved(scale=(-1, 1, 1)) for m in mesh]
                            self.put(mesh, at, turn)

    def _kerb(self, side: int) -> None:
        """Parked cars and now and then a truck or a bus at the kerb; bicycles and motorcycles on the sidewalk."""
        rng, sec = self.rng, self.section
        sign = float(sec.d(side, 1.0))
        taken = rng.uniform(*self.scenario.parked)
        spot = sec.parking[side] > 0
        away = sec.edge(side) - 1.05 if spot else sec.walk(side)[0] + 0.8
        if not spot:
            taken = taken * 0.25 if sec.sidewalk[side] > 2.2 and rng.random() < 0.5 else 0.0
        slope = 0.0
        s = self.first
        while s < self.last:
            if rng.random() > taken:
                s += rng.uniform(3, 9)
                continue
            kind = rng.random()
            if kind < 0.05:
                mesh, (length, _, _) = vehicles.truck(rng)
            elif kind < 0.075:
                mesh, (length, _, _) = vehicles.bus(rng)
            elif kind < 0.13:
                mesh, length = vehicles.any_two_wheeler(rng, True), 2.2
            else:
                mesh, (length, _, _) = vehicles.any_car(rng)
            at = self.world.path.at(s + length / 2, sign * away)
            ends = [self.world.path.at(s, sign * away), self.world.path.at(s + length, sign * away)]
            if self.clear(ends, away - 1.6, None, 2.0):
                turn = float(self.world.path.turn(s + length / 2)) + (np.pi if side == 1 else 0) + rng.normal(0, 0.02)
                if rng.random() < 0.15:
                    turn += np.pi
                self._vehicle(mesh, at, turn + slope, length)
            s += length + rng.uniform(0.5, 1.8)
        s = self.first + rng.uniform(0, 20)
        while s < self.last:
            near, far = sec.walk(side)
            count = int(rng.integers(1, 6)) if rng.random() < 0.5 else 0
            for i in range(count):
                moto = rng.random() < 0.3
                at = self.world.path.at(s + i * (0.9 if moto else 0.6), sign * rng.uniform(near + 0.5, near + 0.9))
                if self.clear([at], sec.edge(side) + 0.6, None, 0.5):
                    turn = (
                        float(self.world.path.turn(s))
                        + np.pi / 2 * (1 if rng.random() < 0.8 else 0)
                        + rng.normal(0, 0.15)
                    )
                    mesh = vehicles.any_two_wheeler(rng, moto)
                    self.put([mesh], at, turn, self.world.new_instance())
            s += rng.uniform(8, 28)

    def _vehicle(self, mesh: Mesh, at: NDArray, turn: float, length: float) -> None:
        self.put([mesh], at, turn, self.world.new_instance())
        self.shade(at, turn, (length * 0.56, 1.15), "blob", 0.75)

    def _side_street(self, c: Crossing) -> None:
        rng = self.rng
        mood = _MOODS[str(rng.choice(list(_MOODS)))]
        for side in (0, 1):
            s = 4.0
            while s < c.path.s[-1]:
                run = float(rng.uniform(10, 22))
                self._block(c.path, s, run, side, int(rng.choice(5, p=mood)), c)
                s += run
            if rng.random() < 0.6:
                s = 12.0
                sign = 1.0 if side else -1.0
                while s < c.path.s[-1] - 6:
                    if rng.random() < 0.45:
                        mesh, (length, _, _) = vehicles.any_car(rng)
                        at = c.path.at(s, sign * (c.half - 1.0))
                        if self.clear([at], max(self.section.front(0), self.section.front(1)) * 0.8, c, 1.0):
                            self._vehicle(mesh, at, float(c.path.heading[0]) + (np.pi if side else 0), length)
                    s += rng.uniform(5.5, 9)
        end = c.path.at(c.path.s[-1])
        if self.clear([end], 25, c, 0):
            wide = c.half * 2 + 14
            turn = float(c.path.heading[0])
            self.put(scenery.house(rng, wide, 10, int(rng.integers(2, 5)), False, self.facade()), end, turn - np.pi / 2)

    def _background(self) -> None:
        """Far trees and buildings that close the view."""
        rng, path = self.rng, self.world.path
        end = path.at(path.s[-1] - 10)
        turn = float(path.heading[-1])
        for i in range(-3, 4):
            at = end + 14 * i * np.array((-np.sin(turn), np.cos(turn)))
            if self.clear([at + 8 * np.array((np.cos(turn), np.sin(turn)))], 6.0, None, 0):
                if rng.random() < 0.5:
                    self.put(
                        scenery.house(rng, 14, 10, int(rng.integers(2, 6)), False, self.facade()), at, turn - np.pi / 2
                    )
                else:
                    self._tree(at)
        for _ in range(int(self.length / 5)):
            s, d = (rng.uniform(self.first, self.last), rng.uniform(28, 110) * rng.choice([-1, 1]))
            at = path.at(s, 0) + d * np.array((-np.sin(path.turn(s)), np.cos(path.turn(s))))
            if not self.clear([at, at + (6, 6), at - (6, 6), at + (6, -6), at - (6, -6)], 26, None, 8):
                continue
            if rng.random() < 0.45:
                self.put(scenery.house(rng, rng.uniform(10, 24), 12, int(rng.integers(2, 8)), False, self.facade()), at,
                         float(rng.uniform(0, 6)))  # fmt: skip
            elif rng.random() < 0.5:
                green = np.array((0.2, 0.28, 0.12)) * rng.uniform(0.7, 1.4)
                crown = ball((0, 0, 3), (rng.uniform(3, 7), rng.uniform(3, 7), rng.uniform(4, 9)), green,
                             scenery.VEGETATION, 9)  # fmt: skip
                self.put([crown], at, 0)
            else:
                self._tree(at)
