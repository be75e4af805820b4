"""Lays out what stands still along the way: ground, junctions, side streets, and what is beside them."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from vps_ros.datasets.streets import kerbside, road, scenery, vehicles
from vps_ros.datasets.streets.blocks import MOODS, block
from vps_ros.datasets.streets.light import Light
from vps_ros.datasets.streets.mesh import ball
from vps_ros.datasets.streets.road import Crossing, Path
from vps_ros.datasets.streets.scenario import Scenario
from vps_ros.datasets.streets.world import Site, World


def build(rng: Generator, scenario: Scenario, length: float, light: Light) -> World:
    """The world along a way of `length` metres, and for 150 m beyond."""
    section = road.draw_section(rng, scenario.walkers[0] > 2, scenario.trams)
    length += 150
    path, corners = road.draw_way(rng, length, scenario.turns)
    first, last = -25.0, length - 8
    crossings = _crossings(rng, path, corners, last)
    world = World(path, section, corners, crossings)
    world.ground = road.ground(rng, path, section, crossings, corners, first, last)
    site = Site(rng, scenario, light, world, first, last)
    kerbside.signals(site)
    for side in (0, 1):
        mood = MOODS[str(rng.choice(list(MOODS), p=[0.25, 0.2, 0.27, 0.08, 0.2]))]
        s = first
        while s < last:
            run = float(rng.uniform(12, 30))
            kind = int(rng.choice(5, p=mood))
            block(site, path, s, min(run, last - s), side, kind)
            s += run
        kerbside.verge(site, side)
        kerbside.parked(site, side)
    for crossing in crossings:
        _side_street(site, crossing)
    _background(site, length)
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


def _side_street(site: Site, c: Crossing) -> None:
    rng = site.rng
    mood = MOODS[str(rng.choice(list(MOODS)))]
    for side in (0, 1):
        s = 4.0
        while s < c.path.s[-1]:
            run = float(rng.uniform(10, 22))
            block(site, c.path, s, run, side, int(rng.choice(5, p=mood)), c)
            s += run
        if rng.random() < 0.6:
            s = 12.0
            sign = 1.0 if side else -1.0
            while s < c.path.s[-1] - 6:
                if rng.random() < 0.45:
                    mesh, (length, _, _) = vehicles.any_car(rng)
                    at = c.path.at(s, sign * (c.half - 1.0))
                    if site.clear([at], max(site.section.front(0), site.section.front(1)) * 0.8, c, 1.0):
                        site.vehicle(mesh, at, float(c.path.heading[0]) + (np.pi if side else 0), length)
                s += rng.uniform(5.5, 9)
    end = c.path.at(c.path.s[-1])
    if site.clear([end], 25, c, 0):
        wide = c.half * 2 + 14
        turn = float(c.path.heading[0])
        site.put(scenery.house(rng, wide, 10, int(rng.integers(2, 5)), False, site.facade()), end, turn - np.pi / 2)


def _background(site: Site, length: float) -> None:
    """Far trees and buildings that close the view."""
    rng, path = site.rng, site.world.path
    end = path.at(path.s[-1] - 10)
    turn = float(path.heading[-1])
    for i in range(-3, 4):
        at = end + 14 * i * np.array((-np.sin(turn), np.cos(turn)))
        if site.clear([at + 8 * np.array((np.cos(turn), np.sin(turn)))], 6.0, None, 0):
            if rng.random() < 0.5:
                site.put(
                    scenery.house(rng, 14, 10, int(rng.integers(2, 6)), False, site.facade()), at, turn - np.pi / 2
                )
            else:
                site.tree(at)
    for _ in range(int(length / 5)):
        s, d = (rng.uniform(site.first, site.last), rng.uniform(28, 110) * rng.choice([-1, 1]))
        at = path.at(s, 0) + d * np.array((-np.sin(path.turn(s)), np.cos(path.turn(s))))
        if not site.clear([at, at + (6, 6), at - (6, 6), at + (6, -6), at - (6, -6)], 26, None, 8):
            continue
        if rng.random() < 0.45:
            site.put(scenery.house(rng, rng.uniform(10, 24), 12, int(rng.integers(2, 8)), False, site.facade()), at,
                     float(rng.uniform(0, 6)))  # fmt: skip
        elif rng.random() < 0.5:
            green = np.array((0.2, 0.28, 0.12)) * rng.uniform(0.7, 1.4)
            crown = ball((0, 0, 3), (rng.uniform(3, 7), rng.uniform(3, 7), rng.uniform(4, 9)), green,
                         scenery.VEGETATION, 9)  # fmt: skip
            site.put([crown], at, 0)
        else:
            site.tree(at)
