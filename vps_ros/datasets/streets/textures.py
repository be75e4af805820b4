"""Procedural textures from noise; each depends on its name only and is made once per process."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

FACADES = 64
"""Number of facades, `facade0` ...; `facade_lit0` ... are the same with lit windows."""
LEAFY, CROWNS = 6, 8
"""Number of tiles of foliage in the texture `crowns`, four in a row; from LEAFY on bare branches."""


@cache
def texture(name: str) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] or, with an alpha channel, [h, w, 4]; raises KeyError for an unknown name."""
    if name.startswith("mask:"):
        white = texture(name[5:]).copy()
        white[..., :3] = 255
        return white
    stem = name.rstrip("0123456789")
    variant = int(name[len(stem) :] or 0)
    rng = np.random.default_rng([sum(stem.encode()), variant, 7])
    picture = _TEXTURES[stem](rng)
    picture.setflags(write=False)
    return picture


def noise(rng: Generator, size: int, octaves: tuple[int, ...], fall: float = 0.6) -> NDArray[np.float32]:
    """float32 [size, size] periodic noise of mean 0 and deviation 1; octaves are cells per side."""
    total = np.zeros((size, size), np.float32)
    for i, cells in enumerate(octaves):
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        pad = np.pad(grid, 2, mode="wrap")
        wide = cv2.resize(pad, None, fx=size / cells, fy=size / cells, interpolation=cv2.INTER_CUBIC)
        edge = 2 * size // cells
        total += fall**i * wide[edge : edge + size, edge : edge + size]
    return (total - total.mean()) / total.std()


def _grey(base: NDArray, tint: tuple[float, float, float] = (1, 1, 1)) -> NDArray[np.uint8]:
    return np.clip(255 * base[..., None] * np.asarray(tint), 0, 255).astype(np.uint8)


def _asphalt(rng: Generator) -> NDArray[np.uint8]:
    base = 0.72 + 0.05 * noise(rng, 256, (4, 8, 16)) + 0.06 * rng.standard_normal((256, 256))
    for _ in range(rng.integers(0, 4)):
        x, y, w, h = rng.integers(0, 200, 4)
        base[y : y + h // 3 + 8, x : x + w // 3 + 8] *= rng.uniform(0.82, 1.08)
    for _ in range(rng.integers(0, 5)):
        line = np.cumsum(rng.integers(-6, 7, (14, 2)), axis=0) * 2 + rng.integers(0, 256, 2)
        cv2.polylines(base, [line.astype(np.int32)], False, float(rng.choice([0.4, 0.5, 0.95])), 1, cv2.LINE_AA)
    return _grey(base)


def _pavers(rng: Generator) -> NDArray[np.uint8]:
    base = 0.8 + 0.03 * noise(rng, 256, (4, 8)) + 0.03 * rng.standard_normal((256, 256))
    step = int(rng.choice([32, 64]))
    shift = bool(rng.integers(2))
    for r in range(256 // step):
        for c in range(256 // step):
            x = c * step + (step // 2 if shift and r % 2 else 0)
            base[r * step : (r + 1) * step, x : x + step] += rng.normal(0, 0.05)
            base[r * step : (r + 1) * step, x % 256 : x % 256 + 2] *= 0.7
        base[r * step : r * step + 2] *= 0.7
    return _grey(base)


def _grass(rng: Generator) -> NDArray[np.uint8]:
    base = 0.7 + 0.1 * noise(rng, 256, (3, 6, 12, 32, 64)) + 0.12 * rng.standard_normal((256, 256))
    out = _grey(base)
    if rng.random() < 0.4:
        worn = np.clip(noise(rng, 256, (2, 4, 8, 16), 0.7) - rng.uniform(0.3, 1.2), 0, 1)[..., None]
        out = np.clip(out * (1 - worn) + worn * base[..., None] * (250, 200, 170), 0, 255).astype(np.uint8)
    share = 0.03 * rng.random() if rng.random() < 0.7 else rng.uniform(0.05, 0.2)
    leaves = rng.random((256, 256)) < share * np.clip(1 + noise(rng, 256, (3, 6)), 0, 3)
    out[leaves] = np.clip(np.array((230, 170, 90)) * rng.uniform(0.5, 1.1, (int(leaves.sum()), 1)), 0, 255)
    return out


def _brick(rng: Generator) -> NDArray[np.uint8]:
    base = 0.75 + 0.04 * rng.standard_normal((256, 256))
    for r in range(16):
        for c in range(9):
            x = c * 32 - (16 if r % 2 else 0)
            base[r * 16 : r * 16 + 14, max(x, 0) : max(x + 30, 0)] += rng.normal(0, 0.07)
        base[r * 16 + 14 : r * 16 + 16] *= 1.2
    return _grey(base)


def _plaster(rng: Generator) -> NDArray[np.uint8]:
    return _grey(0.85 + 0.05 * noise(rng, 256, (2, 4, 8, 32)) + 0.02 * rng.standard_normal((256, 256)))


def _bark(rng: Generator) -> NDArray[np.uint8]:
    streaks = cv2.resize(noise(rng, 256, (16, 32, 64)), (256, 64))
    base = 0.7 + 0.18 * np.tile(streaks, (4, 1)) + 0.08 * noise(rng, 256, (4, 8))
    if rng.random() < 0.5:
        # Bark that scales off in patches.
        base = np.where(noise(rng, 256, (6, 12, 24), 0.7) > rng.uniform(0.2, 1.0), base * rng.uniform(1.2, 1.6), base)
    return _grey(base)


def _crown(rng: Generator) -> NDArray[np.uint8]:
    """Foliage: clumps of leaves, lit from above, dark inside, cut out at a ragged border."""
    n = 256
    yy, xx = np.mgrid[0:n, 0:n] / n - 0.5
    rough = noise(rng, n, (4, 8, 16, 32), 0.75)
    radius = np.hypot(xx, yy * rng.uniform(0.95, 1.1))
    inside = radius + 0.038 * rough < 0.43
    holes = noise(rng, n, (8, 16, 32), 0.8) > 2.1 - 1.8 * np.clip(radius / 0.5, 0, 1) ** 2
    clumps = noise(rng, n, (8, 16), 0.7)
    lit = 0.52 - 0.35 * yy + 0.2 * (clumps - np.roll(clumps, 6, axis=0)) + 0.13 * clumps
    leaf = lit + 0.16 * rng.standard_normal((n, n)) + 0.1 * noise(rng, n, (64,))
    color = np.clip(leaf, 0.05, 1.2)[..., None] * np.array((1.0, 1.0, 0.9))
    out = np.empty((n, n, 4), np.uint8)
    out[..., :3] = np.clip(255 * color, 0, 255)
    out[..., 3] = 255 * (inside & ~holes)
    return out


def _branches(rng: Generator) -> NDArray[np.uint8]:
    """A bare crown: branches that fork until they are twigs."""
    n = 256
    out = np.zeros((n, n, 4), np.uint8)
    out[..., :3] = 170
    grown = [(n / 2, n - 6.0, -np.pi / 2 + rng.normal(0, 0.1), 62.0, 7.0)]
    while grown:
        x, y, angle, length, thick = grown.pop()
        end = x + length * np.cos(angle), y + length * np.sin(angle)
        tone = int(np.clip(rng.normal(165, 30), 60, 250))
        a, b = ((int(round(v[0])), int(round(v[1]))) for v in ((x, y), end))
        cv2.line(out, a, b, (tone, tone, tone, 255), max(int(thick), 1))
        if length > 9:
            for spread in rng.normal(0, 0.2, 3) + (-0.55, 0.05, 0.55):
                if rng.random() < 0.88:
                    grown.append((*end, angle + spread, length * rng.uniform(0.62, 0.8), thick * 0.62))
    return out


def _crowns(rng: Generator) -> NDArray[np.uint8]:
    pictures = [_crown(rng) for _ in range(LEAFY)] + [_branches(rng) for _ in range(LEAFY, CROWNS)]
    # Texture coordinates count rows from below.
    return np.concatenate([np.concatenate(pictures[i : i + 4], 1) for i in range(CROWNS - 4, -1, -4)])


def crown_uv(k: int, mirrored: bool) -> NDArray[np.float64]:
    """[4, 2] texture coordinates of a card with foliage k."""
    u = np.array((1, 0, 0, 1) if mirrored else (0, 1, 1, 0))
    return np.stack([(u + k % 4) / 4, (np.array((0, 0, 1, 1)) + k // 4) / (CROWNS / 4)], 1)


def mask(name: str) -> NDArray[np.uint8]:
    """A texture in white with the alpha channel of another."""
    return texture("mask:" + name)


def _hedge(rng: Generator) -> NDArray[np.uint8]:
    clumps = noise(rng, 256, (8, 16, 32), 0.8)
    return _grey(np.clip(0.62 + 0.14 * clumps + 0.13 * rng.standard_normal((256, 256)), 0.1, 1))


def _facade(rng: Generator, lit: float = 0.0) -> NDArray[np.uint8]:
    """One storey by one bay, 2 x 2 of them: wall, window with frame, sill, perhaps curtains or balcony."""
    n, half = 256, 128
    wall = np.array(
        [(0.85, 0.8, 0.68), (0.75, 0.72, 0.68), (0.9, 0.88, 0.84), (0.6, 0.36, 0.28), (0.8, 0.65, 0.5),
         (0.62, 0.6, 0.57), (0.7, 0.55, 0.42), (0.85, 0.76, 0.55), (0.55, 0.5, 0.45),
         (0.72, 0.76, 0.78), (0.94, 0.94, 0.92), (0.92, 0.93, 0.94), (0.34, 0.34, 0.36),
         (0.8, 0.79, 0.76)][rng.integers(14)]
    ) * rng.uniform(0.8, 1.08)  # fmt: skip
    out = np.ones((n, n, 3)) * wall
    out *= (1 + 0.04 * noise(rng, n, (4, 16)) + 0.02 * rng.standard_normal((n, n)))[..., None]
    if wall[0] > 1.5 * wall[2] or rng.random() < 0.15:
        out[::8] *= 0.86
    style = rng.choice(["single", "double", "band", "tall", "small", "glass"], p=[0.24, 0.2, 0.16, 0.18, 0.12, 0.1])
    x0, x1, y0, y1 = {
        "single": (40, 90, 34, 96), "double": (22, 106, 36, 92), "band": (0, 128, 40, 88), "tall": (44, 84, 22, 112),
        "small": (50, 80, 44, 84), "glass": (2, 126, 4, 124),
    }[str(style)]  # fmt: skip
    frame = np.full(3, rng.choice([0.95, 0.85, 0.3, 0.45]))
    deco, trim = rng.random(), rng.uniform(0.8, 1.2)
    for r in (0, half):
        for c in (0, half):
            glass = np.array((0.1, 0.12, 0.15)) * rng.uniform(0.6, 2.6)
            win = out[r + y0 : r + y1, c + x0 : c + x1]
            out[r + y0 - 4 : r + y1 + 4, c + max(x0 - 4, 0) : c + x1 + 4] *= trim
            win[:] = frame
            mid = (x1 - x0) // 2
            panes = [slice(4, mid - 2), slice(mid + 2, x1 - x0 - 4)]
            for pane in panes:
                area = win[4:-4, pane]
                area[:] = glass * np.linspace(1.5, 0.7, area.shape[0])[:, None, None]
                kind = rng.random()
                if kind < 0.3:
                    area[: area.shape[0] // 2] = rng.uniform(0.45, 0.8)
                elif kind < 0.42 or (style == "glass" and kind < 0.75):
                    # The sky in the window.
                    fall = np.linspace(1.2, rng.uniform(0.3, 1.0), len(area))
                    area[:] = np.array((0.62, 0.7, 0.8)) * fall[:, None, None]
                if rng.random() < lit:
                    area[:] = np.array((1.0, 0.82, 0.5)) * rng.uniform(0.7, 1.6)
            if deco < 0.4:
                out[r + y1 : r + y1 + 6, c + max(x0 - 6, 0) : c + x1 + 6] = wall * 1.1
            elif deco < 0.55:
                out[r + y1 - 22 : r + y1 + 8, c + 10 : c + 118 : 6] = 0.2
    if rng.random() < 0.5:
        out[0:6], out[half : half + 6] = wall * 0.8, wall * 0.8
    return np.clip(255 * out, 0, 255).astype(np.uint8)


def _shop(rng: Generator) -> NDArray[np.uint8]:
    """Ground floor: shop windows, doors and a sign."""
    n = 256
    out = np.ones((n, n, 3)) * rng.uniform(0.25, 0.8)
    out[20:70] = np.clip(rng.uniform(0.05, 0.9, 3), 0, 1)
    for x in range(30, 220, 12):
        if rng.random() < 0.7:
            out[34:56, x : x + int(rng.integers(4, 9))] = rng.choice([0.95, 0.1])
    for a, b in ((8, 90), (96, 150), (158, 248)):
        pane = np.array((0.14, 0.15, 0.17)) * rng.uniform(0.6, 2.5)
        glass = 1.35 - 0.6 * np.linspace(0, 1, 154)[:, None, None] + 0.1 * noise(rng, 256, (4, 8))[82:236, a:b, None]
        out[82:236, a:b] = pane * glass
        for _ in range(rng.integers(1, 5)):
            x, y = int(rng.integers(a, b - 8)), int(rng.integers(120, 215))
            out[y:232, x : x + int(rng.integers(5, 20))] = np.clip(rng.uniform(0.1, 0.6, 3), 0, 1)
    return np.clip(255 * out, 0, 255).astype(np.uint8)


def _dapple(rng: Generator) -> NDArray[np.uint8]:
    """The shadow of a crown: dark with bright flecks, soft at the border."""
    n = 128
    yy, xx = np.mgrid[0:n, 0:n] / n * 2 - 1
    r = np.hypot(xx, yy) + 0.12 * noise(rng, n, (4, 8, 16))
    flecks = 1 / (1 + np.exp(-6 * (noise(rng, n, (8, 16, 32), 0.8) - 0.9 + 0.6 * r)))
    alpha = np.clip((0.95 - r) * 5, 0, 1) * (1 - 0.85 * flecks)
    out = np.zeros((n, n, 4), np.uint8)
    out[..., 3] = 255 * alpha
    return out


def _blob(rng: Generator) -> NDArray[np.uint8]:
    """The soft shadow under something."""
    n = 64
    yy, xx = np.mgrid[0:n, 0:n] / n * 2 - 1
    out = np.zeros((n, n, 4), np.uint8)
    out[..., 3] = 255 * np.clip((1.0 - np.maximum(np.abs(xx), np.abs(yy)) ** 2) * 1.6, 0, 1)
    return out


def _fence(rng: Generator) -> NDArray[np.uint8]:
    n = 128
    out = np.zeros((n, n, 4), np.uint8)
    out[..., :3] = 200
    style = rng.integers(3)
    if style == 0:
        out[:, (np.arange(n) % 16) < 6, 3] = 255
        out[20:30, :, 3] = out[96:106, :, 3] = 255
    elif style == 1:
        out[..., 3] = 255
        out[:, (np.arange(n) % 16) < 2, :3] = 90
        out[(rng.random((n, n)) < 0.1), :3] -= 20
    else:
        yy, xx = np.mgrid[0:n, 0:n]
        mesh = ((xx + yy) % 16 < 4) | ((xx - yy) % 16 < 4)
        out[..., 3] = 255 * mesh
        out[:6, :, 3] = out[-6:, :, 3] = 255
        out[:, :6, 3] = 255
    return out


def _sign(rng: Generator) -> NDArray[np.uint8]:
    """A traffic sign that fills its plate: stripes of writing on a coloured ground."""
    n = 64
    ground, ink = [
        ((235, 235, 235), (25, 25, 25)), ((20, 70, 170), (240, 240, 240)), ((20, 110, 60), (240, 240, 240)),
        ((235, 190, 20), (20, 20, 20)), ((235, 235, 235), (180, 20, 20)),
    ][rng.integers(5)]  # fmt: skip
    out = np.empty((n, n, 3), np.uint8)
    out[:] = ground
    cv2.rectangle(out, (2, 2), (n - 3, n - 3), ink, 1)
    for y in range(10, n - 12, 14):
        x = int(rng.integers(6, 14))
        while x < n - 10:
            w = int(rng.integers(3, 7))
            cv2.rectangle(out, (x, y), (x + w, y + 7), ink, -1)
            x += w + 2 if rng.random() < 0.75 else w + 7
    return out


_TEXTURES = {
    "asphalt": _asphalt, "pavers": _pavers, "grass": _grass, "brick": _brick, "plaster": _plaster, "bark": _bark,
    "crowns": _crowns, "hedge": _hedge, "facade": _facade, "facade_lit": lambda rng: _facade(rng, 0.35), "shop": _shop,
    "dapple": _dapple, "blob": _blob, "fence": _fence, "sign": _sign,
}  # fmt: skip
