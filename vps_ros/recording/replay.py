"""Runs the pipeline on a recording: every frame, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import STAGES, Frame, PanopticFrame
from vps_ros.online import OnlinePanoptic

Sink = Callable[[Frame, PanopticFrame], None]


@dataclass
class Summary:
    """Figures of a replay, updated with every frame."""

    milliseconds: list[tuple[float, ...]] = field(default_factory=list)
    tracks: set[Hashable] = field(default_factory=set)
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, milliseconds: Mapping[str, float], tracks: Iterable[Hashable]) -> None:
        """Adds the times of a frame in STAGES, and identifiers of the objects that are tracked after it."""
        self.milliseconds.append(tuple(milliseconds[stage] for stage in STAGES))
        self.tracks.update(tracks)

    def to_json(self) -> dict:
        """The `--json` of `replay` and `track`: latency of the pipeline's step, fps of the whole command."""
        times = np.array(self.milliseconds).reshape(-1, len(STAGES))
        p50, p99 = np.percentile(times.sum(1), [50, 99])
        return {
            "frames": len(times),
            "tracks": len(self.tracks),
            "fps": len(times) / self.seconds,
            "latency_ms": {"p50": p50, "p99": p99, **dict(zip(STAGES, np.median(times, axis=0), strict=True))},
            "dropped": self.dropped.total(),
        }


def replay(frames: Iterable[Frame], pipeline: OnlinePanoptic, sinks: Iterable[Sink]) -> Summary:
    """Runs the pipeline on `frames` and passes each result to every sink.

    A frame that cannot be used is skipped and counted by its reason; raises InputError if no frame is left.
    """
    summary, sinks = Summary(), tuple(sinks)
    start = perf_counter()
    for frame in frames:
        try:
            result = pipeline.step(frame)
        except DroppedFrame as reason:
            summary.dropped[str(reason)] += 1
            continue
        summary.add(result.milliseconds, (track.track_id for track in result.tracks))
        for sink in sinks:
            sink(frame, result)
    summary.seconds = perf_counter() - start
    if not summary.milliseconds:
        first = f"; the first reason: {next(iter(summary.dropped))}" if summary.dropped else ""
        raise InputError(f"no frame could be used{first}")
    return summary
