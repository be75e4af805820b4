"""Augmentation of frames: random views, colours, noise, and strong changes of style."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.learning.data.clips import Picture
from vps_ros.learning.network_io import STRIDE_4, LabelGrid
from vps_ros.learning.recipe import Augmentation
from vps_ros.taxonomy import VOID_ID

GREY = (0.299, 0.587, 0.114)
WIDEST = 2.4
"""Largest random stretch; an image of 4:3 that is resized to 640x192 is stretched by 2.5."""


@dataclass(frozen=True)
class View:
    """An affine map, float64 [2, 3], of pixel centres of the source to those of an output of `size` (width, height)."""

    matrix: NDArray[np.float64]
    size: tuple[int, int]


def plain_view(source: tuple[int, int], size: tuple[int, int], keep_aspect: bool = False) -> View:
    """The source (width, height) scaled to `size`; with `keep_aspect` it is fitted into the upper left of it."""
    sx, sy = size[0] / source[0], size[1] / source[1]
    if keep_aspect:
        sx = sy = min(sx, sy)
    return View(np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5]]), size)


@dataclass(frozen=True)
class Scale:
    """The scale at zoom 1: a source is resized to `size`, or keeps its size with None.

    The source is stretched to `size`. With `keep_aspect` it is fitted into it, with `covers` it covers it, at its own
    aspect ratio.
    """

    size: tuple[int, int] | None = None
    keep_aspect: bool = False
    covers: bool = False

    def of(self, source: tuple[int, int]) -> NDArray[np.float64]:
        """Horizontal and vertical factor."""
        factors = np.divide(self.size or source, source)
        if self.keep_aspect or self.covers:
            return np.repeat(factors.max() if self.covers else factors.min(), 2)
        return factors


OWN_SCALE = Scale()


def random_view(
    source: tuple[int, int],
    size: tuple[int, int],
    options: Augmentation,
    rng: np.random.Generator,
    scale: Scale = OWN_SCALE,
) -> View:
    """A randomly scaled, cropped, rotated and mirrored view, with the probabilities of `options`."""
    w, h = size
    if rng.random() < options.zoom:
        low, high = np.log(options.zoom_range)
        zx, zy = np.exp(rng.uniform(low, high)) * np.exp(rng.uniform(-0.08, 0.08, 2)) * scale.of(source)
        if options.stretch and rng.random() < options.stretch:
            zx *= np.exp(rng.uniform(0, np.log(WIDEST)))
        # A random crop of a larger source; a random position of a smaller one.
        dx, dy = rng.uniform(0, 1, 2) * (w - zx * source[0], h - zy * source[1])
        matrix = np.array([[zx, 0, dx + 0.5 * zx - 0.5], [0, zy, dy + 0.5 * zy - 0.5], [0, 0, 1]])
    else:
        matrix = np.vstack([plain_view(source, size, scale.keep_aspect).matrix, [0, 0, 1]])
    if rng.random() < options.rotate:
        angle = rng.normal(0, 2.0)
        rotation = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), float(angle), 1.0)
        matrix = np.vstack([rotation, [0, 0, 1]]) @ matrix
    if rng.random() < options.flip:
        matrix = np.array([[-1, 0, w - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return View(matrix[:2], size)


def view_image(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """uint8 [h, w, 3], the image in the view; grey outside of the source."""
    while abs(np.linalg.det(view.matrix[:, :2])) < 0.3 and min(image.shape[:2]) > 1:
        # Linear interpolation would skip pixels, so the image is averaged first.
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        view = View(view.matrix @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]), view.size)
    return cv2.warpAffine(
        image, view.matrix, view.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(127,) * 3
    )


def view_labels(
    semantic: NDArray[np.uint8],
    instance: NDArray[np.integer],
    view: View,
    choice: NDArray[np.int64] | None = None,
    grid: LabelGrid = STRIDE_4,
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """The labels in the view, sampled on a grid; void outside of the source.

    With `choice` (int64 [h, w], 0..3: row * 2 + column) they are sampled at the centre of that quarter of each cell.
    """
    if choice is None:
        return _labels_at(semantic, instance, view, grid)
    halves = _labels_at(semantic, instance, view, LabelGrid(grid.stride // 2))
    y, x = np.indices(choice.shape) * 2
    place = (y + choice // 2, x + choice % 2)
    return halves[0][place], halves[1][place]


def _labels_at(
    semantic: NDArray[np.uint8], instance: NDArray[np.integer], view: View, grid: LabelGrid
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    s, shift = 1 / grid.stride, 0.0 if grid.aligned else 0.5 / grid.stride - 0.5
    matrix = np.array([[s, 0, shift], [0, s, shift]]) @ np.vstack([view.matrix, [0, 0, 1]])
    options = {"flags": cv2.INTER_NEAREST, "borderMode": cv2.BORDER_CONSTANT}
    size = grid.of(view.size)
    return (
        cv2.warpAffine(semantic, matrix, size, borderValue=VOID_ID, **options),
        cv2.warpAffine(instance, matrix, size, borderValue=0, **options),
    )


def apply_view(
    picture: Picture, view: View, choice: NDArray[np.int64] | None = None, grid: LabelGrid = STRIDE_4
) -> Picture:
    """The labelled frame in the view: the image at its size, the labels on the grid."""
    return Picture(view_image(picture.image, view), *view_labels(*picture[1:], view, choice, grid))


@dataclass(frozen=True)
class Colours:
    """A change of colours: a lookup table [256, 1, 3], then a factor of the saturation."""

    table: NDArray[np.uint8]
    saturation: float


def random_colours(strength: float, rng: np.random.Generator) -> Colours:
    """Random brightness, contrast, gamma, white balance and saturation; `strength` 0 changes nothing."""
    ramp = np.linspace(0, 1, 256)[:, None]
    gamma = np.exp(rng.normal(0, 0.25 * strength))
    gain = np.exp(rng.normal(0, 0.2 * strength) + rng.normal(0, 0.06 * strength, 3))
    lift = rng.normal(0, 0.05 * strength, 3) * 0.5 + rng.normal(0, 0.04 * strength)
    table = np.clip(ramp**gamma * gain + lift, 0, 1)
    saturation = 0.0 if rng.random() < 0.03 * strength else float(np.exp(rng.normal(0, 0.3 * strength)))
    return Colours((table * 255 + 0.5).astype(np.uint8).reshape(256, 1, 3), saturation)


def recolour(image: NDArray[np.uint8], colours: Colours) -> NDArray[np.uint8]:
    """The image with changed saturation and the lookup table applied."""
    s = min(colours.saturation, 2.0)
    mix = s * np.eye(3) + (1 - s) * np.tile(GREY, (3, 1))
    return cv2.LUT(cv2.transform(image, mix), colours.table)


def add_noise(image: NDArray[np.uint8], options: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Random blur, sensor noise and JPEG compression, with the probabilities of `options`."""
    blur, noise, jpeg = rng.random(3)
    if blur < options.blur:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.3)))
    if noise < options.noise:
        grain = rng.standard_normal(image.shape, np.float32) * rng.uniform(2, 14)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if jpeg < options.jpeg:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])
        image = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return image


ColourStatistics = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean and deviation of each channel of an image in OpenCV's 8-bit Lab, [3, 1] each."""


def colour_statistics(image: NDArray[np.uint8]) -> ColourStatistics:
    """Statistics of an RGB image, from a quarter of its pixels."""
    return cv2.meanStdDev(cv2.cvtColor(np.ascontiguousarray(image[::2, ::2]), cv2.COLOR_RGB2LAB))


def stylise(
    image: NDArray[np.uint8], rng: np.random.Generator, colours: ColourStatistics | None = None
) -> NDArray[np.uint8]:
    """The image as if from another camera: strong random changes, each with a probability of its own.

    Mean and deviation of the colours become those of another image (Reinhard et al., Color transfer between images,
    2001) or random ones. Then follow a curve for each channel, uneven light, haze, blur or sharpening, coarse grain,
    noise and JPEG compression.
    """
    h, w = image.shape[:2]
    if colours is not None or rng.random() < 0.5:
        image = _recoloured(image, rng, colours)
    if rng.random() < 0.5:
        ramp = np.linspace(0, 1, 256)[:, None]
        curve = ramp ** np.exp(rng.normal(0, 0.3) + rng.normal(0, 0.1, 3))
        curve += np.sin(np.pi * ramp) * rng.normal(0, 0.08, 3)
        image = cv2.LUT(image, (np.clip(curve, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(256, 1, 3))
    light = np.zeros((h, w), np.float32)
    for chance, cells, strength in ((0.4, 4, 0.25), (0.3, max(h, w) // 6, 0.06)):
        if rng.random() < chance:
            coarse = rng.normal(0, strength, (max(2, cells * h // max(h, w)), cells)).astype(np.float32)
            light += cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
    haze = rng.uniform(0.1, 0.55) if rng.random() < 0.2 else 0.0
    if haze or light.any():
        # Haze is strongest at the horizon, near the middle of the image.
        density = haze * np.exp(-((np.linspace(-1, 1, h, dtype=np.float32)[:, None] / 0.6) ** 2))
        tone = rng.uniform(150, 230)
        lit = image * np.exp(light)[..., None] * (1 - density)[..., None] + (tone * density)[..., None]
        image = np.clip(lit, 0, 255).astype(np.uint8)
    sharp, noise, jpeg = rng.random(3)
    if sharp < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 2.0)))
    elif sharp < 0.6:
        soft = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.7, 1.5)))
        amount = float(rng.uniform(0.4, 1.5))
        image = cv2.addWeighted(image, 1 + amount, soft, -amount, 0)
    if noise < 0.4:
        grain = np.empty(image.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(grain, 0, float(rng.uniform(3, 18)))
        image = cv2.add(image, grain, dtype=cv2.CV_8U)
    if jpeg < 0.4:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])
        image = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return image


def _recoloured(
    image: NDArray[np.uint8], rng: np.random.Generator, colours: ColourStatistics | None
) -> NDArray[np.uint8]:
    mean, deviation = colour_statistics(image)
    if colours is None:
        wanted = mean + rng.normal(0, [[25], [8], [8]]), deviation * np.exp(rng.normal(0, [[0.3], [0.4], [0.4]]))
    else:
        part = rng.uniform(0.5, 1.0)
        wanted = tuple(a + part * (b - a) for a, b in zip((mean, deviation), colours, strict=True))
    ramp = np.arange(256)[None]
    table = (ramp - mean) * (wanted[1] / np.maximum(deviation, 1)) + wanted[0]
    table = np.clip(table + 0.5, 0, 255).astype(np.uint8).T.reshape(256, 1, 3)
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), table), cv2.COLOR_LAB2RGB)
