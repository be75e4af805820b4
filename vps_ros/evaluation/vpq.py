"""Video Panoptic Quality (Kim et al., Video Panoptic Segmentation, CVPR 2020).

VPQ^n is PQ over windows of n consecutive frames, in which the segments of one class and instance are one tube; a window
starts at each frame from which the video has n. VPQ is the mean over n.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.evaluation.numbers import known, mean_of_known
from vps_ros.evaluation.overlaps import Classes, Overlaps
from vps_ros.evaluation.pq import PanopticCounts, PanopticQuality, match


@dataclass(frozen=True)
class Rules:
    """Where the protocols differ.

    Attributes:
        windows: how many consecutive labelled frames, for each VPQ^n.
        crowds: a true thing with instance 0 is a crowd, neither matched nor missed; otherwise an instance.
        absent: a class without any segment counts as 0 in the means, where others leave it out.
        things: of the 19 street classes, those over which the mean of things is taken; none for the taxonomy's.
    """

    windows: tuple[int, ...]
    crowds: bool
    absent: bool
    things: tuple[int, ...] = ()


PROTOCOLS: Mapping[str, Rules] = {
    "cityscapes-vps": Rules((1, 2, 3, 4), crowds=True, absent=False),
    "kitti-step": Rules((1, 2, 3, 4), crowds=False, absent=False),
    "vipseg": Rules((1, 2, 4, 6), crowds=False, absent=False),
    "video-k-net": Rules((1, 2, 3, 4), crowds=False, absent=True, things=(11, 13)),
}


@dataclass(frozen=True)
class VideoPanopticQuality:
    """VPQ; every number in 0..1, NaN where nothing could be measured.

    Attributes:
        windows: frames of a window -> PQ over all such windows. A window longer than every video has no segments.
    """

    protocol: str
    windows: Mapping[int, PanopticQuality]

    @property
    def all(self) -> float:
        """Mean over the windows in which something was measured; so too `things` and `stuff`."""
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
        """{window: {"all", "things", "stuff"}}, null where nothing could be measured."""
        parts = "all", "things", "stuff"
        return {str(n): {part: known(getattr(w, part)) for part in parts} for n, w in self.windows.items()}


class VideoPanoptic:
    """Matched and unmatched tubes of all windows of one sequence. Streaming: update, merge or extend, result.

    Only the tables of the last frames are kept, one less than the longest window has, and as many of the first.
    Sequences counted apart merge exactly. Parts of one sequence need those frames of each other, and their order:
    `extend` counts the windows across the seam.

    Args:
        protocol: one of PROTOCOLS.
        windows: other windows than the protocol's.

    Raises InputError for an unknown protocol, and for windows that are not different whole numbers above 0.
    """

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
        self._merged = False

    def update(self, frame: Overlaps) -> None:
        """Takes in the next frame of the sequence by its overlap table."""
        self._refuse_merged()
        for n, tube in self._ending_with(frame):
            self._counts[n].update(match(self._classes, tube, self._rules.crowds))
        if len(self._head) < self._kept:
            self._head.append(frame)
        self._tail.append(frame)

    def merge(self, other: VideoPanoptic) -> None:
        """Adds other, whole sequences, in any order. This one ends with it: no frame can follow."""
        self._refuse_unlike(other)
        self._merged = True
        self._head, self._tail = [], deque()
        for n, counts in self._counts.items():
            counts.merge(other._counts[n])

    def extend(self, later: VideoPanoptic) -> None:
        """Adds the part of the same sequence that follows this one; the result is that of one pass."""
        self._refuse_unlike(later)
        self._refuse_merged()
        later._refuse_merged()
        # The later part's first frames end the windows across the seam, and its own windows are counted already.
        own = {n: PanopticCounts(self._classes) for n in self._windows}
        for passed, frame in enumerate(later._head):
            for n, tube in self._ending_with(frame):
                if n > passed + 1:
                    own[n].update(match(self._classes, tube, self._rules.crowds))
            self._tail.append(frame)
            if len(self._head) < self._kept:
                self._head.append(frame)
        self._tail.extend(later._tail if len(later._tail) == self._kept else ())
        for n, counts in self._counts.items():
            counts.merge(own[n])
            counts.merge(later._counts[n])

    def result(self) -> VideoPanopticQuality:
        windows = {n: counts.result() for n, counts in self._counts.items()}
        if self._rules.absent:
            windows = {n: _with_absent(quality) for n, quality in windows.items()}
        if self._rules.things and self._classes.are_streets:
            is_thing = np.isin(self._classes.taxonomy.ids, self._rules.things)
            windows = {n: replace(quality, is_thing=is_thing) for n, quality in windows.items()}
        return VideoPanopticQuality(self._protocol, windows)

    def _ending_with(self, frame: Overlaps) -> Iterator[tuple[int, Overlaps]]:
        """The windows whose last frame this is: how many frames, and the table of their tubes."""
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

    def _refuse_merged(self) -> None:
        if self._merged:
            raise InputError("VPQ of several sequences takes no more frames; count the next sequence by itself")


def check_windows(windows: Iterable[int]) -> tuple[int, ...]:
    """The windows in rising order; raises InputError unless they are different whole numbers above 0."""
    windows = tuple(windows)
    if not windows or len(set(windows)) < len(windows) or any(type(n) is not int or n < 1 for n in windows):
        raise InputError(f"windows {windows}: name one or more different whole numbers of frames, 1 or more")
    return tuple(sorted(windows))


def _with_absent(quality: PanopticQuality) -> PanopticQuality:
    return replace(quality, **{name: np.nan_to_num(getattr(quality, name)) for name in ("pq", "sq", "rq")})


def _mean(values: Iterable[float]) -> float:
    return mean_of_known(np.array(list(values)))
