"""Life lines: through which frames each true thing is seen, and which predicted track follows it there."""

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
    """Consecutive frames, `first` to `last` with both of them, in which nothing changes.

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
class LifeLine:
    """One true thing through its sequence.

    Attributes:
        class_name, instance: together the name of the thing.
        spans: in the order of time; between two of them that do not touch, the thing is not in the picture.
    """

    class_name: str
    instance: int
    spans: tuple[Span, ...]

    @property
    def first(self) -> int:
        """Index of the first frame that shows the thing; the sequence begins with frame 0."""
        return self.spans[0].first

    @property
    def last(self) -> int:
        return self.spans[-1].last

    @cached_property
    def seen(self) -> int:
        """Frames that show the thing."""
        return sum(span.frames for span in self.spans)

    @cached_property
    def missed(self) -> int:
        """Frames that show the thing, in which no track is matched with it."""
        return sum(span.frames for span in self.spans if span.track is None)

    @cached_property
    def switched(self) -> tuple[int, ...]:
        """The frames in which the thing is matched with another track than when it was matched last."""
        matched = [span for span in self.spans if span.track is not None]
        return tuple(b.first for a, b in zip(matched, matched[1:], strict=False) if a.track != b.track)

    @property
    def switches(self) -> int:
        """IDSW of this thing (Bernardin and Stiefelhagen, Evaluating Multiple Object Tracking Performance, 2008)."""
        return len(self.switched)


class LifeLines:
    """The life lines of one sequence. Streaming: update, merge, result; it grows only where something changes.

    True things with instance 0 are crowds and have no line. A predicted thing is matched with a true one of its class
    if their IoU is above 0.5, of which neither can have two. As in `vps_ros.evaluation.identity` the IoU is that of
    the whole masks, also where the truth is void.
    """

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._frames = 0
        self._ended: dict[int, list[tuple[int, int, int]]] = {}
        # The things of the last frame, by code: their tracks, and since which frame they have them.
        self._codes, self._tracks, self._since = (np.zeros(0, np.int64) for _ in range(3))

    def update(self, frame: Overlaps) -> None:
        """Takes in the next frame by its overlap table."""
        codes, tracks = self._matches(frame)
        if not (np.array_equal(codes, self._codes) and np.array_equal(tracks, self._tracks)):
            self._change(codes, tracks)
        self._frames += 1

    def merge(self, later: LifeLines) -> None:
        """Adds the part of the same sequence that follows this one; the result is that of one pass.

        Raises InputError when the parts were counted by different taxonomies.
        """
        if self._classes != later._classes:
            raise InputError("life lines by different taxonomies cannot be merged")
        if not later._frames:
            return
        here = self._frames
        going_on = {(code, track): since for code, since, track in self._open()}

        def start(code: int, first: int, track: int) -> int:
            return here + first if first else going_on.pop((code, track), here)

        ended = {
            code: [(start(code, first, track), here + last, track) for first, last, track in spans]
            for code, spans in later._ended.items()
        }
        since = [start(code, first, track) for code, first, track in later._open()]
        for (code, track), first in going_on.items():
            self._end(code, first, here - 1, track)
        for code, spans in ended.items():
            self._ended.setdefault(code, []).extend(spans)
        self._codes, self._tracks, self._since = later._codes, later._tracks, np.array(since, np.int64)
        self._frames += later._frames

    def result(self) -> tuple[LifeLine, ...]:
        """The lines by class, in the order of the taxonomy, and then by instance."""
        spans = {code: list(ended) for code, ended in self._ended.items()}
        for code, first, track in self._open():
            spans.setdefault(code, []).append((first, self._frames - 1, track))
        names = [info.name for info in self._classes.taxonomy.classes]
        return tuple(
            LifeLine(
                names[column_of(code)],
                instance_of(code),
                tuple(Span(first, last, None if track == _MISSED else track) for first, last, track in spans[code]),
            )
            for code in sorted(spans)
        )

    def _matches(self, frame: Overlaps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The codes of the true things of a frame, sorted, and the instance matched with each."""
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
        """Ends the spans that do not go on in this frame, and begins those that are new in it."""
        goes_on = np.zeros(len(self._codes), bool)
        since = np.full(len(codes), self._frames)
        _, now, before = np.intersect1d(codes, self._codes, assume_unique=True, return_indices=True)
        same = tracks[now] == self._tracks[before]
        goes_on[before[same]] = True
        since[now[same]] = self._since[before[same]]
        for (code, first, track), stays in zip(self._open(), goes_on.tolist(), strict=True):
            if not stays:
                self._end(code, first, self._frames - 1, track)
        self._codes, self._tracks, self._since = codes, tracks, since

    def _open(self) -> list[tuple[int, int, int]]:
        """Code, first frame and track of each span that reaches the last frame."""
        return list(zip(self._codes.tolist(), self._since.tolist(), self._tracks.tolist(), strict=True))

    def _end(self, code: int, first: int, last: int, track: int) -> None:
        self._ended.setdefault(code, []).append((first, last, track))
