"""Sequences of one stream of frames: where a new one starts, and the usual time between frames."""

from __future__ import annotations

from collections import deque

from vps_ros.frame import Frame

_KEPT = 5
_FEW = 4
_MIN = 1_000_000
"""Nanoseconds. No camera is faster, so a shorter interval is no interval: the stamp was repeated."""
_FIRST_INTERVALS = 2
"""Intervals that must be known before a gap is compared with them; one alone may be that of two images at once."""


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


class SequenceMonitor:
    """Numbers the sequences of one stream of frames.

    A sequence starts where time goes back, the image size changes, or there is a gap longer than the tracker's memory:
    `memory_tau` seconds, or, where the memory counts frames, more than `memory_tau` + 1 usual intervals (rounded).

    Attributes:
        id: number of the sequence, from 0.
    """

    def __init__(self) -> None:
        self._intervals = FrameIntervals()
        self._last: tuple[int, tuple[int, ...]] | None = None
        self.id = 0

    def starts(self, frame: Frame, memory_tau: float, in_seconds: bool) -> bool:
        """Whether `frame` starts a sequence after another one; False for the very first frame."""
        stamp, size = frame.stamp, frame.image.shape[:2]
        new = self._last is not None and (
            size != self._last[1] or not 0 <= stamp - self._last[0] <= self._longest_gap(memory_tau, in_seconds)
        )
        if new:
            self.restart()
        self._last = stamp, size
        self._intervals.add(stamp)
        return new

    def restart(self) -> None:
        """Starts a sequence with the next frame."""
        self.id += 1
        self._intervals.clear()
        self._last = None

    def _longest_gap(self, memory_tau: float, in_seconds: bool) -> float:
        """Nanoseconds."""
        if in_seconds:
            return memory_tau * 1e9
        if self._intervals.known < _FIRST_INTERVALS:
            return float("inf")
        # Half an interval for jitter: a limit at a multiple of the interval would depend on it.
        return (memory_tau + 1.5) * self._intervals.usual
