"""Runs the pipeline on a recording: every frame, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain
from time import perf_counter

import numpy as np

from vps_ros.clips import ClipSpec
from vps_ros.depth.locator import ObjectLocator
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import STAGES, Frame, PanopticFrame
from vps_ros.online import OnlinePanoptic, SegmentedFrame
from vps_ros.parallel import Item, Result, in_order
from vps_ros.recording.depth import DepthSource

Sink = Callable[[Frame, PanopticFrame], None]
_AHEAD = 2
"""Frames that a thread may be ahead of the next one; more would only take memory."""


@dataclass
class DepthSummary:
    """Frames with objects in 3D, those without by reason, and visible objects without enough depth."""

    frames: int = 0
    objects: int = 0
    objects_without_depth: int = 0
    failures: Counter[str] = field(default_factory=Counter)


@dataclass
class Summary:
    """Figures of a replay, updated with every frame.

    Attributes:
        milliseconds: of each frame, in the order of STAGES.
        clip: of the segmenter.
        restarts: sequences after the first, by the reason why the tracks ended.
        waits: milliseconds between the stamp of each frame and that of the frame which completed its clip.
    """

    milliseconds: list[tuple[float, ...]] = field(default_factory=list)
    tracks: set[Hashable] = field(default_factory=set)
    dropped: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    depth: DepthSummary | None = None
    seconds: float = 0.0
    clip: ClipSpec = ClipSpec()
    waits: list[float] = field(default_factory=list)

    def add(self, milliseconds: Mapping[str, float], tracks: Iterable[Hashable]) -> None:
        """Adds the times of a frame in STAGES, and identifiers of the objects that are tracked after it."""
        self.milliseconds.append(tuple(milliseconds[stage] for stage in STAGES))
        self.tracks.update(tracks)

    def to_json(self) -> dict:
        """The `--json` of `replay` and `track`: latency of the pipeline's step, fps of the whole command."""
        times = np.array(self.milliseconds).reshape(-1, len(STAGES))
        p50, p99 = np.percentile(times.sum(1), [50, 99])
        figures = {
            "frames": len(times),
            "tracks": len(self.tracks),
            "fps": len(times) / self.seconds,
            "latency_ms": {"p50": p50, "p99": p99, **dict(zip(STAGES, np.median(times, axis=0), strict=True))},
            "dropped": self.dropped.total(),
            **({"depth": {**vars(self.depth), "failures": dict(self.depth.failures)}} if self.depth else {}),
        }
        if self.clip.length > 1:
            middle, longest = np.percentile(self.waits, [50, 100]).tolist()
            figures["clip"] = {**self.clip.to_json(), "late_ms": {"p50": middle, "max": longest}}
        return figures


def replay(
    frames: Iterable[Frame],
    pipeline: OnlinePanoptic,
    sinks: Iterable[Sink],
    jobs: int = 1,
    depth: DepthSource | None = None,
    summary: Summary | None = None,
    locator: ObjectLocator | None = None,
) -> Summary:
    """Runs the pipeline on `frames` and passes each result to every sink, in order.

    A frame that cannot be used is skipped and counted by its reason; raises InputError if no frame is left, or if there
    are fewer frames than the segmenter's clips have.

    Args:
        jobs: threads. 1 processes one frame after the other; with 2, the segmenter runs one frame ahead of tracking;
            with 3, the sinks have a thread as well. With a model for clips, `jobs` processes segment clips. The results
            are the same.
        depth: images from which the results get `objects_3d`; a frame without one is counted and has 2D results only.
        summary: figures to update, for sinks that read them; default: new ones.
        locator: makes `objects_3d`; default: in the frame of the camera.
    """
    summary, sinks = Summary() if summary is None else summary, tuple(sinks)
    summary.clip, summary.depth = pipeline.clip, DepthSummary() if depth else None
    locator = locator or ObjectLocator()
    previous: SegmentedFrame | None = None

    def tracked(segmented: Iterable[list[SegmentedFrame | DroppedFrame]]) -> Iterator[tuple[Frame, PanopticFrame]]:
        nonlocal previous
        for ready in segmented:
            last = {found.sequence: found.frame.stamp for found in ready if isinstance(found, SegmentedFrame)}
            for found in ready:
                if isinstance(found, DroppedFrame):
                    summary.dropped[str(found)] += 1
                else:
                    if previous is not None and found.sequence != previous.sequence:
                        summary.restarts[_why_restarted(previous.frame, found.frame)] += 1
                    previous = found
                    summary.waits.append((last[found.sequence] - found.frame.stamp) / 1e6)
                    yield found.frame, pipeline.track(found)

    def located(frame: Frame, result: PanopticFrame) -> PanopticFrame:
        if depth is None or summary.depth is None:
            return result
        try:
            result = locator(result, depth.of(frame))
        except DroppedFrame as reason:
            summary.depth.failures[str(reason)] += 1
        else:
            assert result.objects_3d is not None
            summary.depth.frames += 1
            summary.depth.objects += len(result.objects_3d.objects)
            summary.depth.objects_without_depth += result.objects_3d.without_depth
        return result

    def write(one: tuple[Frame, PanopticFrame]) -> PanopticFrame:
        frame, result = one[0], located(*one)
        for sink in sinks:
            sink(frame, result)
        return result

    start = perf_counter()
    with ExitStack() as threads:

        def stage(work: Callable[[Item], Result], items: Iterable[Item], own_thread: bool) -> Iterator[Result]:
            return (
                threads.enter_context(closing(in_order(work, items, ahead=_AHEAD))) if own_thread else map(work, items)
            )

        # None: the last clip may be incomplete.
        ended = chain(frames, (None,))
        if pipeline.parallel and jobs > 1:
            segmented: Iterator = threads.enter_context(closing(pipeline.segment_in_parallel(ended, jobs)))
        else:
            segmented = stage(pipeline.segment_ready, ended, jobs > 1)
        for result in stage(write, tracked(segmented), jobs > 2):
            summary.add(result.milliseconds, (track.track_id for track in result.tracks))
    summary.seconds = perf_counter() - start
    if not summary.milliseconds:
        first = f"; the first reason: {next(iter(summary.dropped))}" if summary.dropped else ""
        raise InputError(f"no frame could be used{first}")
    count = len(summary.milliseconds) + summary.dropped.total()
    if count < pipeline.clip.length:
        raise InputError(
            f"clip_length {pipeline.clip.length}: the recording has only {count} frame(s); "
            "use shorter clips, or a model for single images"
        )
    return summary


def _why_restarted(before: Frame, now: Frame) -> str:
    if now.image.shape != before.image.shape:
        return "the image size changes"
    return "time jumps back" if now.stamp < before.stamp else "no frame comes for longer than the memory"
