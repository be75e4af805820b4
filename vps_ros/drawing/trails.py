"""Trails: where the visible objects were in the last frames, in image coordinates."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vps_ros.frame import PanopticFrame

SECONDS = 2.0
"""Length of a trail."""


class Trails:
    """The positions of each tracked object, the middle of the lower edge of its box, of the last SECONDS.

    Give it the frames of one camera in order. A new sequence, or time that goes back, removes all trails.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._length = round(seconds * 1e9)
        self._points: dict[int, deque[tuple[int, float, float]]] = {}
        self._last: tuple[int, int] | None = None

    def add(self, frame: PanopticFrame) -> Mapping[int, NDArray[np.float32]]:
        """Track id -> float32 [N, 2], x and y in pixels, oldest first, N >= 2; of the objects that are visible now."""
        if self._last is not None and (frame.sequence_id != self._last[0] or frame.stamp < self._last[1]):
            self._points.clear()
        self._last = frame.sequence_id, frame.stamp
        known = {track.track_id for track in frame.tracks}
        self._points = {identity: points for identity, points in self._points.items() if identity in known}
        found = {}
        for track in frame.visible:
            points = self._points.setdefault(track.track_id, deque())
            points.append((frame.stamp, (track.box[0] + track.box[2]) / 2, track.box[3]))
            while frame.stamp - points[0][0] > self._length:
                points.popleft()
            if len(points) > 1:
                found[track.track_id] = np.array([point[1:] for point in points], np.float32)
        return found
