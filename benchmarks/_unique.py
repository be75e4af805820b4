"""Reference implementation of STQ's association, VPQ and VC: `np.unique` over complete videos.

It follows the definitions of the protocols and shares no code with the package. Sums are exact fractions, rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

VOID = 255
_WIDTH = 1 << 16
"""Instances of one class."""
_PAIR = 1 << 32
Counts: TypeAlias = tuple[Fraction, int, int, int]
"""Sum of IoU, TP, FP, FN."""


class Video(NamedTuple):
    """Integer [T, H, W] each; class 255 is void."""

    gt_class: NDArray[np.int64]
    gt_instance: NDArray[np.int64]
    pred_class: NDArray[np.int64]
    pred_instance: NDArray[np.int64]

    def cut(self, start: int, length: int) -> Video:
        return Video(*(part[start : start + length] for part in self))


def association(video: Video, things: Sequence[int], protocol: str) -> tuple[float, int]:
    """(sum of the association qualities of the true tubes, number of true tubes) of one video, by a protocol of STQ."""
    is_thing = np.isin(video.gt_class, things)
    gt, pred = _codes(video, things)
    crowd = is_thing & (video.gt_instance == 0)
    if protocol == "vipseg":
        crowd = is_thing & (gt == _first(video, gt, things))
    keep = ~crowd if protocol != "video-k-net" else ~crowd & (video.gt_class != VOID)
    in_gt, in_pred = is_thing & keep, np.isin(video.pred_class, things) & keep
    gt_size, pred_size = _count(gt[in_gt]), _count(pred[in_pred])
    both = _count((gt * _PAIR + pred)[in_gt & in_pred])
    inner = dict.fromkeys(gt_size, Fraction(0))
    for pair, shared in both.items():
        g, p = divmod(pair, _PAIR)
        inner[g] += Fraction(shared * shared, gt_size[g] + pred_size[p] - shared)
    return math.fsum(float(value / gt_size[g]) for g, value in inner.items()), len(gt_size)


def panoptic(
    videos: Iterable[Video], things: Sequence[int], classes: Sequence[int], frames: int, crowds: bool
) -> dict[int, Counts]:
    """(sum of IoU, TP, FP, FN) of VPQ for each class over all windows of that many frames."""
    found: dict[int, Counts] = {c: (Fraction(0), 0, 0, 0) for c in classes}
    for video in videos:
        for start in range(len(video.gt_class) - frames + 1):
            for c, counts in _window(video.cut(start, frames), things, classes, crowds).items():
                found[c] = _added(found[c], counts)
    return found


def _added(a: Counts, b: Counts) -> Counts:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


def consistency(videos: Iterable[Video], frames: int) -> float:
    """VC of that many frames; NaN where no window has a constant pixel."""
    shares = []
    for video in videos:
        for start in range(len(video.gt_class) - frames):
            window = video.cut(start, frames)
            truth = (window.gt_class == window.gt_class[0]).all(0)
            kept = truth & (window.pred_class == window.pred_class[0]).all(0)
            if truth.any():
                shares.append(Fraction(int(kept.sum()), int(truth.sum())))
    return float(sum(shares) / len(shares)) if shares else math.nan


def _window(window: Video, things: Sequence[int], classes: Sequence[int], crowds: bool) -> dict[int, Counts]:
    gt, pred = _codes(window, things)
    gt_size, pred_size, both = _count(gt), _count(pred), _count(gt * _PAIR + pred)
    void = VOID * _WIDTH
    found: dict[int, list[Any]] = {c: [Fraction(0), 0, 0, 0] for c in classes}
    taken_gt, taken_pred = set(), set()
    for pair, shared in both.items():
        g, p = divmod(pair, _PAIR)
        c = g // _WIDTH
        if c != p // _WIDTH or g == void or (crowds and c in things and g % _WIDTH == 0):
            continue
        iou = Fraction(shared, gt_size[g] + pred_size[p] - shared - both.get(void * _PAIR + p, 0))
        if iou > Fraction(1, 2):
            found[c][0] += iou
            found[c][1] += 1
            taken_gt.add(g)
            taken_pred.add(p)
    for p in pred_size.keys() - taken_pred - {void}:
        c = p // _WIDTH
        excused = both.get(void * _PAIR + p, 0)
        if crowds and c in things:
            excused += both.get(c * _WIDTH * _PAIR + p, 0)
        found[c][2] += 2 * excused <= pred_size[p]
    for g in gt_size.keys() - taken_gt - {void}:
        c = g // _WIDTH
        found[c][3] += not (crowds and c in things and g % _WIDTH == 0)
    return {c: (iou, tp, fp, fn) for c, (iou, tp, fp, fn) in found.items()}


def _codes(video: Video, things: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """class * _WIDTH + instance, where all but things have instance 0."""
    return tuple(
        c.astype(np.int64) * _WIDTH + np.where(np.isin(c, things), i, 0)
        for c, i in ((video.gt_class, video.gt_instance), (video.pred_class, video.pred_instance))
    )


def _first(video: Video, gt: NDArray[np.int64], things: Sequence[int]) -> int:
    """The first segment in the list of VIPSeg; -1 for a video without segments."""
    for frame, classes in zip(gt, video.gt_class, strict=True):
        stuff, thing = (frame[np.isin(classes, things) == kind] for kind in (False, True))
        for codes in (stuff[stuff != VOID * _WIDTH], thing):
            if codes.size:
                return int(codes.min())
    return -1


def _count(codes: NDArray[np.int64]) -> dict[int, int]:
    ids, counts = np.unique(codes, return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))
