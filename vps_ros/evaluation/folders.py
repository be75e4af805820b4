"""Evaluation of two folders of KITTI-STEP maps: which frames belong together, and their tables, read in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.kitti_step import Sequences, list_maps, list_without_split, load_map, name_frames
from vps_ros.errors import InputError
from vps_ros.evaluation.evaluator import Evaluator, FrameQuality
from vps_ros.evaluation.overlaps import Classes, Overlaps, overlaps
from vps_ros.parallel import in_order
from vps_ros.taxonomy import VOID_ID


@dataclass(frozen=True)
class FramePair:
    """One frame's two maps; None where the file is absent and counts as all void."""

    sequence: str
    frame: str
    gt: Path | None
    pred: Path | None

    @property
    def name(self) -> str:
        return f"{self.sequence}/{self.frame}"


def pair_frames(
    gt: str | Path, pred: str | Path, split: str | None = None, allow_missing: bool = False
) -> tuple[FramePair, ...]:
    """The frames of both folders in order, joined by sequence and frame name.

    Args:
        gt, pred: folders in a layout that `list_maps` knows.
        split: take only this split, where a folder has splits.
        allow_missing: a frame that one side lacks is all void there; otherwise it is an error.

    Raises:
        InputError: as `list_maps`, or frames are missing on either side, or the two have no frame in common.
    """
    ours, theirs = list_maps(gt, split), list_without_split(list_maps, pred, split)
    keys = [{(s, f) for s, frames in side.items() for f in frames} for side in (ours, theirs)]
    if not keys[0] & keys[1]:
        raise InputError(
            f"{pred}: no frame in common with {gt} ({_example(theirs)} here, {_example(ours)} there); "
            "name sequences and frames as the ground truth does"
        )
    if not allow_missing:
        _refuse_missing(keys[0] - keys[1], ours, f"{pred}: no prediction for", "predict them")
        _refuse_missing(keys[1] - keys[0], theirs, f"{gt}: no ground truth for", "take their predictions away")
    return tuple(
        FramePair(s, f, ours.get(s, {}).get(f), theirs.get(s, {}).get(f)) for s, f in sorted(keys[0] | keys[1])
    )


def evaluate_pairs(
    pairs: Iterable[FramePair], evaluator: Evaluator, jobs: int = 1
) -> Iterator[tuple[FramePair, FrameQuality]]:
    """Feeds every frame to `evaluator`, in order, while `jobs` threads read and compare maps ahead of it.

    Raises InputError for a map that cannot be read or used; it names the file.
    """
    work = in_order(lambda pair: (pair, table_of(pair, evaluator.classes)), pairs, jobs)
    for pair, table in work:
        yield pair, evaluator.add(pair.sequence, table)


def table_of(pair: FramePair, classes: Classes) -> Overlaps:
    """The overlap table of a pair; errors name its files."""
    gt, pred = load_pair(pair)
    return overlaps(classes, *gt, *pred, pair.gt or f"ground truth of {pair.name}", pair.pred or "prediction")


def load_pair(pair: FramePair) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
    """(classes, instances) of the truth and of the prediction; an absent one is void at the size of the other."""
    gt, pred = (load_map(path) if path else None for path in (pair.gt, pair.pred))
    shape = (gt or pred)[0].shape
    void = np.full(shape, VOID_ID, np.uint8), np.zeros(shape, np.uint16)
    return gt or void, pred or void


def _refuse_missing(missing: set[tuple[str, str]], where: Sequences, what: str, remedy: str) -> None:
    if not missing:
        return
    listed = name_frames(missing, where)
    raise InputError(
        f"{what} {len(missing)} frame(s): {listed}; {remedy}, or pass --allow-missing to count them as void"
    )


def _example(sequences: Sequences) -> str:
    sequence, frames = next(iter(sequences.items()))
    return f"{sequence}/{next(iter(frames))}"
