"""The static world of a drive, and the builder that adds objects to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from vps_ros.datasets.streets import scenery
from vps_ros.datasets.streets.light import Light
from vps_ros.datasets.streets.mesh import Mesh, quads
from vps_ros.datasets.streets.road import Crossing, Path, Section
from vps_ros.datasets.streets.scenario import Scenario
from vps_ros.datasets.streets.shadow import Shadow
from vps_ros.datasets.streets.textures import FACADES


@dataclass
class World:
    """Attributes:
    ground: (order, mesh), drawn back to front without a depth test.
    solids: (mesh, instance); instance 0 is stuff.
    shadows: on the ground, and on objects in them.
    lamps: [3] positions of street lamps.
    instances: number of instance ids in use.
    """

    path: Path
    section: Section
    corners: list[tuple[float, float, int]]
    crossings: list[Crossing]
    ground: list[tuple[int, Mesh]] = field(default_factory=list)
    solids: list[tuple[Mesh, int]] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)
    lamps: list[NDArray] = field(default_factory=list)
    instances: int = 0

    def new_instance(self) -> int:
        self.instances += 1
        return self.instances


class WorldBuilder:
    """Adds static objects to a world where there is free space.

    Args:
        rng: the random stream of all static objects.
        first: metres along the route at which objects begin.
        last: metres along the route at which they end.
    """

    def __init__(
        self, rng: Generator, scenario: Scenario, light: Light, world: World, first: float, last: float
    ) -> None:
        self.rng, self.scenario, self.light, self.world = rng, scenario, light, world
        self.section, self.night = world.section, light.night > 0.5
        self.first, self.last = first, last
        kind = "facade_lit" if self.night else "facade"
        self._facades = [f"{kind}{k}" for k in rng.choice(FACADES, 7, replace=False)]
        self._trees = [scenery.sample_tree(rng) for _ in range(5)]

    def clear(self, points: ArrayLike, apart: float, own: Crossing | None = None, streets: float = 0.0) -> bool:
        """Whether none of the points [N, 2] is within `apart` of the centre line of the route or on a side street."""
        p = np.asarray(points, float).reshape(-1, 2)
        route = self.world.path.xy[::2]
        if np.min(((p[:, None] - route[None]) ** 2).sum(-1)) < (apart - 0.05) ** 2:
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

    def shade(
        self, xy: ArrayLike, heading: float, half: tuple[float, float], kind: str, depth: float, height: float = 0.0
    ) -> None:
        """A shadow on the ground: kind `blob` or `dapple`; depth and height as of Shadow."""
        x, y = np.asarray(xy, float)
        a, b = half
        flat = quads([[(-a, -b, 0), (a, -b, 0), (a, b, 0), (-a, b, 0)]], (0, 0, 0), material=kind)
        self.world.shadows.append(Shadow(flat.moved((x, y, 0), heading), depth, height))

    def tree(self, at: NDArray) -> None:
        """Adds a tree with its shadow."""
        rng = self.rng
        if rng.random() < 0.3:
            self._trees[rng.integers(len(self._trees))] = scenery.sample_tree(rng)
        meshes, radius = self._trees[rng.integers(len(self._trees))]
        scale = rng.uniform(0.8, 1.3) * np.array((1, 1, rng.uniform(0.9, 1.15)))
        self.put([m.moved(scale=scale) for m in meshes], at, rng.uniform(0, 6))
        if self.light.sunny:
            throw = min(4.0 / max(np.tan(np.arcsin(self.light.sun[2])), 0.2), 9.0)
            away = np.asarray(at) - throw * self.light.sun[:2] / np.linalg.norm(self.light.sun[:2])
            long = radius * min(1 / max(self.light.sun[2], 0.3), 2.0)
            turn = float(np.arctan2(self.light.sun[1], self.light.sun[0]))
            self.shade(away, turn, (long * 1.25, radius * 1.25), f"dapple{rng.integers(4)}", self.light.shadow, 3.5)
        else:
            self.shade(at, 0, (radius, radius), "blob", 0.18)

    def vehicle(self, mesh: Mesh, at: NDArray, turn: float, length: float) -> None:
        """Adds a parked vehicle, an instance, with its shadow."""
        self.put([mesh], at, turn, self.world.new_instance())
        self.shade(at, turn, (length * 0.56, 1.15), "blob", 0.75)
        if self.light.sunny:
            outline = np.zeros((1, 4, 3))
            place, high = np.array((*at, turn)), 0.85 * float(mesh.points[:, 2].max())
            outline[0, :, :2] = self.light.shadow_outline(place, (length * 0.5, 0.9), high)
            self.world.shadows.append(Shadow(quads(outline, material="blob"), 0.75 * self.light.shadow))
