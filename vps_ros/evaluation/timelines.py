"""Timelines: in which frames each true thing is visible, and which predicted track is matched with it there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.evaluation.overlaps import Classes, Overlaps, column_of, dense, instance_of, sums

_MISSED = -1


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
        self._ended: dict[int, list[tuple[int, int, int]]] = {}
        # Things of the last frame: codes, matched tracks, and the frame since which the match is the same.
        self._codes, self._tracks, self._since = (np.zeros(0, np.int64) for _ in range(3))

    def update(self, frame: Overlaps) -> None:
        """Counts the next frame by its overlap table."""
        codes, tracks = self._matches(frame)
        if not (np.array_equal(codes, self._codes) and np.array_equal(tracks, self._tracks)):
            self._change(codes, tracks)
        self._frames += 1

    def extend(self, later: Timelines) -> None:
        """Adds the following part of the same sequence; the result is that of one pass.

        Raises InputError when the parts were counted by different taxonomies.
        """
        if self._classes != later._classes:
            raise InputError("timelines by different taxonomies cannot be merged")
        if not later._frames:
            return
        offset = self._frames
        continuing = {(code, track): since for code, since, track in self._open()}

        def start(code: int, first: int, track: int) -> int:
            return offset + first if first else continuing.pop((code, track), offset)

        ended = {
            code: [(start(code, first, track), offset + last, track) for first, last, track in spans]
            for code, spans in later._ended.items()
        }
        since = [start(code, first, track) for code, first, track in later._open()]
        for (code, track), first in continuing.items():
            self._end(code, first, offset - 1, track)
        for code, spans in ended.items():
            self._ended.setdefault(code, []).extend(spans)
        self._codes, self._tracks, self._since = later._codes, later._tracks, np.array(since, np.int64)
        self._frames += later._frames

    def result(self) -> tuple[Timeline, ...]:
        """Sorted by class, in the order of the taxonomy, then by instance."""
        spans = {code: list(ended) for code, ended in self._ended.items()}
        for code, first, track in self._open():
            spans.setdefault(code, []).append((first, self._frames - 1, track))
        names = [info.name for info in self._classes.taxonomy.classes]
        return tuple(
            Timeline(
                names[column_of(code)],
                instance_of(code),
                tuple(Span(first, last, None if track == _MISSED else track) for first, last, track in spans[code]),
            )
            for code in sorted(spans)
        )

    def _matches(self, frame: Overlaps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The sorted codes of the true things of a frame, and the predicted instance matched with each."""
        gt_ids, gt_at = dense(frame.gt)
        pred_ids, pred_at = dense(frame.pred)
        areas = sums(gt_at, frame.count, len(gt_ids))[gt_at] + sums(pred_at, frame.count, len(pred_ids))[pred_at]
        # IoU = count / (areas - count) > 1/2, in whole numbers.
        hit = (frame.gt_class == frame.pred_class) & (3 * frame.count > areas)
        tracks = np.full(len(gt_ids), _MISSED)
        tracks[gt_at[hit]] = frame.pred_instance[hit]
        tube = self._classes.is_thing[column_of(gt_ids)] & (instance_of(gt_ids) != 0)
        return gt_ids[tube], tracks[tube]

    def _change(self, codes: NDArray[np.int64], tracks: NDArray[np.int64]) -> None:
        """Ends the spans that do not continue in this frame, and begins the new ones."""
        continues = np.zeros(len(self._codes), bool)
        since = np.full(len(codes), self._frames)
        _, now, before = np.intersect1d(codes, self._codes, assume_unique=True, return_indices=True)
        same = tracks[now] == self._tracks[before]
        continues[before[same]] = True
        since[now[same]] = self._since[before[same]]
        for (code, first, track), stays in zip(self._open(), continues.tolist(), strict=True):
            if not stays:
                self._end(code, first, self._frames - 1, track)
        self._codes, self._tracks, self._since = codes, tracks, since

    def _open(self) -> list[tuple[int, int, int]]:
        """(code, first frame, track) of each span that contains the last frame."""
        return list(zip(self._codes.tolist(), self._since.tolist(), self._tracks.tolist(), strict=True))

    def _end(self, code: int, first: int, last: int, track: int) -> None:
        self._ended.setdefault(code, []).append((first, last, track))
