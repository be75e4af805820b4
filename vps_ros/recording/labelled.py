"""Labels of a recording, predicted or true: found out in one pass, read in a second one, few frames in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.messages.images import image_to_array
from vps_ros.messages.panoptic import CLASS_DIVISOR, VOID_PIXEL, nanoseconds, read_panoptic
from vps_ros.messages.typestore import read_message
from vps_ros.recording.bag import Bag
from vps_ros.recording.label_classes import UNKNOWN, ClassNames
from vps_ros.recording.label_topics import IDS, IMAGE, LABEL_INFO, SEGMENTS, LabelTopic
from vps_ros.recording.message import Message
from vps_ros.taxonomy import VOID_ID

HELD = 64
"""Frames that may wait for an earlier one: so far out of the order of their stamps messages may be recorded."""


@dataclass(frozen=True)
class LabelSurvey:
    """What a recording holds on one topic of labels.

    Attributes:
        stamps: int64 [N], nanoseconds, rising.
        undescribed: int64, stamps of mono16 images whose segments are not recorded; they are not among `stamps`.
        names: what its messages say of the classes.
    """

    stamps: NDArray[np.int64]
    undescribed: NDArray[np.int64]
    names: ClassNames


class RecordedLabels(NamedTuple):
    """The messages of one frame; `segments` is None for 32SC1. `where`: bag, topic and stamp, for errors."""

    where: str
    stamp: int
    image: Message
    segments: Message | None

    def read(self, table: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Class ids uint8 [H, W] (255: void) and identities uint32 [H, W] (0: none).

        Args:
            table: from `vps_ros.recording.label_classes.class_table`.

        Raises:
            InputError: the image is damaged or coded otherwise, shows a segment that is not described, or a class that
                the table does not know.
        """
        try:
            image = read_message(self.image.data, IMAGE)
            if self.segments is None:
                return _of_ids(image_to_array(image, IDS, np.int32), table)
            return _of_segments(image, read_message(self.segments.data, SEGMENTS), table)
        except DroppedFrame as error:
            raise InputError(f"{self.where}: {error}; record it again") from None


def survey_labels(bag: Bag, topic: LabelTopic) -> LabelSurvey:
    """Reads every stamp, and every description.

    Raises:
        InputError: a message cannot be read, or two have one stamp.
    """
    where = f"{bag.path}: {topic.image}"
    stamps = {name: array("q") for name in (topic.image, topic.segments) if name}
    names, things, taxonomy = _label_info(bag, topic), {}, ""
    for message in bag.messages(list(stamps)):
        content = _content(bag, message)
        stamps[message.topic].append(nanoseconds(content.header.stamp))
        if message.topic == topic.segments:
            taxonomy = taxonomy or content.taxonomy
            for one in content.segments:
                names[one.class_id] = one.class_name
                things[one.class_id] = bool(one.is_thing)
    images = _once(bag, topic.image, stamps[topic.image])
    described = _once(bag, topic.segments, stamps[topic.segments]) if topic.segments else images
    return LabelSurvey(
        np.intersect1d(images, described, assume_unique=True),
        np.setdiff1d(images, described, assume_unique=True),
        ClassNames(where, taxonomy, names, things),
    )


def recorded_labels(bag: Bag, topic: LabelTopic, wanted: NDArray[np.int64]) -> Iterator[RecordedLabels]:
    """The frames of these stamps (int64, rising, all of them there), in their order.

    Raises InputError where messages are recorded too far out of the order of their stamps.
    """
    topics = [name for name in (topic.image, topic.segments) if name]
    held: dict[int, dict[str, Message]] = {}
    given = 0
    for message in bag.messages(topics):
        stamp = nanoseconds(_content(bag, message).header.stamp)
        at = int(np.searchsorted(wanted, stamp))
        if at == len(wanted) or wanted[at] != stamp:
            continue
        held.setdefault(at, {})[message.topic] = message
        while len(held.get(given, ())) == len(topics):
            parts, stamp = held.pop(given), int(wanted[given])
            given += 1
            where = f"{bag.path}: {topic.image} at {seconds(stamp)}"
            yield RecordedLabels(where, stamp, parts[topic.image], parts.get(topic.segments))
        if len(held) > HELD:
            raise InputError(
                f"{bag.path}: {topic.image} is recorded out of order: more than {HELD} messages come before the one of "
                f"{seconds(int(wanted[given]))}; write the bag again in the order of the stamps"
            )
    if given < len(wanted):
        raise InputError(f"{bag.path}: {topic.image} at {seconds(int(wanted[given]))} was there and is gone; try again")


def seconds(stamp: int) -> str:
    """A stamp as people read it: seconds with nine decimals."""
    return f"{stamp // 10**9}.{stamp % 10**9:09d}"


def _of_segments(image: Any, described: Any, table: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    frame = read_panoptic(image, described)
    # Segment id 0 is void.
    rows = np.array([(0, 0, 0), *((s.segment_id, s.class_id, s.track_id) for s in frame.segments)], np.int64)
    known = np.take(table, rows[:, 1], mode="clip")
    known[0] = VOID_ID
    semantic, instance = np.zeros(rows[:, 0].max() + 1, np.uint8), np.zeros(rows[:, 0].max() + 1, np.uint32)
    semantic[rows[:, 0]], instance[rows[:, 0]] = _checked(known, rows[:, 1]), rows[:, 2]
    return semantic[frame.map], instance[frame.map]


def _of_ids(ids: NDArray[np.int32], table: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    void = ids == VOID_PIXEL
    if (ids < VOID_PIXEL).any():
        raise DroppedFrame(f"pixel {ids.min()} is neither class * {CLASS_DIVISOR} + identity nor {VOID_PIXEL}")
    classes = ids // CLASS_DIVISOR
    instance = (ids - classes * CLASS_DIVISOR).astype(np.uint32)
    instance[void] = 0
    known = np.take(table, classes, mode="clip")
    known[void] = VOID_ID
    return _checked(known, classes), instance


def _checked(known: NDArray[np.int16], classes: NDArray[np.integer]) -> NDArray[np.uint8]:
    if (known == UNKNOWN).any():
        strange = np.unique(classes[known == UNKNOWN])
        raise DroppedFrame(f"class id {', '.join(map(str, strange[:5]))} is not one of the classes that are compared")
    return known.astype(np.uint8)


def _label_info(bag: Bag, topic: LabelTopic) -> dict[int, str]:
    if topic.label_info:
        for message in bag.messages([topic.label_info]):
            return {c.class_id: c.class_name for c in read_message(message.data, LABEL_INFO).class_map}
    return {}


def _content(bag: Bag, message: Message) -> Any:
    try:
        return read_message(message.data, message.type)
    except DroppedFrame as error:
        raise InputError(f"{bag.path}: {message.topic} at {seconds(message.time)}: {error}; record it again") from None


def _once(bag: Bag, topic: str, stamps: array) -> NDArray[np.int64]:
    """The stamps in rising order."""
    found, count = np.unique(np.frombuffer(stamps, np.int64) if stamps else np.zeros(0, np.int64), return_counts=True)
    if (count > 1).any():
        twice = found[count > 1]
        first = ", ".join(seconds(int(s)) for s in twice[:3])
        raise InputError(
            f"{bag.path}: {topic} has {len(twice)} stamp(s) more than once: {first}; frames are told apart by their "
            "stamps, keep one of each"
        )
    return found
