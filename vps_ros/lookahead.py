"""Look-ahead for results of the pipeline: identities are decided after the last frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vps_ros.config import Config
from vps_ros.frame import THING_BASE, Frame, PanopticFrame, Track, segment_values
from vps_ros.trackers.colour_histogram import colour_histograms
from vps_ros.trackers.lookahead import Identities, link
from vps_ros.trackers.tracklets import TrackletRecorder


class Lookahead:
    """Collects the online results of a recording, then rewrites them; `add` and `rewrite` get them in the same order.

    Args:
        config: of the pipeline.
    """

    def __init__(self, config: Config) -> None:
        self._confirm_hits = config.tracker_parameters.confirm_hits
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
