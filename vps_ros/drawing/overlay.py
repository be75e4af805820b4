"""Overlays: a panoptic frame drawn over its camera image. Colours of identities, and painted label maps."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import THING_BASE, Frame, PanopticFrame, Track, TrackState
from vps_ros.taxonomy import VOID_ID, Taxonomy

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE = (255, 255, 255)
_WIDEST = 4096

GOLDEN = 0.6180339887498949
"""Hues at multiples of this share of the colour circle are spread evenly for any number of ids."""
_SHADES = ((0.75, 1.0), (0.55, 0.95), (0.95, 0.85))

Box = tuple[int, int, int, int]
Color = tuple[int, int, int]


class StampedImage(np.ndarray):
    """An array with a `stamp` in nanoseconds, for VideoWriter. Slices keep it, results of arithmetic do not."""

    stamp: int | None

    def __array_finalize__(self, source: object) -> None:
        self.stamp = getattr(source, "stamp", None)

    def __array_wrap__(self, array: NDArray[Any], context: Any = None, return_scalar: bool = False) -> Any:
        return np.asarray(array)[()]


def draw(
    frame: Frame | NDArray[np.uint8],
    result: PanopticFrame,
    *,
    opacity: float = 0.5,
    labels: bool = True,
    lost: bool = True,
    min_height: int = 0,
) -> StampedImage:
    """The result over its image, uint8 RGB [H, W, 3]: stuff in the colours of classes, things in those of identities.

    Args:
        frame: the frame that was given to OnlinePanoptic.step, or its image, uint8 RGB [H, W, 3].
        result: what OnlinePanoptic.step returned for it.

    The other arguments are those of Overlay. The returned image carries the stamp of `result`. Raises InputError when
    the image is not of the size of the result.
    """
    image = frame.image if isinstance(frame, Frame) else frame
    if image.shape != (*result.map.shape, 3):
        raise InputError(
            f"draw: image is {list(image.shape)}, the result is of {[*result.map.shape, 3]}; give its frame"
        )
    drawn = Overlay(result.taxonomy, opacity, labels, lost, min_height)(image, result).view(StampedImage)
    drawn.stamp = result.stamp
    return drawn


@dataclass(frozen=True)
class Overlay:
    """Paints panoptic frames over their images: stuff by class, things by identity, each object with id and class.

    Attributes:
        taxonomy: names and colours of the classes.
        opacity: of the colour over the image, 0..1.
        labels: write class and id at each object.
        lost: show lost objects as a faint dashed box at their predicted position.
        min_height: lower images are enlarged by an integer factor, for legible labels, but not beyond a width of 4096;
            0: never.
    """

    taxonomy: Taxonomy
    opacity: float = 0.5
    labels: bool = True
    lost: bool = True
    min_height: int = 0

    def __call__(self, image: NDArray[np.uint8], frame: PanopticFrame) -> NDArray[np.uint8]:
        """The overlay, RGB uint8 [H, W, 3], of `image`, RGB uint8 [H, W, 3], which is not changed."""
        factor = min(-(-self.min_height // image.shape[0]), _WIDEST // image.shape[1])
        if factor > 1:
            image, frame = _enlarged(image, frame, factor)
        picture = self._paint(image, frame)
        tracks = [t for t in frame.tracks if self.lost or t.state != TrackState.LOST]
        # Objects with a lower bottom edge are nearer: they are drawn last.
        tracks.sort(key=lambda t: t.box[3])
        for track in tracks:
            if track.state == TrackState.LOST:
                _dashed_box(picture, track)
        if self.labels:
            self._write_labels(picture, [t for t in tracks if t.index >= 0])
        return picture

    def _paint(self, image: NDArray[np.uint8], frame: PanopticFrame) -> NDArray[np.uint8]:
        last = max((s.segment_id for s in frame.segments), default=0)
        table = np.zeros(max(last + 1, THING_BASE), np.uint32)
        table[:THING_BASE] = self._stuff_colors
        for segment in frame.segments:
            if segment.track_id:
                table[segment.segment_id] = pack(identity_color(segment.track_id))
            elif segment.segment_id >= THING_BASE:
                info = self.taxonomy.by_id.get(segment.class_id)
                table[segment.segment_id] = pack(info.color if info else _WHITE)
        colors = cv2.cvtColor(look_up(table, frame.map), cv2.COLOR_RGBA2RGB)
        picture = cv2.addWeighted(image, 1 - self.opacity, colors, self.opacity, 0)
        void = cv2.compare(frame.map, 0, cv2.CMP_EQ)
        if cv2.countNonZero(void):
            cv2.copyTo(image, void, picture)
        if last >= THING_BASE:
            cv2.copyTo(np.full_like(picture, 255), _thing_edges(frame.map), picture)
        return picture

    @cached_property
    def _stuff_colors(self) -> NDArray[np.uint32]:
        """uint32 [THING_BASE], the packed colour of each segment id of stuff."""
        table = np.zeros(THING_BASE, np.uint32)
        for info in self.taxonomy.classes:
            table[1 + info.id] = pack(info.color)
        return table

    def _write_labels(self, picture: NDArray[np.uint8], tracks: Sequence[Track]) -> None:
        height = picture.shape[0]
        scale = float(np.clip(height / 1080 * 0.7, 0.33, 2.0))
        weight = max(1, round(height / 720))
        taken: list[Box] = []
        # Labels of the largest objects are placed first.
        for track in sorted(tracks, key=lambda t: -t.area):
            text = f"{self.taxonomy.class_name(track.class_id)} {track.track_id}"
            (wide, high), below = cv2.getTextSize(text, _FONT, scale, weight)
            size = wide + 4, high + below + 2
            place = _label_position(track, size, picture.shape, taken)
            if place is None:
                continue
            taken.append(place)
            color = identity_color(track.track_id)
            x0, y0, x1, y1 = place
            cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), color, cv2.FILLED)
            cv2.putText(picture, text, (x0 + 2, y0 + high + 1), _FONT, scale, text_color(color), weight, cv2.LINE_AA)


def _enlarged(image: NDArray[np.uint8], frame: PanopticFrame, factor: int) -> tuple[NDArray[np.uint8], PanopticFrame]:
    size = image.shape[1] * factor, image.shape[0] * factor
    boxes = ((x0 * factor, y0 * factor, x1 * factor, y1 * factor) for x0, y0, x1, y1 in (t.box for t in frame.tracks))
    rows = zip(frame.tracks, boxes, strict=True)
    tracks = tuple(t._replace(box=box, area=t.area * factor**2) for t, box in rows)
    segment_ids = cv2.resize(frame.map, size, interpolation=cv2.INTER_NEAREST)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), replace(frame, map=segment_ids, tracks=tracks)


def _thing_edges(segment_ids: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """255 where a pixel's right or lower neighbour belongs to something else and one of the two is a thing."""
    things = cv2.max(segment_ids, THING_BASE - 1)
    edges = np.zeros(things.shape, np.uint8)
    cv2.compare(things[:, 1:], things[:, :-1], cv2.CMP_NE, edges[:, :-1])
    edges[:-1] |= cv2.compare(things[1:], things[:-1], cv2.CMP_NE)
    return edges


def _label_position(track: Track, size: tuple[int, int], shape: tuple[int, ...], taken: Sequence[Box]) -> Box | None:
    """A position at the object where the label covers no other; for a large object the first, for a small one None."""
    wide, high = size
    left, top, right, bottom = (round(v) for v in track.box)
    corners = (
        (left, top - high),
        (left, top),
        (right - wide, top - high),
        ((left + right - wide) // 2, (top + bottom - high) // 2),
        (left, bottom),
        (right, top),
        (left - wide, top),
    )
    places = []
    for x, y in corners:
        x, y = max(0, min(x, shape[1] - wide)), max(0, min(y, shape[0] - high))
        places.append((x, y, x + wide, y + high))
    for place in places:
        x0, y0, x1, y1 = place
        if not any(x0 < other[2] and other[0] < x1 and y0 < other[3] and other[1] < y1 for other in taken):
            return place
    return places[0] if track.area >= wide * high else None


def _dashed_box(picture: NDArray[np.uint8], track: Track) -> None:
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


@lru_cache(maxsize=4096)
def identity_color(identity: int) -> Color:
    """RGB of an object: the same for the same id, with a hue far from those of the ids before and after it."""
    saturation, value = _SHADES[identity % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(identity * GOLDEN % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_color(color: Color) -> Color:
    """Black or white, whichever has more contrast with `color`."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def pack(color: Color) -> int:
    """The colour as the uint32 whose bytes in memory are R, G, B, 255."""
    return int(np.array([*color, 255], np.uint8).view(np.uint32)[0])


def look_up(table: NDArray[np.uint32], ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """uint8 [H, W, 4] RGBA of `table` at `ids` [H, W]; 32 bits per pixel are five times faster than 4 bytes."""
    return np.take(table, ids, mode="clip").view(np.uint8).reshape(*ids.shape, 4)


def paint_map(taxonomy: Taxonomy, semantic: NDArray[np.integer], instance: NDArray[np.integer]) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] of class ids and instances [H, W]: things in the colour of their instance, void black."""
    table = np.full(max(VOID_ID, *taxonomy.by_id) + 1, pack((0, 0, 0)), np.uint32)
    is_thing = np.zeros(len(table), bool)
    for info in taxonomy.classes:
        table[info.id] = pack(info.color)
        is_thing[info.id] = info.isthing
    picture = look_up(table, semantic)[..., :3].copy()
    of_thing = np.take(is_thing, semantic, mode="clip") & (np.asarray(instance) > 0)
    ids, index = np.unique(np.asarray(instance)[of_thing], return_inverse=True)
    colors = np.array([identity_color(int(i)) for i in ids], np.uint8).reshape(-1, 3)
    picture[of_thing] = colors[index]
    return picture
