"""What a recording contains, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vps_ros.errors import DroppedFrame
from vps_ros.messages.images import DECODERS
from vps_ros.messages.typestore import read_message
from vps_ros.recording.bag import Bag, Topic


@dataclass(frozen=True)
class TopicSurvey:
    """One topic. `hz`: messages over the bag's duration; `lost`: messages known to be missing.

    `picture`: "1242x375 rgb8" of the first message of an image topic, or why it cannot be read; "" for others.
    """

    name: str
    type: str
    count: int
    hz: float | None
    lost: int
    picture: str

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class BagSurvey:
    """A whole bag. Times are of the recorder, in nanoseconds; `size`: bytes of its files."""

    path: str
    storage: str
    files: tuple[str, ...]
    size: int
    start: int
    end: int
    topics: tuple[TopicSurvey, ...]
    losses: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / 1e9

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "bag",
            **self.__dict__,
            "duration": self.seconds,
            "messages": sum(t.count for t in self.topics),
            "topics": [t.to_json() for t in self.topics],
        }


def survey_bag(path: str | Path) -> BagSurvey:
    """Reads the index and the first picture of each image topic; raises InputError when there is no bag."""
    with Bag(path) as bag:
        seconds = (bag.end - bag.start) / 1e9
        topics = tuple(
            TopicSurvey(
                t.name,
                t.type,
                t.count,
                (t.count - 1) / seconds if t.count > 1 and seconds > 0 else None,
                bag.lost(t.name),
                _first_picture(bag, t),
            )
            for t in bag.topics
        )
        return BagSurvey(
            str(path),
            bag.storage,
            tuple(str(f) for f in bag.files),
            sum(f.stat().st_size for f in bag.files),
            bag.start,
            bag.end,
            topics,
            tuple(str(loss) for loss in bag.losses),
        )


def _first_picture(bag: Bag, topic: Topic) -> str:
    if topic.type not in DECODERS or not topic.count:
        return ""
    for message in bag.messages([topic.name]):
        try:
            content = read_message(message.data, topic.type)
            if hasattr(content, "encoding"):
                return f"{content.width}x{content.height} {content.encoding}"
            height, width = DECODERS[topic.type](content).shape[:2]
            return f"{width}x{height} {content.format}"
        except DroppedFrame as error:
            return str(error)
    return ""
