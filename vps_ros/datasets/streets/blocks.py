"""Static objects beyond the sidewalk, block by block: houses, gardens, parks, industry, fields."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.streets import scenery
from vps_ros.datasets.streets.mesh import Mesh, quads
from vps_ros.datasets.streets.road import Crossing, Path
from vps_ros.datasets.streets.shadow import Shadow
from vps_ros.datasets.streets.world import WorldBuilder

TOWN, SUBURB, PARK, INDUSTRY, FIELD = range(5)
"""Kinds of block."""
DISTRICTS = {
    "city": (0.8, 0.05, 0.1, 0.05, 0.0),
    "suburb": (0.05, 0.65, 0.2, 0.05, 0.05),
    "green": (0.05, 0.15, 0.6, 0.1, 0.1),
    "works": (0.15, 0.1, 0.2, 0.45, 0.1),
    "mixed": (0.3, 0.25, 0.25, 0.15, 0.05),
}
"""Character of a stretch of street -> share of each kind of block, in the order of the kinds."""
Put = Callable[[list[Mesh], float, float, float], bool]
"""(meshes, position along the path, lateral distance, length) -> whether there was free space for them."""


def block(
    builder: WorldBuilder, path: Path, s: float, run: float, side: int, kind: int, own: Crossing | None = None
) -> None:
    """Builds `run` metres from `s` on, on one side of the route or of the side street `own`."""
    rng, sec = builder.rng, builder.section
    if run < 6:
        return
    if own is None:
        sign, near, front = (float(sec.d(side, 1.0)), sec.walk(side)[1], sec.front(side))
        apart = sec.walk(side)[0]
    else:
        sign, near = (1.0 if side else -1.0), own.half + 0.3 + own.sidewalk
        front, apart = (near + float(rng.choice([0.0, 2.0])), max(sec.front(0), sec.front(1)) * 0.8)
    middle = s + run / 2

    def put(meshes: list[Mesh], at: float, away: float, length: float, depth: float = 0.3, lot: bool = False) -> bool:
        ends = [path.at(a, sign * e) for a in (at - length / 2, at, at + length / 2) for e in (away, away + depth)]
        if not builder.clear(ends, apart, own, 1.5 if lot else 0.5):
            return False
        centre = path.at(at, sign * away)
        builder.put(meshes, centre, float(path.turn(at)) + (0 if sign > 0 else np.pi))
        if lot and builder.light.sunny:
            _house_shadow(builder, centre, float(path.turn(at)) + (0 if sign > 0 else np.pi), length, depth, meshes)
        return True

    if kind == TOWN:
        shop = bool(rng.random() < 0.45)
        town = scenery.house(rng, run - 0.1, rng.uniform(9, 14), int(rng.integers(2, 7)), shop, builder.facade())
        put(town, middle, front, run, 9.0, True)
    elif kind == SUBURB:
        _border(builder, put, s, run, near + 0.3)
        wide = min(run - 3, rng.uniform(8, 14))
        back = front + rng.uniform(2.5, 7)
        home = scenery.house(rng, wide, rng.uniform(7, 10), int(rng.integers(1, 4)), False, builder.facade())
        put(home, middle, back, wide, 8.0, True)
        for _ in range(rng.integers(1, 4)):
            at, away = s + rng.uniform(0, run), near + rng.uniform(1.5, max(back - near - 1, 1.6))
            _plant(builder, path, at, sign, away, apart, own)
    elif kind == PARK:
        if rng.random() < 0.5:
            _border(builder, put, s, run, near + 0.3)
        if rng.random() < 0.5:
            for at in np.arange(s + 3, s + run - 2, 6.0).tolist():
                put(scenery.thicket(rng, 6.0), at, near + rng.uniform(2, 9), 6.0, 1.0)
        for _ in range(int(run / 3.2)):
            _plant(builder, path, s + rng.uniform(0, run), sign, near + rng.gamma(2.0, 4.0) + 1.2, apart, own)
    elif kind == INDUSTRY:
        _border(builder, put, s, run, near + 0.3, 0.9)
        if rng.random() < 0.6:
            wide = max(run - 4, 6.0)
            put(scenery.house(rng, wide, 12, int(rng.integers(2, 4)), False, builder.facade()), middle,
                front + rng.uniform(3, 12), wide, 10.0, True)  # fmt: skip
    else:
        for _ in range(int(rng.integers(0, 3))):
            _plant(builder, path, s + rng.uniform(0, run), sign, near + rng.uniform(4, 40), apart, own)


def _border(builder: WorldBuilder, put: Put, s: float, run: float, away: float, chance: float = 0.75) -> None:
    """A hedge, wall or fence before a block."""
    rng = builder.rng
    if rng.random() > chance:
        return
    make = (scenery.hedge, scenery.wall, scenery.fence, scenery.thicket)[rng.choice(4, p=[0.26, 0.28, 0.34, 0.12])]
    pieces = max(int(run // 6), 1)
    state = rng.bit_generator.state
    for i in range(pieces):
        rng.bit_generator.state = state
        length = run / pieces
        put(make(rng, length), s + (i + 0.5) * length, away, length)


def _plant(
    builder: WorldBuilder, path: Path, s: float, sign: float, away: float, apart: float, own: Crossing | None
) -> None:
    rng = builder.rng
    at = path.at(s, sign * away)
    if rng.random() < 0.35:
        size = rng.uniform(0.6, 1.6)
        if builder.clear([at], apart + size * 0.6, own, 1.0):
            builder.put(scenery.bush(rng, size), at, rng.uniform(0, 6))
    elif builder.clear([at], apart + 0.5, own, 1.0):
        builder.tree(at)


def _house_shadow(
    builder: WorldBuilder, centre: NDArray, heading: float, length: float, depth: float, meshes: list[Mesh]
) -> None:
    height = max(float(m.points[:, 2].max()) for m in meshes)
    throw = -builder.light.sun[:2] / max(builder.light.sun[2], 0.15) * height
    throw *= min(1.0, 16 / max(float(np.linalg.norm(throw)), 1e-6))
    along = np.array((np.cos(heading), np.sin(heading)))
    inward = np.array((-along[1], along[0]))
    if throw @ inward > 0:
        return
    a, b = centre - along * length / 2, centre + along * length / 2
    corners = [(*a, 0), (*b, 0), (*(b + throw), 0), (*(a + throw), 0)]
    builder.world.shadows.append(Shadow(quads([corners], (0, 0, 0)), builder.light.shadow, height))
