"""Statistics of one camera: rate, latency, drops, failures; memory does not grow with time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from time import monotonic

import numpy as np
from numpy.typing import NDArray

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
        frames_3d: frames with objects in 3D; `objects_3d` in them, and `objects_without_depth` beside them.
        depth_failures: message of each cause why a frame has no objects in 3D -> number; `depth_problem`: that of the
            latest frame, "" for none.
    """

    received: int = 0
    dropped: int = 0
    failed: int = 0
    frames: int = 0
    rate: float = 0.0
    p50: float | None = None
    p99: float | None = None
    objects: int = 0
    tracks: int = 0
    sequence_id: int = 0
    in_a_row: int = 0
    silent: float = 0.0
    frames_3d: int = 0
    objects_3d: int = 0
    objects_without_depth: int = 0
    depth_problem: str = ""
    depth_failures: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)


class Stats:
    """Collects the statistics of one camera; any thread may call."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._began = self._arrived = clock()
        self._counts = Figures()
        # Ring buffer of the latest frames: time of completion, milliseconds in total and in each stage.
        self._ring = np.zeros((_KEPT, 2 + len(STAGES)))
        self._lock = Lock()
        self.failures = MessageCounter()
        self.depth_failures = MessageCounter()

    def arrived(self) -> None:
        with self._lock:
            self._counts = replace(self._counts, received=self._counts.received + 1)
            self._arrived = self._clock()

    def dropped(self) -> None:
        with self._lock:
            self._counts = replace(self._counts, dropped=self._counts.dropped + 1)

    def done(self, milliseconds: float, result: PanopticFrame) -> None:
        """A frame whose messages are sent, so many milliseconds after it arrived."""
        stages = (result.milliseconds[stage] for stage in STAGES)
        with self._lock:
            frames = self._counts.frames
            self._ring[frames % _KEPT] = (self._clock(), milliseconds, *stages)
            self._counts = replace(
                self._counts,
                frames=frames + 1,
                in_a_row=0,
                objects=len(result.tracks),
                tracks=max(self._counts.tracks, max((t.track_id for t in result.tracks), default=0)),
                sequence_id=result.sequence_id,
            )

    def failed(self, message: str) -> bool:
        """An image that could not be used; whether its cause is new."""
        with self._lock:
            self._counts = replace(self._counts, in_a_row=self._counts.in_a_row + 1)
        return self.failures.add(message)

    def located(self, objects: int, without_depth: int) -> None:
        """A frame with so many objects in 3D, and so many visible ones without depth."""
        with self._lock:
            self._counts = replace(
                self._counts,
                frames_3d=self._counts.frames_3d + 1,
                objects_3d=self._counts.objects_3d + objects,
                objects_without_depth=self._counts.objects_without_depth + without_depth,
                depth_problem="",
            )

    def depth_failed(self, message: str) -> bool:
        """A frame without objects in 3D; whether its cause is new."""
        with self._lock:
            self._counts = replace(self._counts, depth_problem=message)
        return self.depth_failures.add(message)

    @property
    def in_a_row(self) -> int:
        return self._counts.in_a_row

    def drops(self) -> dict[str, int]:
        """Reason -> number of images so far that gave no result."""
        return {"replaced": self._counts.dropped, "unusable": self.failures.total}

    def figures(self) -> Figures:
        now = self._clock()
        with self._lock:
            counts, latest = self._counts, self._ring[: self._counts.frames].copy()
            silent = now - self._arrived
        recent = latest[now - latest[:, 0] <= RECENT]
        since = now - recent[:, 0].min() if len(recent) else 0.0
        p50, p99 = _percentiles(recent[:, 1])
        middle = np.median(latest[:, 2:], axis=0).tolist() if len(latest) else ()
        return replace(
            counts,
            failed=self.failures.total,
            rate=(len(recent) - 1) / since if since > 0 else 0.0,
            p50=p50,
            p99=p99,
            silent=silent,
            failures=self.failures.to_dict(),
            depth_failures=self.depth_failures.to_dict(),
            stages=dict(zip(STAGES, middle, strict=False)),
        )

    def to_json(self) -> dict:
        """The keys of `replay --json`; latency is measured from arrival, over the latest frames."""
        now = self.figures()
        with self._lock:
            p50, p99 = _percentiles(self._ring[: self._counts.frames, 1])
            seconds = self._clock() - self._began
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
            **({"depth": _depth(now)} if now.frames_3d or now.depth_failures else {}),
        }


def _depth(now: Figures) -> dict:
    """As in the JSON of `replay`."""
    return {
        "frames": now.frames_3d,
        "objects": now.objects_3d,
        "objects_without_depth": now.objects_without_depth,
        "failures": dict(now.depth_failures),
    }


def _percentiles(milliseconds: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The median and the 99th percentile; None without values."""
    return tuple(np.percentile(milliseconds, [50, 99]).tolist()) if len(milliseconds) else (None, None)
