"""Overlays: a panoptic frame drawn over its camera image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vps_ros.drawing.colors import identity_color, look_up, pack
from vps_ros.drawing.labels import Box, Style, dashed_box, draw_legend, outline, polyline, write_labels
from vps_ros.drawing.trails import Trails
from vps_ros.errors import InputError
from vps_ros.frame import THING_BASE, Frame, PanopticFrame, TrackState
from vps_ros.taxonomy import Taxonomy

_WHITE = (255, 255, 255)
_WIDEST = 4096


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
    lost: bool = False,
    min_height: int = 0,
) -> StampedImage:
    """The result over its image, uint8 RGB [H, W, 3]: stuff in the colours of classes, things in those of identities.

    Args:
        frame: the frame that was given to OnlinePanoptic.step, or its image, uint8 RGB [H, W, 3].
        result: what OnlinePanoptic.step returned for it.

    The other arguments are those of Overlay, which also draws trails and a legend. The returned image carries the stamp
    of `result`. Raises InputError when the image is not of the size of the result.
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

    Widths of lines and sizes of letters grow with the image.

    Attributes:
        taxonomy: names and colours of the classes.
        opacity: of the colour over the image, 0..1.
        labels: write class and id at each object, where there is space.
        lost: show lost objects as a faint dashed box at their predicted position.
        min_height: lower images are enlarged by an integer factor, for legible labels, but not beyond a width of 4096;
            0: never.
        trails: draw where each object was in the last seconds; give the frames in order then.
        legend: name the colours of the stuff classes seen so far, in the lower left corner.
    """

    taxonomy: Taxonomy
    opacity: float = 0.5
    labels: bool = True
    lost: bool = False
    min_height: int = 0
    trails: bool = False
    legend: bool = False

    def __call__(self, image: NDArray[np.uint8], frame: PanopticFrame) -> NDArray[np.uint8]:
        """The overlay, RGB uint8 [H, W, 3], of `image`, RGB uint8 [H, W, 3], which is not changed."""
        factor = max(min(-(-self.min_height // image.shape[0]), _WIDEST // image.shape[1]), 1)
        picture = self._paint(image, frame, factor)
        tracks = [t._replace(box=tuple(factor * v for v in t.box), area=t.area * factor**2) for t in frame.tracks]
        # Objects with a lower bottom edge are nearer: they are drawn last.
        visible = sorted((t for t in tracks if t.index >= 0), key=lambda t: t.box[3])
        style = Style.of(picture)
        for track in visible:
            outline(picture, frame.map, track, factor, style.line)
        if self.trails:
            for identity, points in self._trails.add(frame).items():
                polyline(picture, points * factor, identity_color(identity), style.line, closed=False)
        if self.lost:
            for track in tracks:
                if track.state == TrackState.LOST:
                    dashed_box(picture, track)
        taken = [self._draw_legend(picture, frame, style)] if self.legend else []
        if self.labels:
            titles = [f"{self.taxonomy.class_name(t.class_id)} {t.track_id}" for t in visible]
            write_labels(picture, visible, titles, style, taken)
        return picture

    def _paint(self, image: NDArray[np.uint8], frame: PanopticFrame, factor: int) -> NDArray[np.uint8]:
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
        void = cv2.compare(frame.map, 0, cv2.CMP_EQ)
        if cv2.countNonZero(void):
            cv2.copyTo(image, void, colors)
        if factor > 1:
            # Enlarging the colours linearly smooths the steps between the pixels of the map.
            size = image.shape[1] * factor, image.shape[0] * factor
            image, colors = (cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in (image, colors))
        return cv2.addWeighted(image, 1 - self.opacity, colors, self.opacity, 0)

    @cached_property
    def _stuff_colors(self) -> NDArray[np.uint32]:
        """uint32 [THING_BASE], the packed colour of each segment id of stuff."""
        table = np.zeros(THING_BASE, np.uint32)
        for info in self.taxonomy.classes:
            table[1 + info.id] = pack(info.color)
        return table

    @cached_property
    def _trails(self) -> Trails:
        return Trails()

    @cached_property
    def _stuff_seen(self) -> set[int]:
        return set()

    def _draw_legend(self, picture: NDArray[np.uint8], frame: PanopticFrame, style: Style) -> Box:
        least = frame.map.size // 200
        self._stuff_seen.update(s.class_id for s in frame.segments if not s.is_thing and s.area >= least)
        entries = [(c.name, c.color) for c in self.taxonomy.classes if c.id in self._stuff_seen]
        return draw_legend(picture, entries, style)
