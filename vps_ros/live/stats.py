"""Statistics of one camera: rate, latency, drops, failures; memory does not grow with time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import numpy as np

from vps_ros.frame import STAGES, PanopticFrame

RECENT = 10.0
"""Seconds over which rate and latency are computed."""
_KEPT = 10_000
_NUMBER = re.compile(r"\d+")


def cause_of(message: str) -> str:
    """The message with "#" for each number (stamp, size): equal for messages of the same cause."""
    return _NUMBER.sub("#", message)


class MessageCounter:
    """Counts messages by cause (`cause_of`), at most 100 causes; tells which message is the first of its cause."""

    _MOST = 100
    _REST = "further causes"

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, message: str) -> bool:
        """Counts a message; whether it is the first of its cause, which is to be logged."""
        cause = cause_of(message)
        with self._lock:
            if cause not in self._first and len(self._first) >= self._MOST:
                cause = message = self._REST
            new = cause not in self._first
            self._first.setdefault(cause, message)
            self._counts[cause] += 1
        return new

    @property
    def total(self) -> int:
        with self._lock:
            return self._counts.total()

    def to_dict(self) -> dict[str, int]:
        """The first message of each cause -> number of messages."""
        with self._lock:
            return {self._first[cause]: count for cause, count in self._counts.items()}


@dataclass(frozen=True)
class Figures:
    """Stats at one moment.

    Attributes:
        received: images that arrived; `dropped` of them were replaced by a newer one, `failed` could not be used.
        frames: images that were published as messages; `rate` of them per second, over the last RECENT seconds.
        p50, p99: milliseconds from the arrival of an image until its messages are sent, over the same time; None
            without a frame.
        stages: median milliseconds of each of STAGES over the latest frames of the run.
        objects: known to the tracker now; `tracks`: identities given so far.
        sequence_id: of the latest frame.
        failures: message of each cause -> number; `in_a_row`: failures since the last good frame.
        silent: seconds since the last image arrived, or since the start.
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
    """Collects the statistics of one camera; any thread may call."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._began = self._arrived = clock()
        self._received = self._dropped = self._frames = self._in_a_row = 0
        self._objects = self._tracks = self._sequence_id = 0
        # Ring buffer of the latest frames: time of completion, milliseconds in total and in each stage.
        self._ring = np.zeros((_KEPT, 2 + len(STAGES)))
        self._lock = Lock()
        self.failures = MessageCounter()

    def arrived(self) -> None:
        with self._lock:
            self._received += 1
            self._arrived = self._clock()

    def dropped(self) -> None:
        with self._lock:
            self._dropped += 1

    def done(self, milliseconds: float, result: PanopticFrame) -> None:
        """A frame whose messages are sent, so many milliseconds after it arrived."""
        stages = (result.milliseconds[stage] for stage in STAGES)
        with self._lock:
            self._ring[self._frames % _KEPT] = (self._clock(), milliseconds, *stages)
            self._frames += 1
            self._in_a_row = 0
            self._objects = len(result.tracks)
            self._tracks = max(self._tracks, max((t.track_id for t in result.tracks), default=0))
            self._sequence_id = result.sequence_id

    def failed(self, message: str) -> bool:
        """An image that could not be used; whether its cause is new."""
        with self._lock:
            self._in_a_row += 1
        return self.failures.add(message)

    @property
    def in_a_row(self) -> int:
        with self._lock:
            return self._in_a_row

    def figures(self) -> Figures:
        now = self._clock()
        with self._lock:
            latest = self._ring[: self._frames].copy()
            counts = (self._received, self._dropped, self._frames, self._in_a_row)
            objects, tracks, sequence_id = self._objects, self._tracks, self._sequence_id
            silent = now - self._arrived
        received, dropped, frames, in_a_row = counts
        recent = latest[now - latest[:, 0] <= RECENT]
        since = now - recent[:, 0].min() if len(recent) else 0.0
        p50, p99 = np.percentile(recent[:, 1], [50, 99]).tolist() if len(recent) else (None, None)
        middle = np.median(latest[:, 2:], axis=0).tolist() if frames else ()
        return Figures(
            received=received,
            dropped=dropped,
            failed=self.failures.total,
            frames=frames,
            rate=(len(recent) - 1) / since if since > 0 else 0.0,
            p50=p50,
            p99=p99,
            objects=objects,
            tracks=tracks,
            sequence_id=sequence_id,
            in_a_row=in_a_row,
            silent=silent,
            failures=self.failures.to_dict(),
            stages=dict(zip(STAGES, middle, strict=False)),
        )

    def to_json(self) -> dict:
        """The keys of `replay --json`; latency is measured from arrival, over the latest frames."""
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
