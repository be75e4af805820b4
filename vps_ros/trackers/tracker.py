"""What all trackers share: parameters of a track's life, and the steps of one frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.frame import AssociatedBy, Frame, Segmentation, Track, TrackState
from vps_ros.parameters import Parameters, parameter
from vps_ros.trackers.detections import Detections
from vps_ros.trackers.memory import TrackMemory, TrackNumbers

if TYPE_CHECKING:
    from vps_ros.flow.history import FlowHistory

NEVER_SOONER = 1e6
"""A tentative_tau that is larger than any memory_tau."""
_STATES, _EVIDENCE = tuple(TrackState), tuple(AssociatedBy)
_TENTATIVE, _CONFIRMED, _LOST = map(int, TrackState)
_TRACK = partial(tuple.__new__, Track)
"""Track._make without its check of the length; `zip(strict=True)` makes that check."""


def memory_tau(default: float, source: str) -> Any:
    """The parameter that every tracker has with a default of its own."""
    meaning = "how long a lost track is remembered, in memory_unit; tau"
    return parameter(default, meaning, low=0, high=1e6, live=True, source=source)


def tentative_tau(default: float, source: str) -> Any:
    meaning = "as memory_tau, for a track that is not confirmed yet; the smaller of the two counts"
    return parameter(default, meaning, low=0, high=1e6, live=True, source=source)


@dataclass(frozen=True)
class TrackerParameters(Parameters):
    """Parameters of every tracker: when a track is confirmed and when it is forgotten."""

    memory_tau: float = memory_tau(10.0, "Video-kMaX table 7")
    memory_unit: str = parameter(
        "frames",
        "unit of memory_tau and tentative_tau",
        choices=("frames", "seconds"),
        live=True,
        source="the papers count frames",
    )
    tentative_tau: float = tentative_tau(NEVER_SOONER, "no paper: every track is remembered for memory_tau")
    confirm_hits: int = parameter(
        2, "detections before a track is confirmed", low=1, high=1000, live=True, source="chosen; no paper has it"
    )


class Matches(NamedTuple):
    """Pairs of a track and a detection, P of them; no track and no detection is in two pairs.

    Attributes:
        tracks: int64 [P], rows of the memory.
        detections: int64 [P].
        scores: float [P].
        by: int64 [P], the AssociatedBy of each pair.
    """

    tracks: NDArray[np.int64] = np.empty(0, np.int64)
    detections: NDArray[np.int64] = np.empty(0, np.int64)
    scores: NDArray[np.floating] = np.empty(0)
    by: NDArray[np.int64] = np.empty(0, np.int64)


def matched(tracks, detections, scores, by: AssociatedBy) -> Matches:
    """Matches that all have the same evidence."""
    return Matches(tracks, detections, scores, np.full(len(tracks), int(by)))


class Tracker(ABC):
    """Gives the detections of each frame their identities; stuff is not tracked.

    A subclass says how detections are associated with tracks. The other steps of a frame are here, see `step`.

    Args:
        parameters: of the type `Parameters`; None takes their defaults.
        model: name or path of the model that made the segmentations, for trackers that have learned for one.

    Attributes:
        Parameters: the dataclass of the tracker's parameters; that of a tracker with `uses_flow` has FlowParameters.
        Memory: the class of its memory.
        uses_flow: whether it needs optical flow.
        uses_embeddings: whether it looks at embeddings at all.
        needs_embeddings: whether detections without embeddings are an InputError.
        matches_tubes: whether detections of clips are matched with the tracks of their tubes before all others. A
            tracker without it may compare tubes itself.
        parameters: in use.
        memory: the tracks.
        flow: the optical flow; None without `uses_flow`.
        camera_motion: float64 [3, 2], affine motion of the background to the last frame, in image widths (see
            `hierarchical.predict.camera_motion`); None where it is not known.
        milliseconds: time of the last step by part: "flow" (optical flow) and "track" (the rest).
        candidates: number of pairs of a track and a detection that the last step compared, summed over its
            assignments; the size of the matching space in Video-kMaX table 6.
    """

    Parameters: ClassVar[type[TrackerParameters]] = TrackerParameters
    Memory: ClassVar[type[TrackMemory]] = TrackMemory
    uses_flow: ClassVar[bool] = False
    uses_embeddings: ClassVar[bool] = False
    needs_embeddings: ClassVar[bool] = False
    matches_tubes: bool = True

    def __init__(self, parameters: Any = None, model: str | None = None) -> None:
        self.memory = self.Memory()
        self.configure(self.Parameters() if parameters is None else parameters)
        self.flow: FlowHistory | None = None
        if self.uses_flow:
            # Imported on use: declarations of parameters, which are here too, must not load OpenCV.
            from vps_ros.flow.history import FlowHistory

            self.flow = FlowHistory.of(self.parameters)
        self.camera_motion: NDArray[np.float64] | None = None
        self.milliseconds = {"flow": 0.0, "track": 0.0}
        self.candidates = 0
        self._tubes = Matches()
        self._numbers = TrackNumbers()
        self._frame = 0

    def configure(self, parameters: Any) -> None:
        """Uses other values of the live parameters from the next frame on; no track is forgotten."""
        self.parameters = parameters
        self.memory.configure(parameters)

    def reset(self) -> None:
        """Forgets every track. Ids go on, so that none is used twice within a run."""
        self.memory.clear()
        self._frame = 0

    def step(self, frame: Frame, segmentation: Segmentation) -> tuple[Track, ...]:
        """Every live track after this frame, by id: the detected ones and the lost ones (index -1, state LOST).

        Each thing segment of the frame has exactly one track: an unmatched detection becomes a new track, in whatever
        frame it appears. Frames come in the order of the camera. Raises InputError when more objects are remembered
        than a panoptic map has numbers for, and for missing embeddings if the tracker needs them.
        """
        began = perf_counter()
        detections = self._detections(frame, segmentation)
        stamp = int(frame.stamp)
        self.memory.intervals.add(stamp)
        self._observe(frame, segmentation, detections)
        self._frame += 1
        self._forget(stamp)
        self._tubes = self._match_tubes(detections)
        same = len(self._tubes.tracks)
        self.candidates = (len(self.memory) - same) * (len(detections) - same)
        matches = self.associate(detections, stamp) if self.candidates else Matches()
        matches = self._with_tubes(matches)
        ids = self._update(detections, matches, stamp)
        self._set_ids(ids)
        tracks = self._tracks(segmentation, stamp)
        flow = 0.0 if self.flow is None else self.flow.milliseconds
        self.milliseconds = {"flow": flow, "track": (perf_counter() - began) * 1e3 - flow}
        return tracks

    def _observe(self, frame: Frame, segmentation: Segmentation, detections: Detections) -> None:  # noqa: B027
        """Takes what it needs from the current frame and the flow to it, before tracks are forgotten."""

    @abstractmethod
    def associate(self, detections: Detections, stamp: int) -> Matches:
        """Pairs tracks of the memory and detections; called only if there are both. `stamp` is in nanoseconds.

        Pairs with a track or detection that is matched by its tube (`_comparable`) are ignored.
        """

    def _match_tubes(self, detections: Detections) -> Matches:
        """Detections of frames of a clip with the tracks of the same tube.

        Tubes continue over clips by video stitching, so that these are the first matches of near-online HiLA-MB
        (Video-kMaX section 3.2).
        """
        if not self.matches_tubes or detections.tubes is None or not len(self.memory):
            return Matches()
        tubes, k = np.unique(detections.tubes, return_index=True)
        tubes, k = tubes[tubes > 0], k[tubes > 0]
        rows = self.memory.rows["tube"]
        # Of several tracks of one tube, which no segmenter makes, the oldest one.
        known, m = np.unique(rows, return_index=True)
        _, of_known, of_tubes = np.intersect1d(known, tubes, assume_unique=True, return_indices=True)
        return matched(m[of_known], k[of_tubes], np.ones(len(of_known)), AssociatedBy.PIXELS)

    def _comparable(self, detections: Detections) -> NDArray[np.bool_]:
        """bool [M, K]: pairs of one class, neither of which is matched by its tube."""
        pairs = self.memory.rows["class_id"][:, None] == detections.class_ids
        pairs[self._tubes.tracks] = False
        pairs[:, self._tubes.detections] = False
        return pairs

    def _with_tubes(self, matches: Matches) -> Matches:
        tubes = self._tubes
        if not len(tubes.tracks):
            return matches
        free = ~np.isin(matches.tracks, tubes.tracks) & ~np.isin(matches.detections, tubes.detections)
        return Matches(*(np.concatenate([t, rest[free]]) for t, rest in zip(tubes, matches, strict=True)))

    def _set_ids(self, ids: NDArray[np.int64]) -> None:  # noqa: B027
        """Called with the track ids [K] of the detections of the current frame."""

    def _detections(self, frame: Frame, segmentation: Segmentation) -> Detections:
        detections = Detections.of(segmentation, self.uses_embeddings)
        if self.needs_embeddings and len(detections) and detections.embeddings is None:
            raise InputError(
                f"frame at {frame.stamp} ns: this tracker compares appearances and the things have none; take a model "
                "with query embeddings, give `vps-ros track` --embeddings or let it make colour histograms, or take a "
                "tracker that needs no appearance, such as location or hierarchical"
            )
        return detections

    def _forget(self, stamp: int) -> None:
        remembered = self._remembered(stamp)
        if not remembered.all():
            self.memory.keep(remembered)

    def _remembered(self, stamp: int) -> NDArray[np.bool_]:
        """bool [M]: tracks whose last detection is at most memory_tau ago.

        Before a track is confirmed, at most the smaller of memory_tau and tentative_tau.
        """
        p, rows = self.parameters, self.memory.rows
        in_seconds = p.memory_unit == "seconds"
        age = (stamp - rows["last_seen"]) * 1e-9 if in_seconds else self._frame - rows["last_frame"]
        sooner = min(p.memory_tau, p.tentative_tau)
        if age.max(initial=0) <= sooner:
            return np.ones(len(rows), bool)
        return age <= np.where(rows["hits"] >= p.confirm_hits, p.memory_tau, sooner)

    def _update(self, detections: Detections, matches: Matches, stamp: int) -> NDArray[np.int64]:
        """Updates the matched tracks and creates new ones for the other detections; returns the ids [K] of all."""
        memory = self.memory
        row = np.full(len(detections), -1)
        by, score = np.full(len(detections), int(AssociatedBy.NEW)), np.zeros(len(detections))
        row[matches.detections] = matches.tracks
        by[matches.detections], score[matches.detections] = matches.by, matches.scores
        known, new = (row >= 0).nonzero()[0], (row < 0).nonzero()[0]
        # First of all, since it may raise InputError, which must leave the memory as it is.
        slots = self._numbers.slots(memory.rows["slot"], len(new))
        memory.rows["index"] = -1
        if len(known):
            memory.update(row[known], detections, known, stamp, self._frame)
        if len(new):
            row[new] = memory.create(detections, new, self._numbers.ids(len(new)), slots, stamp, self._frame)
        memory.rows["associated_by"][row] = by
        memory.rows["association"][row] = score
        return memory.rows["id"][row]

    def _tracks(self, segmentation: Segmentation, stamp: int) -> tuple[Track, ...]:
        rows = self.memory.rows
        height, width = segmentation.map.shape
        index, hits = rows["index"], rows["hits"]
        boxes = np.empty((len(rows), 4))
        unseen = index < 0
        lost = unseen.nonzero()[0]
        if len(lost):
            seen = (~unseen).nonzero()[0]
            boxes[seen] = segmentation.boxes.take(index[seen], axis=0)
            boxes[lost] = self.memory.predict(stamp, lost) * (width, height, width, height)
        else:
            boxes[:] = segmentation.boxes.take(index, axis=0)
        velocity = self.memory.centre_velocity() * (width, height)
        state = np.where(unseen, _LOST, np.where(hits >= self.parameters.confirm_hits, _CONFIRMED, _TENTATIVE))
        columns = (
            rows["id"].tolist(),
            rows["slot"].tolist(),
            index.tolist(),
            rows["class_id"].tolist(),
            rows["score"].tolist(),
            map(_STATES.__getitem__, state.tolist()),
            map(_EVIDENCE.__getitem__, rows["associated_by"].tolist()),
            rows["association"].tolist(),
            zip(*boxes.T.tolist(), strict=True),
            zip(*velocity.T.tolist(), strict=True),
            rows["area"].tolist(),
            rows["first_seen"].tolist(),
            rows["last_seen"].tolist(),
            hits.tolist(),
        )
        return tuple(map(_TRACK, zip(*columns, strict=True)))
