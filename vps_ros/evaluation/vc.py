"""Video Consistency (Miao et al., VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild, CVPR 2021).

VC_n of a window of n consecutive frames: of the pixels whose true class is constant, the share whose predicted class is
constant too, right or wrong. VC_n is the mean over all windows of all videos.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.evaluation.metric import ComparedFrame, Metric, Result, Rules, Score
from vps_ros.evaluation.overlaps import SHARE_SCALE, Classes, none_for_nan, size_name
from vps_ros.evaluation.vpq import check_windows

WINDOWS = (8, 16)


class ConsistencyShares(dict[int, float], Result):
    """{n: VC_n in 0..1}, NaN where no window was counted."""

    def to_json(self) -> dict:
        return {"VC": {str(n): none_for_nan(value) for n, value in self.items()}}

    def scores(self) -> tuple[Score, ...]:
        return tuple(
            Score(
                f"VC{n}",
                value,
                f"video consistency: of the pixels whose true class is constant over {n} frames, the share whose "
                "predicted class is constant",
            )
            for n, value in self.items()
        )


class VideoConsistency(Metric):
    """VC_n of one sequence.

    For ground truth and prediction it keeps four maps, independent of n: the first and the last class map, and for how
    many frames each pixel kept its class after the first and before the last. `finish` releases them.

    As in the code of VSPW, the window that ends with the last frame of a video is left out, so that a video of n frames
    or fewer has no window; void is a class like any other; windows without a constant true pixel are left out.

    Args:
        windows: the n, 1 to 65,535 frames.

    Raises InputError for windows that are not different integers in that range.
    """

    needs_order = True
    unmeasured = ConsistencyShares().to_json()

    def __init__(self, windows: Iterable[int] = WINDOWS) -> None:
        self._windows = check_windows(windows)
        if self._windows[-1] > np.iinfo(np.uint16).max:
            raise InputError(f"VC: windows of {self._windows[-1]} frames are too long; at most 65535 are possible")
        self._shares = dict.fromkeys(self._windows, 0)
        self._counted = dict.fromkeys(self._windows, 0)
        self._gt, self._pred = _ConstantPixels(self._windows[-1]), _ConstantPixels(self._windows[-1])
        self._finished = False

    @classmethod
    def create(cls, classes: Classes, rules: Rules) -> VideoConsistency:
        return cls()

    def add(self, frame: ComparedFrame) -> None:
        self.update(frame.gt_semantic, frame.pred_semantic)

    def update(self, gt_semantic: NDArray[np.integer], pred_semantic: NDArray[np.integer]) -> None:  # type: ignore[override]
        """Counts the next frame: integer [H, W], class ids.

        Raises InputError when a size differs from before, or after `finish`.
        """
        self._check_maps(gt_semantic, pred_semantic)
        self._count_last()
        self._gt.update(gt_semantic)
        self._pred.update(pred_semantic)

    def check(self, frame: ComparedFrame) -> None:
        self._check_maps(frame.gt_semantic, frame.pred_semantic)

    def _check_maps(self, gt_semantic: NDArray[np.integer], pred_semantic: NDArray[np.integer]) -> None:
        self._refuse_finished()
        known = self._gt.last if self._gt.frames else gt_semantic
        if gt_semantic.ndim != 2 or gt_semantic.shape != known.shape or pred_semantic.shape != known.shape:
            raise InputError(
                f"maps of {size_name(gt_semantic)} (truth) and {size_name(pred_semantic)} (prediction) in a "
                f"sequence of {size_name(known)}; all maps of a sequence must have one size"
            )

    def extend(self, later: VideoConsistency) -> None:
        """Adds the following part of the same sequence; the result is that of one pass."""
        self._refuse_unlike(later)
        self._refuse_finished()
        later._refuse_finished()
        if later._gt.frames and self._gt.frames:
            if later._gt.last.shape != self._gt.last.shape:
                raise InputError(
                    f"a sequence of {size_name(self._gt.last)} continues with maps of {size_name(later._gt.first)}; "
                    "all maps of a sequence must have one size"
                )
            self._count_last()
            # Windows that contain frames of both parts, but for the one that ends with the last frame.
            for n in self._windows:
                for after in range(max(1, n - self._gt.frames), min(n, later._gt.frames)):
                    before = n - after
                    self._count(n, *(a.lasts(b, before, after) for a, b in self._sides(later)))
        for mine, other in self._sides(later):
            mine.extend(other)
        self._add(later)

    def finish(self) -> None:
        """Releases the maps. No frame can follow."""
        self._finished = True
        self._gt, self._pred = _ConstantPixels(self._windows[-1]), _ConstantPixels(self._windows[-1])

    @classmethod
    def total(cls, sequences: Sequence[VideoConsistency]) -> ConsistencyShares:
        total = cls(sequences[0]._windows)
        for one in sequences:
            total._refuse_unlike(one)
            total._add(one)
        counts = total._counted.items()
        return ConsistencyShares(
            {n: total._shares[n] / (SHARE_SCALE * count) if count else math.nan for n, count in counts}
        )

    def _count_last(self) -> None:
        """Counts the windows that end with the last frame, when a frame follows it."""
        for n in self._windows:
            if self._gt.frames < n:
                break
            self._count(n, self._gt.trail >= n, self._pred.trail >= n)

    def _count(self, n: int, truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> None:
        constant = int(np.count_nonzero(truth))
        if constant:
            self._shares[n] += int(np.count_nonzero(truth & prediction)) * SHARE_SCALE // constant
            self._counted[n] += 1

    def _add(self, other: VideoConsistency) -> None:
        for n in self._windows:
            self._shares[n] += other._shares[n]
            self._counted[n] += other._counted[n]

    def _sides(self, other: VideoConsistency) -> tuple[tuple[_ConstantPixels, _ConstantPixels], ...]:
        return (self._gt, other._gt), (self._pred, other._pred)

    def _refuse_unlike(self, other: VideoConsistency) -> None:
        if self._windows != other._windows:
            raise InputError("VC of different windows cannot be merged")

    def _refuse_finished(self) -> None:
        if self._finished:
            raise InputError("a finished sequence takes no more frames; count the next one on its own")


class _ConstantPixels:
    """For how many frames each pixel kept its class after the first frame (`lead`) and before the last (`trail`).

    Both are counted up to `most`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.frames = 0
        self.first = self.last = self.lead = self.trail = np.zeros((0, 0), np.uint8)

    def update(self, semantic: NDArray[np.integer]) -> None:
        if not self.frames:
            self.first = self.last = semantic.copy()
            self.lead = self.trail = np.ones(semantic.shape, np.min_scalar_type(self._most))
        else:
            same = semantic == self.last
            # Not in place: lead and trail may be the same array.
            if self.frames < self._most:
                self.lead = self.lead + (same & (self.lead == self.frames))
            self.trail = self.trail * same
            self.trail += self.trail < self._most
            self.last = semantic.copy()
        self.frames += 1

    def lasts(self, later: _ConstantPixels, before: int, after: int) -> NDArray[np.bool_]:
        """bool [H, W]: pixels of constant class in the last `before` frames and the first `after` of `later`."""
        return (self.trail >= before) & (self.last == later.first) & (later.lead >= after)

    def extend(self, later: _ConstantPixels) -> None:
        """Adds the frames of `later` after these."""
        if not later.frames:
            return
        if not self.frames:
            self.first, self.lead = later.first, later.lead
            self.trail, self.last, self.frames = later.trail, later.last, later.frames
            return
        same = self.last == later.first
        self.lead = self._longer(self.lead, same & (self.lead >= self.frames), later.lead)
        self.trail = self._longer(later.trail, same & (later.trail >= later.frames), self.trail)
        self.last = later.last
        self.frames += later.frames

    def _longer(self, run: NDArray, where: NDArray[np.bool_], more: NDArray) -> NDArray[np.integer]:
        """The runs with `more` added at `where`, up to `most`."""
        total = np.minimum(run.astype(np.int64) + np.where(where, more, 0), self._most)
        return total.astype(run.dtype)
