"""Meshes of static objects: houses, walls, fences, poles, lamps, traffic lights, signs, trees, hedges."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.random import Generator

from vps_ros.datasets.streets.mesh import Mesh, ball, box, disc, polygon, prism, quads
from vps_ros.datasets.streets.textures import CROWNS, LEAFY, crown_uv

BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN = 2, 3, 4, 5, 6, 7, 8, 9


def house(rng: Generator, length: float, depth: float, storeys: int, shop: bool, facade: str) -> list[Mesh]:
    """A building with its front on the line y = 0 (x along it, y > 0 inside); a flat or a pitched roof.

    `facade` is the texture of its walls.
    """
    storey = rng.uniform(2.9, 3.6)
    height = storeys * storey
    bay = rng.uniform(2.4, 4.2)
    tint = rng.uniform(0.85, 1.0, 3)
    a = length / 2
    base = storey if shop else rng.uniform(0.3, 0.9)
    parts = []
    for (x0, y0), (x1, y1) in (
        ((-a, 0), (a, 0)),
        ((a, 0), (a, depth)),
        ((-a, depth), (-a, 0)),
        ((a, depth), (-a, depth)),
    ):
        span = float(np.hypot(x1 - x0, y1 - y0))
        bays, floors = (max(round(span / bay), 1) / 2, round((height - base) / storey) / 2)
        n = max(int(span // 6), 1)
        xs, ys = np.linspace(x0, x1, n + 1), np.linspace(y0, y1, n + 1)
        us = np.linspace(0, bays, n + 1)
        rows = [(base, height, 0.0, max(floors, 0.5), facade)]
        rows.append((0.0, base, 0.0, 1.0, f"shop{rng.integers(3)}" if shop else "plaster0"))
        for z0, z1, v0, v1, material in rows:
            corners = np.stack(
                [
                    np.stack([xs[:-1], ys[:-1], np.full(n, z0)], 1), np.stack([xs[1:], ys[1:], np.full(n, z0)], 1),
                    np.stack([xs[1:], ys[1:], np.full(n, z1)], 1), np.stack([xs[:-1], ys[:-1], np.full(n, z1)], 1),
                ],
                1,
            )  # fmt: skip
            uv = np.stack(
                [
                    np.stack([us[:-1], np.full(n, v0)], 1), np.stack([us[1:], np.full(n, v0)], 1),
                    np.stack([us[1:], np.full(n, v1)], 1), np.stack([us[:-1], np.full(n, v1)], 1),
                ],
                1,
            )  # fmt: skip
            color = np.ones((n, 4, 3)) * tint
            if z0 == 0:
                color[:, :2] *= 0.75
                if not shop:
                    color *= 0.7
            parts.append(_toward(quads(corners, color, uv, material, BUILDING), (0, depth / 2, 0)))
    roof = np.array([(0.45, 0.22, 0.15), (0.3, 0.28, 0.27), (0.36, 0.25, 0.2), (0.22, 0.22, 0.24)])[rng.integers(4)]
    if storeys <= 4 and rng.random() < 0.7:
        rise = rng.uniform(0.25, 0.5) * depth
        e = 0.4
        ridge0, ridge1 = (-a, depth / 2, height + rise), (a, depth / 2, height + rise)
        parts.append(quads([[(-a, -e, height - 0.1), (a, -e, height - 0.1), ridge1, ridge0],
                            [(a, depth + e, height - 0.1), (-a, depth + e, height - 0.1), ridge0, ridge1]],
                           roof, class_id=BUILDING))  # fmt: skip
        for x in (-a, a):
            parts.append(
                polygon([(x, 0, height), (x, depth, height), (x, depth / 2, height + rise)], tint * 0.6, BUILDING)
            )
        if rng.random() < 0.6:
            x = rng.uniform(-0.6, 0.6) * a
            parts.append(
                box((x, depth * 0.3, height), (x + 0.7, depth * 0.3 + 0.7, height + rise + 0.7), roof * 1.2, BUILDING)
            )
    else:
        parts.append(box((-a, 0, height), (a, depth, height + rng.uniform(0.2, 0.7)), tint * 0.7, BUILDING))
    if storeys > 1 and rng.random() < 0.3:
        for z in np.arange(base + storey, height - 1, storey).tolist():
            for x in np.arange(-a + bay, a - bay, bay * 2).tolist():
                parts.append(box((x, -1.0, z), (x + bay * 0.8, 0, z + 0.95), tint * rng.uniform(0.5, 0.9), BUILDING))
    if not shop:
        for x in np.arange(-a + rng.uniform(1, 3), a - 2.6, rng.uniform(6, 14)).tolist():
            garage = rng.random() < 0.25
            wide, high = (2.4, 2.2) if garage else (rng.uniform(0.9, 1.4), 2.1)
            paint = np.full(3, rng.uniform(0.5, 0.9)) if garage else rng.uniform(0.08, 0.5, 3)
            door = [(x, -0.03, 0), (x + wide, -0.03, 0), (x + wide, -0.03, high), (x, -0.03, high)]
            parts.append(quads([door], paint, class_id=BUILDING, normals=(0, -1, 0)))
    if shop and rng.random() < 0.5:
        awning = rng.uniform(0.1, 0.8, 3)
        parts.append(quads([[(-a * 0.8, -1.4, 2.4), (a * 0.8, -1.4, 2.4), (a * 0.8, 0, 3.0), (-a * 0.8, 0, 3.0)]],
                           awning, class_id=BUILDING))  # fmt: skip
    return parts


def _toward(mesh: Mesh, inside: tuple[float, float, float]) -> Mesh:
    """The mesh with its normals pointing away from the vertical axis through `inside`."""
    out = (mesh.points - np.asarray(inside, np.float32)) * (1, 1, 0)
    mesh.normals[np.einsum("ij,ij->i", out, mesh.normals) < 0] *= -1
    return mesh


def wall(rng: Generator, length: float) -> list[Mesh]:
    """A free-standing wall along x."""
    height = rng.uniform(0.9, 2.6)
    material = str(rng.choice(["brick", "plaster"])) + str(rng.integers(3))
    tint = (
        np.array((0.75, 0.4, 0.3)) * rng.uniform(0.7, 1.2)
        if material[0] == "b"
        else rng.uniform(0.55, 0.9) * np.ones(3)
    )
    a = length / 2
    uv = np.array([(0, 0), (length / 3, 0), (length / 3, height / 3), (0, height / 3)])
    parts = [
        quads([[(-a, y, 0), (a, y, 0), (a, y, height), (-a, y, height)]], tint, uv, material, WALL)
        for y in (-0.12, 0.12)
    ]
    parts[0].normals[:] = (0, -1, 0)
    parts[1].normals[:] = (0, 1, 0)
    parts.append(box((-a, -0.17, height), (a, 0.17, height + 0.1), tint * 0.9, WALL))
    return parts


def fence(rng: Generator, length: float) -> list[Mesh]:
    """Wood, metal or wire along x, on posts; or a guard rail."""
    a = length / 2
    if rng.random() < 0.2:
        rail = [box((-a, -0.04, 0.5), (a, 0.04, 0.8), (0.6, 0.62, 0.63), FENCE, bottom=True)]
        rail += [box((x, -0.05, 0), (x + 0.1, 0.05, 0.65), (0.45, 0.46, 0.47), FENCE) for x in np.arange(-a, a, 2.0)]
        return rail
    height = rng.uniform(0.9, 1.9)
    variant = int(rng.integers(9))
    tint = np.array([(0.5, 0.38, 0.26), (0.9, 0.9, 0.88), (0.2, 0.22, 0.22), (0.35, 0.42, 0.33)])[rng.integers(4)]
    uv = np.array([(0, 0), (length / height, 0), (length / height, 1), (0, 1)])
    panel = quads([[(-a, 0, 0), (a, 0, 0), (a, 0, height), (-a, 0, height)]], tint, uv, f"fence{variant}", FENCE)
    posts = [box((x, -0.04, 0), (x + 0.08, 0.04, height + 0.08), tint * 0.8, FENCE) for x in np.arange(-a, a, 2.4)]
    return [panel, *posts]


def lamp_post(rng: Generator, night: bool, reach: float = 0.0) -> list[Mesh]:
    """A street lamp; its arm points to y > 0."""
    height = rng.uniform(5, 9)
    grey = np.full(3, rng.uniform(0.15, 0.6))
    reach = reach or rng.uniform(0.4, 2.0)
    glow = (2.4, 2.2, 1.7) if night else (0.7, 0.7, 0.66)
    return [
        prism((0, 0, 0), (0, 0, height), (0.1, 0.08, 0.06), grey, 8, POLE),
        prism((0, 0, height), (0, reach, height + 0.3), (0.05, 0.04), grey, 5, POLE),
        box((-0.15, reach - 0.2, height + 0.2), (0.15, reach + 0.5, height + 0.32), grey * 0.9, POLE),
        quads([[(-0.13, reach - 0.2, height + 0.19), (0.13, reach - 0.2, height + 0.19),
                (0.13, reach + 0.5, height + 0.19), (-0.13, reach + 0.5, height + 0.19)]], glow, class_id=POLE),
    ]  # fmt: skip


def pole(rng: Generator) -> list[Mesh]:
    """A bollard, a mast or a wooden pole."""
    height, radius = [(0.9, 0.07), (rng.uniform(3, 5), 0.05), (rng.uniform(7, 10), 0.14)][
        rng.choice(3, p=[0.3, 0.3, 0.4])
    ]
    color = np.array([(0.5, 0.5, 0.5), (0.3, 0.3, 0.3), (0.38, 0.3, 0.22), (0.6, 0.58, 0.55)])[rng.integers(4)]
    return [prism((0, 0, 0), (0, 0, height), (radius, radius * 0.85), color, 8, POLE)]


def traffic_light(rng: Generator, reach: float) -> list[Mesh]:
    """A signal that faces y < 0 on a pole at the origin; with `reach` > 0 another hangs over the road at x = -reach."""
    parts = []
    state = int(rng.integers(3))
    grey = np.full(3, rng.uniform(0.2, 0.5))
    heads = [(0.0, 2.4)]
    parts.append(prism((0, 0, 0), (0, 0, 5.6 if reach else 3.4), (0.09, 0.07), grey, 8, POLE))
    if reach:
        parts.append(prism((0, 0, 5.5), (-reach, 0, 5.7), (0.07, 0.05), grey, 6, POLE))
        heads.append((-reach, 4.9))
    for x, z in heads:
        parts.append(box((x - 0.19, -0.3, z), (x + 0.19, -0.08, z + 1.0), (0.04, 0.05, 0.045), LIGHT, bottom=True))
        for i, color in enumerate([(0.1, 1.7, 0.7), (1.8, 1.1, 0.1), (1.9, 0.12, 0.08)]):
            on = color if i == state else np.asarray(color) * 0.08
            parts.append(disc((x, -0.32, z + 0.2 + 0.3 * i), 0.12, on, -1, LIGHT, 8))
    return parts


def sign(rng: Generator) -> list[Mesh]:
    """A traffic sign that faces y < 0: round, triangle, square, or a board with writing."""
    z, r = rng.uniform(2.0, 2.7), rng.uniform(0.3, 0.42)
    grey = np.full(3, rng.uniform(0.4, 0.65))
    kind = rng.choice(["ring", "disc", "triangle", "square", "board"])
    post = prism((0, 0, 0), (0, 0, z + r), (0.04, 0.04), grey, 6, POLE)
    back = disc((0, 0.02, z), r, (0.5, 0.5, 0.5), 1, SIGN, 10)
    red, white, blue = (0.75, 0.06, 0.06), (0.93, 0.93, 0.92), (0.06, 0.2, 0.6)
    if kind == "ring":
        face = [disc((0, -0.06, z), r, red, -1, SIGN, 14), disc((0, -0.08, z), r * 0.7, white, -1, SIGN, 14)]
        if rng.random() < 0.6:
            face.append(box((-r * 0.35, -0.1, z - r * 0.3), (r * 0.35, -0.1, z + r * 0.3), (0.1, 0.1, 0.1), SIGN))
    elif kind == "disc":
        first = blue if rng.random() < 0.5 else red
        face = [disc((0, -0.06, z), r, first, -1, SIGN, 14),
                box((-r * 0.6, -0.08, z - r * 0.15), (r * 0.6, -0.08, z + r * 0.15), white, SIGN)]  # fmt: skip
    elif kind == "triangle":
        flip = -1 if rng.random() < 0.3 else 1
        tri = np.array([(-r, -0.06, z - flip * r * 0.7), (r, -0.06, z - flip * r * 0.7), (0, -0.06, z + flip * r)])
        small = (tri - (0, 0, z)) * 0.62 + (0, -0.02, z)
        face = [polygon(tri, red, SIGN), polygon(small, white, SIGN)]
    else:
        w, h = (r, r) if kind == "square" else (rng.uniform(0.6, 1.5), rng.uniform(0.4, 0.8))
        uv = [(0, 0), (max(w / h, 1), 0), (max(w / h, 1), 1), (0, 1)]
        face = [quads([[(-w, -0.06, z - h), (w, -0.06, z - h), (w, -0.06, z + h), (-w, -0.06, z + h)]], (1, 1, 1), uv,
                      f"sign{rng.integers(10)}", SIGN)]  # fmt: skip
        back = box((-w, -0.04, z - h), (w, 0.03, z + h), (0.5, 0.5, 0.5), SIGN, bottom=True)
    for part in face:
        part.normals[:] = (0, -1, 0)
    return [post, back, *face]


_VARIANTS = 120


def sample_tree(rng: Generator) -> tuple[list[Mesh], float]:
    """One of `_VARIANTS` trees, with the radius of its crown; each is built once per process."""
    return _variant(int(rng.integers(_VARIANTS)))


@lru_cache(maxsize=_VARIANTS)
def _variant(number: int) -> tuple[list[Mesh], float]:
    return tree(np.random.default_rng([5, number]))


def tree(rng: Generator, kind: str = "") -> tuple[list[Mesh], float]:
    """A broad-leaved tree, a conifer or a bare one, and the radius of its crown."""
    kind = kind or str(rng.choice(["broad", "tall", "conifer", "bare"], p=[0.64, 0.18, 0.08, 0.1]))
    green = np.array(
        [
            (0.24, 0.31, 0.12),
            (0.27, 0.33, 0.15),
            (0.19, 0.25, 0.12),
            (0.34, 0.35, 0.16),
            (0.4, 0.34, 0.16),
            (0.3, 0.32, 0.22),
        ]
    )[rng.choice(6, p=[0.28, 0.24, 0.2, 0.14, 0.06, 0.08])] * rng.uniform(1.3, 2.7)
    brown = np.array(
        [(0.3, 0.24, 0.18), (0.42, 0.36, 0.28), (0.22, 0.19, 0.16), (0.55, 0.52, 0.45), (0.36, 0.34, 0.3)]
    )[rng.integers(5)]
    bark = f"bark{rng.integers(6)}"
    parts = []
    if kind == "conifer":
        height, radius = rng.uniform(6, 14), rng.uniform(1.4, 2.4)
        parts.append(prism((0, 0, 0), (0, 0, height * 0.3), (0.2, 0.15), brown, 7, VEGETATION, material=bark))
        name = f"hedge{rng.integers(3)}"
        for z0, z1, r in ((0.1, 0.45, 1.0), (0.32, 0.7, 0.75), (0.55, 1.0, 0.5)):
            cone = prism((0, 0, z0 * height), (0, 0, z1 * height), (radius * r, radius * r * 0.5, 0.05), green * 0.8, 9,
                         VEGETATION, material=name)  # fmt: skip
            parts.append(cone)
        return parts, radius
    trunk = rng.uniform(1.9, 5.0)
    radius = rng.uniform(1.0, 1.7) if kind == "tall" else rng.uniform(1.6, 4.6)
    rise = radius * rng.uniform(1.7, 2.6) if kind == "tall" else radius * rng.uniform(0.8, 1.2)
    thick = rng.uniform(0.1, 0.34)
    lean = rng.normal(0, 0.12, 2)
    fork = (lean[0], lean[1], trunk)
    girth = thick * np.array((1.3, 1.08, 1.0, 0.95, 0.9, 0.85))
    parts.append(prism((0, 0, 0), fork, girth, brown, 7, VEGETATION, material=bark))
    middle = np.array((lean[0] * 1.5, lean[1] * 1.5, trunk + rise * 0.75))
    for _ in range(3):
        tip = middle + rng.normal(0, 0.4, 3) * (radius, radius, 0.3 * rise)
        parts.append(prism(fork, tip, (thick * 0.7, thick * 0.25), brown, 3, VEGETATION, material=bark))
    cards = []
    if kind == "bare":
        for i in range(5):
            center = middle + rng.normal(0, 0.12, 3) * (radius, radius, 0.5 * rise)
            cards.append(_card(rng, center, np.pi * i / 5, radius, rise, brown * rng.uniform(0.8, 1.3), bare=True))
        return parts + cards, radius
    for i in range(9):
        offset = rng.normal(0, 0.38, 3) * (radius, radius, rise)
        offset *= min(1.0, 0.8 / max(float(np.linalg.norm(offset / (radius, radius, rise))), 1e-6))
        angle = np.pi * i / 4.5 + rng.normal(0, 0.2)
        scale = rng.uniform(0.6, 0.85)
        tint = green * rng.uniform(0.75, 1.2)
        cards.append(_card(rng, middle + offset, angle, radius * scale, rise * scale, tint, middle))
    return parts + cards, radius


def _card(
    rng: Generator, center: np.ndarray, angle: float, wide: float, high: float, tint: np.ndarray,
    crown: np.ndarray | None = None, bare: bool = False,
) -> Mesh:  # fmt: skip
    """A billboard of leaves or `bare` branches, with normals of the sphere around `crown`."""
    d = np.array((np.cos(angle), np.sin(angle), 0)) * wide
    lean = np.array((-np.sin(angle), np.cos(angle), 0)) * wide * rng.normal(0, 0.25)
    up = np.array((0, 0, high)) + lean
    shade = np.ones((1, 4, 3)) * tint
    shade[:, :2] *= 1.0 if bare else 0.62
    uv = crown_uv(int(rng.integers(LEAFY, CROWNS) if bare else rng.integers(LEAFY)), bool(rng.random() < 0.5))
    corners = np.stack([center - d - up, center + d - up, center + d + up, center - d + up])
    mesh = quads([corners], shade, uv, "crowns0", VEGETATION)
    out = corners - (center - (0, 0, high) if crown is None else crown)
    out = 0.8 * out / np.linalg.norm(out, axis=1, keepdims=True) + (0, 0, 0.5)
    mesh.normals[:] = out / np.linalg.norm(out, axis=1, keepdims=True)
    return mesh


def thicket(rng: Generator, length: float) -> list[Mesh]:
    """Undergrowth along x: bushes that hide what is behind, dark near the ground."""
    height = rng.uniform(0.9, 3.5)
    green = np.array([(0.17, 0.24, 0.09), (0.23, 0.27, 0.12), (0.13, 0.18, 0.08), (0.28, 0.25, 0.13)])[
        rng.integers(4)
    ] * rng.uniform(1.0, 2.4)
    a = length / 2
    corners = np.array([(-a, 0.5, 0), (a, 0.5, 0), (a, 0.5, height * 0.6), (-a, 0.5, height * 0.6)])
    uv = [(0, 0), (length / 2, 0), (length / 2, height / 3), (0, height / 3)]
    parts = [quads([corners], green * 0.3, uv, f"hedge{rng.integers(3)}", VEGETATION)]
    for x in np.arange(-a, a, height * 0.55):
        wide, high = height * rng.uniform(0.45, 0.75), height * rng.uniform(0.35, 0.6)
        center = np.array((x + rng.normal(0, 0.2), rng.uniform(-0.3, 0.4), high * 0.85))
        parts.append(_card(rng, center, rng.normal(0, 0.35), wide, high, green * rng.uniform(0.7, 1.25)))
    return parts


def bush(rng: Generator, size: float) -> list[Mesh]:
    """A round bush of crossed cards."""
    green = np.array([(0.18, 0.28, 0.1), (0.28, 0.34, 0.12), (0.14, 0.22, 0.1)])[rng.integers(3)] * rng.uniform(
        1.6, 2.6
    )
    core = ball((0, 0, size * 0.3), (size * 0.5, size * 0.5, size * 0.38), green * 0.25, VEGETATION, 7)
    cards = [
        _card(rng, np.array((0, 0, size * 0.45)) + rng.normal(0, 0.25, 3) * (size, size, 0.1), np.pi * i / 5, size,
              size * 0.6, green * rng.uniform(0.7, 1.25)) for i in range(5)
    ]  # fmt: skip
    return [core, *cards]


def hedge(rng: Generator, length: float) -> list[Mesh]:
    """A cut hedge along x."""
    height, depth = rng.uniform(0.8, 2.2), rng.uniform(0.5, 1.0)
    green = np.array([(0.2, 0.3, 0.11), (0.14, 0.22, 0.09), (0.28, 0.34, 0.14)])[rng.integers(3)] * rng.uniform(
        0.8, 1.4
    )
    a = length / 2
    n = max(int(length // 1.5), 2)
    xs = np.linspace(-a, a, n + 1)
    top = height + rng.normal(0, 0.06, n + 1)
    name = f"hedge{rng.integers(3)}"
    rows = []
    front, back = (rng.normal(0, 0.05, n + 1) - depth / 2, rng.normal(0, 0.05, n + 1) + depth / 2)
    for y0, y1, z0, z1 in ((front, front, 0 * xs, top), (back, back, 0 * xs, top), (front, back, top, top)):
        p = np.stack([np.stack([xs, y0, z0], 1), np.stack([xs, y1, z1], 1)], 1)
        rows.append(np.stack([p[:-1, 0], p[1:, 0], p[1:, 1], p[:-1, 1]], 1))
    corners = np.concatenate(rows)
    shade = np.ones((3 * n, 4, 3)) * green
    shade[: 2 * n, :2] *= 0.5
    u = xs / 2
    v = height / 2
    low, high = np.zeros(n), np.full(n, v)
    around = np.stack([np.stack([u[:-1], u[1:], u[1:], u[:-1]], 1), np.stack([low, low, high, high], 1)], -1)
    uv = np.concatenate([around] * 3)
    mesh = quads(corners, shade, uv, name, VEGETATION)
    mesh.normals[: 4 * n] = (0, -1, 0)
    mesh.normals[4 * n : 8 * n] = (0, 1, 0)
    mesh.normals[8 * n :] = (0, 0, 1)
    ends = [quads([[(x, -depth / 2, 0), (x, depth / 2, 0), (x, depth / 2, height), (x, -depth / 2, height)]],
                  green * 0.6, [(0, 0), (0.5, 0), (0.5, v), (0, v)], name, VEGETATION) for x in (-a, a)]  # fmt: skip
    return [mesh, *ends]
