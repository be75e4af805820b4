"""Static objects at the kerb: trees, lamps, signs, signals, parked vehicles."""

from __future__ import annotations

import numpy as np

from vps_ros.datasets.streets import scenery, transit, vehicles
from vps_ros.datasets.streets.mesh import box
from vps_ros.datasets.streets.world import WorldBuilder


def verge(builder: WorldBuilder, side: int) -> None:
    """Trees, lamps and poles between kerb and sidewalk."""
    rng, sec = builder.rng, builder.section
    sign = float(sec.d(side, 1.0))
    away = sec.edge(side) + 0.3 + max(sec.verge[side] * 0.5, 0.35)
    if rng.random() < (0.8 if sec.verge[side] else 0.38):
        step, s = rng.uniform(6, 16), builder.first + rng.uniform(0, 8)
        while s < builder.last:
            at = builder.world.path.at(s, sign * away)
            if rng.random() < 0.85 and builder.clear([at], sec.edge(side) + 0.3, None, 1.0):
                builder.tree(at)
            s += step * rng.uniform(0.8, 1.2)
    away = sec.edge(side) + 0.6
    if rng.random() < 0.8:
        step, s = rng.uniform(16, 30), builder.first + rng.uniform(0, 15)
        post = scenery.lamp_post(rng, builder.night)
        while s < builder.last:
            at = builder.world.path.at(s, sign * away)
            if builder.clear([at], sec.edge(side) + 0.3, None, 0.3):
                turn = float(builder.world.path.turn(s)) + (np.pi if sign > 0 else 0)
                builder.put(post, at, turn)
                builder.world.lamps.append(np.array((*at, float(post[0].points[:, 2].max()))))
            s += step
    step = 18.0 / builder.scenario.clutter
    s = builder.first + rng.uniform(0, step)
    while s < builder.last:
        at = builder.world.path.at(s, sign * (sec.edge(side) + rng.uniform(0.45, 0.9)))
        if builder.clear([at], sec.edge(side) + 0.3, None, 0.3):
            turn = float(builder.world.path.turn(s)) - np.pi / 2 + rng.normal(0, 0.15)
            kind = rng.random()
            if kind < 0.45:
                turn += 0.0 if side == 0 or rng.random() < 0.3 else np.pi
                builder.put(scenery.sign(rng), at, turn)
            elif kind < 0.8:
                builder.put(scenery.pole(rng), at, turn)
            elif kind < 0.9:
                # A planter.
                tint, high = rng.uniform(0.35, 0.7) * np.array((1.0, 0.97, 0.92)), rng.uniform(0.4, 0.7)
                plant = [m.moved((0, 0, high)) for m in scenery.bush(rng, 0.4)]
                builder.put([box((-0.5, -0.3, 0), (0.5, 0.3, high), tint, scenery.WALL), *plant], at, turn)
            else:
                builder.put(scenery.bush(rng, 0.5), at, turn)
        s += step * rng.uniform(0.5, 1.5)


def signals(builder: WorldBuilder) -> None:
    """Signals at junctions."""
    rng, sec = builder.rng, builder.section
    places = [c.s - c.half - 3 for c in builder.world.crossings] + [a - 4 for a, _, _ in builder.world.corners]
    for s in places:
        if rng.random() < 0.55:
            for side, far in ((0, 0.0), (1, 0.0), (0, 14.0), (1, 14.0)):
                if rng.random() < 0.75:
                    sign = float(sec.d(side, 1.0))
                    at = builder.world.path.at(s + far, sign * (sec.edge(side) + 0.7))
                    if builder.clear([at], sec.edge(side) + 0.3, None, 0.2):
                        reach = rng.uniform(2.5, 5) if side == 0 and rng.random() < 0.45 else 0.0
                        turn = float(builder.world.path.turn(s)) - np.pi / 2 + (np.pi if rng.random() < 0.15 else 0)
                        mesh = scenery.traffic_light(rng, reach)
                        if sign > 0:
                            mesh = [m.moved(scale=(-1, 1, 1)) for m in mesh]
                        builder.put(mesh, at, turn)


def parked(builder: WorldBuilder, side: int) -> None:
    """Parked cars and now and then a truck or a bus at the kerb; bicycles and motorcycles on the sidewalk."""
    rng, sec = builder.rng, builder.section
    sign = float(sec.d(side, 1.0))
    taken = rng.uniform(*builder.scenario.parked)
    spot = sec.parking[side] > 0
    away = sec.edge(side) - 1.05 if spot else sec.walk(side)[0] + 0.8
    if not spot:
        taken = taken * 0.25 if sec.sidewalk[side] > 2.2 and rng.random() < 0.5 else 0.0
    slope = 0.0
    s = builder.first
    while s < builder.last:
        if rng.random() > taken:
            s += rng.uniform(3, 9)
            continue
        kind = rng.random()
        _, trucks, buses = builder.scenario.vehicles
        trucks, buses = 0.36 * trucks, 0.2 * buses
        if kind < trucks:
            mesh, (length, _, _) = vehicles.truck(rng)
        elif kind < trucks + buses:
            mesh, (length, _, _) = transit.bus(rng)
        elif kind < trucks + buses + 0.055 * builder.scenario.racks:
            mesh, length = vehicles.sample_two_wheeler(rng, True), 2.2
        else:
            mesh, (length, _, _) = vehicles.sample_car(rng)
        at = builder.world.path.at(s + length / 2, sign * away)
        ends = [builder.world.path.at(s, sign * away), builder.world.path.at(s + length, sign * away)]
        if builder.clear(ends, away - 1.6, None, 2.0):
            turn = float(builder.world.path.turn(s + length / 2)) + (np.pi if side == 1 else 0) + rng.normal(0, 0.02)
            if rng.random() < 0.15:
                turn += np.pi
            builder.vehicle(mesh, at, turn + slope, length)
        s += length + rng.uniform(0.5, 1.8)
    s = builder.first + rng.uniform(0, 20)
    while s < builder.last:
        near, far = sec.walk(side)
        count = int(rng.integers(1, 6)) if rng.random() < 0.5 * builder.scenario.racks else 0
        across = rng.random() < 0.7
        step = float(rng.uniform(0.55, 1.1) if across else rng.uniform(2.0, 2.6))
        for i in range(count):
            moto = rng.random() < 0.3
            place = s + i * (step + (0.3 if moto else 0.0))
            at = builder.world.path.at(place, sign * rng.uniform(near + 0.5, near + 0.9))
            if builder.clear([at], sec.edge(side) + 0.6, None, 0.5):
                turn = float(builder.world.path.turn(place)) + (np.pi / 2 if across else 0) + rng.normal(0, 0.15)
                mesh = vehicles.sample_two_wheeler(rng, moto)
                builder.put([mesh], at, turn, builder.world.new_instance())
                builder.shade(at, turn, (0.85, 0.3), "blob", 0.4)
        s += rng.uniform(8, 28)
