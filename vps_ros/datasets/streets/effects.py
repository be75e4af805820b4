"""Atmosphere and camera effects: fog, rain, head lights, exposure, blur, noise, compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vps_ros.datasets.streets.light import Light


@dataclass(frozen=True)
class Sensor:
    """Parameters of the camera, constant in a drive."""

    gamma: float
    contrast: float
    saturation: float
    balance: NDArray
    vignette: float
    noise: float
    blur: float
    shutter: float
    jpeg: int
    sharpen: float


def sample_sensor(rng: Generator, night: bool) -> Sensor:
    return Sensor(
        gamma=float(rng.uniform(0.8, 1.25)),
        contrast=float(rng.uniform(0.5, 0.9) if rng.random() < 0.2 else rng.uniform(0.9, 1.6)),
        saturation=float(rng.uniform(0.45, 1.05)),
        balance=1 + rng.normal(0, 0.035, 3),
        vignette=float(rng.uniform(0, 0.3)),
        noise=float(rng.uniform(0.5, 3.0)) * (2.2 if night else 1.0),
        blur=float(rng.choice([0.0, rng.uniform(0.3, 0.8)])),
        shutter=float(rng.uniform(0.001, 0.008)) * (3 if night else 1),
        jpeg=int(rng.integers(60, 97)) if rng.random() < 0.7 else 0,
        sharpen=float(rng.uniform(0, 0.6)) if rng.random() < 0.4 else 0.0,
    )


class Camera:
    """Turns rendered images into camera images."""

    def __init__(self, rng: Generator, light: Light, size: tuple[int, int], focal: float, horizon: float) -> None:
        self.light, self.size, self.focal = light, size, focal
        self.sensor = sample_sensor(rng, light.night > 0.5)
        w, h = size
        s = self.sensor
        low, high = (38, 78) if light.night > 0.5 else (55, 85) if rng.random() < 0.25 else (80, 125)
        self._aim = float(rng.uniform(low, high))
        self._tone(1.0)
        yy, xx = np.mgrid[0:h, 0:w]
        away = ((xx - w / 2) / (w / 2)) ** 2 + ((yy - h / 2) / (h / 2)) ** 2
        shade = 1 - s.vignette * away / 2
        if light.night > 0.5:
            u, v = (xx - w / 2) / focal, (yy - horizon) / focal
            beam = np.exp(-((u / 0.55) ** 2)) * np.exp(-(((v - 0.13) / 0.13) ** 2))
            shade = shade * (0.75 + float(rng.uniform(0.6, 1.6)) * beam)
        self._shade = shade.astype(np.float32)[..., None] if s.vignette > 0.05 or light.night > 0.5 else None
        self._grain = (rng.standard_normal((h + 64, w + 64, 3)) * s.noise).astype(np.float32)
        if rng.random() < 0.5:
            self._grain = cv2.GaussianBlur(self._grain, (0, 0), 0.6) * 1.6

    def _tone(self, gain: float) -> None:
        """Sets the tone curve for this exposure: gamma, soft clipping of highlights, contrast."""
        s, level, curves = self.sensor, np.arange(256) / 255, []
        pivot = self._aim / 255
        for b in s.balance:
            v = (level * gain * b) ** s.gamma
            v = np.where(v > 0.8, 0.8 + 0.2 * np.tanh((v - 0.8) / 0.2), v)
            if s.contrast < 1:
                v = pivot + (v - pivot) * s.contrast
            else:
                v = v + (s.contrast - 1) * v * (1 - v) * (v - pivot) * 2
            curves.append(np.clip(255 * v, 0, 255))
        self._lut = np.stack(curves, 1).astype(np.uint8)[None]

    def expose(self, rendered: NDArray[np.uint8]) -> None:
        """Sets the exposure from the lower two thirds of a rendered image."""
        metered = rendered[rendered.shape[0] // 3 :: 4, ::4]
        mean = max(float(np.minimum(metered, 235).mean()), 4.0)
        aim = 255 * (self._aim / 255) ** (1 / self.sensor.gamma)
        # Fog is as bright as the sky and fills the image: unlike the sky, it must not be overexposed.
        most = 0.92 / float(self.light.horizon.max()) if self.light.fog else 3.0
        self._tone(float(np.clip(aim / mean, 0.6, most)))

    def apply(
        self, rng: Generator, rendered: NDArray[np.uint8], yaw: float, depth: NDArray | None
    ) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] from the rendered image [H, W, 3]; `yaw` rate in rad/s; `depth` only in fog."""
        s, light, (w, h) = self.sensor, self.light, self.size
        image = rendered
        if depth is not None and light.fog > 0:
            clear = np.exp(-np.minimum(depth, 300.0) * (0.008 + 0.035 * light.fog))[..., None]
            image = (image * clear + 255 * light.horizon * (1 - clear)).clip(0, 255).astype(np.uint8)
        if light.rain:
            image = self._rain(rng, image)
        if self._shade is not None:
            image = np.clip(image * self._shade, 0, 255).astype(np.uint8)
        if light.night > 0.5:
            bright = np.maximum(image.astype(np.int16) - 215, 0).astype(np.uint8) * 4
            image = cv2.add(image, cv2.GaussianBlur(bright, (0, 0), w / 130))
        image = cv2.LUT(image, self._lut)
        if abs(s.saturation - 1) > 0.03:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            image = cv2.addWeighted(image, s.saturation, grey, 1 - s.saturation, 0)
        smear = abs(yaw) * s.shutter * self.focal
        if smear > 1.2:
            image = cv2.blur(image, (int(round(smear)) | 1, 1))
        if s.blur:
            image = cv2.GaussianBlur(image, (0, 0), s.blur)
        if s.sharpen:
            image = cv2.addWeighted(image, 1 + s.sharpen, cv2.GaussianBlur(image, (0, 0), 1.0), -s.sharpen, 0)
        y, x = rng.integers(0, 64, 2)
        image = cv2.add(image, self._grain[y : y + h, x : x + w], dtype=cv2.CV_8U)
        if s.jpeg:
            data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, s.jpeg])[1]
            image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
        return np.ascontiguousarray(image)

    def _rain(self, rng: Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        w, h = self.size
        veil = np.zeros((h, w), np.uint8)
        for x, y, n in zip(
            rng.integers(0, w, 90), rng.integers(-10, h, 90), rng.integers(3, h // 10 + 5, 90), strict=True
        ):
            cv2.line(veil, (int(x), int(y)), (int(x + n // 8), int(y + n)), int(rng.integers(8, 40)), 1, cv2.LINE_AA)
        return cv2.add(image, cv2.cvtColor(veil, cv2.COLOR_GRAY2RGB))
