"""Identities with look-ahead: the tracklets of a complete recording are linked by one assignment.

An online tracker decides with the frames so far. Here the end of each tracklet is compared with the start of each later
one, by location (predicted forward from the end and backward from the start, in a scene that moves with the camera),
appearance, class and size. One assignment over all pairs of a recording decides, also about the gaps that the online
tracker bridged. The detections of one tracklet stay together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from vps_ros.frame import AssociatedBy, Track, TrackState
from vps_ros.trackers.match_scorer import MatchScorer, shipped_scorer
from vps_ros.trackers.memory import TrackNumbers
from vps_ros.trackers.tracklet_pairs import COLUMNS, candidates
from vps_ros.trackers.tracklets import TrackletRecorder

THRESHOLD = 0.4
"""Least probability of a link; chosen on generated drives that are neither for training nor in the benchmark."""


class Chains(NamedTuple):
    """The objects of a recording.

    Attributes:
        before: int64 [T], for each tracklet the index of the one before it of the same object; -1 for none.
        probability: float64 [T], that the two are one object; 0 for none.
    """

    before: NDArray[np.int64]
    probability: NDArray[np.float64]


def link(recorder: TrackletRecorder, threshold: float = THRESHOLD, scorer: MatchScorer | None = None) -> Chains:
    """Links the tracklets of a recording.

    Args:
        threshold: least probability that two tracklets are one object.
        scorer: of the features COLUMNS; None takes the shipped one.
    """
    links = candidates(recorder)
    scorer = shipped_scorer("lookahead", COLUMNS) if scorer is None else scorer
    log_odds = scorer(links.features.astype(np.float32), links.ends, links.starts).astype(np.float64)
    least = float(np.log(threshold / (1 - threshold)))
    chosen = best_links(links.ends, links.starts, log_odds - least)
    before, probability = np.full(len(recorder.tracklets), -1), np.zeros(len(recorder.tracklets))
    before[links.starts[chosen]] = links.ends[chosen]
    probability[links.starts[chosen]] = 1 / (1 + np.exp(-log_odds[chosen]))
    return Chains(before, probability)


def best_links(ends: NDArray[np.int64], starts: NDArray[np.int64], gains: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of the pairs [P] of the greatest sum of gains, ascending; no end and no start is in two of them.

    Pairs without a positive gain are not used. The matrix is sparse, so memory grows with the number of pairs.
    """
    good = np.flatnonzero(gains > 0)
    if not len(good):
        return good
    row_names, rows = np.unique(ends[good], return_inverse=True)
    column_names, columns = np.unique(starts[good], return_inverse=True)
    # Each end can also stay without a start: a column of its own, with the gain 0. Zero costs would count as no edge.
    alone = np.arange(len(row_names))
    most = gains[good].max() + 1
    costs = np.concatenate([most - gains[good], np.full(len(alone), most)])
    places = np.concatenate([rows, alone]), np.concatenate([columns, len(column_names) + alone])
    matrix = csr_matrix((costs, places), shape=(len(row_names), len(column_names) + len(row_names)))
    matched, partner = min_weight_full_bipartite_matching(matrix)
    partners = np.full(len(row_names), -1)
    partners[matched] = partner
    return good[partners[rows] == columns]


class Identities:
    """The identities of a recording after linking; rewrites the tracks of each frame, in order.

    Ids count from 1 in the order of first detection. The slot of an object stays with it from its first to its last
    frame. Class: that of most detections of the object. `hits` and `first_seen` count all its tracklets.

    Args:
        recorder: of the same frames.
        chains: its objects, as `link` finds them.
        confirm_hits: detections before a track is confirmed.
    """

    def __init__(self, recorder: TrackletRecorder, chains: Chains, confirm_hits: int) -> None:
        self._stamps, self._tracklets = recorder.stamps, recorder.tracklets
        self._confirm_hits = confirm_hits
        before, self._probability = chains
        self._object = np.zeros(len(before), np.int64)
        self._hits_before = np.zeros(len(before), np.int64)
        self._facts: list[_Object] = []
        for index, (one, earlier) in enumerate(zip(self._tracklets, before.tolist(), strict=True)):
            if earlier < 0:
                self._object[index] = len(self._facts)
                self._facts.append(_Object(recorder.stamps[one.first]))
            else:
                self._object[index] = self._object[earlier]
                self._hits_before[index] = self._hits_before[earlier] + self._tracklets[earlier].hits
            found = self._facts[self._object[index]]
            found.last = max(found.last, one.last)
            found.votes.update(one.votes)
        self._latest: dict[tuple[int, int], int] = {}
        self._next = 0
        self._slots: dict[int, int] = {}
        self._frame = -1

    def __len__(self) -> int:
        """Number of objects."""
        return len(self._facts)

    def rewrite(self, sequence: int, tracks: Iterable[Track]) -> tuple[Track, ...]:
        """The tracks of the next frame with the identities of the recording, by id.

        A lost track is left out when another tracklet of its object is seen, or was seen later.
        """
        self._frame += 1
        while self._next < len(self._tracklets) and self._tracklets[self._next].first <= self._frame:
            one = self._tracklets[self._next]
            self._latest[one.sequence, one.track_id] = self._next
            self._next += 1
        newest: dict[int, tuple[int, Track]] = {}
        for track in tracks:
            tracklet = self._latest[sequence, track.track_id]
            number = int(self._object[tracklet])
            if number not in newest or newest[number][0] < tracklet:
                newest[number] = tracklet, track
        self._free_slots(newest)
        return tuple(self._rewritten(number, *newest[number]) for number in sorted(newest))

    def _free_slots(self, present: Iterable[int]) -> None:
        """Frees the slots of objects that do not come back, and assigns one to each new object."""
        present = set(present)
        for number in [n for n in self._slots if n not in present and self._facts[n].last < self._frame]:
            del self._slots[number]
        new = sorted(present - self._slots.keys())
        taken = np.array(sorted(self._slots.values()), np.int64)
        self._slots.update(zip(new, TrackNumbers.slots(taken, len(new)).tolist(), strict=True))

    def _rewritten(self, number: int, index: int, track: Track) -> Track:
        tracklet, facts = self._tracklets[index], self._facts[number]
        hits = int(self._hits_before[index]) + track.hits - tracklet.hits_before
        by, score = track.associated_by, track.association_score
        if track.hits == tracklet.hits_before + 1:
            # The first detection of a tracklet: it has its identity from the link.
            score = float(self._probability[index])
            by = AssociatedBy.NEW if hits == 1 else AssociatedBy.MEMORY if by == AssociatedBy.NEW else by
        state = track.state
        if state != TrackState.LOST:
            state = TrackState.CONFIRMED if hits >= self._confirm_hits else TrackState.TENTATIVE
        return track._replace(
            track_id=number + 1,
            slot=self._slots[number],
            class_id=facts.class_id,
            state=state,
            associated_by=by,
            association_score=score,
            first_seen=facts.first_seen,
            hits=hits,
        )


@dataclass
class _Object:
    """What is known of an object from all frames."""

    first_seen: int
    last: int = -1
    votes: Counter[int] = field(default_factory=Counter)

    @property
    def class_id(self) -> int:
        """That of most detections; of equal numbers the smallest."""
        return min(self.votes, key=lambda c: (-self.votes[c], c))
