"""What is done to a pair of frames before the network sees it: the same view change to both, own noise to each."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.learning.clips import Picture
from vps_ros.learning.recipe import Augmentation
from vps_ros.learning.sides import CELLS, Grid
from vps_ros.taxonomy import VOID_ID

GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class View:
    """float64 [2, 3]: pixel centres of the source to pixel centres of an output of `size` (width, height)."""

    matrix: NDArray[np.float64]
    size: tuple[int, int]


def plain_view(source: tuple[int, int], size: tuple[int, int], keep_aspect: bool = False) -> View:
    """The whole source (width, height), scaled to `size`; with `keep_aspect` into its upper left."""
    sx, sy = size[0] / source[0], size[1] / source[1]
    if keep_aspect:
        sx = sy = min(sx, sy)
    return View(np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5]]), size)


@dataclass(frozen=True)
class Scale:
    """What counts as the scale of 1 for zoom: `size` is what a source is brought to, or None for its own size."""

    size: tuple[int, int] | None = None
    keep_aspect: bool = False

    def of(self, source: tuple[int, int]) -> NDArray[np.float64]:
        """Horizontal and vertical factor."""
        factors = np.divide(self.size or source, source)
        return np.repeat(factors.min(), 2) if self.keep_aspect else factors


OWN_SCALE = Scale()


def random_view(
    source: tuple[int, int],
    size: tuple[int, int],
    options: Augmentation,
    rng: np.random.Generator,
    scale: Scale = OWN_SCALE,
) -> View:
    """A scaled, cropped, rotated, mirrored view, by the chances of `options`."""
    w, h = size
    if rng.random() < options.zoom:
        low, high = np.log(options.zoom_range)
        zx, zy = np.exp(rng.uniform(low, high)) * np.exp(rng.uniform(-0.08, 0.08, 2)) * scale.of(source)
        # Where the source is larger, any crop; where it is smaller, any place within the view.
        dx, dy = rng.uniform(0, 1, 2) * (w - zx * source[0], h - zy * source[1])
        matrix = np.array([[zx, 0, dx + 0.5 * zx - 0.5], [0, zy, dy + 0.5 * zy - 0.5], [0, 0, 1]])
    else:
        matrix = np.vstack([plain_view(source, size, scale.keep_aspect).matrix, [0, 0, 1]])
    if rng.random() < options.rotate:
        angle = rng.normal(0, 2.0)
        turn = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), float(angle), 1.0)
        matrix = np.vstack([turn, [0, 0, 1]]) @ matrix
    if rng.random() < options.flip:
        matrix = np.array([[-1, 0, w - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return View(matrix[:2], size)


def view_image(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] seen through the view; grey where the source has nothing."""
    shrinks = abs(np.linalg.det(view.matrix[:, :2])) < 0.3
    if shrinks:
        # Linear interpolation would skip pixels: average first.
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
    grid: Grid = CELLS,
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """The labels through the view on a grid; void where the source has nothing.

    With `choice` (int64 [h, w], 0..3: row * 2 + column) they are read at the centre of that quarter of each cell.
    """
    if choice is None:
        return _labels_at(semantic, instance, view, grid)
    halves = _labels_at(semantic, instance, view, Grid(grid.stride // 2))
    y, x = np.indices(choice.shape) * 2
    place = (y + choice // 2, x + choice % 2)
    return halves[0][place], halves[1][place]


def _labels_at(
    semantic: NDArray[np.uint8], instance: NDArray[np.integer], view: View, grid: Grid
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    s, shift = 1 / grid.stride, 0.0 if grid.aligned else 0.5 / grid.stride - 0.5
    matrix = np.array([[s, 0, shift], [0, s, shift]]) @ np.vstack([view.matrix, [0, 0, 1]])
    options = {"flags": cv2.INTER_NEAREST, "borderMode": cv2.BORDER_CONSTANT}
    size = grid.of(view.size)
    return (
        cv2.warpAffine(semantic, matrix, size, borderValue=VOID_ID, **options),
        cv2.warpAffine(instance, matrix, size, borderValue=0, **options),
    )


def see(picture: Picture, view: View, choice: NDArray[np.int64] | None = None, grid: Grid = CELLS) -> Picture:
    """The picture through the view: the image at its size, the labels on the grid."""
    return Picture(view_image(picture.image, view), *view_labels(*picture[1:], view, choice, grid))


@dataclass(frozen=True)
class Colours:
    """A camera's rendering of colour: one table for each channel, and how much of the colour is left."""

    table: NDArray[np.uint8]
    saturation: float


def random_colours(strength: float, rng: np.random.Generator) -> Colours:
    """Brightness, contrast, gamma, white balance and saturation, wider with `strength` (0 changes nothing)."""
    ramp = np.linspace(0, 1, 256)[:, None]
    gamma = np.exp(rng.normal(0, 0.25 * strength))
    gain = np.exp(rng.normal(0, 0.2 * strength) + rng.normal(0, 0.06 * strength, 3))
    lift = rng.normal(0, 0.05 * strength, 3) * 0.5 + rng.normal(0, 0.04 * strength)
    table = np.clip(ramp**gamma * gain + lift, 0, 1)
    saturation = 0.0 if rng.random() < 0.03 * strength else float(np.exp(rng.normal(0, 0.3 * strength)))
    return Colours((table * 255 + 0.5).astype(np.uint8).reshape(256, 1, 3), saturation)


def recolour(image: NDArray[np.uint8], colours: Colours) -> NDArray[np.uint8]:
    """The image through the tables, moved away from or towards its grey."""
    s = min(colours.saturation, 2.0)
    mix = s * np.eye(3) + (1 - s) * np.tile(GREY, (3, 1))
    return cv2.LUT(cv2.transform(image, mix), colours.table)


def degrade(image: NDArray[np.uint8], options: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur, sensor noise and compression, by the chances of `options`."""
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
