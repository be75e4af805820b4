"""What an overlay writes and draws at objects: labels that do not overlap, outlines, lines, and the legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.drawing.colors import Color, identity_color, text_color
from vps_ros.frame import Track

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, half-open."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHIFT = 4
"""Bits of a fraction of a pixel, with which OpenCV draws smooth lines."""
_SMOOTHED = 4
"""Points of a contour over which each of its points is averaged, for a line of one pixel."""
_STEP = 3
"""Of the smoothed points, each such one is drawn, for a line of one pixel: many short lines are slow."""
_LEAST = 30
"""Points of a drawn contour at least, where it has so many."""
_INSIDE = 3
"""A label lies within its object if that has so many times its area; objects smaller than that stay uncovered."""


@dataclass(frozen=True)
class Style:
    """Sizes for an image.

    Attributes:
        line: width of outlines, pixels.
        scale, weight: of letters, for OpenCV.
        pad: space around a text, pixels.
    """

    line: int
    scale: float
    weight: int
    pad: int

    @classmethod
    def of(cls, picture: NDArray[np.uint8]) -> Style:
        """For pictures that are shown as wide as the screen: 1 at 1280x720."""
        height, width = picture.shape[:2]
        size = max(width / 1280, height / 720)
        return cls(
            line=max(1, round(1.5 * size)),
            scale=float(np.clip(0.45 * size, 0.36, 2.0)),
            weight=max(1, round(size)),
            pad=max(2, round(3 * size)),
        )

    def measure(self, text: str) -> tuple[int, int, int]:
        """Width, height of letters, and depth below the base line of a text."""
        (width, height), below = cv2.getTextSize(text, _FONT, self.scale, self.weight)
        return width, height, below

    def write(self, picture: NDArray[np.uint8], text: str, x: int, y: int, color: Color) -> None:
        """`y`: of the base line."""
        cv2.putText(picture, text, (x, y), _FONT, self.scale, color, self.weight, cv2.LINE_AA)


def write_labels(
    picture: NDArray[np.uint8], tracks: Sequence[Track], titles: Sequence[str], style: Style, taken: Sequence[Box] = ()
) -> None:
    """Writes a title at each object, on the colour of its identity.

    A label covers neither another label, nor an object that is small compared with it. An object for which there is no
    such place has no label. Large objects come first.

    Args:
        taken: places that must stay free.
    """
    boxes = np.array([t.box for t in tracks], np.float64).reshape(-1, 4)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    labels = np.array(taken, np.float64).reshape(-1, 4)
    for i in sorted(range(len(tracks)), key=lambda i: -tracks[i].area):
        width, height, below = style.measure(titles[i])
        size = width + 2 * style.pad, height + below + style.pad
        small = areas < _INSIDE * size[0] * size[1]
        forbidden = np.concatenate([labels, boxes[small]])
        place = next(
            (p for p in _places(tracks[i].box, size, picture.shape, not small[i]) if is_free(p, forbidden)), None
        )
        if place is None:
            continue
        labels = np.concatenate([labels, [place]])
        color = identity_color(tracks[i].track_id)
        x0, y0, x1, y1 = place
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), color, cv2.FILLED)
        style.write(picture, titles[i], x0 + style.pad, y0 + height + style.pad // 2, text_color(color))


def _places(box: Sequence[float], size: tuple[int, int], shape: tuple[int, ...], inside: bool) -> Iterator[Box]:
    """Places for a label of `size` at a box: around it, and within it if it is large; moved into the image."""
    wide, high = size
    left, top, right, bottom = (round(v) for v in box)
    middle = (left + right - wide) // 2
    around = [(left, top - high), (right - wide, top - high), (middle, top - high)]
    around += [(left, bottom), (right - wide, bottom), (middle, bottom), (right, top), (left - wide, top)]
    around += [(right, bottom - high), (left - wide, bottom - high)]
    within = [(left, top), (right - wide, top), (middle, (top + bottom - high) // 2)]
    within += [(left, bottom - high), (right - wide, bottom - high), (middle, top), (middle, bottom - high)]
    for x, y in (within[:1] + around[:1] + within[1:] + around) if inside else around:
        x, y = max(0, min(x, shape[1] - wide)), max(0, min(y, shape[0] - high))
        yield x, y, x + wide, y + high


def is_free(place: Sequence[float] | NDArray[np.float64], forbidden: NDArray[np.float64]) -> bool:
    """Whether a box [4] overlaps none of the boxes [N, 4]."""
    x0, y0, x1, y1 = place
    left, top, right, bottom = forbidden.T
    return not ((x0 < right) & (left < x1) & (y0 < bottom) & (top < y1)).any()


def outline(picture: NDArray[np.uint8], segment_ids: NDArray[np.uint16], track: Track, factor: int, width: int) -> None:
    """Draws the smoothed contours of a visible object in the colour of its identity.

    Args:
        segment_ids: uint16 [H, W], PanopticFrame.map.
        track: its box is that in the picture.
        factor: by which the picture is larger than the map.
    """
    height, length = segment_ids.shape
    left, top = (max(int(v // factor) - 1, 0) for v in track.box[:2])
    right, bottom = (min(int(-(-v // factor)) + 1, end) for v, end in zip(track.box[2:], (length, height), strict=True))
    if left >= right or top >= bottom:
        return
    mask = cv2.compare(segment_ids[top:bottom, left:right], track.segment_id, cv2.CMP_EQ)
    # A border of zeros, so that contours are closed at the edges of the image.
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    color = identity_color(track.track_id)
    half = _SMOOTHED * width // 2
    for contour in contours:
        points = contour[:, 0].astype(np.float32) + (left + 0.5, top + 0.5)
        if len(points) > 4 * half:
            total = np.cumsum(np.concatenate([np.zeros((1, 2)), points[-half:], points, points[:half]]), axis=0)
            points = (total[2 * half + 1 :] - total[: -2 * half - 1]) / (2 * half + 1)
            points = points[:: max(1, min(_STEP * width, len(points) // _LEAST))]
        polyline(picture, points * factor - 0.5, color, width, closed=True)


def polyline(picture: NDArray[np.uint8], points: NDArray[np.floating], color: Color, width: int, closed: bool) -> None:
    """Draws a smooth line through points, [N, 2] x and y in pixels."""
    fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(picture, [fixed], closed, color, width, cv2.LINE_AA, _SHIFT)


def dashed_box(picture: NDArray[np.uint8], track: Track) -> None:
    """A faint dashed box, for an object that is not seen."""
    height, width = picture.shape[:2]
    if not np.isfinite(track.box).all():
        return
    x0, y0, x1, y1 = (int(np.clip(v, -width, 2 * width)) for v in track.box)
    color, dash = identity_color(track.track_id), max(3, height // 90)
    left, right = np.clip((min(x0, x1), max(x0, x1) + 1), 0, width).tolist()
    top, bottom = np.clip((min(y0, y1), max(y0, y1) + 1), 0, height).tolist()
    if left >= right or top >= bottom:
        return
    before = picture[top:bottom, left:right].copy()
    for x in range(x0, x1, 2 * dash):
        for y in (y0, y1):
            cv2.line(picture, (x, y), (min(x + dash, x1), y), color, 1)
    for y in range(y0, y1, 2 * dash):
        for x in (x0, x1):
            cv2.line(picture, (x, y), (x, min(y + dash, y1)), color, 1)
    part = picture[top:bottom, left:right]
    cv2.addWeighted(part, 0.6, before, 0.4, 0, dst=part)


def draw_legend(picture: NDArray[np.uint8], entries: Sequence[tuple[str, Color]], style: Style) -> Box:
    """Draws samples of colours with their names in the lower left corner, in rows as wide as the picture; its place."""
    if not entries:
        return 0, 0, 0, 0
    height, width = picture.shape[:2]
    _, letters, below = style.measure("Ag")
    row = letters + below + style.pad
    rows: list[list[tuple[int, str, Color]]] = [[]]
    x = style.pad
    for name, color in entries:
        length = letters + style.pad + style.measure(name)[0] + 3 * style.pad
        if x + length > width and rows[-1]:
            rows.append([])
            x = style.pad
        rows[-1].append((x, name, color))
        x += length
    right = width if len(rows) > 1 else min(x, width)
    top = max(height - row * len(rows) - style.pad, 0)
    background = picture[top:, :right]
    cv2.addWeighted(background, 0.35, np.zeros_like(background), 0.65, 0, dst=background)
    for number, line in enumerate(rows):
        base = top + style.pad + number * row + letters
        for x, name, color in line:
            cv2.rectangle(picture, (x, base - letters), (x + letters - 1, base - 1), color, cv2.FILLED)
            style.write(picture, name, x + letters + style.pad, base, (255, 255, 255))
    return 0, top, right, height
