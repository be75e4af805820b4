"""Bags of labels for tests: the truth as `vps-ros synth` writes it, predictions as a replay does."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vps_ros.frame import THING_BASE, PanopticFrame, Segment
from vps_ros.messages import panoptic
from vps_ros.messages.images import array_to_image
from vps_ros.recording.writer import BagWriter
from vps_ros.taxonomy import CITYSCAPES, VOID_ID, Taxonomy

ROAD, SKY, CAR = 0, 10, 13
START, TENTH = 1_700_000_000_000_000_000, 100_000_000
GT, PRED = "/ground_truth", "/vps"


def stamp(index: int) -> int:
    return START + index * TENTH


def scene(index: int, track: int = 1, size: tuple[int, int] = (12, 32)) -> tuple[np.ndarray, np.ndarray]:
    """Classes and identities: road under sky, a car of 8 x 5 that moves right, a column of void."""
    semantic, instance = np.full(size, ROAD, np.uint8), np.zeros(size, np.uint16)
    semantic[: size[0] // 3] = SKY
    semantic[4:9, index : index + 8], instance[4:9, index : index + 8] = CAR, track
    semantic[:, -1] = VOID_ID
    return semantic, instance


def panoptic_frame(
    index: int, semantic: np.ndarray, instance: np.ndarray, taxonomy: Taxonomy = CITYSCAPES
) -> PanopticFrame:
    """The same as the pipeline gives it; the slot of a thing is its identity."""
    codes = np.where(semantic == VOID_ID, 0, semantic.astype(np.uint16) + 1)
    segments = []
    for number in np.unique(semantic[semantic != VOID_ID]).tolist():
        thing = taxonomy.by_id[number].isthing
        for identity in np.unique(instance[semantic == number]).tolist() if thing else [0]:
            inside = (semantic == number) & (instance == identity) if thing else semantic == number
            segment_id = THING_BASE + identity if thing else 1 + number
            codes[inside] = segment_id
            segments.append(Segment(segment_id, number, thing, 1.0, int(inside.sum()), identity))
    return PanopticFrame(stamp(index), "camera", 0, codes.astype(np.uint16), tuple(segments), ())


class Labels:
    """Writes labels into an open bag."""

    def __init__(self, bag: BagWriter) -> None:
        self.bag = bag

    def ids(self, index, semantic, instance, topic=f"{GT}/panoptic_ids", at=None):
        """As 32SC1."""
        header = panoptic.make_header(stamp(index), "camera")
        ids = semantic.astype(np.int32) * panoptic.CLASS_DIVISOR + instance.astype(np.int32)
        self.image(array_to_image(ids, "32SC1", header), topic, index if at is None else at)

    def image(self, message, topic, at):
        self.bag.write(topic, message, stamp(at))

    def names(self, namespace=GT, taxonomy=CITYSCAPES):
        info = panoptic.label_info(START, "camera", taxonomy)
        self.bag.write(f"{namespace}/label_info", info, START, latched=True)

    def panoptic(self, index, semantic, instance, namespace=PRED, taxonomy=CITYSCAPES, **how):
        """As `panoptic` and `segments`."""
        self.bag.write_frame(panoptic_frame(index, semantic, instance, taxonomy), taxonomy, prefix=namespace, **how)


@contextmanager
def writing(path: Path, compress: bool = True):
    with BagWriter(path, compress=compress) as bag:
        yield Labels(bag)


def truth_bag(path: Path, frames: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> Path:
    with writing(path) as labels:
        labels.names()
        for index, maps in frames.items():
            labels.ids(index, *maps)
    return path


def tracked_bag(path: Path, frames: Mapping[int, tuple[np.ndarray, np.ndarray]], **how) -> Path:
    with writing(path) as labels:
        for index, maps in frames.items():
            labels.panoptic(index, *maps, **how)
    return path
