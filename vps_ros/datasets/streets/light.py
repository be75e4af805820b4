"""Lighting of a drive: sun, sky and street lamps."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vps_ros.datasets.streets.textures import noise


@dataclass(frozen=True)
class Light:
    """Attributes:
    sun: [3] unit vector to the sun.
    direct, ambient: [3] RGB factors of sunlight and of light from the sky.
    lamps: [L, 3] positions of lit street lamps.
    night, fog, rain: 0..1.
    zenith, horizon: [3] colours of the sky.
    cloud: cloud cover, 0..1.
    """

    sun: NDArray
    direct: NDArray
    ambient: NDArray
    lamps: NDArray
    night: float
    fog: float
    rain: float
    zenith: NDArray
    horizon: NDArray
    cloud: float

    @property
    def sunny(self) -> bool:
        return float(self.direct.max()) > 0.2

    def shadow_outline(self, place: NDArray, half: tuple[float, float], height: float) -> NDArray:
        """[4, 2] corners of the shadow on the ground of an object `height` metres high at x, y, heading."""
        away = -self.sun[:2] / np.linalg.norm(self.sun[:2])
        aside = np.array((-away[1], away[0]))
        turn = place[2] - np.arctan2(away[1], away[0])
        c, s = abs(np.cos(turn)), abs(np.sin(turn))
        # Width and depth of the footprint as seen from the sun.
        wide, deep = half[0] * s + half[1] * c, half[0] * c + half[1] * s
        long = min(height / max(float(self.sun[2]) / float(np.hypot(*self.sun[:2])), 0.2), 8.0)
        near, far = place[:2] - 0.8 * deep * away, place[:2] + (0.8 * deep + long) * away
        return np.stack([near - wide * aside, far - wide * aside, far + wide * aside, near + wide * aside])

    @property
    def shadow(self) -> float:
        """Darkness of shadows on the ground, 0..1; a little above the physical value, as in camera images."""
        direct, ambient = float(self.direct.mean() * self.sun[2]), float(self.ambient.mean())
        return float(np.clip(1.25 * direct / (direct + ambient), 0.3, 0.78))

    def shade(
        self, points: NDArray, normals: NDArray, colors: NDArray, sunlit: NDArray | float = 1.0
    ) -> NDArray[np.uint8]:
        """uint8 [V, 3]: albedo under this light; emissive colours (above 1.2) are kept.

        `sunlit`: share of the sunlight that reaches each point.
        """
        up = 0.72 + 0.28 * normals[:, 2:3]
        direct = np.maximum(normals @ self.sun.astype(np.float32), 0) * sunlit
        light = self.ambient * up + self.direct * direct[:, None]
        if len(self.lamps) and self.night:
            low, high = points.min(0) - 25, points.max(0) + 25
            glow = np.zeros((len(points), 1), np.float32)
            for lamp in self.lamps[np.all((self.lamps > low) & (self.lamps < high), axis=1)]:
                apart = ((points - lamp.astype(np.float32)) ** 2).sum(1, keepdims=True)
                glow += 0.55 / (1 + apart / 30) * np.clip(2 - apart / 312, 0, 1)
            light = light + glow * np.array((1.0, 0.85, 0.6), np.float32)
        out = np.where(colors.max(1, keepdims=True) > 1.2, colors, np.minimum(colors, 1.0) * light)
        return np.clip(255 * out, 0, 255).astype(np.uint8)


def sample_light(rng: Generator, night: bool, lamps: NDArray | None = None) -> Light:
    """Weather and time of day of a drive."""
    lamps = np.zeros((0, 3)) if lamps is None else lamps
    height = np.deg2rad(rng.uniform(14, 65))
    round_ = rng.uniform(0, 2 * np.pi)
    sun = np.array((np.cos(height) * np.cos(round_), np.cos(height) * np.sin(round_), np.sin(height)))
    none = np.zeros(3)
    if night:
        dark = rng.uniform(0.1, 0.28) * np.array((0.85, 0.92, 1.15))
        sky = rng.uniform(0.01, 0.09) * np.array((0.8, 0.9, 1.3))
        wet = 1.0 if rng.random() < 0.25 else 0.0
        return Light(sun, none, dark, lamps, 1.0, 0.0, wet, sky, sky * 1.8 + 0.02, 0.3)
    kind = rng.choice(["clear", "partly", "overcast", "rain", "fog", "dusk"], p=[0.42, 0.2, 0.2, 0.06, 0.06, 0.06])
    if kind in ("clear", "partly"):
        warm = np.array((1.0, 0.97, 0.92)) if height > 0.5 else np.array((1.0, 0.9, 0.75))
        direct = rng.uniform(0.5, 0.95) * warm
        ambient = rng.uniform(0.24, 0.6) * np.array((0.95, 1.0, 1.08))
        glare = rng.uniform(0, 1)
        zenith = (1 - glare) * np.array((0.32, 0.52, 0.85)) + glare * np.array((0.95, 0.97, 1.0))
        horizon = 0.5 * zenith + 0.5 * np.array((0.97, 0.99, 1.0))
        cloud = rng.uniform(0.0, 0.25) if kind == "clear" else rng.uniform(0.35, 0.7)
        return Light(sun, direct, ambient, lamps, 0.0, 0.0, 0.0, zenith, horizon, cloud)
    if kind == "dusk":
        glow = np.array((1.0, 0.76, 0.6)) * rng.uniform(0.4, 0.62)
        return Light(sun, none, rng.uniform(0.3, 0.55) * np.array((0.9, 0.92, 1.12)), lamps, 0.25, 0.0, 0.0,
                     np.array((0.24, 0.28, 0.38)), glow, float(rng.uniform(0.1, 0.5)))  # fmt: skip
    grey = rng.uniform(0.6, 1.0) * np.array((0.97, 0.99, 1.02))
    ambient = rng.uniform(0.7, 0.98) * np.array((0.98, 1.0, 1.03))
    fog = rng.uniform(0.3, 1.0) if kind == "fog" else 0.0
    return Light(sun, 0.08 * np.ones(3), ambient, lamps, 0.0, fog, float(kind == "rain"), grey, grey * 1.04, 0.95)


def sky_texture(rng: Generator, light: Light) -> NDArray[np.uint8]:
    """uint8 [256, 512, 3]: azimuth along x, elevation from horizon (bottom) to zenith (top)."""
    up = np.linspace(1, 0, 256)[:, None, None] ** 0.6
    sky = light.zenith * up + light.horizon * (1 - up)
    shapes = cv2.resize(noise(rng, 256, (3, 6, 12, 24, 48), 0.62), (512, 256))
    cover = np.clip((shapes + 3.2 * (light.cloud - 0.5)) * 0.9, 0, 1)[..., None]
    fluff = np.clip(0.9 + 0.12 * np.roll(shapes, 7, axis=0) - 0.1 * shapes, 0.5, 1.1)[..., None]
    if light.night:
        cloud = np.maximum(light.horizon * 0.9, 0.02) * fluff
    elif light.cloud > 0.9:
        cloud = light.horizon * (0.94 + 0.05 * shapes[..., None])
    else:
        cloud = min(1.0, float(light.horizon.max()) * 1.05) * fluff * np.ones(3)
    return np.clip(255 * (sky * (1 - cover) + cloud * cover), 0, 255).astype(np.uint8)
