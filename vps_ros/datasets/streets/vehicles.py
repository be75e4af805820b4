"""Cars, vans, trucks, motorcycles and bicycles: x forward, y left, z up, wheels on z = 0."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from vps_ros.datasets.streets.mesh import Mesh, box, cross, disc, join, loft, polygon, prism, quads

CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = 13, 14, 15, 16, 17, 18
_TYRE = (0.05, 0.05, 0.055)
_RUBBER = (0.07, 0.07, 0.08)
_PAINTS = np.array(
    [
        (0.05, 0.05, 0.06), (0.75, 0.76, 0.77), (0.55, 0.57, 0.59), (0.32, 0.34, 0.36), (0.9, 0.9, 0.89),
        (0.1, 0.14, 0.25), (0.42, 0.06, 0.06), (0.1, 0.22, 0.42), (0.15, 0.3, 0.22), (0.5, 0.45, 0.36),
        (0.7, 0.55, 0.1), (0.3, 0.42, 0.5), (0.62, 0.15, 0.1), (0.25, 0.2, 0.17),
    ]
)  # fmt: skip
_PAINT_SHARE = np.array([6, 6, 7, 6, 6, 3, 2, 3, 1, 1.5, 0.6, 1.5, 1, 1])

# Stations from the rear to the front bumper: x / length, underside, belt line, roof (metres at height 1), width share.
_SHAPES = {
    "sedan": [
        (-0.5, 0.36, 0.62, 0.64, 0.86), (-0.48, 0.24, 0.9, 0.92, 0.95), (-0.34, 0.2, 0.94, 0.97, 1.0),
        (-0.19, 0.2, 0.93, 1.36, 1.0), (0.03, 0.2, 0.91, 1.42, 1.0), (0.22, 0.2, 0.88, 0.97, 1.0),
        (0.42, 0.2, 0.78, 0.82, 0.97), (0.485, 0.24, 0.6, 0.66, 0.9), (0.5, 0.32, 0.5, 0.54, 0.8),
    ],
    "hatch": [
        (-0.5, 0.36, 0.6, 0.62, 0.88), (-0.485, 0.24, 0.92, 0.98, 0.96), (-0.38, 0.2, 0.94, 1.4, 1.0),
        (-0.2, 0.2, 0.93, 1.46, 1.0), (0.05, 0.2, 0.91, 1.46, 1.0), (0.25, 0.2, 0.9, 1.0, 1.0),
        (0.43, 0.2, 0.78, 0.84, 0.96), (0.485, 0.24, 0.6, 0.66, 0.9), (0.5, 0.32, 0.5, 0.54, 0.8),
    ],
    "wagon": [
        (-0.5, 0.36, 0.62, 0.64, 0.88), (-0.49, 0.24, 0.92, 0.98, 0.96), (-0.44, 0.2, 0.94, 1.36, 1.0),
        (-0.2, 0.2, 0.93, 1.45, 1.0), (0.05, 0.2, 0.91, 1.45, 1.0), (0.23, 0.2, 0.89, 0.98, 1.0),
        (0.43, 0.2, 0.78, 0.83, 0.96), (0.485, 0.24, 0.6, 0.66, 0.9), (0.5, 0.32, 0.5, 0.54, 0.8),
    ],
    "suv": [
        (-0.5, 0.42, 0.75, 0.78, 0.9), (-0.49, 0.3, 1.08, 1.14, 0.97), (-0.43, 0.28, 1.1, 1.6, 1.0),
        (-0.2, 0.28, 1.09, 1.72, 1.0), (0.07, 0.28, 1.07, 1.7, 1.0), (0.23, 0.28, 1.05, 1.14, 1.0),
        (0.44, 0.28, 0.98, 1.02, 0.97), (0.49, 0.32, 0.78, 0.84, 0.92), (0.5, 0.4, 0.62, 0.66, 0.84),
    ],
    "van": [
        (-0.5, 0.36, 0.8, 0.85, 0.93), (-0.495, 0.26, 1.05, 1.8, 0.98), (-0.47, 0.24, 1.06, 1.9, 1.0),
        (-0.05, 0.24, 1.06, 1.94, 1.0), (0.2, 0.24, 1.04, 1.88, 1.0), (0.38, 0.24, 1.0, 1.08, 0.99),
        (0.47, 0.24, 0.85, 0.92, 0.96), (0.49, 0.28, 0.66, 0.74, 0.92), (0.5, 0.36, 0.55, 0.6, 0.85),
    ],
}  # fmt: skip


_VARIANTS = 400
"""Number of different cars; of motorcycles and bicycles a fifth of that."""


def sample_car(rng: Generator, lights: bool = False) -> tuple[Mesh, tuple[float, float, float]]:
    """One of `_VARIANTS` cars; each is built once per process."""
    return _variant("car", int(rng.integers(_VARIANTS)), lights)


def sample_two_wheeler(rng: Generator, motor: bool, lights: bool = False) -> Mesh:
    """One of the motorcycles or bicycles."""
    return _variant("motorcycle" if motor else "bicycle", int(rng.integers(_VARIANTS // 5)), lights)


@lru_cache(maxsize=2 * _VARIANTS)
def _variant(kind: str, number: int, lights: bool) -> Any:
    rng = np.random.default_rng([len(kind), number])
    if kind == "bicycle":
        return bicycle(rng)
    return car(rng, lights) if kind == "car" else motorcycle(rng, lights)


def car(rng: Generator, lights: bool = False) -> tuple[Mesh, tuple[float, float, float]]:
    """A passenger car or van and its size (length, width, height); `lights`: its lamps are on."""
    kind = str(rng.choice(list(_SHAPES), p=[0.24, 0.28, 0.2, 0.18, 0.1]))
    length = {"sedan": 4.6, "hatch": 3.95, "wagon": 4.6, "suv": 4.5, "van": 5.1}[kind] * rng.uniform(0.93, 1.07)
    width = {"van": 1.95, "suv": 1.87}.get(kind, 1.76) * rng.uniform(0.97, 1.04)
    tall = rng.uniform(0.96, 1.06)
    paint = _PAINTS[rng.choice(len(_PAINTS), p=_PAINT_SHARE / _PAINT_SHARE.sum())] * rng.uniform(0.85, 1.15)
    panel_van = kind == "van" and rng.random() < 0.5
    if panel_van and rng.random() < 0.6:
        paint = np.array((0.85, 0.85, 0.84))
    st = np.array(_SHAPES[kind])
    st[:, 1:4] *= tall
    st[:, 1:4] += rng.normal(0, 0.012, (len(st), 3))
    x, low, belt, roof, share = st.T
    x = x * length
    half = share * width / 2
    top = half * np.where(roof - belt > 0.2, 0.78, 0.93)
    rings = np.stack(
        [
            np.stack([x, half * 0.96, low], 1), np.stack([x, half, low + 0.45 * (belt - low)], 1),
            np.stack([x, half * 0.96, belt], 1), np.stack([x, top, roof], 1), np.stack([x, -top, roof], 1),
            np.stack([x, -half * 0.96, belt], 1), np.stack([x, -half, low + 0.45 * (belt - low)], 1),
            np.stack([x, -half * 0.96, low], 1),
        ],
        1,
    )  # fmt: skip
    colors = np.broadcast_to(paint, (len(x) - 1, 8, 3)).copy()
    colors[:, 7] = 0.03
    colors[:, [0, 6]] *= 0.82
    parts = [loft(rings, colors)]
    # Polished paint reflects the sky where it faces up, and the dark road below.
    polish = rng.uniform(0.0, 0.2)
    parts[0].colors[:] += polish * np.clip(parts[0].normals[:, 2:], 0, 1) * np.float32((0.85, 0.95, 1.1))
    glass = np.array((0.07, 0.085, 0.1)) * rng.uniform(0.6, 1.8)
    panes = []
    for i in range(len(x) - 1):
        tall_a, tall_b = roof[i] - belt[i], roof[i + 1] - belt[i + 1]
        if max(tall_a, tall_b) < 0.2:
            continue
        if not panel_van or i >= len(x) - 5:
            for side in (2, 4):
                panes.append(_inset(rings, i, side, 0.1 if min(tall_a, tall_b) > 0.2 else 0.14))
        if abs(roof[i + 1] - roof[i]) > 0.22 and not (panel_van and i < 3):
            panes.append(_inset(rings, i, 3, 0.09))
    sheen = np.ones((len(panes), 4, 1)) * glass
    high = np.array(panes)[:, :, 2] > np.array(panes)[:, :, 2].mean(1, keepdims=True)
    sheen[high] += rng.uniform(0.0, 0.45) * np.array((0.8, 0.95, 1.1))
    parts.append(quads(np.array(panes), sheen))
    shine = 2.2 if lights else 0.9
    front, rear = x[-2], x[1]
    lamp_z, tail_z = (0.66 * tall * (1.25 if kind == "suv" else 1), (0.85 if kind != "suv" else 1.0) * tall)
    for side in (1, -1):
        a, b = side * width * 0.27, side * width * 0.44
        parts.append(plate(front + 0.03, a, b, lamp_z - 0.07, lamp_z + 0.06, (shine, shine, shine * 0.93), 0.06))
        tail = (1.6, 0.1, 0.07) if lights else (0.45, 0.03, 0.03)
        parts.append(plate(rear - 0.04, side * width * 0.3, side * width * 0.46, tail_z - 0.16, tail_z, tail, 0))
    parts.append(plate(x[-1] + 0.01, -width * 0.25, width * 0.25, 0.4 * tall, 0.52 * tall, (0.04, 0.04, 0.045), 0))
    for at in (x[-1] + 0.02, x[0] - 0.02):
        parts.append(plate(at, -0.26, 0.26, 0.42 * tall, 0.53 * tall, (0.8, 0.8, 0.76), 0))
    radius = (0.36 if kind == "suv" else 0.31) * rng.uniform(0.97, 1.04)
    hub = np.full(3, rng.choice([0.3, 0.5, 0.62, 0.12]))
    for at in (-0.3 * length, 0.315 * length):
        parts += wheels(at, width, radius, hub)
    for side in (1, -1):
        parts.append(
            box(
                (0.16 * length, side * width * 0.5 + (0 if side > 0 else -0.16), 0.93 * tall),
                (0.16 * length + 0.12, side * width * 0.5 + (0.16 if side > 0 else 0), 1.06 * tall),
                paint * 0.7,
            )
        )
    return join(parts).weathered(rng).of_class(CAR), (length, width, float(roof.max()))


def _inset(rings: np.ndarray, i: int, k: int, margin: float) -> np.ndarray:
    """The quad between stations i, i+1 and ring points k, k+1, shrunk and lifted by two centimetres."""
    q = np.array([rings[i, k], rings[i, k + 1], rings[i + 1, k + 1], rings[i + 1, k]])
    middle = q.mean(0)
    normal = cross(q[2] - q[0], q[3] - q[1])
    normal /= max(np.linalg.norm(normal), 1e-9)
    if normal @ (middle - np.array([middle[0], 0, 0.6])) < 0:
        normal = -normal
    return middle + (q - middle) * (1 - 2 * margin) + 0.02 * normal


def pane(corners: list, glass: ArrayLike, sky: float) -> Mesh:
    """A window: corners from the lower edge to the upper, where it shows `sky` 0..1 of the sky."""
    tint = np.ones((1, 4, 3)) * np.asarray(glass)
    tint[:, 2:] += sky * np.array((0.8, 0.95, 1.1))
    return quads([corners], tint)


def plate(x: float, y0: float, y1: float, z0: float, z1: float, color: tuple, lean: float) -> Mesh:
    """A flat part that faces along x, its upper edge `lean` further back."""
    return quads([[(x, y0, z0), (x, y1, z0), (x - lean, y1, z1), (x - lean, y0, z1)]], color)


def wheels(x: float, width: float, radius: float, hub: np.ndarray) -> list[Mesh]:
    """An axle at x: two wheels in their arches."""
    parts = []
    for side in (1, -1):
        y = side * width / 2
        inner, outer = (x, y - side * 0.2, radius), (x, y + side * 0.015, radius)
        parts += [
            disc((x, y + side * 0.005, radius * 1.08), radius * 1.2, (0.02, 0.02, 0.02), side, n=10),
            prism(inner, outer, (radius, radius), _TYRE, 10),
            disc((x, y + side * 0.03, radius), radius * 0.66, hub, side, n=10),
            disc((x, y + side * 0.04, radius), radius * 0.2, hub * 0.4, side, n=4),
        ]
    return parts


def truck(rng: Generator, lights: bool = False) -> tuple[Mesh, tuple[float, float, float]]:
    """A lorry: cab and box, tarpaulin, flat bed or tank."""
    length, width, height = (rng.uniform(6.0, 11), rng.uniform(2.2, 2.5), rng.uniform(2.9, 3.8))
    cab_length, cab_height = rng.uniform(1.7, 2.2), min(height, rng.uniform(2.4, 3.1))
    paint = _PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.9, 1.3)
    cargo = rng.choice([0.85, 0.7, 0.3]) * np.array((1, 1, 1)) if rng.random() < 0.5 else rng.uniform(0.15, 0.8, 3)
    front, back = length / 2, -length / 2
    cab = front - cab_length
    w = width / 2
    side = [(0.5, 0), (1.1, 0.02), (1.55, 0.05), (cab_height - 0.1, 0.25), (cab_height, 0.45)]
    rings = [[(cab, y, z) for y in (w, -w) for z in (0.5, cab_height)][i] for i in (0, 1, 3, 2)]
    nose = np.array([[(front - d, w, z), (front - d, -w, z)] for z, d in side])
    tail = np.array([[(cab, w, z), (cab, -w, z)] for z, _ in side])
    parts = [
        quads(np.stack([nose[:-1, 0], nose[:-1, 1], nose[1:, 1], nose[1:, 0]], 1), paint),
        quads(np.stack([tail[:-1, 0], nose[:-1, 0], nose[1:, 0], tail[1:, 0]], 1), paint),
        quads(np.stack([tail[:-1, 1], nose[:-1, 1], nose[1:, 1], tail[1:, 1]], 1), paint),
        quads([[rings[0], rings[1], rings[2], rings[3]]], paint * 0.7),
        quads([[tail[-1, 0], nose[-1, 0], nose[-1, 1], tail[-1, 1]]], paint),
    ]
    g = (0.06, 0.07, 0.09)
    z0, z1 = 1.5, cab_height - 0.25
    sky = rng.uniform(0.0, 0.35)
    parts.append(pane([(front - 0.01, -w * 0.9, z0), (front - 0.01, w * 0.9, z0), (front - 0.2, w * 0.9, z1),
                        (front - 0.2, -w * 0.9, z1)], g, sky))  # fmt: skip
    for s in (1, -1):
        y = s * (w + 0.015)
        side_window = [(cab + 0.5, y, z0), (front - 0.25, y, z0), (front - 0.4, y, z1), (cab + 0.5, y, z1)]
        parts.append(pane(side_window, g, sky))
        lamp = (2.2, 2.2, 2.0) if lights else (0.85, 0.85, 0.8)
        parts.append(plate(front + 0.02, s * w * 0.6, s * w * 0.9, 0.65, 0.85, lamp, 0))
        red = (1.6, 0.1, 0.07) if lights else (0.45, 0.03, 0.03)
        parts.append(plate(back - 0.02, s * w * 0.65, s * w * 0.95, 0.7, 0.95, red, 0))
    parts.append(box((back, -w * 0.9, 0.5), (cab, w * 0.9, 0.95), (0.06, 0.06, 0.06)))
    style = rng.choice(["box", "flat", "tank"], p=[0.62, 0.26, 0.12])
    if style == "box":
        parts.append(box((back, -w, 0.95), (cab - 0.12, w, height), cargo))
        band = np.clip(cargo * rng.uniform(0.4, 1.5, 3), 0, 1)
        for s in (1, -1):
            y = s * (w + 0.02)
            parts.append(quads([[(back + 0.6, y, 1.5), (cab - 0.7, y, 1.5), (cab - 0.7, y, height - 0.7),
                                 (back + 0.6, y, height - 0.7)]], band))  # fmt: skip
        parts.append(plate(back - 0.02, -0.02, 0.02, 1.0, height - 0.1, tuple(cargo * 0.5), 0))
    elif style == "flat":
        for y in (w, -w):
            parts.append(box((back, y - 0.04, 0.95), (cab - 0.1, y + 0.04, 1.5), cargo))
        parts.append(box((back, -w, 0.95), (back + 0.06, w, 1.5), cargo))
        load = rng.uniform(0.15, 0.6, 3)
        parts.append(box((back + 0.6, -w * 0.8, 0.95), (cab - 0.8, w * 0.8, rng.uniform(1.4, 2.6)), load))
    else:
        parts.append(prism((cab - 0.2, 0, 1.95), (back + 0.1, 0, 1.95), (0.7, 1.0, 1.0, 0.7), cargo, 12))
    r = 0.48
    for at in (front - 0.9, back + 1.0, back + 2.1):
        parts += wheels(at, width * 0.98, r, np.array((0.35, 0.35, 0.36)))
    return join(parts).weathered(rng).of_class(TRUCK), (length, width, height)


def bicycle(rng: Generator) -> Mesh:
    """A bicycle without its rider. In the label pass its wheels and frame are filled, as annotators label them."""
    paint = rng.uniform(0.03, 0.7, 3) * (0.3 + 0.7 * rng.random())
    parts = []
    r = 0.34
    for x in (-0.52, 0.52):
        parts += _thin_wheel(x, r, rng.uniform(0.04, 0.055))
        parts.append(disc((x, 0, r), r * 0.97, _RUBBER, 1).as_label_fill())
    low = rng.random() < 0.35
    head = (0.37, 0.8)
    crank, seat, rear = (-0.1, 0.3), (-0.21, 0.86), (-0.52, r)
    tubes = [
        (rear, crank), (crank, (-0.23, 0.95)), (crank, head), (rear, (-0.19, 0.78)), ((0.52, r), (0.33, 1.0)),
        ((-0.14, 0.48), head) if low else ((-0.2, 0.8), (0.36, 0.88)),
    ]  # fmt: skip
    thick = rng.uniform(0.03, 0.04)
    for (x0, z0), (x1, z1) in tubes:
        parts.append(prism((x0, 0, z0), (x1, 0, z1), (thick, thick), paint, 4))
    for outline in ((crank, head, (-0.14, 0.48) if low else seat), (rear, crank, seat)):
        parts.append(polygon([(x, 0, z) for x, z in outline], paint).as_label_fill())
    dark = (0.06, 0.06, 0.06)
    parts.append(box((-0.38, -0.08, 0.93), (-0.1, 0.08, 0.99), dark))
    parts.append(prism((0.31, -0.29, 1.03), (0.31, 0.29, 1.03), (0.026, 0.026), dark, 4))
    parts.append(disc((-0.1, 0.06, 0.3), 0.1, (0.12, 0.12, 0.12), 1, n=8))
    if rng.random() < 0.5:
        # Mudguards.
        for x in (-0.52, 0.52):
            arc = np.deg2rad(np.linspace(15, 165, 6))
            rim = np.stack([x + 0.375 * np.cos(arc), 0 * arc, r + 0.375 * np.sin(arc)], 1)
            a, b = rim + (0, 0.04, 0), rim - (0, 0.04, 0)
            parts.append(quads(np.stack([a[:-1], b[:-1], b[1:], a[1:]], 1), paint * 0.8))
    if rng.random() < 0.3:
        parts.append(box((0.4, -0.18, 0.8), (0.7, 0.18, 1.02), (0.12, 0.1, 0.08)))
    if rng.random() < 0.4:
        parts.append(box((-0.8, -0.08, 0.72), (-0.3, 0.08, 0.76), dark))
        if rng.random() < 0.4:
            bag = rng.uniform(0.05, 0.5, 3)
            parts += [box((-0.75, s - 0.06, 0.4), (-0.4, s + 0.06, 0.75), bag, bottom=True) for s in (-0.14, 0.14)]
    return join(parts).weathered(rng).of_class(BICYCLE)


def _thin_wheel(x: float, radius: float, tyre: float, n: int = 12) -> list[Mesh]:
    angle = np.linspace(0, 2 * np.pi, n + 1)
    ring = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], 1)
    center = np.array((x, 0, radius))
    parts = []
    for y in (0.022, -0.022):
        outer, inner = (center + ring * radius + (0, y, 0), center + ring * (radius - tyre) + (0, y, 0))
        parts.append(quads(np.stack([inner[:-1], outer[:-1], outer[1:], inner[1:]], 1), _RUBBER))
    rim_a, rim_b = (center + ring * radius + (0, 0.024, 0), center + ring * radius - (0, 0.024, 0))
    parts.append(quads(np.stack([rim_a[:-1], rim_b[:-1], rim_b[1:], rim_a[1:]], 1), _RUBBER))
    for k in range(0, n, 2):
        across = 0.007 * np.array((-ring[k, 2], 0, ring[k, 0]))
        tip = center + ring[k] * radius
        parts.append(quads([[center - across, center + across, tip + across, tip - across]], (0.35, 0.35, 0.36)))
    return parts


def motorcycle(rng: Generator, lights: bool = False) -> Mesh:
    """A motorcycle or scooter without its rider."""
    paint = _PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.8, 1.3)
    dark = (0.06, 0.06, 0.065)
    scooter = rng.random() < 0.4
    r = 0.24 if scooter else 0.31
    parts = []
    for x in (-0.66, 0.66):
        parts.append(prism((x, -0.07, r), (x, 0.07, r), (r, r), _TYRE, 12))
        for s in (1, -1):
            parts += [disc((x, s * 0.072, r), r, _TYRE, s), disc((x, s * 0.08, r), r * 0.6, (0.35, 0.35, 0.36), s)]
    parts += [
        box((-0.35, -0.15, 0.25), (0.3, 0.15, 0.6), dark),
        prism((0.66, 0, r), (0.42, 0, 1.0), (0.05, 0.05), (0.4, 0.4, 0.42), 5),
        prism((0.4, -0.36, 1.02), (0.4, 0.36, 1.02), (0.025, 0.025), dark, 4),
        prism((-0.05, 0, 0.78), (0.4, 0, 0.85), (0.13, 0.19, 0.12), paint, 8),
        prism((-0.8, 0, 0.85), (0.0, 0, 0.76), (0.09, 0.16, 0.13), dark, 6, flat=1.1),
        prism((-0.9, 0, 0.72), (-0.2, 0, 0.6), (0.06, 0.14), paint, 6),
        prism((-0.9, -0.14, 0.3), (-0.1, -0.14, 0.3), (0.06, 0.05), (0.45, 0.45, 0.46), 6),
    ]
    if scooter:
        parts.append(quads([[(0.38, -0.22, 0.3), (0.38, 0.22, 0.3), (0.3, 0.2, 1.0), (0.3, -0.2, 1.0)]], paint))
        parts.append(box((-0.35, -0.17, 0.2), (0.4, 0.17, 0.32), paint))
    lamp = (2.2, 2.2, 2.0) if lights else (0.85, 0.85, 0.8)
    parts.append(disc((0.0, 0, 0), 0.09, lamp, 1).moved((0.56, 0, 0.9), -np.pi / 2))
    parts.append(plate(-0.92, -0.07, 0.07, 0.7, 0.8, (1.5, 0.1, 0.07) if lights else (0.45, 0.03, 0.03), 0))
    return join(parts).weathered(rng).of_class(MOTORCYCLE)
