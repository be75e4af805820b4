"""Which predicted track is matched with each true thing in each frame: timelines, and marks of the mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import LabelMap
from vps_ros.drawing.views import FALSE, MISSED, SWITCHED, WRONG_CLASS
from vps_ros.errors import InputError
from vps_ros.evaluation.overlaps import (
    Classes,
    Overlaps,
    code_of,
    column_of,
    instance_of,
    overlaps,
)
from vps_ros.taxonomy import VOID_ID, Taxonomy

NO_TRACK = -1
"""In place of a track where a thing is missed."""
SWITCH_FRAMES = 10
"""Frames in which an object stays marked after it was matched with another track than before."""


class Span(NamedTuple):
    """Consecutive frames, `first` to `last` inclusive, with the same match.

    Attributes:
        track: the predicted instance that is matched with the true thing; None where it is missed.
    """

    first: int
    last: int
    track: int | None

    @property
    def frames(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Timeline:
    """One true thing through its sequence.

    Attributes:
        class_name, instance: identify the thing.
        spans: in the order of time; in the frames between two spans the thing is not in the image.
    """

    class_name: str
    instance: int
    spans: tuple[Span, ...]

    @property
    def first(self) -> int:
        """Index of the first frame with the thing; frames are numbered from 0."""
        return self.spans[0].first

    @property
    def last(self) -> int:
        return self.spans[-1].last

    @cached_property
    def visible(self) -> int:
        """Number of frames with the thing."""
        return sum(span.frames for span in self.spans)

    @cached_property
    def missed(self) -> int:
        """Number of frames with the thing in which no track is matched with it."""
        return sum(span.frames for span in self.spans if span.track is None)

    @cached_property
    def switch_frames(self) -> tuple[int, ...]:
        """Frames in which the thing is matched with another track than at its previous match."""
        matched = [span for span in self.spans if span.track is not None]
        return tuple(b.first for a, b in zip(matched, matched[1:], strict=False) if a.track != b.track)

    @property
    def switches(self) -> int:
        """IDSW of this thing (Bernardin and Stiefelhagen, Evaluating Multiple Object Tracking Performance, 2008)."""
        return len(self.switch_frames)


class Timelines:
    """Accumulates the timelines of one sequence. Its memory grows with the changes, not with the frames.

    Crowds (true things with instance 0) have no timeline. A predicted thing is matched with a true one of its class if
    their IoU is above 0.5; each has at most one such match. As in `vps_ros.evaluation.identity`, the IoU is that of the
    full masks, void included.
    """

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._frames = 0
        self._spans: dict[int, list[Span]] = {}
        """By the code of the true thing, in the order of time."""

    def update(self, frame: Overlaps) -> None:
        """Counts the next frame by its overlap table."""
        codes, tracks = matched_tracks(self._classes, frame)
        for code, track in zip(codes.tolist(), tracks.tolist(), strict=True):
            self._append(code, Span(self._frames, self._frames, None if track == NO_TRACK else track))
        self._frames += 1

    def extend(self, later: Timelines) -> None:
        """Adds the following part of the same sequence; the result is that of one pass.

        Raises InputError when the parts were counted by different taxonomies.
        """
        if self._classes != later._classes:
            raise InputError("timelines by different taxonomies cannot be merged")
        for code, spans in later._spans.items():
            for span in spans:
                self._append(code, Span(self._frames + span.first, self._frames + span.last, span.track))
        self._frames += later._frames

    def result(self) -> tuple[Timeline, ...]:
        """Sorted by class, in the order of the taxonomy, then by instance."""
        names = [info.name for info in self._classes.taxonomy.classes]
        return tuple(
            Timeline(names[column_of(code)], instance_of(code), tuple(spans))
            for code, spans in sorted(self._spans.items())
        )

    def _append(self, code: int, span: Span) -> None:
        """Adds a span after the others of its thing, as a part of the last one if that goes on."""
        spans = self._spans.setdefault(code, [])
        if spans and (spans[-1].last + 1, spans[-1].track) == (span.first, span.track):
            spans[-1] = spans[-1]._replace(last=span.last)
        else:
            spans.append(span)


def matched_tracks(classes: Classes, frame: Overlaps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The codes of the true things of a frame, and the predicted instance matched with each, or NO_TRACK.

    Crowds are left out.
    """
    gt_ids, gt_at, gt_area = frame.gt_segments
    _, pred_at, pred_area = frame.pred_segments
    areas = gt_area[gt_at] + pred_area[pred_at]
    # IoU = count / (areas - count) > 1/2, in whole numbers.
    hit = (frame.gt_class == frame.pred_class) & (3 * frame.count > areas)
    tracks = np.full(len(gt_ids), NO_TRACK)
    tracks[gt_at[hit]] = frame.pred_instance[hit]
    tube = classes.is_thing[column_of(gt_ids)] & (instance_of(gt_ids) != 0)
    return gt_ids[tube], tracks[tube]


class MistakeMarker:
    """Compares the frames of one sequence, in order, with their ground truth.

    Things are matched as in the timelines of the report: same class, IoU above 0.5. A switch is what IDSW counts.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._classes = Classes(taxonomy)
        self._track_of: dict[int, int] = {}
        self._marked: dict[int, int] = {}
        """Code of a true thing -> number of frames in which it stays marked as switched."""

    def mark(self, gt: LabelMap, pred: LabelMap) -> NDArray[np.uint8]:
        """uint8 [H, W] of MISTAKES, 0 where there is none and where the ground truth is void.

        Raises InputError when the sizes differ or a class is not in the taxonomy.
        """
        table = overlaps(self._classes, *gt, *pred)
        things, tracks = matched_tracks(self._classes, table)
        matched = {code_of(column_of(c), t) for c, t in zip(things.tolist(), tracks.tolist(), strict=True) if t >= 0}
        self._marked = {code: left - 1 for code, left in self._marked.items() if left > 1}
        missed = []
        for code, track in zip(things.tolist(), tracks.tolist(), strict=True):
            if track == NO_TRACK:
                missed.append(code)
                continue
            if self._track_of.get(code, track) != track:
                self._marked[code] = SWITCH_FRAMES
            self._track_of[code] = track
        labelled = gt.semantic != VOID_ID
        marks = np.where(labelled & (gt.semantic != pred.semantic), WRONG_CLASS, 0).astype(np.uint8)
        is_thing = self._classes.is_thing[table.pred_class] & (table.pred_instance != 0)
        unmatched = set(table.pred[is_thing].tolist()) - matched
        for codes, side, value in (
            (unmatched, pred, FALSE),
            (missed, gt, MISSED),
            (self._marked, gt, SWITCHED),
        ):
            marks[self._pixels(side, codes) & labelled] = value
        return marks

    def _pixels(self, labels: LabelMap, codes: object) -> NDArray[np.bool_]:
        wanted = np.fromiter(codes, np.int64)  # type: ignore[call-overload]
        column = self._classes.column[labels.semantic]
        return np.isin(code_of(column, labels.instance.astype(np.int64)), wanted)
