"""Buses and trams: x forward, y left, z up, wheels on z = 0."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from vps_ros.datasets.streets.mesh import Mesh, box, join, loft, prism, quads
from vps_ros.datasets.streets.vehicles import BUS, TRAIN, pane, plate, wheels


def bus(rng: Generator, lights: bool = False) -> tuple[Mesh, tuple[float, float, float]]:
    """A city bus."""
    length, width, height = rng.uniform(9.5, 12.5), 2.5, rng.uniform(2.9, 3.2)
    parts = _coach(rng, length, width, height, 0.35, lights)
    for at in (length / 2 - 2.4, -length / 2 + 2.6):
        parts += wheels(at, width, 0.48, np.array((0.4, 0.4, 0.42)))
    return join(parts).weathered(rng).of_class(BUS), (length, width, height)


def tram(rng: Generator, lights: bool = False) -> tuple[Mesh, tuple[float, float, float]]:
    """A tram of two or three cars with a pantograph: boxes, or a smooth body with a sloping nose."""
    cars, length, width, height = (int(rng.integers(2, 4)), rng.uniform(8, 10), 2.4, rng.uniform(3.2, 3.6))
    seed, smooth = int(rng.integers(2**31)), rng.random() < 0.65
    parts = []
    for i in range(cars):
        at = (i - (cars - 1) / 2) * (length + 0.5)
        same = np.random.default_rng(seed)
        if smooth:
            shell = join(_tram_car(same, length, width, height, i == cars - 1, i == 0, lights))
        else:
            shell = join(_coach(same, length, width, height, 0.22, lights and i in (0, cars - 1)))
        parts.append(shell.moved((at, 0, 0)))
        if i:
            back = at - length / 2
            for k in range(5):
                w, x = width * (0.46 if k % 2 else 0.42), back - 0.5 + 0.1 * k
                parts.append(box((x, -w, 0.3), (x + 0.1, w, height * 0.95), (0.09, 0.09, 0.1)))
        x = at + rng.uniform(-0.2, 0.2) * length
        parts.append(box((x - 1.3, -width * 0.3, height), (x + 1.3, width * 0.3, height + 0.35), (0.35, 0.36, 0.37)))
    steel = (0.2, 0.2, 0.21)
    for low, high in (((-0.9, 0, height), (0.1, 0, height + 0.6)), ((0.1, 0, height + 0.6), (-0.5, 0, height + 1.3))):
        parts.append(prism(low, high, (0.04, 0.04), steel, 4))
    parts.append(prism((-0.5, -0.8, height + 1.3), (-0.5, 0.8, height + 1.3), (0.04, 0.04), steel, 4))
    return join(parts).weathered(rng).of_class(TRAIN), (cars * (length + 0.5), width, height)


def _tram_car(
    rng: Generator, length: float, width: float, height: float, front: bool, rear: bool, lights: bool
) -> list[Mesh]:
    """One car of a smooth tram: skirt to the ground, a band of glass, light roof; `front`, `rear`: with a nose."""
    paint = np.array(
        [(0.8, 0.72, 0.1), (0.7, 0.07, 0.08), (0.15, 0.4, 0.22), (0.1, 0.25, 0.55), (0.88, 0.88, 0.86), (0.1, 0.5, 0.6)]
    )[rng.integers(6)] * rng.uniform(0.8, 1.1)
    roof = np.array([(0.86, 0.86, 0.85), (0.5, 0.5, 0.52), (0.3, 0.31, 0.33)])[rng.integers(3)]
    glass = np.array((0.06, 0.07, 0.085)) * rng.uniform(0.7, 2)
    nose, slope = rng.uniform(0.7, 1.5), rng.uniform(0.3, 0.8)
    levels = np.array([0.2, 1.0, 2.45, height - 0.35, height])
    w = width / 2
    stations = [(-length / 2, 0.0), (length / 2, 0.0)]
    if rear:
        stations[0:1] = [(-length / 2, 1.0), (-length / 2 + nose, 0.0)]
    if front:
        stations[-1:] = [(length / 2 - nose, 0.0), (length / 2, 1.0)]
    rings = []
    for x, end in stations:
        # The nose is narrower, and leans back above the belt.
        back = np.array([0.05, 0.0, 0.55, 1.0, 1.1]) * slope * end * np.sign(x)
        half = w * np.array([0.97, 1.0, 0.99, 0.93, 0.7]) * (1 - 0.28 * end)
        left = np.stack([x - back, half, levels], 1)
        rings.append(np.concatenate([left, left[::-1] * (1, -1, 1)]))
    tints = np.array([paint, glass, paint if rng.random() < 0.5 else roof, roof, roof])
    sides = np.concatenate([tints, tints[3::-1], paint[None] * 0.1])
    parts = [loft(rings, np.tile(sides, (len(rings) - 1, 1, 1)), caps=False)]
    for ring, is_front in ((rings[-1], True), (rings[0], False)):
        for k, tint in enumerate(tints[:4]):
            face = np.array([ring[k], ring[k + 1], ring[8 - k], ring[9 - k]])
            parts.append(quads([face if is_front else face[::-1]], tint))
    n = int(length // 1.3)
    edges = np.linspace(-length / 2 + nose, length / 2 - nose, n + 1)
    doors = rng.choice(n, max(n // 3, 1), replace=False)
    for s in (1, -1):
        y = s * (w + 0.012)
        for i in range(n):
            a, b = edges[i], edges[i + 1]
            if i in doors:
                leaf = [(a + 0.08, y, 0.35), (b - 0.08, y, 0.35), (b - 0.08, y, 2.4), (a + 0.08, y, 2.4)]
                parts.append(pane(leaf, glass * 1.3, 0.1))
            parts.append(quads([[(b - 0.04, y, 1.0), (b + 0.04, y, 1.0), (b + 0.04, y, 2.45), (b - 0.04, y, 2.45)]],
                               paint * 0.35))  # fmt: skip
    for end, x in ((front, length / 2 + 0.02), (rear, -length / 2 - 0.02)):
        if not end:
            continue
        glow = (1.6, 1.1, 0.3) if lights else (0.45, 0.36, 0.12)
        lean = np.sign(x) * slope
        parts.append(plate(x - lean * 0.7, -w * 0.4, w * 0.4, 2.5, 2.75, glow, lean * 0.1))
        for s in (1, -1):
            lamp = (2.2, 2.2, 2.0) if lights and x > 0 else (0.9, 0.9, 0.85) if x > 0 else (0.5, 0.04, 0.04)
            parts.append(plate(x, s * w * 0.45, s * w * 0.68, 0.65, 0.82, lamp, 0))
    return parts


def _coach(rng: Generator, length: float, width: float, height: float, low: float, lights: bool) -> list[Mesh]:
    paint = np.array(
        [(0.75, 0.08, 0.08), (0.85, 0.85, 0.85), (0.8, 0.65, 0.1), (0.1, 0.25, 0.5), (0.15, 0.45, 0.3), (0.4, 0.1, 0.3)]
    )[rng.integers(6)] * rng.uniform(0.7, 1.1)
    second = np.array([(0.85, 0.85, 0.83), (0.1, 0.1, 0.12), (0.7, 0.7, 0.7)])[rng.integers(3)]
    w, a, b = width / 2, -length / 2, length / 2
    glass = np.array((0.07, 0.085, 0.1)) * rng.uniform(0.6, 2)
    parts = [
        box((a, -w, low), (b, w, 1.05), paint),
        box((a, -w, 1.05), (b, w, height - 0.12), second),
        box((a + 0.15, -w * 0.9, height - 0.12), (b - 0.15, w * 0.9, height), second * 0.8),
        box((a + 1.5, -w * 0.6, height), (a + 3.5, w * 0.6, height + 0.22), second * 0.7),
    ]
    n, sky = max(int(length // 1.5), 3), rng.uniform(0.0, 0.35)
    edges = np.linspace(a + 0.3, b - 0.3, n + 1)
    for s in (1, -1):
        y = s * (w + 0.02)
        for i in range(n):
            door = s < 0 and i in (1, n - 1)
            z0 = low + 0.12 if door else 1.15
            p, q = edges[i] + 0.07, edges[i + 1] - 0.07
            parts.append(pane([(p, y, z0), (q, y, z0), (q, y, height - 0.5), (p, y, height - 0.5)], glass, sky))
    for x, z0 in ((b + 0.02, 1.0), (a - 0.02, 1.3)):
        top = height - 0.55
        parts.append(pane([(x, -w * 0.9, z0), (x, w * 0.9, z0), (x, w * 0.9, top), (x, -w * 0.9, top)], glass, sky))
        glow = (1.6, 1.1, 0.3) if lights else (0.35, 0.28, 0.1)
        parts.append(plate(x, -w * 0.6, w * 0.6, height - 0.45, height - 0.2, glow, 0))
    for s in (1, -1):
        lamp = (2.2, 2.2, 2.0) if lights else (0.9, 0.9, 0.85)
        parts.append(plate(b + 0.03, s * w * 0.6, s * w * 0.9, 0.6, 0.8, lamp, 0))
        red = (1.6, 0.1, 0.07) if lights else (0.5, 0.04, 0.04)
        parts.append(plate(a - 0.03, s * w * 0.7, s * w * 0.93, 0.7, 1.0, red, 0))
    return parts
