"""The panoptic frames of a recorded result: the topics `panoptic`, `segments` and `tracks` of one camera, joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import PanopticFrame
from vps_ros.messages.panoptic import OUTPUTS, read_panoptic
from vps_ros.messages.typestore import read_message
from vps_ros.recording.bag import Bag
from vps_ros.recording.label_classes import common_taxonomy
from vps_ros.recording.labels import IMAGE, SEGMENTS, LabelTopic, find_label_topics, index_labels, read_labels
from vps_ros.recording.storage import Message

TRACKS = OUTPUTS["tracks"]


class ResultReader:
    """Reads the result of one camera from a bag, as `vps-ros replay` or a live node writes it. A context manager.

    Args:
        path: a .mcap or .db3 file, or a rosbag2 folder.
        topic: the image topic, such as /vps/panoptic; required if the bag has the results of several cameras.

    Attributes:
        taxonomy: the classes that the messages name.
        count: number of frames.

    Raises InputError when there is no result, several and no `topic`, or a message cannot be read.
    """

    def __init__(self, path: str | Path, topic: str | None = None) -> None:
        self._bag = Bag(path)
        try:
            self._topic = _choose(self._bag, topic)
            index = index_labels(self._bag, self._topic)
            self.taxonomy = common_taxonomy(index.names, index.names)
        except InputError:
            self.close()
            raise
        self._stamps = index.stamps
        self.name = self._topic.image
        self.count = len(index.stamps)

    def __enter__(self) -> ResultReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._bag.close()

    def frames(self) -> Iterator[PanopticFrame]:
        """In the order of their stamps. Tracks are missing where the bag has no message with this stamp."""
        tracks = self._tracks()
        for found in read_labels(self._bag, self._topic, self._stamps):
            try:
                tracked = tracks.pop(found.stamp, None)
                described = found.segments and read_message(found.segments.data, SEGMENTS)
                frame = read_panoptic(
                    read_message(found.image.data, IMAGE), described, tracked and read_message(tracked.data, TRACKS)
                )
            except DroppedFrame as error:
                raise InputError(f"{found.where}: {error}; record it again") from None
            yield replace(frame, taxonomy=self.taxonomy)

    def _tracks(self) -> dict[int, Message]:
        """The messages by stamp; some hundred bytes for each object in a frame."""
        found = {}
        for message in self._bag.messages([f"{self._topic.namespace}/tracks"], [TRACKS]):
            stamp = read_message(message.data, TRACKS).header.stamp
            found[stamp.sec * 10**9 + stamp.nanosec] = message
        return found


def has_result(path: str | Path) -> bool:
    """Whether a bag contains results that ResultReader can read."""
    with Bag(path) as bag:
        return bool(_described(bag))


def _described(bag: Bag) -> list[LabelTopic]:
    return [one for one in find_label_topics(bag) if one.segments]


def _choose(bag: Bag, topic: str | None) -> LabelTopic:
    found = _described(bag)
    chosen = [one for one in found if topic in (None, one.image, one.namespace)]
    names = ", ".join(one.image for one in found) or "none"
    if not chosen:
        raise InputError(f"{bag.path}: no result on {topic or 'any topic'}; topics with results are {names}")
    if len(chosen) > 1:
        raise InputError(f"{bag.path}: results of several cameras; choose one with --result: {names}")
    return chosen[0]
