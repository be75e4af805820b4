"""Pairs the frames of ground truth and prediction, and evaluates the pairs in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vps_ros.datasets.kitti_step import DATA_SET as KITTI_STEP
from vps_ros.datasets.kitti_step import list_without_split, refuse_missing
from vps_ros.datasets.labels import LabelledFrame, LabelMap, VideoDataSet, Videos
from vps_ros.errors import InputError
from vps_ros.evaluation.evaluator import Evaluator, compare
from vps_ros.evaluation.metric import ComparedFrame
from vps_ros.evaluation.results import FrameQuality
from vps_ros.files import natural_key
from vps_ros.parallel import in_order
from vps_ros.taxonomy import VOID_ID


@dataclass(frozen=True)
class FramePair:
    """Ground truth and prediction of one frame; None for one that is missing and counts as void."""

    sequence: str
    frame: str
    gt: LabelledFrame | None
    pred: LabelledFrame | None

    @property
    def name(self) -> str:
        return f"{self.sequence}/{self.frame}"

    @property
    def where(self) -> Path | str:
        """The file of the ground truth, or of the prediction if there is none, for errors."""
        side = self.gt or self.pred
        return side.where if side else self.name


def pair_frames(
    gt: str | Path,
    pred: str | Path,
    split: str | None = None,
    allow_missing: bool = False,
    form: VideoDataSet = KITTI_STEP,
) -> tuple[FramePair, ...]:
    """The frames of both folders in the order of time, joined by the names of sequence and frame.

    Args:
        gt: folder in a layout of the data set.
        pred: likewise.
        split: use only this split, if a folder has splits.
        allow_missing: a frame that is missing on one side is void there; otherwise it is an error.
        form: the data set.

    Raises:
        InputError: as the readers of the data set, or frames are missing on one side, or no frame is in both folders.
    """
    ours, theirs = form.truth(gt, split), list_without_split(form.prediction, pred, split)
    keys = [{(s, f) for s, frames in side.items() for f in frames} for side in (ours, theirs)]
    if not keys[0] & keys[1]:
        raise InputError(
            f"{pred}: no frame in common with {gt} ({_example(theirs)} here, {_example(ours)} there); "
            "name sequences and frames as the ground truth does"
        )
    if form.sparse:
        theirs = {s: {f: one for f, one in frames.items() if f in ours.get(s, {})} for s, frames in theirs.items()}
        keys[1] &= keys[0]
    if not allow_missing:
        hint = ", or pass --allow-missing to count them as void"
        refuse_missing(keys[0] - keys[1], ours, f"{pred}: no prediction for", "predict them" + hint)
        refuse_missing(keys[1] - keys[0], theirs, f"{gt}: no ground truth for", "remove their predictions" + hint)
    pairs = []
    for sequence in sorted({*ours, *theirs}):
        mine, other = ours.get(sequence, {}), theirs.get(sequence, {})
        extra = other.keys() - mine.keys()
        # The ground truth is in the order of time; with additional frames the order is that of the names.
        frames = sorted({*mine, *extra}, key=lambda name: natural_key(Path(name))) if extra else mine
        pairs += [FramePair(sequence, frame, mine.get(frame), other.get(frame)) for frame in frames]
    return tuple(pairs)


def evaluate_pairs(
    pairs: Iterable[FramePair], evaluator: Evaluator, jobs: int = 1
) -> Iterator[tuple[FramePair, FrameQuality]]:
    """Gives every frame to `evaluator`, in order, while `jobs` threads read and compare the next maps.

    The frames of a sequence must be consecutive in `pairs`.

    Raises InputError for a map that cannot be read or used; it names the file.
    """

    def compared(pair: FramePair) -> tuple[FramePair, ComparedFrame]:
        gt, pred = load_pair(pair)
        where = pair.gt.where if pair.gt else f"ground truth of {pair.name}"
        return pair, compare(evaluator.classes, gt, pred, where, pair.pred.where if pair.pred else "prediction")

    sequence = None
    for pair, frame in in_order(compared, pairs, jobs):
        if sequence not in (None, pair.sequence):
            evaluator.finish(sequence)
        sequence = pair.sequence
        try:
            quality = evaluator.add(sequence, frame)
        except InputError as error:
            raise InputError(f"{pair.where}: {error}") from None
        yield pair, quality


def load_pair(pair: FramePair) -> tuple[LabelMap, LabelMap]:
    """The maps of ground truth and prediction; a missing one is void at the size of the other."""
    gt, pred = (side.read() if side else None for side in (pair.gt, pair.pred))
    shape = next(filter(None, (gt, pred))).semantic.shape
    void = LabelMap(np.full(shape, VOID_ID, np.uint8), np.zeros(shape, np.uint8))
    return gt or void, pred or void


def _example(videos: Videos) -> str:
    sequence, frames = next((s, f) for s, f in videos.items() if f)
    return f"{sequence}/{next(iter(frames))}"
