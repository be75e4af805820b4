"""Where one recording ends and another begins: time that jumps back, a new image size, a long gap."""

from __future__ import annotations

from collections import deque
from statistics import median

from vps_ros.config import Config
from vps_ros.frame import Frame

_INTERVALS = 15


class SequenceWatch:
    """Numbers the sequences of one stream of frames.

    A gap is long when nothing that the memory holds could survive it: `memory_tau` seconds, or that many
    of the stream's usual intervals where the memory counts frames.
    """

    def __init__(self, config: Config) -> None:
        self.configure(config)
        self._intervals: deque[int] = deque(maxlen=_INTERVALS)
        self._last: tuple[int, tuple[int, ...]] | None = None
        self.id = 0

    def configure(self, config: Config) -> None:
        """Another memory from the next frame on; the sequence goes on."""
        self._tau = config.tracker_parameters.memory_tau
        self._in_seconds = config.tracker_parameters.memory_unit == "seconds"

    def starts(self, frame: Frame) -> bool:
        """Whether `frame` starts a sequence of its own (the very first frame does not: nothing came before)."""
        now = (frame.stamp, frame.image.shape[:2])
        before, self._last = self._last, now
        if before is None:
            return False
        elapsed = now[0] - before[0]
        if elapsed < 0 or now[1] != before[1] or elapsed > self._longest():
            self.restart()
            self._last = now
            return True
        if elapsed > 0:
            self._intervals.append(elapsed)
        return False

    def restart(self) -> None:
        """The next frame belongs to a new sequence whatever it is."""
        self.id += 1
        self._intervals.clear()
        self._last = None

    def _longest(self) -> float:
        if self._in_seconds:
            return self._tau * 1e9
        if not self._intervals:
            return float("inf")
        return (self._tau + 1) * median(self._intervals)
