"""Labels of two recordings, ground truth and prediction: their frames joined by the stamps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vps_ros.datasets.labels import LabelledFrame, LabelMap, listed
from vps_ros.errors import InputError
from vps_ros.evaluation.pairs import FramePair
from vps_ros.recording.bag import Bag
from vps_ros.recording.label_classes import RecordedClasses, common_taxonomy, taxonomy_id_table
from vps_ros.recording.labels import (
    LabelIndex,
    LabelMessages,
    LabelTopic,
    index_labels,
    pair_label_topics,
    read_labels,
    seconds,
)
from vps_ros.taxonomy import Taxonomy


@dataclass(frozen=True)
class _Side:
    """The labels of one camera in one recording."""

    bag: Bag
    topic: LabelTopic
    index: LabelIndex
    table: NDArray[np.int16]

    def frames(self, sequence: str) -> Iterator[tuple[int, LabelledFrame]]:
        for one in read_labels(self.bag, self.topic, self.index.stamps):
            yield one.stamp, LabelledFrame(sequence, seconds(one.stamp), one.where, partial(self._read, one))

    def _read(self, recorded: LabelMessages) -> LabelMap:
        return LabelMap(*recorded.read(self.table))


class BagPairs:
    """The frames of two recordings, in the order of their stamps, camera after camera.

    Each iteration reads the recordings again; only the stamps are kept in memory.

    Attributes:
        taxonomy: the classes that are compared.
        absent: number of frames that are missing on one side.
        sequences: names of the cameras; of a single one, the name of the ground truth's recording.
    """

    def __init__(self, cameras: Mapping[str, tuple[_Side, _Side]], taxonomy: Taxonomy) -> None:
        self._cameras = cameras
        self.taxonomy = taxonomy
        stamps = [(gt.index.stamps, pred.index.stamps) for gt, pred in cameras.values()]
        self.sequences = tuple(cameras)
        self._length = sum(len(np.union1d(*both)) for both in stamps)
        self.absent = sum(len(np.setxor1d(*both)) for both in stamps)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[FramePair]:
        for sequence, sides in self._cameras.items():
            gt, pred = (side.frames(sequence) for side in sides)
            ours, theirs = next(gt, None), next(pred, None)
            while ours or theirs:
                stamp = min(one[0] for one in (ours, theirs) if one)
                here, there = (one if one and one[0] == stamp else None for one in (ours, theirs))
                yield FramePair(sequence, seconds(stamp), here and here[1], there and there[1])
                ours, theirs = next(gt, None) if here else ours, next(pred, None) if there else theirs


@contextmanager
def open_bags(
    gt: str | Path,
    pred: str | Path,
    gt_topic: str | None = None,
    pred_topic: str | None = None,
    taxonomy: Taxonomy | None = None,
    allow_missing: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> Iterator[BagPairs]:
    """Opens the labels of two recordings.

    Args:
        gt: .mcap or .db3 file, or rosbag2 folder.
        pred: likewise; may be the same recording.
        gt_topic: image topic of labels, if there are several.
        pred_topic: likewise.
        taxonomy: use this one; otherwise that of the messages.
        allow_missing: a frame that is missing on one side is void there; otherwise it is an error.
        warn: called for lost messages and missing frames.

    Raises:
        InputError: as the readers of labels in `vps_ros.recording`, or frames are missing on one side, or no stamp is
            in both recordings.
    """
    with ExitStack() as stack:
        bags = of_gt, of_pred = stack.enter_context(Bag(gt)), stack.enter_context(Bag(pred))
        cameras, spare = pair_label_topics(of_gt, of_pred, gt_topic, pred_topic)
        for topic in spare:
            warn(f"{pred}: {topic.image} belongs to a camera without ground truth and is left out")
        indexes = {c: (index_labels(of_gt, t), index_labels(of_pred, p)) for c, (t, p) in cameras.items()}
        for both in indexes.values():
            _check_stamps(bags, both, warn if allow_missing else None)
        names = [[both[side].names for both in indexes.values()] for side in (0, 1)]
        ours, theirs = map(_merge_names, names)
        common = common_taxonomy(ours, theirs, taxonomy)

        def side(bag: Bag, topic: LabelTopic, index: LabelIndex) -> _Side:
            return _Side(bag, topic, index, taxonomy_id_table(index.names, common))

        sides = {
            c or Path(gt).name.partition(".")[0]: (side(of_gt, t, indexes[c][0]), side(of_pred, p, indexes[c][1]))
            for c, (t, p) in cameras.items()
        }
        for where, named in ((ours.where, ours.names), (theirs.where, theirs.names)):
            if not named:
                warn(f"{where}: names no classes; its ids are read as those of {common.name}")
        yield BagPairs(sides, common)
        for loss in dict.fromkeys(str(loss) for bag in bags for loss in bag.losses):
            warn(loss)


def _check_stamps(
    bags: tuple[Bag, Bag], both: tuple[LabelIndex, LabelIndex], accept: Callable[[str], None] | None
) -> None:
    """`accept` is called for frames that are missing on one side; None: they are an error."""
    gt, pred = both
    lost = next((f"; {loss}" for bag in bags for loss in bag.losses), "")
    for one in both:
        if len(one.undescribed):
            _missing(one.undescribed, f"{one.names.where}: no segments beside", "record both topics", accept, lost)
    if not len(np.intersect1d(gt.stamps, pred.stamps)):
        raise InputError(
            f"{pred.names.where}: no stamp in common with {gt.names.where} ({_span(pred)} here, {_span(gt)} there); "
            f"frames are matched by the stamps of their headers{lost}"
        )
    for first, second, remedy in ((gt, pred, "predict them"), (pred, gt, "remove their predictions")):
        absent = np.setdiff1d(first.stamps, second.stamps)
        what = f"{second.names.where}: no {'prediction' if second is pred else 'ground truth'} for"
        _missing(absent, what, remedy, accept, lost)


def _missing(
    stamps: NDArray[np.int64], what: str, remedy: str, accept: Callable[[str], None] | None, lost: str
) -> None:
    if not len(stamps):
        return
    said = f"{what} {len(stamps)} frame(s): {listed(map(seconds, stamps.tolist()), 3)}"
    if accept is None:
        raise InputError(f"{said}; {remedy}, or pass --allow-missing to count them as void{lost}")
    accept(f"{said}; counted as void")


def _span(index: LabelIndex) -> str:
    return f"{seconds(int(index.stamps[0]))} to {seconds(int(index.stamps[-1]))}" if len(index.stamps) else "none"


def _merge_names(sides: list[RecordedClasses]) -> RecordedClasses:
    """The class names of all cameras of one recording; they come from one node and agree."""
    names = {i: name for side in sides for i, name in side.names.items()}
    things = {i: thing for side in sides for i, thing in side.things.items()}
    return RecordedClasses(sides[0].where, next((s.taxonomy for s in sides if s.taxonomy), ""), names, things)
