"""Replay with look-ahead: identities are decided after the last frame, from the complete recording."""

from __future__ import annotations

import pickle
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from tempfile import TemporaryFile
from time import perf_counter

import numpy as np

from vps_ros.frame import THING_BASE, Frame, PanopticFrame, Track, segment_values
from vps_ros.online import OnlinePanoptic
from vps_ros.recording.replay import Sink, Summary, replay
from vps_ros.trackers.colour_histogram import colour_histograms
from vps_ros.trackers.lookahead import Identities, link
from vps_ros.trackers.tracklets import TrackletRecorder


def replay_with_lookahead(
    read: Callable[[], Iterable[Frame]],
    pipeline: OnlinePanoptic,
    sinks: Iterable[Sink],
    jobs: int = 1,
    summary: Summary | None = None,
) -> Summary:
    """As `replay`, with identities that are optimised over the complete recording.

    The first pass runs the online pipeline; its results wait in a temporary file. Then the tracklets are linked. The
    second pass reads the frames again and passes them to the sinks with the results. Memory grows with the number of
    tracklets; disk space, in the folder of temporary files, with the number of frames.

    Args:
        read: returns the frames, the same ones each time; called twice.
        summary: as in `replay`.
    """
    lookahead, pending, used = (
        Lookahead(pipeline.config.tracker_parameters.confirm_hits),
        deque[tuple[int, Frame]](),
        set[int](),
    )

    def numbered() -> Iterator[Frame]:
        for numbered_frame in enumerate(read()):
            pending.append(numbered_frame)
            yield numbered_frame[1]

    with TemporaryFile() as file:

        def store(frame: Frame, result: PanopticFrame) -> None:
            # Frames come in order; those in between were dropped.
            number, oldest = pending.popleft()
            while oldest is not frame:
                number, oldest = pending.popleft()
            used.add(number)
            lookahead.add(frame, result)
            pickle.dump(zlib.compress(pickle.dumps(result), 1), file)

        summary = replay(numbered(), pipeline, [store], jobs, summary=summary)
        began = perf_counter()
        summary.tracks = set(range(1, lookahead.link() + 1))
        file.seek(0)
        all_sinks = tuple(sinks)
        for number, frame in enumerate(read()):
            if number in used:
                result = lookahead.rewrite(pickle.loads(zlib.decompress(pickle.load(file))))
                for sink in all_sinks:
                    sink(frame, result)
        summary.seconds += perf_counter() - began
    return summary


class Lookahead:
    """Collects the online results of a recording, then rewrites them; `add` and `rewrite` get them in the same order.

    Args:
        confirm_hits: of the tracker.
    """

    def __init__(self, confirm_hits: int) -> None:
        self._confirm_hits = confirm_hits
        self._recorder = TrackletRecorder()
        self._identities: Identities | None = None

    def add(self, frame: Frame, result: PanopticFrame) -> None:
        """Adds the online result of a frame."""
        segments = result.segments
        labels = segment_values(result, range(1, len(segments) + 1), 0, np.uint16)
        wanted = np.array([one.is_thing for one in segments], bool)
        areas = np.array([one.area for one in segments], np.int64)
        appearances = (result.embeddings, colour_histograms(frame.image, labels, wanted, areas))
        width = result.map.shape[1]
        self._recorder.add(result.sequence_id, result.stamp, width, result.tracks, appearances, result.camera_motion)

    def link(self) -> int:
        """Decides the identities, after the last frame; returns the number of objects."""
        self._identities = Identities(self._recorder, link(self._recorder), self._confirm_hits)
        return len(self._identities)

    def rewrite(self, result: PanopticFrame) -> PanopticFrame:
        """The result of the next frame with its final identities."""
        assert self._identities is not None, "link comes before rewrite"
        return with_tracks(result, self._identities.rewrite(result.sequence_id, result.tracks))


def with_tracks(result: PanopticFrame, tracks: tuple[Track, ...]) -> PanopticFrame:
    """The panoptic frame with other identities and classes of its objects; `tracks` has the same visible objects."""
    segments = list(result.segments)
    for track in tracks:
        if track.index >= 0:
            segments[track.index] = segments[track.index]._replace(
                segment_id=THING_BASE + track.slot, class_id=track.class_id, track_id=track.track_id
            )
    ids = segment_values(result, [segment.segment_id for segment in segments], 0, np.uint16)
    return replace(result, map=ids, segments=tuple(segments), tracks=tracks)
