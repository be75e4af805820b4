"""Camera frames of a recording, in the order in which they were recorded."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import Frame
from vps_ros.messages.images import DECODERS, frame_of
from vps_ros.messages.typestore import read_message
from vps_ros.recording.bag import Bag, Topic
from vps_ros.recording.loss import Loss
from vps_ros.recording.sources import FrameSource

_LISTED = 12
"""Topics named in a message; vehicles record hundreds."""


@dataclass(frozen=True)
class RecordedFrame(Frame):
    """A Frame out of a bag. `received`: nanoseconds at which the recorder got it."""

    received: int = 0


class BagReader(FrameSource):
    """The frames of one image topic of a bag.

    Args:
        path: a .mcap or .db3 file, or a rosbag2 folder.
        topic: needed when the bag has several image topics.

    Attributes:
        topic: the topic that is read.
        count: its messages; frames() yields one frame for each that can be decoded.

    Raises InputError when there is no bag, or no choice of topic that makes sense.
    """

    def __init__(self, path: str | Path, topic: str | None = None) -> None:
        self._bag = Bag(path)
        try:
            chosen = choose_image_topic(self._bag, topic)
        except InputError:
            self.close()
            raise
        self.topic = self.name = chosen.name
        self.count = chosen.count
        self._type = chosen.type
        self._skipped: Counter[str] = Counter()

    def __enter__(self) -> BagReader:
        return self

    def close(self) -> None:
        self._bag.close()

    def frames(self) -> Iterator[RecordedFrame]:
        """Each frame that can be decoded; what cannot is counted in `losses`.

        Raises InputError at the end when that was none at all.
        """
        self._skipped.clear()
        decoded = 0
        for message in self._bag.messages([self.topic]):
            try:
                frame = frame_of(read_message(message.data, self._type), self._type, message.time)
            except DroppedFrame as error:
                self._skipped[str(error)] += 1
            else:
                decoded += 1
                yield RecordedFrame(frame.image, frame.stamp, frame.frame_id, message.time)
        if not decoded:
            reason = f": {next(iter(self._skipped))}" if self._skipped else _because(self._bag)
            raise InputError(f"{self._bag.path}: no frame on {self.topic} can be used{reason}")

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What could not be read so far; complete once frames() is through. `count` is of frames of this topic."""
        known = self._bag.lost(self.topic)
        told = []
        for loss in self._bag.losses:
            if not loss.topic:
                # What the files lost of this topic together stands with the first of them.
                loss, known = dataclasses.replace(loss, count=known), 0
            if loss.topic in ("", self.topic):
                told.append(loss)
        for reason, count in self._skipped.items():
            what = f"{count} frame{'s' if count > 1 else ''} skipped: {reason}"
            told.append(Loss(what, self.topic, count, self.topic))
        return tuple(told)


def choose_image_topic(bag: Bag, topic: str | None) -> Topic:
    """The topic to read. Raises InputError that lists what there is when that is not clear."""
    if not bag.topics:
        raise InputError(f"{bag.path}: holds no messages{_because(bag)}")
    if topic is not None:
        named = [t for t in bag.topics if t.name == topic]
        if not named:
            raise InputError(f"{bag.path}: no topic {topic}; there are {_listing(bag.topics)}")
        if named[0].type not in DECODERS:
            raise InputError(f"{bag.path}: {topic} is a {named[0].type}, not an image; {_image_listing(bag)}")
        images = named
    else:
        images = [t for t in bag.topics if t.type in DECODERS]
        if not images:
            raise InputError(f"{bag.path}: no image topic; there are {_listing(bag.topics)}")
    filled = [t for t in images if t.count]
    if not filled:
        raise InputError(f"{bag.path}: {images[0].name} holds no messages{_because(bag)}")
    if len(filled) > 1:
        # Depth and label images share the type of pictures; only what can be seen is a choice to ask for.
        filled = [t for t in filled if _is_picture(bag, t)] or filled
    if len(filled) > 1:
        raise InputError(
            f"{bag.path}: several image topics; choose one with --topic (in Python topic=): {_listing(filled)}"
        )
    return filled[0]


def _is_picture(bag: Bag, topic: Topic) -> bool:
    message = next(bag.messages([topic.name]), None)
    if message is None:
        return False
    try:
        DECODERS[topic.type](read_message(message.data, topic.type))
    except DroppedFrame:
        return False
    return True


def _listing(topics: Any) -> str:
    named = [f"{t.name} ({t.type}, {t.count})" for t in topics]
    more = [f"and {len(named) - _LISTED} more (`vps-ros inspect` lists them)"] if len(named) > _LISTED else []
    return ", ".join(named[:_LISTED] + more)


def _image_listing(bag: Bag) -> str:
    images = [t for t in bag.topics if t.type in DECODERS]
    return f"image topics are {_listing(images)}" if images else "the bag has no image topic"


def _because(bag: Bag) -> str:
    return f"; {bag.losses[0]}" if bag.losses else ""
