"""Builds the static world along the route: ground, junctions, side streets, and the objects beside them."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from vps_ros.datasets.streets import kerbside, road, scenery, vehicles
from vps_ros.datasets.streets.blocks import DISTRICTS, block
from vps_ros.datasets.streets.light import Light
from vps_ros.datasets.streets.mesh import ball
from vps_ros.datasets.streets.road import Crossing, Path
from vps_ros.datasets.streets.scenario import Scenario
from vps_ros.datasets.streets.world import World, WorldBuilder


def build(rng: Generator, scenario: Scenario, length: float, light: Light) -> World:
    """The world along a route of `length` metres, and 150 m beyond."""
    section = road.sample_section(rng, scenario.walkers[0] > 2, scenario.trams)
    length += 150
    path, corners = road.sample_route(rng, length, scenario.turns)
    first, last = -25.0, length - 8
    crossings = _crossings(rng, path, corners, last)
    world = World(path, section, corners, crossings)
    world.ground = road.ground(rng, path, section, crossings, corners, first, last)
    builder = WorldBuilder(rng, scenario, light, world, first, last)
    kerbside.signals(builder)
    for side in (0, 1):
        district = DISTRICTS[str(rng.choice(list(DISTRICTS), p=[0.25, 0.2, 0.27, 0.08, 0.2]))]
        s = first
        while s < last:
            run = float(rng.uniform(12, 30))
            kind = int(rng.choice(5, p=district))
            block(builder, path, s, min(run, last - s), side, kind)
            s += run
        kerbside.verge(builder, side)
        kerbside.parked(builder, side)
    for crossing in crossings:
        _side_street(builder, crossing)
    _background(builder, length)
    return world


def _crossings(rng: Generator, path: Path, corners: list[tuple[float, float, int]], last: float) -> list[Crossing]:
    out: list[Crossing] = []

    def side_street(s: float, heading: float, length: float = 75.0) -> None:
        out.append(
            Crossing(Path.straight(path.at(s), heading, length), s, float(rng.uniform(2.8, 5.0)), rng.uniform(1.5, 3))
        )

    for a, b, _ in corners:
        side_street(a + 1, float(path.turn(a)), 90.0)
        if rng.random() < 0.8:
            side_street(b - 1, float(path.turn(b)) + np.pi)
    s = float(rng.uniform(15, 50))
    while s < last - 10:
        if all(s < a - 30 or s > b + 30 for a, b, _ in corners):
            turn = float(path.turn(s))
            which = rng.choice(3, p=[0.4, 0.3, 0.3])
            if which in (0, 1):
                side_street(s, turn + np.pi / 2)
            if which in (0, 2):
                side_street(s, turn - np.pi / 2)
        s += float(rng.uniform(40, 110))
    return out


def _side_street(builder: WorldBuilder, c: Crossing) -> None:
    rng = builder.rng
    district = DISTRICTS[str(rng.choice(list(DISTRICTS)))]
    for side in (0, 1):
        s = 4.0
        while s < c.path.s[-1]:
            run = float(rng.uniform(10, 22))
            block(builder, c.path, s, run, side, int(rng.choice(5, p=district)), c)
            s += run
        if rng.random() < 0.6:
            s = 12.0
            sign = 1.0 if side else -1.0
            while s < c.path.s[-1] - 6:
                if rng.random() < 0.45:
                    mesh, (length, _, _) = vehicles.sample_car(rng)
                    at = c.path.at(s, sign * (c.half - 1.0))
                    if builder.clear([at], max(builder.section.front(0), builder.section.front(1)) * 0.8, c, 1.0):
                        builder.vehicle(mesh, at, float(c.path.heading[0]) + (np.pi if side else 0), length)
                s += rng.uniform(5.5, 9)
    end = c.path.at(c.path.s[-1])
    if builder.clear([end], 25, c, 0):
        wide = c.half * 2 + 14
        turn = float(c.path.heading[0])
        builder.put(
            scenery.house(rng, wide, 10, int(rng.integers(2, 5)), False, builder.facade()), end, turn - np.pi / 2
        )


def _background(builder: WorldBuilder, length: float) -> None:
    """Distant trees and buildings."""
    rng, path = builder.rng, builder.world.path
    end = path.at(path.s[-1] - 10)
    turn = float(path.heading[-1])
    for i in range(-3, 4):
        at = end + 14 * i * np.array((-np.sin(turn), np.cos(turn)))
        if builder.clear([at + 8 * np.array((np.cos(turn), np.sin(turn)))], 6.0, None, 0):
            if rng.random() < 0.5:
                builder.put(
                    scenery.house(rng, 14, 10, int(rng.integers(2, 6)), False, builder.facade()), at, turn - np.pi / 2
                )
            else:
                builder.tree(at)
    for _ in range(int(length / 5)):
        s, d = (rng.uniform(builder.first, builder.last), rng.uniform(28, 110) * rng.choice([-1, 1]))
        at = path.at(s, 0) + d * np.array((-np.sin(path.turn(s)), np.cos(path.turn(s))))
        if not builder.clear([at, at + (6, 6), at - (6, 6), at + (6, -6), at - (6, -6)], 26, None, 8):
            continue
        if rng.random() < 0.45:
            house = scenery.house(rng, rng.uniform(10, 24), 12, int(rng.integers(2, 8)), False, builder.facade())
            builder.put(house, at, float(rng.uniform(0, 6)))
        elif rng.random() < 0.5:
            green = np.array((0.2, 0.28, 0.12)) * rng.uniform(0.7, 1.4)
            crown = ball((0, 0, 3), (rng.uniform(3, 7), rng.uniform(3, 7), rng.uniform(4, 9)), green,
                         scenery.VEGETATION, 9)  # fmt: skip
            builder.put([crown], at, 0)
        else:
            builder.tree(at)
