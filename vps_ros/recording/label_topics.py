"""Which topics of a bag hold labels: the class and the identity of every pixel, predicted or true."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vps_ros.errors import DroppedFrame, InputError
from vps_ros.messages.typestore import read_message
from vps_ros.recording.bag import Bag

IMAGE, SEGMENTS, LABEL_INFO = "sensor_msgs/msg/Image", "vps_ros/msg/PanopticSegments", "vision_msgs/msg/LabelInfo"
IDS, NUMBERS = "32SC1", "mono16"
"""Encodings of `panoptic_ids` and of `panoptic`."""
_TRUTH = re.compile(r"truth|(^|[/_])gt([/_]|$)", re.IGNORECASE)
_LISTED = 6


@dataclass(frozen=True)
class LabelTopic:
    """Topics that together hold labels.

    Attributes:
        image: an Image, mono16 of segment ids or 32SC1 of class * 1000000 + identity.
        segments: what the segment ids of a mono16 image are; "" for 32SC1.
        label_info: the names of the classes; "" where the bag has none.
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
    """Those that hold messages: by type, encoding, and the names of the topics beside them.

    Where `panoptic` and `panoptic_ids` of one namespace are both there, the first, which says more, is taken.
    """
    found = {}
    for topic in bag.topics:
        if topic.type == IMAGE and topic.count:
            encoding = _encoding(bag, topic.name)
            described = _beside(bag, topic.name, "segments", SEGMENTS)
            if encoding == IDS or (encoding == NUMBERS and described):
                one = LabelTopic(topic.name, described if encoding == NUMBERS else "", _names_of(bag, topic.name))
                if one.segments or one.namespace not in found:
                    found[one.namespace] = one
    return tuple(found.values())


def named_label_topic(bag: Bag, name: str) -> LabelTopic:
    """The labels on a topic of that name; raises InputError when it holds none."""
    there = {t.name: t for t in bag.topics}
    if name not in there:
        raise InputError(f"{bag.path}: no topic {name}; topics with labels are {_listing(find_label_topics(bag))}")
    if there[name].type != IMAGE or not there[name].count:
        kind = there[name].type if there[name].count else "without messages"
        raise InputError(f"{bag.path}: {name} is {kind}, not an Image of labels; choose panoptic or panoptic_ids")
    encoding = _encoding(bag, name)
    if encoding == IDS:
        return LabelTopic(name, label_info=_names_of(bag, name))
    if encoding != NUMBERS:
        raise InputError(f"{bag.path}: {name} is {encoding}; labels are {NUMBERS} or {IDS}")
    described = _beside(bag, name, "segments", SEGMENTS)
    if not described:
        namespace = name.rpartition("/")[0]
        raise InputError(f"{bag.path}: {name} has no {namespace}/segments beside it; record that topic too")
    return LabelTopic(name, described, _names_of(bag, name))


def pair_label_topics(
    gt: Bag, pred: Bag, gt_topic: str | None = None, pred_topic: str | None = None
) -> tuple[Mapping[str, tuple[LabelTopic, LabelTopic]], tuple[LabelTopic, ...]]:
    """Which topic of the truth belongs to which one of the prediction.

    A topic whose name tells of ground truth is no prediction; where one bag holds both, it is the truth. Several
    cameras are namespaces beside each other (/vps/front, /vps/rear), joined by their names.

    Args:
        gt: the recording of the ground truth.
        pred: the recording of the prediction; may be the same.
        gt_topic: image topic, where the choice is not clear.
        pred_topic: likewise.

    Returns:
        camera -> (truth, prediction), where a single one is called ""; and predictions of cameras without truth.

    Raises:
        InputError: there are none, or several to choose from; they are named.
    """
    ours = [named_label_topic(gt, gt_topic)] if gt_topic else _cameras(gt, _truths(gt, pred), "--gt-topic")
    theirs = [named_label_topic(pred, pred_topic)] if pred_topic else _predictions(pred, ours, gt)
    if len(ours) == len(theirs) == 1:
        return {"": (ours[0], theirs[0])}, ()
    if len(ours) == 1 and ours[0].camera not in {t.camera for t in theirs}:
        raise _several(pred, theirs, "--pred-topic")
    by_camera = {t.camera: t for t in theirs}
    absent = [t for t in ours if t.camera not in by_camera]
    if absent:
        raise InputError(
            f"{pred.path}: no prediction for {_listing(absent)} ({_listing(theirs)} here); "
            "choose with --gt-topic and --pred-topic"
        )
    spare = tuple(t for t in theirs if t.camera not in {o.camera for o in ours})
    return {t.camera: (t, by_camera[t.camera]) for t in sorted(ours, key=lambda t: t.camera)}, spare


def _truths(gt: Bag, pred: Bag) -> list[LabelTopic]:
    found = list(find_label_topics(gt))
    by_name = [t for t in found if _TRUTH.search(t.image)]
    if not by_name and len(found) > 1 and gt.path.resolve() == pred.path.resolve():
        raise _several(gt, found, "--gt-topic and --pred-topic")
    return by_name or found


def _predictions(pred: Bag, ours: Sequence[LabelTopic], gt: Bag) -> list[LabelTopic]:
    same = gt.path.resolve() == pred.path.resolve()
    found = [t for t in find_label_topics(pred) if not (same and t in ours)]
    by_name = [t for t in found if not _TRUTH.search(t.image)]
    if not found and same:
        raise InputError(f"{pred.path}: holds labels on {_listing(ours)} only; truth and prediction must be two topics")
    return _cameras(pred, by_name or found, "--pred-topic")


def _cameras(bag: Bag, found: list[LabelTopic], option: str) -> list[LabelTopic]:
    """The one topic, or those of several cameras of one node; raises InputError for any other number."""
    if not found:
        raise InputError(
            f"{bag.path}: no topic with labels; expected panoptic ({NUMBERS}) with segments beside it, "
            f"or panoptic_ids ({IDS})"
        )
    nodes = {t.namespace.rpartition("/")[0] for t in found}
    # Nodes stand beside each other at the root; only what is deeper can be the cameras of one of them.
    if len(found) > 1 and (len(nodes) > 1 or nodes == {""}):
        raise _several(bag, found, option)
    return found


def _several(bag: Bag, found: Sequence[LabelTopic], option: str) -> InputError:
    return InputError(f"{bag.path}: several topics with labels; choose with {option}: {_listing(found)}")


def _listing(topics: Sequence[LabelTopic]) -> str:
    names = [t.image for t in topics]
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "") or "none"


def _encoding(bag: Bag, topic: str) -> str:
    for message in bag.messages([topic]):
        try:
            return str(read_message(message.data, IMAGE).encoding)
        except DroppedFrame:
            continue
    return ""


def _names_of(bag: Bag, topic: str) -> str:
    """A node of several cameras may say the names of its classes once, above them."""
    return _beside(bag, topic, "label_info", LABEL_INFO) or _beside(
        bag, topic.rpartition("/")[0], "label_info", LABEL_INFO
    )


def _beside(bag: Bag, topic: str, name: str, kind: str) -> str:
    wanted = f"{topic.rpartition('/')[0]}/{name}"
    return next((t.name for t in bag.topics if t.name == wanted and t.type == kind and t.count), "")
