"""How one camera fares: rate, latency, drops, failures; memory does not grow with time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import numpy as np

from vps_ros.frame import STAGES, PanopticFrame
from vps_ros.live.causes import Causes

RECENT = 10.0
"""Seconds that rate and latency are taken over."""
_KEPT = 10_000


@dataclass(frozen=True)
class Figures:
    """Stats at one moment.

    Attributes:
        received: images that came in; `dropped` of them gave way to a newer one, `failed` could not be used.
        frames: those that became messages.
        rate: of these, a second, over the last RECENT seconds.
        p50, p99: milliseconds from an image's coming in until its messages are out, over the same time; None: no frame.
        stages: median milliseconds of each of STAGES over the latest frames of the run.
        objects: those the tracker knows now; `tracks`: identities given so far.
        sequence_id: of the latest frame.
        failures: what went wrong -> how often; `in_a_row`: since the last good frame.
        silent: seconds since the last image came in, or since the start.
    """

    received: int
    dropped: int
    failed: int
    frames: int
    rate: float
    p50: float | None
    p99: float | None
    objects: int
    tracks: int
    sequence_id: int
    in_a_row: int
    silent: float
    failures: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)


class Stats:
    """Counts what happens to one camera's images; any thread may call."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._began = self._arrived = clock()
        self._received = self._dropped = self._frames = self._in_a_row = 0
        self._objects = self._tracks = self._sequence_id = 0
        # A ring of the latest frames: when each was done, its milliseconds in all, and in each stage.
        self._ring = np.zeros((_KEPT, 2 + len(STAGES)))
        self._lock = Lock()
        self.causes = Causes()

    def arrived(self) -> None:
        with self._lock:
            self._received += 1
            self._arrived = self._clock()

    def dropped(self) -> None:
        with self._lock:
            self._dropped += 1

    def done(self, milliseconds: float, result: PanopticFrame) -> None:
        """A frame whose messages are out, so long after it came in."""
        stages = (result.milliseconds[stage] for stage in STAGES)
        with self._lock:
            self._ring[self._frames % _KEPT] = (self._clock(), milliseconds, *stages)
            self._frames += 1
            self._in_a_row = 0
            self._objects = len(result.tracks)
            self._tracks = max(self._tracks, max((t.track_id for t in result.tracks), default=0))
            self._sequence_id = result.sequence_id

    def failed(self, message: str) -> bool:
        """An image that could not be used; whether its cause is a new one."""
        with self._lock:
            self._in_a_row += 1
        return self.causes.add(message)

    @property
    def in_a_row(self) -> int:
        with self._lock:
            return self._in_a_row

    def figures(self) -> Figures:
        now = self._clock()
        with self._lock:
            latest = self._ring[: self._frames].copy()
            counts = (self._received, self._dropped, self._frames, self._in_a_row)
            knows = (self._objects, self._tracks, self._sequence_id)
            silent = now - self._arrived
        received, dropped, frames, in_a_row = counts
        recent = latest[now - latest[:, 0] <= RECENT]
        since = now - recent[:, 0].min() if len(recent) else 0.0
        p50, p99 = np.percentile(recent[:, 1], [50, 99]).tolist() if len(recent) else (None, None)
        middle = np.median(latest[:, 2:], axis=0).tolist() if frames else ()
        return Figures(
            received=received,
            dropped=dropped,
            failed=self.causes.total,
            frames=frames,
            rate=(len(recent) - 1) / since if since > 0 else 0.0,
            p50=p50,
            p99=p99,
            objects=knows[0],
            tracks=knows[1],
            sequence_id=knows[2],
            in_a_row=in_a_row,
            silent=silent,
            failures=self.causes.to_dict(),
            stages=dict(zip(STAGES, middle, strict=False)),
        )

    def to_json(self) -> dict:
        """As the `--json` of `replay`, latency over the latest frames of the run and from an image's coming in."""
        now = self.figures()
        with self._lock:
            latest = self._ring[: self._frames, 1].copy()
            seconds = self._clock() - self._began
        p50, p99 = np.percentile(latest, [50, 99]).tolist() if len(latest) else (None, None)
        return {
            "frames": now.frames,
            "tracks": now.tracks,
            "fps": now.frames / max(seconds, 1e-3),
            "latency_ms": {"p50": p50, "p99": p99, **{stage: now.stages.get(stage) for stage in STAGES}},
            "received": now.received,
            "dropped": now.dropped,
            "failed": now.failed,
            "failures": dict(now.failures),
            "sequences": now.sequence_id + 1 if now.frames else 0,
        }
