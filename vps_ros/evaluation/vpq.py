"""Video Panoptic Quality (Kim et al., Video Panoptic Segmentation, CVPR 2020).

VPQ^n is PQ over all windows of n consecutive frames, in which the segments of one class and instance are one tube. VPQ
is the mean over n.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.evaluation.metric import Metric, Result, Rules, Score
from vps_ros.evaluation.overlaps import Classes, Overlaps, nan_mean
from vps_ros.evaluation.pq import PanopticCounts, PanopticQuality, match, parts_json


@dataclass(frozen=True)
class WindowRules:
    """The rules of a benchmark.

    Attributes:
        windows: numbers n of consecutive labelled frames.
        crowds: a true thing with instance 0 is a crowd, see `match`; otherwise an instance.
        absent: a class without any segment counts as 0 in the means; otherwise it is left out.
        things: which of the 19 street classes are things; empty for those of the taxonomy.
    """

    windows: tuple[int, ...]
    crowds: bool
    absent: bool
    things: tuple[int, ...] = ()


PROTOCOLS: Mapping[str, WindowRules] = {
    "cityscapes-vps": WindowRules((1, 2, 3, 4), crowds=True, absent=False),
    "kitti-step": WindowRules((1, 2, 3, 4), crowds=False, absent=False),
    "vipseg": WindowRules((1, 2, 4, 6), crowds=False, absent=False),
    "video-k-net": WindowRules((1, 2, 3, 4), crowds=False, absent=True, things=(11, 13)),
}


@dataclass(frozen=True)
class VideoPanopticQuality(Result):
    """VPQ; every number in 0..1, NaN where nothing could be measured.

    Attributes:
        windows: n -> PQ over all windows of n frames; without segments where n is longer than every video.
    """

    protocol: str
    windows: Mapping[int, PanopticQuality]

    @property
    def all(self) -> float:
        """Mean over the windows in which something was measured; the same for `things` and `stuff`."""
        return _mean(w.all for w in self.windows.values())

    @property
    def things(self) -> float:
        return _mean(w.things for w in self.windows.values())

    @property
    def stuff(self) -> float:
        return _mean(w.stuff for w in self.windows.values())

    @property
    def by_class(self) -> NDArray[np.float64]:
        """float64 [C], for each class the mean over the windows in which it occurs."""
        return np.array([_mean(values) for values in zip(*(w.pq for w in self.windows.values()), strict=True)])

    def to_json(self) -> dict:
        return {"VPQ": {str(n): parts_json(one) for n, one in self.windows.items()}, "VPQ_mean": parts_json(self)}

    def scores(self) -> tuple[Score, ...]:
        return (
            Score("VPQ", self.all, "video panoptic quality, the mean over its windows"),
            Score("things", self.things, "VPQ of the classes of things", "VPQ"),
            Score("stuff", self.stuff, "VPQ of the classes of stuff", "VPQ"),
            *(
                Score(f"{n} frame{'s' * (n != 1)}", one.all, f"PQ over windows of {n}", "VPQ")
                for n, one in self.windows.items()
            ),
        )


UNMEASURED = VideoPanopticQuality("", {})
"""The result of an evaluation without VPQ."""


class VideoPanoptic(Metric):
    """Matched and unmatched tubes of all windows of one sequence.

    With a longest window of n frames, it keeps the tables of the first n - 1 and of the last n - 1 frames, from which
    `extend` counts the windows that contain frames of both parts.

    Args:
        protocol: one of PROTOCOLS.
        windows: other windows than the protocol's.

    Raises InputError for an unknown protocol, and for windows that are not different positive integers.
    """

    needs_order = True
    unmeasured = {"VPQ": {}, "VPQ_mean": {"all": None, "things": None, "stuff": None}}

    def __init__(self, classes: Classes, protocol: str, windows: Iterable[int] | None = None) -> None:
        if protocol not in PROTOCOLS:
            raise InputError(f"unknown protocol {protocol!r} of VPQ; choose one of {', '.join(PROTOCOLS)}")
        self._rules = PROTOCOLS[protocol]
        self._classes = classes
        self._protocol = protocol
        self._windows = check_windows(self._rules.windows if windows is None else windows)
        self._counts = {n: PanopticCounts(classes) for n in self._windows}
        self._kept = max(self._windows) - 1
        self._head: list[Overlaps] = []
        self._tail: deque[Overlaps] = deque(maxlen=self._kept)

    @classmethod
    def create(cls, classes: Classes, rules: Rules) -> VideoPanoptic:
        return cls(classes, rules.vpq)

    def update(self, frame: Overlaps) -> None:
        """Counts the next frame by its overlap table."""
        for n, tube in self._ending_with(frame):
            self._counts[n].update(match(self._classes, tube, self._rules.crowds))
        if len(self._head) < self._kept:
            self._head.append(frame)
        self._tail.append(frame)

    def extend(self, later: VideoPanoptic) -> None:
        """Adds the following part of the same sequence; the result is that of one pass."""
        self._refuse_unlike(later)
        # Windows that contain frames of both parts; `later` has counted its own.
        for passed, frame in enumerate(later._head):
            for n, tube in self._ending_with(frame):
                if n > passed + 1:
                    self._counts[n].update(match(self._classes, tube, self._rules.crowds))
            self._tail.append(frame)
            if len(self._head) < self._kept:
                self._head.append(frame)
        self._tail.extend(later._tail if len(later._tail) == self._kept else ())
        for n, counts in self._counts.items():
            counts.extend(later._counts[n])

    def finish(self) -> None:
        self._head.clear()
        self._tail.clear()

    @classmethod
    def total(cls, sequences: Sequence[VideoPanoptic]) -> VideoPanopticQuality:
        first = sequences[0]
        for one in sequences:
            first._refuse_unlike(one)
        windows = {n: PanopticCounts.total([one._counts[n] for one in sequences]) for n in first._windows}
        if first._rules.absent:
            shares = ("pq", "sq", "rq")
            windows = {
                n: replace(quality, **{name: np.nan_to_num(getattr(quality, name)) for name in shares})
                for n, quality in windows.items()
            }
        if first._rules.things and first._classes.are_streets:
            is_thing = np.isin(first._classes.taxonomy.ids, first._rules.things)
            windows = {n: replace(quality, is_thing=is_thing) for n, quality in windows.items()}
        return VideoPanopticQuality(first._protocol, windows)

    def _ending_with(self, frame: Overlaps) -> Iterator[tuple[int, Overlaps]]:
        """(n, table of the tubes) of each window that ends with this frame."""
        tube, frames = frame, 1
        before = reversed(self._tail)
        for n in self._windows:
            wanted = list(islice(before, n - frames))
            if len(wanted) < n - frames:
                return
            tube, frames = Overlaps.add([tube, *wanted]) if wanted else tube, n
            yield n, tube

    def _refuse_unlike(self, other: VideoPanoptic) -> None:
        if (self._classes, self._protocol, self._windows) != (other._classes, other._protocol, other._windows):
            raise InputError("VPQ by different taxonomies, protocols or windows cannot be merged")


def check_windows(windows: Iterable[int]) -> tuple[int, ...]:
    """The windows in ascending order; raises InputError unless they are different positive integers."""
    windows = tuple(windows)
    if not windows or len(set(windows)) < len(windows) or any(type(n) is not int or n < 1 for n in windows):
        raise InputError(f"windows {windows}: give one or more different positive integers, the frames of a window")
    return tuple(sorted(windows))


def _mean(values: Iterable[float]) -> float:
    return nan_mean(np.array(list(values)))
