"""The usual time between the frames of a stream, whose stamps may have jitter and pauses."""

from __future__ import annotations

from collections import deque

_KEPT = 5
_FEW = 4
_MIN = 1_000_000
"""Nanoseconds. No camera is faster, so a shorter interval is no interval: the stamp was repeated."""


class FrameIntervals:
    """The last intervals between frames, in nanoseconds.

    Attributes:
        known: how many intervals have been measured, at most five.
        usual: the second longest of the last five; 0 while none is known. Neither a pause nor frames with almost equal
            stamps change it. Of fewer than four it is the longest: one that is too long does less harm, because
            velocities are differences of boxes divided by it.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._recent: deque[int] = deque(maxlen=_KEPT)
        self._last: int | None = None
        self.usual = 0

    @property
    def known(self) -> int:
        return len(self._recent)

    def add(self, stamp: int) -> None:
        """Takes the stamp of the next frame."""
        before, self._last = self._last, stamp
        if before is None or stamp - before < _MIN:
            return
        self._recent.append(stamp - before)
        self.usual = sorted(self._recent)[-1 if self.known < _FEW else -2]
