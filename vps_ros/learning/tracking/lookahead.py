"""Training of the scorer of `replay --lookahead`: the log-odds that two tracklets are neighbours in one object's life.

The online tracker runs on generated drives. The end of a tracklet and the start of the object's next one are a positive
pair; pairs of one object that are not neighbours are left out; all other candidates are negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vps_ros.ablation.sources import DriveFrame
from vps_ros.config import Config
from vps_ros.frame import Track
from vps_ros.learning.tracking.match_scorer import UNKNOWN, FrameExample, MatchScorerRecipe, true_objects
from vps_ros.trackers import make_tracker
from vps_ros.trackers.colour_histogram import colour_histograms
from vps_ros.trackers.tracklet_pairs import COLUMNS, candidates
from vps_ros.trackers.tracklets import TrackletRecorder


@dataclass(frozen=True)
class LookaheadRecipe(MatchScorerRecipe):
    """As MatchScorerRecipe; one example is a complete drive, so `frames_a_step` counts drives."""

    columns: ClassVar[tuple[str, ...]] = COLUMNS
    weights: ClassVar[str] = "lookahead.npz"

    def examples(self, frames: Sequence[DriveFrame], masks: str) -> list[FrameExample]:
        config = Config(model=self.model)
        if masks != "model":
            config = config.for_other_segmentations()
        recorder, online = run_online(frames, config)
        return [link_example(recorder, true_tracklets(frames, online, recorder))]


def run_online(frames: Sequence[DriveFrame], config: Config) -> tuple[TrackletRecorder, list[tuple[Track, ...]]]:
    """The tracklets of one drive, and the tracks of each frame."""
    tracker, recorder, found = make_tracker(config), TrackletRecorder(), []
    for one in frames:
        segments = one.segmentation
        tracks = tracker.step(one.frame, segments)
        colours = colour_histograms(one.frame.image, segments.map, segments.is_thing, segments.areas)
        appearances = (segments.embeddings, colours)
        recorder.add(0, one.frame.stamp, segments.map.shape[1], tracks, appearances, tracker.camera_motion)
        found.append(tracks)
    return recorder, found


def true_tracklets(
    frames: Sequence[DriveFrame], online: Sequence[tuple[Track, ...]], recorder: TrackletRecorder
) -> NDArray[np.int64]:
    """int64 [T], the true object that most detections of each tracklet show; UNKNOWN without a majority."""
    truth = [true_objects(one.table, len(one.segmentation)) for one in frames]
    index = [{track.track_id: track.index for track in tracks} for tracks in online]
    found = np.full(len(recorder.tracklets), UNKNOWN)
    for row, one in enumerate(recorder.tracklets):
        votes = Counter(int(truth[f][index[f][one.track_id]]) for f in range(one.first, one.last + 1))
        code, count = votes.most_common(1)[0]
        if 2 * count > one.hits:
            found[row] = code
    return found


def link_example(recorder: TrackletRecorder, truth: NDArray[np.int64]) -> FrameExample:
    """The candidate links of one drive; `truth` as of true_tracklets. Tracklets of no object cause no loss."""
    links = candidates(recorder)
    following = np.full(len(truth), UNKNOWN)
    latest: dict[int, int] = {}
    for index, code in enumerate(truth.tolist()):
        if code != UNKNOWN:
            if code in latest:
                following[latest[code]] = index
            latest[code] = index
    same = (truth[links.ends] == truth[links.starts]) & (truth[links.ends] != UNKNOWN)
    positive = same & (following[links.ends] == links.starts)
    kept = positive | ~same
    known = truth != UNKNOWN
    features = links.features[kept].astype(np.float32)
    return FrameExample(features, positive[kept], links.ends[kept], links.starts[kept], known, known)
