"""Labels in a recording, predicted or true: class and identity of every pixel, as image topics.

Topics are found and paired first; one pass over the messages indexes the stamps, and a second one reads the labels.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.messages.images import image_to_array
from vps_ros.messages.panoptic import CLASS_DIVISOR, VOID_PIXEL, nanoseconds, read_panoptic
from vps_ros.messages.typestore import read_message
from vps_ros.recording.bag import Bag
from vps_ros.recording.label_classes import UNKNOWN, RecordedClasses
from vps_ros.recording.storage import Message
from vps_ros.taxonomy import VOID_ID

IMAGE, SEGMENTS, LABEL_INFO = "sensor_msgs/msg/Image", "vps_ros/msg/PanopticSegments", "vision_msgs/msg/LabelInfo"
PANOPTIC_IDS, PANOPTIC = "32SC1", "mono16"
"""Encodings of the topics `panoptic_ids` and `panoptic`."""
MAX_REORDERED = 64
"""Frames that are kept in memory to restore the order of stamps."""
_GROUND_TRUTH = re.compile(r"truth|(^|[/_])gt([/_]|$)", re.IGNORECASE)
_LISTED = 6


@dataclass(frozen=True)
class LabelTopic:
    """Topics that together hold the labels of one camera.

    Attributes:
        image: topic of an Image, mono16 of segment ids or 32SC1 of class * 1000000 + identity.
        segments: topic that describes the segments of a mono16 image; "" for 32SC1.
        label_info: topic of the class names; "" if the bag has none.
    """

    image: str
    segments: str = ""
    label_info: str = ""

    @property
    def namespace(self) -> str:
        """`/vps/front` of `/vps/front/panoptic`."""
        return self.image.rpartition("/")[0]

    @property
    def camera(self) -> str:
        return self.namespace.rpartition("/")[2]


def find_label_topics(bag: Bag) -> tuple[LabelTopic, ...]:
    """Label topics with messages, by type and encoding.

    If a namespace has both `panoptic` and `panoptic_ids`, the first is taken, which holds more information.
    """
    found: dict[str, LabelTopic] = {}
    for topic in bag.topics:
        if topic.type == IMAGE and topic.count:
            one = _label_topic(bag, topic.name)
            if isinstance(one, LabelTopic) and (one.segments or one.namespace not in found):
                found[one.namespace] = one
    return tuple(found.values())


def named_label_topic(bag: Bag, name: str) -> LabelTopic:
    """The label topic of that name; raises InputError if it is none."""
    types = {t.type: t.count for t in bag.topics if t.name == name}
    if not types:
        raise InputError(f"{bag.path}: no topic {name}; topics with labels are {_list_names(find_label_topics(bag))}")
    if not types.get(IMAGE):
        kind = next(iter(types)) if any(types.values()) else "without messages"
        raise InputError(f"{bag.path}: {name} is {kind}, not an Image of labels; choose panoptic or panoptic_ids")
    found = _label_topic(bag, name)
    if isinstance(found, str):
        raise InputError(f"{bag.path}: {name} {found}")
    return found


def _label_topic(bag: Bag, name: str) -> LabelTopic | str:
    """The label topic of an Image topic with messages, or why it has no labels."""
    encoding, segments = _encoding(bag, name), _sibling(bag, name, "segments", SEGMENTS)
    # In the namespace of the camera, or of the node above it, which may publish it once for all cameras.
    above = name.rpartition("/")[0]
    label_info = _sibling(bag, name, "label_info", LABEL_INFO) or _sibling(bag, above, "label_info", LABEL_INFO)
    if encoding == PANOPTIC_IDS:
        return LabelTopic(name, label_info=label_info)
    if encoding != PANOPTIC:
        return f"is {encoding}; labels are {PANOPTIC} or {PANOPTIC_IDS}"
    if not segments:
        return f"has no topic {above}/segments; record that topic too"
    return LabelTopic(name, segments, label_info)


def find_truth_topic(bag: Bag, name: str | None = None) -> LabelTopic:
    """The label topic of the ground truth in a bag: that name, or the one with "truth" or "gt" in its name, or the only
    one. Raises InputError if there is none, or several.
    """
    if name:
        return named_label_topic(bag, name)
    found = _of_one_node(bag, _find_gt(bag, bag), "--gt-topic")
    if len(found) > 1:
        raise _several_topics(bag, found, "--gt-topic")
    return found[0]


def pair_label_topics(
    gt: Bag, pred: Bag, gt_topic: str | None = None, pred_topic: str | None = None
) -> tuple[Mapping[str, tuple[LabelTopic, LabelTopic]], tuple[LabelTopic, ...]]:
    """Pairs the label topics of ground truth and prediction.

    A topic with "truth" or "gt" in its name is not a prediction; if both are in one bag, it is the ground truth.
    Several cameras are sibling namespaces (/vps/front, /vps/rear), paired by name.

    Args:
        gt: the recording of the ground truth.
        pred: the recording of the prediction; may be the same.
        gt_topic: image topic, required if there are several candidates.
        pred_topic: likewise.

    Returns:
        camera -> (ground truth, prediction), "" for a single camera; and predictions of cameras without ground truth.

    Raises:
        InputError: there are none, or several candidates; the message lists them.
    """
    truths = [named_label_topic(gt, gt_topic)] if gt_topic else _of_one_node(gt, _find_gt(gt, pred), "--gt-topic")
    predictions = [named_label_topic(pred, pred_topic)] if pred_topic else _find_predictions(pred, truths, gt)
    if len(truths) == len(predictions) == 1:
        return {"": (truths[0], predictions[0])}, ()
    if len(truths) == 1 and truths[0].camera not in {t.camera for t in predictions}:
        raise _several_topics(pred, predictions, "--pred-topic")
    by_camera = {t.camera: t for t in predictions}
    absent = [t for t in truths if t.camera not in by_camera]
    if absent:
        raise InputError(
            f"{pred.path}: no prediction for {_list_names(absent)} ({_list_names(predictions)} here); "
            "choose with --gt-topic and --pred-topic"
        )
    unpaired = tuple(t for t in predictions if t.camera not in {o.camera for o in truths})
    return {t.camera: (t, by_camera[t.camera]) for t in sorted(truths, key=lambda t: t.camera)}, unpaired


def _find_gt(gt: Bag, pred: Bag) -> list[LabelTopic]:
    found = list(find_label_topics(gt))
    named = [t for t in found if _GROUND_TRUTH.search(t.image)]
    if not named and len(found) > 1 and gt.path.resolve() == pred.path.resolve():
        raise _several_topics(gt, found, "--gt-topic and --pred-topic")
    return named or found


def _find_predictions(pred: Bag, truths: Sequence[LabelTopic], gt: Bag) -> list[LabelTopic]:
    same = gt.path.resolve() == pred.path.resolve()
    found = [t for t in find_label_topics(pred) if not (same and t in truths)]
    if not found and same:
        raise InputError(
            f"{pred.path}: holds labels on {_list_names(truths)} only; ground truth and prediction must be two topics"
        )
    return _of_one_node(pred, [t for t in found if not _GROUND_TRUTH.search(t.image)] or found, "--pred-topic")


def _of_one_node(bag: Bag, found: list[LabelTopic], option: str) -> list[LabelTopic]:
    """Checks that there is one topic, or one for each camera of a node; raises InputError otherwise."""
    if not found:
        raise InputError(
            f"{bag.path}: no topic with labels; expected panoptic ({PANOPTIC}) with segments in the same namespace, "
            f"or panoptic_ids ({PANOPTIC_IDS})"
        )
    nodes = {t.namespace.rpartition("/")[0] for t in found}
    # Namespaces below the root are nodes; only deeper ones can be cameras of one node.
    if len(found) > 1 and (len(nodes) > 1 or nodes == {""}):
        raise _several_topics(bag, found, option)
    return found


def _several_topics(bag: Bag, found: Sequence[LabelTopic], option: str) -> InputError:
    return InputError(f"{bag.path}: several topics with labels; choose with {option}: {_list_names(found)}")


def _list_names(topics: Sequence[LabelTopic]) -> str:
    names = [t.image for t in topics]
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "") or "none"


def _encoding(bag: Bag, topic: str) -> str:
    for message in bag.messages([topic], [IMAGE]):
        try:
            return str(read_message(message.data, IMAGE).encoding)
        except DroppedFrame:
            continue
    return ""


def _sibling(bag: Bag, topic: str, name: str, kind: str) -> str:
    wanted = f"{topic.rpartition('/')[0]}/{name}"
    return next((t.name for t in bag.topics if t.name == wanted and t.type == kind and t.count), "")


@dataclass(frozen=True)
class LabelIndex:
    """Stamps and classes of a label topic.

    Attributes:
        stamps: int64 [N], nanoseconds, ascending.
        undescribed: int64, stamps of mono16 images without a PanopticSegments message; not part of `stamps`.
        names: class names in its messages.
    """

    stamps: NDArray[np.int64]
    undescribed: NDArray[np.int64]
    names: RecordedClasses


class LabelMessages(NamedTuple):
    """The messages of one frame; `segments` is None for 32SC1. `where`: bag, topic and stamp, for error messages."""

    where: str
    stamp: int
    image: Message
    segments: Message | None

    def read(self, table: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Class ids uint8 [H, W] (255: void) and identities uint32 [H, W] (0: none).

        Args:
            table: from `vps_ros.recording.label_classes.taxonomy_id_table`.

        Raises:
            InputError: the image is damaged, has another encoding, or holds a segment without description or a class
                that is not in the table.
        """
        try:
            image = read_message(self.image.data, IMAGE)
            if self.segments is None:
                return _of_ids(image_to_array(image, PANOPTIC_IDS, np.int32), table)
            return _of_segments(image, read_message(self.segments.data, SEGMENTS), table)
        except DroppedFrame as error:
            raise InputError(f"{self.where}: {error}; record it again") from None


def index_labels(bag: Bag, topic: LabelTopic) -> LabelIndex:
    """Reads all stamps and class names of a topic.

    Raises:
        InputError: a message cannot be read, or two have the same stamp.
    """
    where = f"{bag.path}: {topic.image}"
    stamps = {name: array("q") for name in (topic.image, topic.segments) if name}
    names, things, taxonomy = _label_info(bag, topic), {}, ""
    for message in bag.messages(list(stamps), [IMAGE, SEGMENTS]):
        content = _parse(bag, message)
        stamps[message.topic].append(nanoseconds(content.header.stamp))
        if message.topic == topic.segments:
            taxonomy = taxonomy or content.taxonomy
            for segment in content.segments:
                names[segment.class_id] = segment.class_name
                things[segment.class_id] = bool(segment.is_thing)
    images = _unique_stamps(bag, topic.image, stamps[topic.image])
    described = _unique_stamps(bag, topic.segments, stamps[topic.segments]) if topic.segments else images
    return LabelIndex(
        np.intersect1d(images, described, assume_unique=True),
        np.setdiff1d(images, described, assume_unique=True),
        RecordedClasses(where, taxonomy, names, things),
    )


def read_labels(bag: Bag, topic: LabelTopic, wanted: NDArray[np.int64]) -> Iterator[LabelMessages]:
    """The frames with these stamps (int64, ascending, from the index), in that order.

    Raises InputError if messages are recorded too far out of the order of their stamps.
    """
    topics = [name for name in (topic.image, topic.segments) if name]
    pending: dict[int, dict[str, Message]] = {}
    done = 0
    for message in bag.messages(topics, [IMAGE, SEGMENTS]):
        stamp = nanoseconds(_parse(bag, message).header.stamp)
        at = int(np.searchsorted(wanted, stamp))
        if at == len(wanted) or wanted[at] != stamp:
            continue
        pending.setdefault(at, {})[message.topic] = message
        while len(pending.get(done, ())) == len(topics):
            parts, stamp = pending.pop(done), int(wanted[done])
            done += 1
            where = f"{bag.path}: {topic.image} at {seconds(stamp)}"
            yield LabelMessages(where, stamp, parts[topic.image], parts.get(topic.segments))
        if len(pending) > MAX_REORDERED:
            raise InputError(
                f"{bag.path}: {topic.image} is recorded out of order: more than {MAX_REORDERED} messages precede "
                f"{seconds(int(wanted[done]))}; write the bag again in the order of the stamps"
            )
    if done < len(wanted):
        raise InputError(f"{bag.path}: {topic.image} at {seconds(int(wanted[done]))} can no longer be read; try again")


def seconds(stamp: int) -> str:
    """A stamp in seconds, with nine decimals."""
    return f"{stamp // 10**9}.{stamp % 10**9:09d}"


def _of_segments(image: Any, segments: Any, table: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    frame = read_panoptic(image, segments)
    # Segment id 0 is void.
    rows = np.array([(0, 0, 0), *((s.segment_id, s.class_id, s.track_id) for s in frame.segments)], np.int64)
    known = np.take(table, rows[:, 1], mode="clip")
    known[0] = VOID_ID
    semantic, instance = np.zeros(rows[:, 0].max() + 1, np.uint8), np.zeros(rows[:, 0].max() + 1, np.uint32)
    semantic[rows[:, 0]], instance[rows[:, 0]] = _known_classes(known, rows[:, 1]), rows[:, 2]
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
    return _known_classes(known, classes), instance


def _known_classes(known: NDArray[np.int16], classes: NDArray[np.integer]) -> NDArray[np.uint8]:
    if (known == UNKNOWN).any():
        unknown = np.unique(classes[known == UNKNOWN])
        raise DroppedFrame(f"class id {', '.join(map(str, unknown[:5]))} is not one of the classes that are compared")
    return known.astype(np.uint8)


def _label_info(bag: Bag, topic: LabelTopic) -> dict[int, str]:
    if topic.label_info:
        for message in bag.messages([topic.label_info], [LABEL_INFO]):
            return {c.class_id: c.class_name for c in read_message(message.data, LABEL_INFO).class_map}
    return {}


def _parse(bag: Bag, message: Message) -> Any:
    try:
        return read_message(message.data, message.type)
    except DroppedFrame as error:
        raise InputError(f"{bag.path}: {message.topic} at {seconds(message.time)}: {error}; record it again") from None


def _unique_stamps(bag: Bag, topic: str, stamps: array) -> NDArray[np.int64]:
    """The stamps in ascending order; raises InputError for duplicates."""
    found, count = np.unique(np.frombuffer(stamps, np.int64) if stamps else np.zeros(0, np.int64), return_counts=True)
    if (count > 1).any():
        duplicates = found[count > 1]
        first = ", ".join(seconds(int(s)) for s in duplicates[:3])
        raise InputError(
            f"{bag.path}: {topic} has {len(duplicates)} stamp(s) more than once: {first}; frames are matched by stamp, "
            "keep one of each"
        )
    return found
