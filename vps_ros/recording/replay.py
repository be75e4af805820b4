"""The node's work on a recorded drive: every frame in order, none dropped for being late."""

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
    """What a replay did; grows frame by frame."""

    milliseconds: list[tuple[float, ...]] = field(default_factory=list)
    tracks: set[Hashable] = field(default_factory=set)
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, milliseconds: Mapping[str, float], tracks: Iterable[Hashable]) -> None:
        """A frame's time in each of STAGES, and the objects known after it, by whatever tells them apart."""
        self.milliseconds.append(tuple(milliseconds[stage] for stage in STAGES))
        self.tracks.update(tracks)

    def to_json(self) -> dict:
        """The `--json` of `replay` and `track`: latencies are of the pipeline's step, fps of the whole command."""
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
    """Steps the pipeline over `frames` and hands each result to every sink.

    A frame that cannot be used is counted by its reason and skipped; raises InputError when that is all of them.
    """
    summary, sinks = Summary(), tuple(sinks)
    began = perf_counter()
    for frame in frames:
        try:
            result = pipeline.step(frame)
        except DroppedFrame as reason:
            summary.dropped[str(reason)] += 1
            continue
        summary.add(result.milliseconds, (track.track_id for track in result.tracks))
        for sink in sinks:
            sink(frame, result)
    summary.seconds = perf_counter() - began
    if not summary.milliseconds:
        why = f"; the first reason: {next(iter(summary.dropped))}" if summary.dropped else ""
        raise InputError(f"no frame could be used{why}")
    return summary
