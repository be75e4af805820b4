"""Ground truth beside what the viewer shows: a labelled bag, or a data set whose frames are those of the source."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.commands.console import warn
from vps_ros.datasets.formats import FORMATS
from vps_ros.datasets.labels import LabelMap
from vps_ros.drawing.views import Truth
from vps_ros.errors import InputError
from vps_ros.evaluation.timelines import MistakeMarker
from vps_ros.frame import PanopticFrame
from vps_ros.messages.panoptic import class_and_track_maps
from vps_ros.recording.bag import Bag, is_bag
from vps_ros.recording.image_files import DEFAULT_HZ, stamp_of
from vps_ros.recording.label_classes import RecordedClasses, common_taxonomy, taxonomy_id_table
from vps_ros.recording.labels import LabelMessages, find_truth_topic, index_labels, read_labels
from vps_ros.taxonomy import TAXONOMIES, VOID_ID, Taxonomy

Labels = Iterator[tuple[int, Callable[[], LabelMap]]]
"""Stamps (ns), ascending, and functions that read the labels."""


def add_truth_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("ground truth")
    group.add_argument(
        "--gt", metavar="PATH", help="ground truth beside the result: a bag with labels, or the folder of a data set"
    )
    group.add_argument("--gt-topic", metavar="TOPIC", help="its label topic, if the bag has several")
    group.add_argument(
        "--gt-format", default="kitti-step", choices=FORMATS, help="format of the folder (default: kitti-step)"
    )
    group.add_argument("--split", help="split of the data set (train, val)")
    group.add_argument("--sequence", metavar="NAME", help="sequence of the data set, if it has several")
    group.add_argument(
        "--taxonomy", choices=TAXONOMIES, help="which classes are things, for kitti-step (see `vps-ros evaluate`)"
    )


class TruthReader:
    """The ground truth of the frames of one recording, in the order of their stamps. A context manager.

    Frames of a bag are found by their stamps. The frames of a data set are those of a folder of images or a video, in
    the same order, at the rate of the replay.

    Args:
        args: with the flags of add_truth_flags; `hz` is the rate of a folder of images.

    Attributes:
        found: number of frames that have ground truth.

    Raises InputError when there is no ground truth or it is not clear which.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        with ExitStack() as opening:
            self._open = _open_bag(opening, args) if is_bag(args.gt) else _open_folder(args)
            self._opened = opening.pop_all()
        self._labels: Labels | None = None
        self._next: tuple[int, Callable[[], LabelMap]] | None = None
        self._where = args.gt
        self.found = 0

    def __enter__(self) -> TruthReader:
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.close()
        if not self.found and not error[0]:
            warn(f"{self._where}: no frame has ground truth; frames are matched by their stamps")

    def of(self, result: PanopticFrame) -> Truth | None:
        """The ground truth of a frame, and where `result` differs from it; None where there is none.

        Raises InputError when the labels cannot be read, have other classes or are of another size.
        """
        if self._labels is None:
            self._start(result.taxonomy)
        assert self._labels is not None
        while self._next is not None and self._next[0] < result.stamp:
            self._next = next(self._labels, None)
        if self._next is None or self._next[0] != result.stamp:
            return None
        labels = self._next[1]()
        self.found += 1
        classes, tracks = class_and_track_maps(result)
        predicted = LabelMap(np.take(self._table, classes, mode="clip").astype(np.uint8), tracks)
        return Truth(labels.semantic, labels.instance, self._taxonomy, self._marker.mark(labels, predicted))

    def _start(self, classes: Taxonomy) -> None:
        """`classes`: of the prediction. Those that the ground truth does not have are void."""
        self._taxonomy, self._labels = self._open(classes)
        names = {c.id: c.name for c in classes.classes}
        table = taxonomy_id_table(RecordedClasses("prediction", classes.name, names), self._taxonomy)
        self._table = np.where(table < 0, VOID_ID, table)
        self._marker = MistakeMarker(self._taxonomy)
        self._next = next(self._labels, None)


def _open_bag(opening: ExitStack, args: argparse.Namespace) -> Callable[[Taxonomy], tuple[Taxonomy, Labels]]:
    bag = opening.enter_context(Bag(args.gt))
    topic = find_truth_topic(bag, args.gt_topic)
    index = index_labels(bag, topic)

    def start(classes: Taxonomy) -> tuple[Taxonomy, Labels]:
        names = {c.id: c.name for c in classes.classes}
        things = {c.id: c.isthing for c in classes.classes}
        predicted = RecordedClasses("the prediction", classes.name, names, things)
        taxonomy = common_taxonomy(index.names, predicted, TAXONOMIES.get(args.taxonomy))
        table = taxonomy_id_table(index.names, taxonomy)
        frames = read_labels(bag, topic, index.stamps)
        return taxonomy, ((one.stamp, partial(_read, one, table)) for one in frames)

    return start


def _read(messages: LabelMessages, table: NDArray[np.int16]) -> LabelMap:
    return LabelMap(*messages.read(table))


def _open_folder(args: argparse.Namespace) -> Callable[[Taxonomy], tuple[Taxonomy, Labels]]:
    form = FORMATS[args.gt_format]
    videos = form.truth(args.gt, args.split)
    if args.sequence is not None and args.sequence not in videos:
        raise InputError(f"{args.gt}: no sequence {args.sequence}; there are {', '.join(videos)}")
    if args.sequence is None and len(videos) > 1:
        raise InputError(f"{args.gt}: several sequences; choose one with --sequence: {', '.join(videos)}")
    frames = videos[args.sequence or next(iter(videos))]
    hz = args.hz or DEFAULT_HZ

    def start(classes: Taxonomy) -> tuple[Taxonomy, Labels]:
        stamps = (stamp_of(index, hz) for index in range(len(frames)))
        reads = (frame.read for frame in frames.values())
        return TAXONOMIES.get(args.taxonomy, form.taxonomy), zip(stamps, reads, strict=True)

    return start
