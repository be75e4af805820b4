"""The panoptic frames of a recorded result: the topics `panoptic`, `segments` and `tracks` of one camera, joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.frame import PanopticFrame
from vps_ros.frame_3d import Objects3D
from vps_ros.messages.objects_3d import read_objects_3d
from vps_ros.messages.panoptic import DEPTH_OUTPUTS, OUTPUTS, read_panoptic
from vps_ros.messages.typestore import nanoseconds, read_message
from vps_ros.recording.bag import Bag
from vps_ros.recording.label_classes import common_taxonomy
from vps_ros.recording.labels import IMAGE, SEGMENTS, LabelTopic, find_label_topics, index_labels, read_labels
from vps_ros.recording.storage import Message

TRACKS = OUTPUTS["tracks"]
_BESIDE = {"tracks": TRACKS, **{name: DEPTH_OUTPUTS[name] for name in ("objects_3d", "velocities_3d")}}


class ResultReader:
    """Reads the result of one camera from a bag, as `vps-ros replay` or a live node writes it. A context manager.

    Args:
        path: a .mcap or .db3 file, or a rosbag2 folder.
        topic: the image topic, such as /vps/panoptic; required if the bag has the results of several cameras.

    Attributes:
        taxonomy: the classes that the messages name.
        count: number of frames.
        has_objects_3d: whether frames have `objects_3d`; these have no depth image.

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
        located = f"{self._topic.namespace}/objects_3d"
        self.has_objects_3d = any(t.name == located and t.count for t in self._bag.topics)

    def __enter__(self) -> ResultReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._bag.close()

    def frames(self) -> Iterator[PanopticFrame]:
        """In the order of their stamps. Tracks are missing where the bag has no message with this stamp."""
        tracks, detections, velocities = (self._by_stamp(kind, name) for name, kind in _BESIDE.items())
        for found in read_labels(self._bag, self._topic, self._stamps):
            try:
                tracked = tracks.pop(found.stamp, None)
                described = found.segments and read_message(found.segments.data, SEGMENTS)
                frame = read_panoptic(
                    read_message(found.image.data, IMAGE), described, tracked and read_message(tracked.data, TRACKS)
                )
                objects = self._objects(detections.pop(found.stamp, None), velocities.pop(found.stamp, None))
            except DroppedFrame as error:
                raise InputError(f"{found.where}: {error}; record it again") from None
            yield replace(frame, taxonomy=self.taxonomy, objects_3d=objects)

    @staticmethod
    def _objects(detections: Message | None, velocities: Message | None) -> Objects3D | None:
        if detections is None:
            return None
        moves = velocities and read_message(velocities.data, DEPTH_OUTPUTS["velocities_3d"])
        return read_objects_3d(read_message(detections.data, DEPTH_OUTPUTS["objects_3d"]), moves)

    def _by_stamp(self, kind: str, name: str) -> dict[int, Message]:
        """The messages of a topic by stamp; some hundred bytes for each object in a frame."""
        messages = self._bag.messages([f"{self._topic.namespace}/{name}"], [kind])
        return {nanoseconds(read_message(message.data, kind).header.stamp): message for message in messages}


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
