"""Video Consistency (Miao et al., VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild, CVPR 2021).

VC_n of a window of n consecutive frames: of the pixels whose true class stays the same, the share whose predicted class
stays the same too. It need not be the right one. VC_n is the mean over all windows of all videos.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError
from vps_ros.evaluation.vpq import check_windows

WINDOWS = (8, 16)
_ONE = 1 << 64
"""Shares are added as whole multiples of 1 / _ONE, which add up the same in any order."""


class VideoConsistency:
    """VC_n of one sequence. Streaming: update, merge, result; it keeps two maps of each side, however long n is.

    As in VSPW's own code the window that ends with the last frame of a video is left out, so a video of n frames or
    fewer counts nothing; void is a class like any other; and a window without any constant true pixel is left out.

    Args:
        windows: the n, 1 to 65,535 frames.

    Raises InputError for windows that are not different whole numbers in that range.
    """

    def __init__(self, windows: Iterable[int] = WINDOWS) -> None:
        self._windows = check_windows(windows)
        if self._windows[-1] > np.iinfo(np.uint16).max:
            raise InputError(f"VC: windows of {self._windows[-1]} frames are too long; 65535 are the most")
        self._shares = dict.fromkeys(self._windows, 0)
        self._counted = dict.fromkeys(self._windows, 0)
        self._gt, self._pred = _Constant(self._windows[-1]), _Constant(self._windows[-1])
        self._frames = 0

    def update(self, gt_semantic: NDArray[np.integer], pred_semantic: NDArray[np.integer]) -> None:
        """Takes in the next frame: integer [H, W], class ids. Raises InputError when a size differs from before."""
        shape = self._gt.shape or gt_semantic.shape
        if gt_semantic.ndim != 2 or gt_semantic.shape != shape or pred_semantic.shape != shape:
            raise InputError(
                f"VC: maps of {_size(gt_semantic.shape)} (truth) and {_size(pred_semantic.shape)} (prediction) in a "
                f"sequence of {_size(shape)}; all maps of a sequence must have one size"
            )
        # A window counts once a frame follows it.
        for n in self._windows:
            if self._frames < n:
                break
            truth = self._gt.frames >= n
            constant = int(np.count_nonzero(truth))
            if constant:
                kept = int(np.count_nonzero(truth & (self._pred.frames >= n)))
                self._shares[n] += kept * _ONE // constant
                self._counted[n] += 1
        self._gt.update(gt_semantic)
        self._pred.update(pred_semantic)
        self._frames += 1

    def merge(self, other: VideoConsistency) -> None:
        """Adds other, whole sequences, in any order. This one ends with it: the next frame begins another.

        The parts of one sequence cannot be merged: the windows across the seam need its maps.
        """
        if self._windows != other._windows:
            raise InputError("VC of different windows cannot be merged")
        for n in self._windows:
            self._shares[n] += other._shares[n]
            self._counted[n] += other._counted[n]
        self._gt, self._pred = _Constant(self._windows[-1]), _Constant(self._windows[-1])
        self._frames = 0

    def result(self) -> dict[int, float]:
        """{n: VC_n in 0..1}, NaN where no window was counted."""
        return {n: self._shares[n] / (_ONE * counted) if counted else math.nan for n, counted in self._counted.items()}


class _Constant:
    """For how many frames each pixel has had its class, up to `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._last: NDArray[np.integer] | None = None
        self.frames: NDArray[np.integer] = np.zeros(0, np.uint8)

    @property
    def shape(self) -> tuple[int, ...] | None:
        return None if self._last is None else self._last.shape

    def update(self, semantic: NDArray[np.integer]) -> None:
        if self._last is None:
            self.frames = np.ones(semantic.shape, np.min_scalar_type(self._most))
        else:
            self.frames *= semantic == self._last
            self.frames += self.frames < self._most
        self._last = semantic.copy()


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[::-1]))
